//! The life of a daemon, from the lock to its release:
//!
//! ```text
//!   lock -> threads -> members -> array -> listeners -> control socket -> "ready"
//!     ^                                                                      |
//!     |                                                       signal or POST /v1/stop
//!     |                                                                      v
//!   release <- threads <- array: flush, mark clean <- requests under way <- listeners
//! ```

use super::absent::{self, Absent};
use super::admin::{Clerk, Desk, Running, Wake};
use super::config::Config;
use super::devices;
use super::discard::{self, DiscardArgs, NewJournal};
use super::executor::run_on;
use super::exports::{Served, wait_idle};
use super::lock::Lock;
use super::log::{self, LogObserver};
use super::log_file;
use super::places::Places;
use super::ready::{self, Teller, Waiting};
use super::scrub;
use crate::array::{Array, AssembleOptions, Discard};
use crate::control::Server;
use crate::env::deadline;
use crate::env::real::{IoKind, Runtime, RuntimeOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::Observer;
use crate::task;
use futures::channel::oneshot;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use serde::{Deserialize, Serialize};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Time beyond a member's deadline for requests under way when the array stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How to run, beyond the configuration file.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Overrides the configured way of I/O.
    pub io: Option<IoKind>,
    /// Paths of members to leave out as if they were missing: one side of a split.
    pub exclude: Vec<String>,
    /// What to do about a journal all of whose members are gone.
    pub discard: DiscardArgs,
}

/// What a start says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Process id of the daemon.
    pub pid: u32,
    /// Where the volume is served.
    pub uris: Vec<String>,
}

/// Runs the array in this process until it is stopped.
pub fn run(name: &str, places: &Places, options: &RunOptions) -> Result<()> {
    log::start();
    let mut waiting = Waiting::from_env()?;
    if waiting.is_awaited() {
        // Fails only for a process that leads a session already: as wanted.
        let _ = nix::unistd::setsid();
    }
    let signals = prepare_process();
    let (wake, wakes) = channel();
    let started = signals.and_then(|signals| {
        watch_signals(signals, wake.clone())?;
        Daemon::start(name, places, options, wake, waiting.teller())
    });
    match started {
        Ok(daemon) => {
            waiting.serving(&Started { pid: std::process::id(), uris: daemon.uris.clone() });
            daemon.until_stopped(&wakes)
        }
        Err(e) => {
            tracing::error!("array {name} does not start: {}", e.report());
            waiting.failed(&e);
            Err(e)
        }
    }
}

struct Daemon {
    name: String,
    desk: Arc<Desk>,
    server: Server,
    runtime: Runtime,
    drain: Duration,
    uris: Vec<String>,
    lock: Lock,
}

impl Daemon {
    fn start(
        name: &str,
        places: &Places,
        options: &RunOptions,
        wake: Sender<Wake>,
        teller: Teller,
    ) -> Result<Self> {
        Config::load(places, name)?;
        let lock = Lock::take(places, name)?;
        // Whoever held the lock may have changed it.
        let config = Config::load(places, name)?;
        let keep = usize::try_from(config.buffer_bytes).unwrap_or(usize::MAX);
        let runtime = Runtime::start(RuntimeOptions {
            threads: config.threads.count(),
            io: options.io.unwrap_or(config.io),
            keep_bytes: keep,
            busy_poll: Duration::from_micros(config.busy_poll_us),
        })?;
        tracing::info!("array {name}: I/O by {}, {} threads", runtime.io_description(), runtime.threads());
        let (changed, changes) = sync_channel(1);
        let mut new = NewJournal::prepare(&options.discard)?;
        new.look(&config, &runtime.env(), &runtime.remote(0));
        let observer = Arc::new(LogObserver::new(changed, teller));
        let (array, absent) = match assemble(&config, options, &new, &runtime, observer) {
            Ok(started) => started,
            Err(e) => {
                new.sort_out(&config, &runtime.env(), &runtime.remote(0), places);
                return Err(e);
            }
        };
        new.keep();
        scrub::restore(&array, places, name);
        let served = Served::start(&config, places, &array.volume(), &runtime);
        let served = match served {
            Ok(served) => served,
            Err(e) => {
                // The array was started for nothing: leave it as an orderly stop would.
                let stopped = run_on(&runtime.remote(0), move || async move { array.stop().await });
                return Err(stopped.err().map_or(e, |s| s));
            }
        };
        let uris = served.uris();
        let desk = Arc::new(Desk {
            name: name.to_owned(),
            places: places.clone(),
            absent,
            opener: devices::opener(),
            env: runtime.env(),
            remote: runtime.remote(0),
            io: runtime.io_description(),
            wake,
            running: Mutex::new(Some(Running { array, served })),
            file: Mutex::new(config.members.iter().cloned().collect()),
            scrub: config.scrub,
            scrub_file: Mutex::default(),
        });
        let drain = Duration::from_millis(config.member_deadline_ms) + DRAIN;
        match Server::start(&places.control_socket(name), Arc::new(Clerk(Arc::clone(&desk)))) {
            Ok(server) => {
                desk.save_members();
                spawn_keeper(&desk, changes)?;
                scrub::spawn_keeper(&desk)?;
                log_file::spawn_keeper(places.log_file(name))?;
                Ok(Self { name: name.to_owned(), desk, server, runtime, drain, uris, lock })
            }
            Err(e) => {
                let stopped = stop_array(&desk, &runtime, drain);
                Err(stopped.err().map_or(e, |s| s))
            }
        }
    }

    fn until_stopped(self, wakes: &Receiver<Wake>) -> Result<()> {
        let mut asked = Vec::new();
        match wakes.recv() {
            Ok(Wake::Signal(signal)) => tracing::info!("{signal}: stopping"),
            Ok(Wake::Asked(tell)) => {
                tracing::info!("asked to stop");
                asked.push(tell);
            }
            Err(_) => tracing::error!("nobody is left who could ask to stop: stopping"),
        }
        ready::stopping();
        let outcome = stop_array(&self.desk, &self.runtime, self.drain);
        match &outcome {
            Ok(()) => tracing::info!("array {} stopped", self.name),
            Err(e) => tracing::error!("array {} did not stop in order: {}", self.name, e.report()),
        }
        self.runtime.stop();
        // A socket file that stays is found dead by the next start.
        let _ = std::fs::remove_file(self.desk.places.control_socket(&self.name));
        self.lock.release();
        asked.extend(wakes.try_iter().filter_map(|wake| match wake {
            Wake::Asked(tell) => Some(tell),
            Wake::Signal(_) => None,
        }));
        tell_all(asked, &outcome);
        self.server.stop();
        outcome
    }
}

fn tell_all(asked: Vec<oneshot::Sender<std::result::Result<(), String>>>, outcome: &Result<()>) {
    for tell in asked {
        // Whoever hung up does not want to know.
        let _ = tell.send(outcome.as_ref().copied().map_err(Error::report));
    }
}

/// Opens the members and brings the array up.
fn assemble(
    config: &Config,
    run: &RunOptions,
    new: &NewJournal,
    runtime: &Runtime,
    observer: Arc<dyn Observer>,
) -> Result<(Arc<Array>, Vec<Absent>)> {
    let mut options = AssembleOptions {
        env: runtime.env(),
        unopened: Vec::new(),
        opener: devices::opener(),
        observer,
        member_deadline: Duration::from_millis(config.member_deadline_ms),
        probe_interval: Duration::from_millis(config.probe_interval_ms),
        staging_bytes: config.staging_bytes,
        checksum_cache_bytes: config.checksum_cache_bytes,
        max_rebuild_rate: Some(config.max_rebuild_rate).filter(|rate| *rate > 0),
        discard: Discard::default(),
    };
    let (mut paths, left_out) = leave_out(config, &run.exclude)?;
    // What is at a listed path now may be the new one.
    paths.retain(|path| !new.paths().contains(path));
    let (new, force) = (new.paths().to_vec(), run.discard.force);
    let id = config.uuid;
    run_on(&runtime.remote(0), move || async move {
        options.discard = discard::open(&options.opener, &options.env, &new, force).await?;
        let (candidates, mut absent) =
            devices::open_listed(&*options.opener, &paths, &options.env, options.member_deadline).await?;
        // One that is left out as asked stays out, and whoever hangs until somebody says that it does not.
        options.unopened = absent.iter().filter(|a| !a.hangs).map(|a| a.path.clone()).collect();
        for path in left_out {
            absent.push(absent::left_out(path, id, &options.env, options.member_deadline).await);
        }
        for one in &absent {
            tracing::warn!("goes on without {}: {}", one.path, one.why);
        }
        match Array::assemble(id, candidates, options).await {
            Ok(array) => {
                task::supervise(&array);
                Ok((array, absent))
            }
            Err(e) => Err(with_absent(e, &absent)),
        }
    })
    .map_err(|e| e.array(&config.name))
}

/// The members to open, and those an admin wants left out.
fn leave_out(config: &Config, exclude: &[String]) -> Result<(Vec<String>, Vec<String>)> {
    if let Some(path) = exclude.iter().find(|path| !config.members.contains(path)) {
        let error =
            Error::new(ErrorKind::NotFound, "is no member in the configuration, and cannot be left out");
        return Err(error.member(path).hint(format!("its members: {}", config.members.join(", "))));
    }
    Ok(config.members.iter().cloned().partition(|m| !exclude.contains(m)))
}

/// An array that lacks members should say why they could not be opened.
fn with_absent(error: Error, absent: &[Absent]) -> Error {
    if absent.is_empty() {
        return error;
    }
    let why: Vec<_> = absent.iter().map(|a| format!("{}: {}", a.path, a.why)).collect();
    error.and(&format!("; not opened: {}", why.join("; ")))
}

/// Ends serving, waits for requests under way, stops the array, lets go of its members.
fn stop_array(desk: &Desk, runtime: &Runtime, drain: Duration) -> Result<()> {
    let Some(Running { array, mut served }) = desk.close() else { return Ok(()) };
    served.shutdown();
    let (exports, env) = (served.exports(), runtime.env());
    let stopping = Arc::clone(&array);
    let stopped = run_on(&runtime.remote(0), move || async move {
        if deadline(&env, drain, wait_idle(exports)).await.is_none() {
            tracing::warn!("some clients did not close their connection in time; stopping without them");
        }
        stopping.stop().await
    });
    desk.save_scrubs(&array, true);
    stopped
}

fn spawn_keeper(desk: &Arc<Desk>, changes: Receiver<()>) -> Result<()> {
    let desk = Arc::clone(desk);
    let keeper = std::thread::Builder::new().name("config".into());
    let spawned = keeper.spawn(move || desk.keep_members(&changes));
    spawned.map(drop).map_err(|e| Error::io("cannot start a thread", e))
}

/// Before any other thread: signals blocked for all of them, many files, private sockets.
fn prepare_process() -> Result<SigSet> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    let mut blocked = signals;
    // A client that hangs up is an error code, not a signal.
    blocked.add(Signal::SIGPIPE);
    blocked.thread_block().map_err(|e| Error::io("cannot block signals", e.into()))?;
    umask(Mode::from_bits_truncate(0o077));
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(e) = raised {
        tracing::warn!("cannot raise the limit on open files: {e}");
    }
    Ok(signals)
}

fn watch_signals(signals: SigSet, wake: Sender<Wake>) -> Result<()> {
    let watch = move || {
        while let Ok(signal) = signals.wait() {
            if wake.send(Wake::Signal(signal.to_string())).is_err() {
                return;
            }
        }
    };
    let spawned = std::thread::Builder::new().name("signals".into()).spawn(watch);
    spawned.map(drop).map_err(|e| Error::io("cannot start a thread", e))
}
