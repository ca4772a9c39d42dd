//! The running array, as the daemon and the background tasks hold it.

use super::activity::Activity;
use super::coordinator::{Coordinator, Known};
use super::progress::{Orders, TaskSwitch};
use super::scrub::Scrubs;
use super::transition::{self as go, Change};
use super::volume::ArrayVolume;
use super::{
    Applied, AssembleOptions, Candidate, CreateSpec, Devices, MemberRef, RebuildControl, Report, TaskKind,
    Waits, assemble, create, discard, ledger, resolve, view,
};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::export::Volume;
use crate::format::{MAX_RANGES, Role, StripeRange};
use crate::integrity::Integrity;
use crate::journal;
use crate::member::Member;
use crate::mutation::{Protection, without};
use crate::observe::Event;
use crate::stripe::{Membership as _, Parts, Roster, RosterBearers, Stripes, Verdict};
use crate::units::{ArrayId, BLOCK_BYTES, MemberId, Seat, Slot, StripeIndex, format_size};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A running array. All futures are polled on executor threads.
pub struct Array {
    pub(super) coordinator: Arc<Coordinator>,
    stripes: Arc<Stripes>,
    activity: Arc<Activity>,
    switch: TaskSwitch,
    scrubs: Scrubs,
    waits: Arc<Waits>,
    /// Somebody waits until new members that bear the journal have all of it.
    pub(super) settling: AtomicBool,
}

impl Array {
    /// Formats the devices as a new array. Refuses too few, too small ones, and a size beyond the
    /// capacity, before anything is written. Does not look for foreign data: the caller has (or was
    /// told to force).
    pub async fn create(env: &Env, spec: &CreateSpec, devices: &Devices) -> Result<ArrayId> {
        create::create(env, spec, devices).await
    }

    /// Brings the array up from any k current members among the candidates. Background tasks are
    /// started by `task::supervise`.
    pub async fn assemble(
        id: ArrayId,
        candidates: Vec<Candidate>,
        options: AssembleOptions,
    ) -> Result<Arc<Self>> {
        let env = options.env.clone();
        let switch = TaskSwitch::new(options.max_rebuild_rate);
        let assembled = assemble::assemble(id, candidates, options).await?;
        let coordinator = Arc::new(assembled.coordinator);
        let membership = coordinator.membership();
        let stripes = recover(&env, &coordinator).await?;
        let activity = Arc::new(Activity::new(Arc::clone(&coordinator), !assembled.was_clean));
        let scrubs = Scrubs::default();
        let (waits, settling) = (Arc::default(), AtomicBool::new(false));
        let array = Arc::new(Self { coordinator, stripes, activity, switch, scrubs, waits, settling });
        let lost = array.coordinator.identity.lost(&membership);
        let event_count = membership.event_count;
        array.coordinator.tell(Event::ArrayStarted { event_count, lost, clean: assembled.was_clean });
        array.take_back_absent().await;
        array.use_spares().await?;
        array.watch();
        Ok(array)
    }

    /// The volume it presents.
    pub fn volume(self: &Arc<Self>) -> Arc<dyn Volume> {
        Arc::new(ArrayVolume {
            env: self.env().clone(),
            stripes: Arc::clone(&self.stripes),
            activity: Arc::clone(&self.activity),
            waits: Arc::clone(&self.waits),
            size_bytes: self.coordinator.identity.volume_bytes,
        })
    }

    /// What it says about itself; exports are left empty.
    pub fn report(&self) -> Report {
        let task = self.switch.task_report(|kind| self.orders(kind));
        let scrub = self.scrubs.report(self.env().unix_seconds());
        view::report(&self.coordinator, task, scrub, self.stripes.is_settled())
    }

    /// Paths of everything attached: what the configuration file must list.
    pub fn paths(&self) -> Vec<String> {
        let state = self.coordinator.state();
        let known = state.membership.entries.iter().filter_map(|e| state.known.get(&e.member));
        known.map(|k| k.path.clone()).filter(|p| !p.is_empty()).collect()
    }

    /// Marks a member faulty. A replacement being filled, or a spare, is given up.
    pub async fn fail(self: &Arc<Self>, member: &MemberRef) -> Result<Applied> {
        let id = self.named(member)?;
        match go::role(&self.coordinator.membership(), id) {
            None => return Ok(Applied::Already),
            Some(role) if role.is_faulty() => return Ok(Applied::Already),
            Some(role) if role.is_in_sync() => self.refuse_one_too_many(id)?,
            Some(_) => {}
        }
        match self.coordinator.lose(id, "was marked faulty by an admin".to_owned()).await {
            Verdict::Kicked => {
                self.coordinator.stay_away(id).await?;
                self.use_spares().await?;
                Ok(Applied::Done)
            }
            Verdict::Kept => Err(self.one_too_many()),
        }
    }

    /// Starts filling `new` in place of `old`; says the new member's identity.
    pub async fn replace(self: &Arc<Self>, old: &MemberRef, new: Candidate) -> Result<MemberId> {
        let seat = self.seat(old)?;
        if go::filling(&self.coordinator.membership(), seat).is_some() {
            let what = format!("a replacement is being filled for {seat} already");
            return Err(self.named_error(Error::new(ErrorKind::Busy, what)).hint(format!(
                "wait for it, or give it up with `palisade remove {} <its path>`",
                self.coordinator.identity.name
            )));
        }
        self.admit(new, Some(seat)).await
    }

    /// Attaches a spare (which is used at once if a slot is lost).
    pub async fn add(self: &Arc<Self>, new: Candidate) -> Result<MemberId> {
        let path = new.path.clone();
        let id = self.admit(new, None).await?;
        self.coordinator.tell(Event::SpareAdded { path });
        self.use_spares().await?;
        Ok(id)
    }

    /// Detaches a spare, a replacement being filled, or a faulty, missing or stale member.
    pub async fn remove(self: &Arc<Self>, member: &MemberRef) -> Result<Applied> {
        let id = self.named(member)?;
        let proof = self.coordinator.begin().await;
        self.coordinator.refuse_if_failed()?;
        let role = go::role(&self.coordinator.membership(), id).filter(|role| role.is_in_sync());
        if let Some(seat) = role.and_then(Role::seat) {
            let name = &self.coordinator.identity.name;
            let e = Error::new(ErrorKind::Busy, format!("the member is in use as {seat}"));
            let seat = MemberRef::from(seat);
            return Err(self.named_error(e).hint(format!(
                "replace it with `palisade replace {name} {seat} NEW`, or mark it faulty first with \
                 `palisade fail {name} {seat}`"
            )));
        }
        let path = self.coordinator.known(id).path;
        self.coordinator.commit(&proof, &[Change::Detach(id)]).await?;
        self.coordinator.tell(Event::MemberRemoved { path });
        Ok(Applied::Done)
    }

    /// How long requests take while there is background work.
    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Changes how rebuilds run.
    pub fn control_rebuild(&self, change: RebuildControl) {
        self.switch.control(change);
    }

    /// Refuses new requests, waits for those under way, flushes, marks the members clean, lets go.
    pub async fn stop(self: &Arc<Self>) -> Result<()> {
        while !self.switch.stop() {
            self.env().sleep(Duration::from_millis(2)).await;
        }
        let progress = self.save_progress().await;
        self.activity.refuse().await;
        // What cannot come home now stays in the journal, and the array is not marked clean.
        drop(self.stripes.settle_all().await);
        self.stripes.close();
        self.activity.stop(|| self.stripes.is_settled()).await?;
        progress?;
        let proof = self.coordinator.begin().await;
        self.coordinator.flush_all(&proof).await?;
        self.coordinator.tell(Event::ArrayStopped);
        self.coordinator.close_all();
        Ok(())
    }

    /// Bytes that a new member must have at least, in place of another or, if none, as a spare.
    pub fn required_bytes(&self, old: Option<&MemberRef>) -> Result<u64> {
        let seat = old.map(|old| self.seat(old)).transpose()?;
        Ok(self.coordinator.identity.required_bytes(seat))
    }

    pub(super) fn seat(&self, named: &MemberRef) -> Result<Seat> {
        let identity = &self.coordinator.identity;
        resolve::seat(&self.coordinator.state(), named, identity).map_err(|e| self.named_error(e))
    }

    /// Makes a member of a device, to be filled for a seat or, if none, to be a spare.
    async fn admit(&self, new: Candidate, seat: Option<Seat>) -> Result<MemberId> {
        let identity = &self.coordinator.identity;
        let required = identity.required_bytes(seat);
        let size = new.backend.size_bytes();
        if size < required {
            let what = format!("too small: {} where {} are needed", format_size(size), format_size(required));
            return Err(self.named_error(Error::new(ErrorKind::NoSpace, what).member(&new.path)));
        }
        let proof = self.coordinator.begin().await;
        self.coordinator.refuse_if_failed()?;
        let id = MemberId::from_random(self.env().random_id());
        let member = Arc::new(Member::new(
            self.env().clone(),
            id,
            new.path.clone(),
            new.backend,
            self.coordinator.options.member_deadline,
            identity.areas.data_offset,
        ));
        let change = match seat {
            Some(Seat::Slot(slot)) => Change::Target(slot, id),
            Some(Seat::Journal(index)) => Change::TargetJournal(index, id),
            None => Change::Attach(id),
        };
        let mut membership = self.coordinator.membership();
        go::apply(&mut membership, change)?;
        let write_count = self.coordinator.state().write_count;
        let superblock = identity.superblock(id, member.size_bytes(), &membership, write_count);
        ledger::clear(&member, identity, seat).await.map_err(|e| self.named_error(e))?;
        ledger::format(&member, &superblock).await.map_err(|e| self.named_error(e))?;
        self.coordinator.introduce(member);
        let done = self.coordinator.commit(&proof, &[change]).await;
        self.coordinator.dismiss(id);
        done?;
        if go::role(&self.coordinator.membership(), id).is_none() {
            let e = Error::new(ErrorKind::Io, "the new member could not record its membership");
            return Err(self.named_error(e.member(&new.path)));
        }
        let path = new.path;
        match seat {
            Some(Seat::Slot(slot)) => {
                self.tell(Event::RebuildStarted { slot, member: id, path, spare: false });
            }
            Some(Seat::Journal(index)) => self.tell(Event::JournalFilling { index, path }),
            None => {}
        }
        Ok(id)
    }

    /// Gives every lost slot that has no replacement a spare, as far as they go.
    async fn use_spares(&self) -> Result<()> {
        let proof = self.coordinator.begin().await;
        if self.coordinator.refuse_if_failed().is_err() {
            return Ok(());
        }
        let membership = self.coordinator.membership();
        let lost = go::lost(&membership, &self.coordinator.identity.shape);
        let bare = lost.into_iter().filter(|s| go::target(&membership, *s).is_none());
        for (slot, member) in bare.zip(go::spares(&membership)) {
            self.coordinator.commit(&proof, &[Change::Target(slot, member)]).await?;
            let path = self.coordinator.known(member).path;
            self.coordinator.tell(Event::RebuildStarted { slot, member, path, spare: true });
        }
        Ok(())
    }

    /// Starts the round over the members.
    fn watch(self: &Arc<Self>) {
        let array = Arc::clone(self);
        let round = array.coordinator.options.probe_interval;
        self.env().spawn(Box::pin(async move {
            while !array.switch.stopping() {
                array.env().sleep(round).await;
                if array.switch.stopping() {
                    break;
                }
                array.coordinator.look_after().await;
                array.activity.settle(|| array.stripes.is_settled()).await;
                array.take_back_absent().await;
                array.fill_journal();
                // Without a spare the slot stays lost; the next round tries again.
                drop(array.use_spares().await);
            }
        }));
    }

    fn named(&self, member: &MemberRef) -> Result<MemberId> {
        resolve::member(&self.coordinator.state(), member).map_err(|e| self.named_error(e))
    }

    pub(super) fn named_error(&self, e: Error) -> Error {
        e.array(&self.coordinator.identity.name)
    }

    fn refuse_one_too_many(&self, id: MemberId) -> Result<()> {
        let mut after = self.coordinator.membership();
        go::apply(&mut after, Change::Lose(id))?;
        match self.coordinator.identity.suffices(&after) {
            true => Ok(()),
            false => Err(self.one_too_many()),
        }
    }

    fn one_too_many(&self) -> Error {
        let what = "without this member data would become unreadable";
        self.named_error(Error::new(ErrorKind::Failed, what).hint(format!(
            "replace it instead: `palisade replace {} MEMBER NEW` copies from it while it answers",
            self.coordinator.identity.name
        )))
    }
}

/// What background tasks need.
impl Array {
    /// The surroundings.
    pub fn env(&self) -> &Env {
        &self.coordinator.options.env
    }

    /// The stripes to work on.
    pub fn stripes(&self) -> &Arc<Stripes> {
        &self.stripes
    }

    /// Number of stripes the volume uses.
    pub fn stripe_count(&self) -> u64 {
        self.coordinator.identity.stripes()
    }

    /// The present snapshot of members.
    pub fn roster(&self) -> Arc<Roster> {
        self.coordinator.roster()
    }

    /// Where to report progress and to read orders.
    pub fn switch(&self) -> &TaskSwitch {
        &self.switch
    }

    /// How a task is to run. A scrub makes way for whatever restores redundancy.
    pub fn orders(&self, kind: TaskKind) -> Orders {
        match kind {
            TaskKind::Rebuild => self.switch.rebuild_orders(),
            TaskKind::Scrub => {
                let roster = self.roster();
                let makes_way =
                    roster.refuse_writes.is_some() || roster.slots.iter().any(|s| s.target.is_some());
                let orders = self.scrubs.orders();
                Orders { end: orders.end || makes_way || self.switch.stopping(), ..orders }
            }
        }
    }

    /// What is known of scrubs.
    pub fn scrubs(&self) -> &Scrubs {
        &self.scrubs
    }

    /// Refuses what makes no sense while the array has failed.
    pub(super) fn refuse_if_failed(&self) -> Result<()> {
        self.coordinator.refuse_if_failed()
    }

    /// What the array is called, which it is, and the size of its volume in bytes.
    pub(super) fn identity(&self) -> (&str, ArrayId, u64) {
        let identity = &self.coordinator.identity;
        (&identity.name, identity.array, identity.volume_bytes)
    }

    /// Tells the observer.
    pub fn tell(&self, event: Event) {
        self.coordinator.tell(event);
    }

    /// Records how far replacements are filled, durably, so that a restart goes on from there.
    pub async fn save_progress(&self) -> Result<()> {
        // What is recorded as filled has its checksums there too.
        if !without(Protection::TablesBeforeProgress) {
            self.stripes.write_tables().await?;
        }
        let proof = self.coordinator.begin().await;
        let targets: Vec<(MemberId, Arc<Member>, Vec<StripeRange>)> = {
            let roster = self.roster();
            let ranges = |t: &crate::stripe::Target| {
                let runs = t.rebuilt.longest_runs(MAX_RANGES);
                runs.into_iter().map(|(start, count)| StripeRange { start, count }).collect()
            };
            let targets = roster.slots.iter().filter_map(|s| s.target.as_ref());
            targets.map(|t| (t.member.id(), Arc::clone(&t.member), ranges(t))).collect()
        };
        if targets.is_empty() {
            return Ok(());
        }
        for (id, member, _) in &targets {
            if let Err(e) = member.flush().await {
                self.coordinator.lose_locked(&proof, *id, e.report()).await;
                return Ok(());
            }
        }
        let edit = |m: &mut crate::format::Membership| {
            for (id, _, ranges) in targets {
                for e in m.entries.iter_mut().filter(|e| e.member == id) {
                    e.rebuilt.clone_from(&ranges);
                }
            }
        };
        self.coordinator.commit_with(&proof, false, edit).await
    }

    /// The slot's replacement holds everything: it takes the slot over.
    pub async fn complete(&self, slot: Slot) -> Result<()> {
        let of_slot = |roster: Arc<Roster>| roster.slots.get(slot.index()).and_then(|s| s.target.clone());
        let Some(target) = of_slot(self.roster()) else { return Ok(()) };
        self.stripes.try_parked();
        self.stripes.settle_onto(&target.member).await?;
        let proof = self.coordinator.begin().await;
        if of_slot(self.roster()).is_none_or(|now| now.member.id() != target.member.id()) {
            return Ok(());
        }
        if let Err(e) = target.member.flush().await {
            self.coordinator.lose_locked(&proof, target.member.id(), e.report()).await;
            return Ok(());
        }
        self.coordinator.commit(&proof, &[Change::Complete(slot)]).await?;
        let path = target.member.path().to_owned();
        self.coordinator.tell(Event::RebuildFinished { slot, path });
        Ok(())
    }
}

/// Reads the journal back and does again what it holds.
async fn recover(env: &Env, coordinator: &Arc<Coordinator>) -> Result<Arc<Stripes>> {
    let identity = &coordinator.identity;
    let membership = Arc::clone(coordinator) as Arc<dyn crate::stripe::Membership>;
    let named = |e: Error| e.array(&identity.name);
    let recovered = read_journal(env, coordinator).await.map_err(named)?;
    let (epochs, per_chunk) = (Arc::clone(&coordinator.epochs), identity.shape.chunk_bytes() / BLOCK_BYTES);
    let integrity = Integrity::new(
        identity.areas.checksum_offset,
        identity.shape.width(),
        coordinator.options.checksum_cache_bytes,
        Box::new(move |block| epochs.is_allocated(StripeIndex(block / per_chunk))),
    );
    let stripes = Arc::new(Stripes::new(Parts {
        env: env.clone(),
        shape: identity.shape,
        membership,
        journal: recovered.journal,
        integrity,
        epochs: Arc::clone(&coordinator.epochs),
        staging_bytes: coordinator.options.staging_bytes,
    })?);
    stripes.redo(recovered.replayed, recovered.hold).await.map_err(named)?;
    discard::get_over(coordinator, &stripes).await.map_err(named)?;
    stripes.start_destager();
    Ok(stripes)
}

/// Reads the journal back. Members that turn out to be older images of themselves are lost.
async fn read_journal(env: &Env, coordinator: &Arc<Coordinator>) -> Result<journal::Recovered> {
    let identity = &coordinator.identity;
    let membership = Arc::clone(coordinator) as Arc<dyn crate::stripe::Membership>;
    let mut anew = coordinator.membership().discarded;
    loop {
        let spec = journal::Spec {
            env: env.clone(),
            array: identity.array,
            shape: identity.shape,
            code: identity.journal_code()?,
            stripes: identity.stripes(),
            place: identity.journal(),
            checkpoints_offset: identity.checkpoints(None).offset,
            bearers: Arc::new(RosterBearers(Arc::clone(&membership))),
        };
        let roster = membership.roster();
        let others: Vec<Arc<Member>> = match roster.journal {
            Some(_) => roster.slots.iter().filter_map(|s| s.primary.clone()).collect(),
            None => Vec::new(),
        };
        if std::mem::take(&mut anew) {
            journal::begin_anew(spec, &roster.journal_holders(), &others).await?;
            continue;
        }
        match journal::recover(spec, &roster.journal_holders(), &others).await? {
            journal::Outcome::Recovered(recovered) => return Ok(recovered),
            journal::Outcome::Behind(who) => coordinator.lose_images(who).await?,
        }
    }
}

impl Coordinator {
    /// Lets go of every device.
    fn close_all(&self) {
        let mut state = self.state();
        state.known.values_mut().for_each(|k| *k = Known { path: k.path.clone(), ..Known::default() });
        drop(state);
        self.publish();
    }
}
