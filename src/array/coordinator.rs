//! The coordinator: the only one that changes membership and writes superblocks.
//!
//! A change is prepared on a copy of the membership, recorded on every member that will go on
//! (event count raised, flushed), and only then published to the data path. A member that cannot
//! record it is lost in the same stroke. If that would leave fewer than k members in sync, or none of
//! those that bear the journal, nothing is changed: the failing members become *suspect*, which means
//! they are still read, writes are refused, and they are tried again until they answer (P9).

use super::ledger::{self, Identity};
use super::loss::ailment;
use super::returning::Returns;
use super::transition::{self as go, Change};
use super::{AssembleOptions, MemberState};
use crate::env::{LocalFuture, join_all};
use crate::epoch::EpochMap;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Membership, Role};
use crate::member::Member;
use crate::mutation::{Protection, without};
use crate::observe::Event;
use crate::stripe::{self, JournalView, RebuiltMap, Roster, RosterCell, SlotView, Target, Verdict};
use crate::units::{JournalIndex, MemberId, Slot};
use futures::lock::{Mutex as AsyncMutex, MutexGuard as AsyncGuard};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Rounds in which a change is recorded.
const ROUNDS: u32 = 2;

/// What is known of a member at run time.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// Where it is or was.
    pub path: String,
    /// Open, if it takes part.
    pub member: Option<Arc<Member>>,
    /// What it holds, while it is being filled.
    pub rebuilt: Option<Arc<RebuiltMap>>,
    /// Fails but cannot be spared, and why.
    pub suspect: Option<String>,
    /// How to show it when it takes no part.
    pub absent: Option<(MemberState, String)>,
    /// Whether it is taken back when it takes no part.
    pub returns: Returns,
}

pub(super) struct State {
    pub membership: Membership,
    pub known: HashMap<MemberId, Known>,
    /// Paths where members of which no path is known may come back.
    pub unopened: Vec<String>,
    pub write_count: u64,
    /// Every member that takes part carries `membership` at `write_count`: not yet so at the
    /// start, nor after a change that was given up half-way.
    pub recorded: bool,
}

impl State {
    /// The open members that carry the superblock of this membership.
    fn participants(&self, membership: &Membership) -> Vec<Arc<Member>> {
        let open = |e: &crate::format::Entry| match e.role {
            role if role.is_faulty() => None,
            _ => self.known.get(&e.member).filter(|k| k.suspect.is_none())?.member.clone(),
        };
        membership.entries.iter().filter_map(open).collect()
    }
}

/// Owns membership. See the module.
pub(super) struct Coordinator {
    pub options: AssembleOptions,
    pub identity: Identity,
    pub epochs: Arc<EpochMap>,
    state: Mutex<State>,
    roster: RosterCell,
    changing: AsyncMutex<()>,
}

/// Proof that nobody else changes membership.
pub(super) type Changing<'a> = AsyncGuard<'a, ()>;

impl Coordinator {
    pub fn new(options: AssembleOptions, identity: Identity, epochs: EpochMap, state: State) -> Self {
        let this = Self {
            options,
            identity,
            epochs: Arc::new(epochs),
            state: Mutex::new(state),
            roster: RosterCell::default(),
            changing: AsyncMutex::new(()),
        };
        this.publish();
        this
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn membership(&self) -> Membership {
        self.state().membership.clone()
    }

    pub fn known(&self, id: MemberId) -> Known {
        self.state().known.get(&id).cloned().unwrap_or_default()
    }

    /// Waits until nobody else changes membership.
    pub async fn begin(&self) -> Changing<'_> {
        self.changing.lock().await
    }

    /// As [`Self::begin`], unless somebody does.
    pub fn try_begin(&self) -> Option<Changing<'_>> {
        self.changing.try_lock()
    }

    /// Refuses a change by an admin while members are suspect: those that cannot record it would
    /// seem to be stale afterwards.
    pub fn refuse_if_failed(&self) -> Result<()> {
        match self.roster.get().refuse_writes.clone() {
            None => Ok(()),
            Some(why) => Err(Error::new(ErrorKind::Failed, format!("not while the array has failed: {why}"))
                .array(&self.identity.name)
                .hint("bring back the members that `palisade status` names")),
        }
    }

    /// Makes changes durable, then visible. A member that cannot record them is lost.
    pub async fn commit(&self, _proof: &Changing<'_>, changes: &[Change]) -> Result<()> {
        let mut next = self.present();
        for change in changes {
            go::apply(&mut next, *change)?;
        }
        self.record(next, true).await
    }

    /// Whether everything can be read, and written, with the members that this table has in sync. Parity
    /// that nothing proves cannot stand in for any.
    pub(super) fn suffices(&self, m: &Membership) -> bool {
        let proven = !m.discarded || m.clean || self.options.discard.force;
        self.identity.suffices(m) && (proven || go::lost(m, &self.identity.shape).is_empty())
    }

    /// Records a changed membership that is no change of members: clean, progress.
    pub async fn commit_with(
        &self,
        _proof: &Changing<'_>,
        raise_event: bool,
        edit: impl FnOnce(&mut Membership),
    ) -> Result<()> {
        let mut next = self.present();
        edit(&mut next);
        self.record(next, raise_event).await
    }

    /// The membership, with the epoch from which on a member lost now lacks changes.
    fn present(&self) -> Membership {
        let durable = self.epochs.durable();
        Membership { epoch: durable.next(), ..self.membership() }
    }

    /// Changes the membership that the next change will record.
    pub fn edit_unrecorded(&self, _proof: &Changing<'_>, edit: impl FnOnce(&mut Membership)) {
        let mut state = self.state();
        state.recorded = false;
        edit(&mut state.membership);
    }

    /// Records a change in two rounds, each with its own event: so whoever is one event behind when
    /// the machine goes down took part until the last change was recorded, and missed nothing that
    /// came after it; and whoever was away while something was written is two behind at least.
    async fn record(&self, mut next: Membership, raise_event: bool) -> Result<()> {
        if self.state().known.values().any(|k| k.suspect.is_some()) {
            // Those that cannot record it would seem to be stale afterwards.
            return Err(
                Error::new(ErrorKind::Failed, "not while the array has failed").array(&self.identity.name)
            );
        }
        let mut lost_now = Vec::new();
        // Writing a new superblock over one that somebody else overwrote would hide that.
        let mut failed = self.overwritten(&next).await;
        if without(Protection::RecordBeforeActing) {
            self.adopt(next.clone());
        }
        let mut reached = next.event_count;
        let all_rounds = if without(Protection::TwoRounds) { 1 } else { ROUNDS };
        let mut rounds = if raise_event && !without(Protection::EventRaised) { all_rounds } else { 0 };
        loop {
            if failed.is_empty() {
                next.event_count = if rounds > 0 { reached.next() } else { reached };
                failed = self.write_all(&next).await;
            }
            if failed.is_empty() {
                reached = next.event_count;
                rounds = rounds.saturating_sub(1);
                if rounds == 0 {
                    break;
                }
                continue;
            }
            rounds = all_rounds;
            let mut after = next.clone();
            for (id, _) in &failed {
                if go::role(&after, *id).is_some_and(|role| !role.is_faulty()) {
                    go::apply(&mut after, Change::Lose(*id))?;
                }
            }
            if !self.suffices(&after) {
                // Some have a change that is given up. The next one gets the same event and a
                // higher write count, and so the better of it.
                self.state().membership.event_count = reached;
                return Err(self.suspect(failed));
            }
            next = after;
            lost_now.append(&mut failed);
        }
        self.adopt(next);
        for (id, why) in lost_now {
            self.let_go(id, why);
        }
        Ok(())
    }

    /// Members, of those that go on in `next`, whose superblock is not what was last written
    /// there, or cannot be read: somebody else wrote to them, nothing on them can be trusted.
    pub async fn overwritten(&self, next: &Membership) -> Vec<(MemberId, String)> {
        let (membership, write_count, members) = {
            let state = self.state();
            if !state.recorded || without(Protection::OverwrittenNoticed) {
                return Vec::new();
            }
            let mut members = state.participants(&state.membership);
            let goes_on = |id| go::role(next, id).is_some_and(|role| !role.is_faulty());
            members.retain(|m| goes_on(m.id()));
            (state.membership.clone(), state.write_count, members)
        };
        let checks = members.iter().map(|member| {
            let superblock =
                self.identity.superblock(member.id(), member.size_bytes(), &membership, write_count);
            async move {
                match ledger::verify(member, &superblock).await {
                    Ok(true) => None,
                    Ok(false) => Some((member.id(), "its superblock was overwritten".to_owned())),
                    Err(e) => Some((member.id(), e.report())),
                }
            }
        });
        join_all(checks).await.into_iter().flatten().collect()
    }

    /// Writes superblocks to everyone who goes on; says who could not.
    async fn write_all(&self, next: &Membership) -> Vec<(MemberId, String)> {
        let (write_count, members) = {
            let mut state = self.state();
            state.write_count += 1;
            state.recorded = false;
            (state.write_count, state.participants(next))
        };
        let writes = members.iter().map(|member| async move {
            let size = member.size_bytes();
            let superblock = self.identity.superblock(member.id(), size, next, write_count);
            ledger::write(member, &superblock).await.err().map(|e| (member.id(), e.report()))
        });
        join_all(writes).await.into_iter().flatten().collect()
    }

    fn adopt(&self, next: Membership) {
        let stripes = self.identity.stripes();
        let mut state = self.state();
        for entry in &next.entries {
            let known = state.known.entry(entry.member).or_default();
            match entry.role {
                Role::Rebuilding(_) => {
                    known.rebuilt.get_or_insert_with(|| Arc::new(RebuiltMap::new(stripes)));
                }
                _ => known.rebuilt = None,
            }
        }
        state.known.retain(|id, _| next.entry(*id).is_some());
        state.membership = next;
        state.recorded = true;
        drop(state);
        self.publish();
    }

    /// A member no longer counts: closes it and says so.
    pub(super) fn let_go(&self, id: MemberId, why: String) {
        let (seat, path) = {
            let mut state = self.state();
            let seat = go::role(&state.membership, id).and_then(Role::seat);
            let Some(known) = state.known.get_mut(&id) else { return };
            known.member = None;
            known.suspect = None;
            known.absent = Some((MemberState::Faulty, why.clone()));
            known.returns = Returns::lost_now();
            (seat, known.path.clone())
        };
        self.publish();
        if let Some(seat) = seat {
            self.tell(Event::MemberFaulty { seat, path, reason: why });
        }
    }

    pub(super) fn suspect(&self, failed: Vec<(MemberId, String)>) -> Error {
        let names: Vec<String> = failed.iter().map(|(id, _)| self.known(*id).path).collect();
        for (id, why) in failed {
            let path = {
                let mut state = self.state();
                let Some(known) = state.known.get_mut(&id) else { continue };
                if let Some(member) = &known.member {
                    member.trust();
                }
                if known.suspect.replace(why.clone()).is_some() {
                    continue;
                }
                known.path.clone()
            };
            if let Some(seat) = go::role(&self.membership(), id).and_then(Role::seat) {
                self.tell(Event::MemberSuspect { seat, path, reason: why });
            }
        }
        self.publish();
        Error::new(ErrorKind::Failed, format!("{} cannot be spared and do not answer", names.join(", ")))
            .array(&self.identity.name)
    }

    /// A suspect answers again. Once the last one does, writes are taken again.
    pub async fn readmit(&self, proof: &Changing<'_>, id: MemberId, member: Arc<Member>) -> Result<()> {
        let last = {
            let mut state = self.state();
            if let Some(known) = state.known.get_mut(&id) {
                member.trust();
                known.member = Some(member);
                known.suspect = None;
            }
            state.known.values().all(|k| k.suspect.is_none())
        };
        if last && !without(Protection::ReturnRecorded) {
            // A change that was given up half-way is on some members and not on others.
            self.commit(proof, &[]).await?;
        }
        self.publish();
        Ok(())
    }

    /// Makes an opened device known before it is given a role.
    pub fn introduce(&self, member: Arc<Member>) {
        let known =
            Known { path: member.path().to_owned(), member: Some(member.clone()), ..Known::default() };
        self.state().known.insert(member.id(), known);
    }

    /// Forgets a device that was given no role.
    pub fn dismiss(&self, id: MemberId) {
        let mut state = self.state();
        if state.membership.entry(id).is_none() {
            state.known.remove(&id);
        }
    }

    /// Publishes what the data path sees.
    pub fn publish(&self) {
        let state = self.state();
        let open = |id| state.known.get(&id).and_then(|k| k.member.clone());
        let view = |slot: Slot| {
            let target = go::target(&state.membership, slot).and_then(|id| {
                let lacks_from = state.membership.entry(id)?.lost_epoch;
                Some(Target {
                    member: open(id)?,
                    rebuilt: state.known.get(&id)?.rebuilt.clone()?,
                    lacks_from,
                })
            });
            SlotView { primary: go::in_sync(&state.membership, slot).and_then(open), target }
        };
        let slots: Vec<SlotView> = self.identity.shape.slots().map(view).collect();
        let journal = self.identity.journal_members.map(|own| {
            let bear = |seat: fn(&Membership, JournalIndex) -> Option<MemberId>| {
                let bearer = |i: JournalIndex| Some((i.index(), open(seat(&state.membership, i)?)?));
                own.indices().filter_map(bearer).collect()
            };
            JournalView { in_sync: bear(go::in_sync_journal), filling: bear(go::filling_journal) }
        });
        let suspects: Vec<&str> =
            state.known.values().filter(|k| k.suspect.is_some()).map(|k| k.path.as_str()).collect();
        let refuse_writes = match suspects.is_empty() || without(Protection::BeyondRefused) {
            true => None,
            false => {
                Some(format!("more members fail than can be spared (waiting for {})", suspects.join(", ")))
            }
        };
        self.roster.set(Roster { slots, journal, refuse_writes });
    }

    pub fn tell(&self, event: Event) {
        self.options.observer.event(event);
    }
}

impl stripe::Membership for Coordinator {
    fn roster(&self) -> Arc<Roster> {
        self.roster.get()
    }

    fn write_failed(&self, member: MemberId, error: Error) -> LocalFuture<'_, Verdict> {
        Box::pin(self.lose(member, error.report()))
    }

    fn read_failed(&self, member: MemberId, error: Error) -> LocalFuture<'_, Verdict> {
        Box::pin(async move {
            let Some(open) = self.known(member).member else { return Verdict::Kicked };
            let ailment = match error.kind() {
                ErrorKind::Timeout => Some(error.report()),
                _ => ailment(&open).await,
            };
            match ailment {
                Some(why) => self.lose_opened(&open, why).await,
                None => Verdict::Kept,
            }
        })
    }

    fn repaired(&self, member: MemberId, offset_bytes: u64, len_bytes: u64) {
        if let Some(slot) = go::role(&self.membership(), member).and_then(Role::slot) {
            self.tell(Event::ReadRepaired { slot, offset_bytes, len_bytes });
        }
    }
}
