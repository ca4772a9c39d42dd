//! Answers what admins ask, by handing it to the array's executor thread, and keeps the member
//! list of the configuration in step.

use super::absent::{self, Absent};
use super::config::Config;
use super::config_scrub::ScrubConfig;
use super::devices;
use super::exports::Served;
use super::places::Places;
use crate::array::{Array, MemberRef, MemberState, Report};
use crate::control::{AddBody, Admin, AppliedBody, MemberBody, OkBody, ReplaceBody, Reply, Request, Version};
use crate::env::Env;
use crate::env::real::Remote;
use crate::error::{Error, ErrorKind, Result};
use crate::member::Opener;
use futures::channel::oneshot;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The version in the paths of the control socket.
const API: u32 = 1;
/// An event is reported while the change happens; a moment later it is done.
const SETTLE: Duration = Duration::from_millis(200);

/// Why the daemon's main thread wakes up.
pub enum Wake {
    /// A signal, by its name.
    Signal(String),
    /// An admin asked to stop and waits for the outcome.
    Asked(oneshot::Sender<Result<(), String>>),
}

/// What a running array's admin needs.
pub struct Desk {
    /// Name of the array.
    pub name: String,
    /// Where its configuration is.
    pub places: Places,
    /// Listed members that were not opened at the start.
    pub absent: Vec<Absent>,
    /// Opens new members.
    pub opener: Arc<dyn Opener>,
    /// For code on the executor.
    pub env: Env,
    /// The thread the array is run from.
    pub remote: Remote,
    /// How members are driven.
    pub io: String,
    /// Wakes the main thread.
    pub wake: Sender<Wake>,
    /// The array, until it stops.
    pub running: Mutex<Option<Running>>,
    /// Paths that the file listed at the start, or that were written to it since. Only one thread at a time
    /// rewrites it.
    pub file: Mutex<BTreeSet<String>>,
    /// When and how to scrub.
    pub scrub: ScrubConfig,
    /// What is known of scrubs, as it was last written.
    pub scrub_file: Mutex<String>,
}

/// What goes away when the array stops.
pub struct Running {
    /// The array.
    pub array: Arc<Array>,
    /// How it is served.
    pub served: Served,
}

impl Desk {
    /// Takes the array away: from now on everything asked is `ShuttingDown`.
    pub fn close(&self) -> Option<Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Rewrites the member list whenever something happened, until the array is gone.
    pub fn keep_members(&self, wakes: &Receiver<()>) {
        while wakes.recv().is_ok() {
            std::thread::sleep(SETTLE);
            if self.array().is_err() {
                return;
            }
            self.save_members();
        }
    }

    /// The running array.
    pub fn array(&self) -> Result<Arc<Array>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let array = running.as_ref().map(|r| Arc::clone(&r.array));
        array.ok_or_else(|| Error::new(ErrorKind::ShuttingDown, "is stopping").array(&self.name))
    }

    fn report(&self) -> Result<Report> {
        let mut report = self.array()?.report();
        absent::place(&mut report, &self.absent);
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        report.exports = running.as_ref().map_or_else(Vec::new, |r| r.served.report());
        Ok(report)
    }

    /// Writes the member list if it changed; failing is logged, since the change itself stands.
    pub fn save_members(&self) {
        let mut ours = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let saved = self.array().and_then(|array| {
            let config = Config::load(&self.places, &self.name)?;
            let members = listed(&config.members, &ours, &array.paths(), &array.report(), &self.absent);
            ours.extend(members.iter().filter(|path| !config.members.contains(path)).cloned());
            if members == config.members {
                return Ok(());
            }
            tracing::info!(
                "writing the changed member list to {}",
                self.places.config_file(&self.name).display()
            );
            Config::save_members(&self.places, &self.name, &members)
        });
        if let Err(e) = saved {
            tracing::error!("cannot bring the member list up to date: {}", e.report());
        }
    }

    async fn on_array<T, F, Fut>(&self, make: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Arc<Array>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + 'static,
    {
        let array = self.array()?;
        let answer = self.remote.call(move || make(array)).await;
        answer.unwrap_or_else(|_| Err(Error::new(ErrorKind::ShuttingDown, "the executor thread ended")))
    }

    /// The member an admin means, who may name one that was never opened by its path.
    fn meant(&self, named: MemberRef) -> Result<MemberRef> {
        Ok(absent::meant(&self.report()?, named))
    }

    async fn replace(&self, body: ReplaceBody) -> Result<Reply> {
        check_new(&body.new).await?;
        let body = ReplaceBody { old: self.meant(body.old)?, ..body };
        let (opener, env) = (Arc::clone(&self.opener), self.env.clone());
        let attach = move |array: Arc<Array>| async move {
            let opened = devices::open(&*opener, &body.new).await;
            let required = array.required_bytes(Some(&body.old))?;
            let device = opened.map_err(|e| devices::offer_image(e, &body.new, required))?;
            if !body.force
                && let Some(uuid) = array.take_back(&device, Some(&body.old)).await?
            {
                return Ok(MemberBody { uuid, returned: true });
            }
            devices::check_blank(&device, &env, body.force).await?;
            Ok(MemberBody { uuid: array.replace(&body.old, device).await?, returned: false })
        };
        let attached = self.on_array(attach).await?;
        self.save_members();
        Ok(Reply::Member(attached))
    }

    async fn add(&self, body: AddBody) -> Result<Reply> {
        check_new(&body.path).await?;
        let (opener, env) = (Arc::clone(&self.opener), self.env.clone());
        let attach = move |array: Arc<Array>| async move {
            let opened = devices::open(&*opener, &body.path).await;
            let required = array.required_bytes(None)?;
            let device = opened.map_err(|e| devices::offer_image(e, &body.path, required))?;
            if !body.force
                && let Some(uuid) = array.take_back(&device, None).await?
            {
                return Ok(MemberBody { uuid, returned: true });
            }
            devices::check_blank(&device, &env, body.force).await?;
            Ok(MemberBody { uuid: array.add(device).await?, returned: false })
        };
        let attached = self.on_array(attach).await?;
        self.save_members();
        Ok(Reply::Member(attached))
    }

    async fn stop(&self) -> Result<Reply> {
        let (tell, told) = oneshot::channel();
        let gone = || Error::new(ErrorKind::ShuttingDown, "is stopping").array(&self.name);
        self.wake.send(Wake::Asked(tell)).map_err(|_| gone())?;
        match told.await.map_err(|_| gone())? {
            Ok(()) => Ok(Reply::Ok(OkBody { ok: true })),
            Err(what) => Err(Error::new(ErrorKind::Io, what).hint("the daemon has ended; look into its log")),
        }
    }

    async fn answer(&self, request: Request) -> Result<Reply> {
        match request {
            Request::Status => Ok(Reply::Report(Box::new(self.report()?))),
            Request::Version => Ok(Reply::Version(Version {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                api: vec![API],
                pid: std::process::id(),
                io: self.io.clone(),
            })),
            Request::Fail(member) => {
                let member = self.meant(member)?;
                let applied = self.on_array(|array| async move { array.fail(&member).await }).await?;
                self.save_members();
                Ok(Reply::Applied(AppliedBody { applied }))
            }
            Request::Remove(member) => {
                let member = self.meant(member)?;
                let applied = self.on_array(|array| async move { array.remove(&member).await }).await?;
                self.save_members();
                Ok(Reply::Applied(AppliedBody { applied }))
            }
            Request::Replace(body) => self.replace(body).await,
            Request::Add(body) => self.add(body).await,
            Request::Rebuild(change) => {
                let change = move |array: Arc<Array>| async move {
                    array.control_rebuild(change);
                    Ok(())
                };
                self.on_array(change).await?;
                Ok(Reply::Ok(OkBody { ok: true }))
            }
            Request::Scrub => Ok(Reply::Scrub(Box::new(self.scrubs()?))),
            Request::StartScrub(start) => Ok(Reply::ScrubStarted(self.start_scrub(start)?)),
            Request::ControlScrub(change) => {
                self.array()?.control_scrub(change)?;
                Ok(Reply::Ok(OkBody { ok: true }))
            }
            Request::CancelScrub => Ok(Reply::Applied(AppliedBody { applied: self.array()?.cancel_scrub() })),
            Request::Stop => self.stop().await,
        }
    }
}

/// The [`Admin`] over a shared [`Desk`].
pub struct Clerk(pub Arc<Desk>);

impl Admin for Clerk {
    fn handle(&self, request: Request) -> Pin<Box<dyn Future<Output = Result<Reply>> + Send>> {
        let desk = Arc::clone(&self.0);
        Box::pin(async move {
            let asked = format!("{request:?}");
            let answer = desk.answer(request).await;
            if let Err(e) = &answer {
                tracing::info!("refused {asked}: {}", e.report());
            }
            answer
        })
    }
}

async fn check_new(path: &str) -> Result<()> {
    if !std::path::Path::new(path).is_absolute() || path.contains('\0') {
        return Err(Error::new(ErrorKind::InvalidInput, format!("'{path}' is not an absolute path")));
    }
    // A path that hangs holds up nobody else who asks.
    let path = path.to_owned();
    let checked = tokio::task::spawn_blocking(move || devices::check_unused(&path)).await;
    checked.map_err(|e| Error::new(ErrorKind::Failed, "cannot look at it").source(e))?
}

/// What the configuration must list: everything attached, everything the array still counts as
/// its own, and what could not be opened as long as one of those may be a member not yet found.
/// What an admin wrote into it meanwhile, and took out of it, counts from the next start on: of what is
/// in it only what is `ours` is ever dropped.
fn listed(
    old: &[String],
    ours: &BTreeSet<String>,
    attached: &[String],
    report: &Report,
    absent: &[Absent],
) -> Vec<String> {
    let unplaced = report.members.iter().any(|m| m.state == MemberState::Missing && m.path.is_empty());
    let known = report.members.iter().map(|m| &m.path).filter(|p| !p.is_empty());
    let absent = absent.iter().map(|a| &a.path).filter(|path| unplaced && old.contains(path));
    let wanted: Vec<&String> = attached.iter().chain(known).chain(absent).collect();
    let mut list: Vec<String> =
        old.iter().filter(|p| wanted.contains(p) || !ours.contains(*p)).cloned().collect();
    for path in wanted {
        if !list.contains(path) {
            list.push(path.clone());
        }
    }
    list
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::array::{ArrayState, ErrorCounts, MemberReport, ScrubReport};
    use crate::units::{ArrayId, EventCount, MemberId, Slot};

    pub fn report(members: &[(&str, MemberState)]) -> Report {
        let id = |i: usize| MemberId::from_bytes([u8::try_from(i).unwrap() + 1; 16]);
        let member = |(i, (path, state)): (usize, &(&str, MemberState))| MemberReport {
            slot: Some(Slot(u8::try_from(i).unwrap())),
            journal: None,
            path: (*path).to_owned(),
            uuid: id(i),
            state: *state,
            errors: ErrorCounts::default(),
            size_bytes: 0,
            reason: None,
        };
        Report {
            name: "t".into(),
            uuid: ArrayId::NIL,
            state: ArrayState::Degraded,
            clean: true,
            data: 2,
            parity: 1,
            chunk_bytes: 4096,
            size_bytes: 0,
            capacity_bytes: 0,
            wasted_bytes: 0,
            event_count: EventCount(1),
            members: members.iter().enumerate().map(member).collect(),
            tasks: Vec::new(),
            scrub: ScrubReport::default(),
            exports: Vec::new(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn a_member_that_is_away_stays_listed_until_it_is_replaced() {
        use MemberState::{Faulty, InSync, Missing};
        let text = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let old = text(&["/a", "/b", "/c"]);
        let absent = [Absent { path: "/b".into(), why: String::new(), member: None, hangs: false }];
        let away = report(&[("/a", InSync), ("", Missing), ("/c", Faulty)]);
        let ours = old.iter().cloned().collect();
        assert_eq!(listed(&old, &ours, &text(&["/a"]), &away, &absent), old);
        let replaced = report(&[("/a", InSync), ("/new", InSync), ("/c", Faulty)]);
        assert_eq!(listed(&old, &ours, &text(&["/a", "/new"]), &replaced, &absent), ["/a", "/c", "/new"]);
        let edited = text(&["/a", "/moved", "/c"]);
        assert_eq!(listed(&edited, &ours, &text(&["/a"]), &away, &absent), edited, "by an admin");
    }
}
