//! Taking back members that were lost, with what they hold.
//!
//! A member that was lost in an epoch lacks nothing older (see [`crate::epoch`]), if it is what it was
//! then. An image from earlier looks the same from outside, so that its own epoch map has a say: what it
//! does not have in the state the array has it in, it lacks. And of the last two epochs it knows of it
//! may have had a part only: an epoch begins when the last but one is home.

use super::coordinator::{Changing, Coordinator, Known};
use super::transition::{self as go, Change};
use super::{Array, Candidate, MemberRef, MemberState, decide, ledger};
use crate::env::deadline;
use crate::epoch::{self, EpochMap};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Entry, Membership, Superblock};
use crate::member::Member;
use crate::mutation::{Protection, without};
use crate::observe::Event;
use crate::stripe::Verdict;
use crate::units::{Epoch, MemberId, Seat};
use std::sync::Arc;
use std::time::Duration;

/// Rounds in which a member that was lost may turn out to have been taken away.
const ROUNDS: u8 = 5;
/// Pages of the epoch map compared before others get a turn, and for how long they do at least.
const PAGES_AT_ONCE: usize = 256;
const BREATH: Duration = Duration::from_micros(10);

/// Whether a member that was lost is taken back without being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Returns {
    /// It is there, and fails; or an admin does not want it.
    #[default]
    No,
    /// It was lost just now: for so many rounds it is looked whether it is there at all.
    Unclear(u8),
    /// It was away, or behind, and is taken back when it is seen.
    WhenSeen,
}

impl Returns {
    /// Of one lost just now.
    pub fn lost_now() -> Self {
        Self::Unclear(ROUNDS)
    }

    /// After a round in which it was there, or was not.
    fn after(self, there: bool) -> Self {
        match (self, there) {
            (Self::Unclear(_), false) => Self::WhenSeen,
            (Self::Unclear(rounds), true) if rounds > 1 => Self::Unclear(rounds - 1),
            (Self::Unclear(_), true) => Self::No,
            (other, _) => other,
        }
    }
}

/// A device that says it is a member that was lost.
struct Returning {
    superblock: Superblock,
    seat: Seat,
    taken_out: bool,
}

impl Array {
    /// Takes the device back if it is a member of this array that was lost (of `place`, if given): it is
    /// filled with what it lacks, and nothing of it is thrown away before. `None` if it is something else.
    /// `Foreign` if it has a history of its own, `Busy` if its slot is being filled already.
    pub async fn take_back(&self, device: &Candidate, place: Option<&MemberRef>) -> Result<Option<MemberId>> {
        let coordinator = &self.coordinator;
        let Some(found) = coordinator.recognise(device).await? else { return Ok(None) };
        if let Some(place) = place {
            let seat = self.seat(place)?;
            if seat != found.seat {
                let what = format!("is the lost member of {}, not of {seat}", found.seat);
                return Err(self
                    .named_error(Error::new(ErrorKind::InvalidInput, what).member(&device.path))
                    .hint("name its own slot, or give --force to overwrite what it holds"));
            }
        }
        self.take_back_as(device, found).await
    }

    /// Takes a member back that is what was found.
    async fn take_back_as(&self, device: &Candidate, found: Returning) -> Result<Option<MemberId>> {
        let coordinator = &self.coordinator;
        let identity = &coordinator.identity;
        let id = found.superblock.member;
        let member = Arc::new(Member::new(
            self.env().clone(),
            id,
            device.path.clone(),
            Arc::clone(&device.backend),
            coordinator.options.member_deadline,
            identity.areas.data_offset,
        ));
        let lacks_from = match found.seat {
            Seat::Slot(_) => self.lacks_from(&found, &member).await.map_err(|e| self.named_error(e))?,
            // It takes new frames, and lacks older ones.
            Seat::Journal(_) => Epoch(0),
        };
        let proof = coordinator.begin().await;
        coordinator.refuse_if_failed()?;
        let now = coordinator.membership();
        if go::role(&now, id).is_none_or(|role| !role.is_faulty()) {
            return Ok(None);
        }
        if go::filling(&now, found.seat).is_some() {
            let what = format!("{} is being filled by another already", found.seat);
            return Err(self.named_error(Error::new(ErrorKind::Busy, what)).hint(format!(
                "wait, or give the other up with `palisade remove {} <its path>`",
                identity.name
            )));
        }
        // Nothing of its former life in memory counts, nor does what its own journal was last told.
        self.stripes().forget(id);
        crate::journal::clear(&member, identity.checkpoints(Some(found.seat)))
            .await
            .map_err(|e| self.named_error(e))?;
        coordinator.admit_back(&proof, member, lacks_from).await.map_err(|e| self.named_error(e))?;
        coordinator.tell(Event::MemberReturned { seat: found.seat, path: device.path.clone() });
        Ok(Some(id))
    }

    /// The epoch before which a returning member lacks no change. Whatever is changed meanwhile is of later
    /// epochs than the one it was lost in.
    async fn lacks_from(&self, found: &Returning, member: &Arc<Member>) -> Result<Epoch> {
        let own = self.own_map(member).await?;
        let lost = self.coordinator.membership().entry(member.id()).map_or(Epoch(0), |e| e.lost_epoch);
        if without(Protection::OwnMapCompared) {
            return Ok(lost);
        }
        let settled = Epoch(own.latest().0.saturating_sub(1)).max(found.superblock.membership.epoch);
        let map = &self.coordinator.epochs;
        let mut pages = map.present_pages();
        pages.extend(own.present_pages());
        pages.sort_unstable();
        pages.dedup();
        let mut lacks_from = lost.min(settled);
        for some in pages.chunks(PAGES_AT_ONCE) {
            let first = some.iter().filter_map(|page| map.first_difference(&own, *page)).min();
            lacks_from = first.map_or(lacks_from, |first| first.min(lacks_from));
            // Whoever else has something to do gets a turn.
            self.env().sleep(BREATH).await;
        }
        Ok(lacks_from)
    }

    /// The epoch map as one member has it.
    async fn own_map(&self, member: &Arc<Member>) -> Result<EpochMap> {
        let identity = &self.coordinator.identity;
        let (offset, stripes) = (identity.areas.epoch_offset, identity.stripes());
        let members = std::slice::from_ref(member);
        let loaded = epoch::load(identity.array, stripes, offset, members, Epoch(0)).await;
        match loaded.silent.is_empty() {
            true => Ok(loaded.map),
            false => {
                let what = "did not answer in time when its epoch map was read";
                Err(Error::new(ErrorKind::Timeout, what).member(member.path()))
            }
        }
    }

    /// Takes back who was away, or behind, and is there now.
    pub(super) async fn take_back_absent(&self) {
        for path in self.coordinator.absentees() {
            let options = &self.coordinator.options;
            let opened = options.opener.open(&path);
            // One that hangs must not hold up looking after the others.
            let Some(opened) = deadline(&options.env, options.member_deadline, opened).await else {
                self.coordinator.leave_away(&path);
                continue;
            };
            let there = match &opened {
                // Somebody else has it, if only for a moment.
                Err(e) if e.kind() == ErrorKind::Busy => continue,
                opened => opened.is_ok(),
            };
            if !self.coordinator.seen(&path, there) {
                continue;
            }
            let Ok(backend) = opened else { continue };
            let device = Candidate { path: path.clone(), backend };
            let taken = match self.coordinator.recognise(&device).await {
                Ok(Some(found)) if !found.taken_out => self.take_back_as(&device, found).await,
                other => other.map(|_| None),
            };
            match taken {
                Ok(Some(_)) => {}
                Err(e) if matches!(e.kind(), ErrorKind::Busy | ErrorKind::Failed) => {}
                other => {
                    let reason =
                        other.err().map_or("is not the member that was lost".to_owned(), |e| e.report());
                    self.coordinator.leave_away(&path);
                    self.tell(Event::DeviceRefused { path, reason });
                }
            }
        }
    }
}

impl Coordinator {
    /// What a device says of itself, if that is a member of this array that was lost.
    async fn recognise(&self, device: &Candidate) -> Result<Option<Returning>> {
        let read = ledger::read(&self.options.env, &device.backend);
        let Some(Ok(superblock)) = deadline(&self.options.env, self.options.member_deadline, read).await
        else {
            return Ok(None);
        };
        let now = self.membership();
        let same = superblock.array == self.identity.array && superblock.areas == self.identity.areas;
        let entry = now.entry(superblock.member).filter(|_| same);
        let faulty = entry.filter(|e| e.role.is_faulty());
        let Some((seat, taken_out)) = faulty.and_then(|e| Some((e.role.seat()?, e.taken_out))) else {
            return Ok(None);
        };
        if !decide::is_related(&now, &superblock) {
            let what = "ran apart from this array, and may hold writes that it lacks";
            return Err(Error::new(ErrorKind::Foreign, what)
                .array(&self.identity.name)
                .member(&device.path)
                .hint("give --force to throw away what it holds and fill it anew"));
        }
        Ok(Some(Returning { superblock, seat, taken_out }))
    }

    async fn admit_back(&self, proof: &Changing<'_>, member: Arc<Member>, lacks_from: Epoch) -> Result<()> {
        let (id, path) = (member.id(), member.path().to_owned());
        let before = self.known(id);
        self.introduce(member);
        let done = self.commit(proof, &[Change::TakeBack(id, lacks_from)]).await;
        if done.is_err()
            && let Some(known) = self.state().known.get_mut(&id)
        {
            *known = before;
        }
        done?;
        match go::role(&self.membership(), id) {
            Some(role) if !role.is_faulty() => Ok(()),
            _ => Err(Error::new(ErrorKind::Io, "the member could not record that it is back").member(&path)),
        }
    }

    /// Where members may come back.
    fn absentees(&self) -> Vec<String> {
        let state = self.state();
        let away = |known: &&Known| known.returns != Returns::No && !known.path.is_empty();
        let known = state.known.values().filter(away).map(|k| k.path.clone());
        let taken = |path: &String| state.known.values().any(|k| k.member.is_some() && k.path == *path);
        let unplaced = state.membership.entries.iter().any(|e| {
            e.role.is_faulty() && !e.taken_out && state.known.get(&e.member).is_none_or(|k| k.path.is_empty())
        });
        let unopened = state.unopened.iter().filter(|_| unplaced).cloned();
        let mut paths: Vec<String> = known.chain(unopened).filter(|p| !taken(p)).collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// Takes note whether anything is at the path; says whether it may be taken back.
    fn seen(&self, path: &str, there: bool) -> bool {
        let mut state = self.state();
        let mut known: Vec<&mut Known> = state.known.values_mut().filter(|k| k.path == path).collect();
        let was = known.iter().any(|k| k.returns == Returns::WhenSeen) || known.is_empty();
        known.iter_mut().for_each(|k| k.returns = k.returns.after(there));
        was && there
    }

    /// Members turned out to be older images of themselves.
    pub(super) async fn lose_images(&self, who: Vec<MemberId>) -> Result<()> {
        for id in who {
            let path = self.known(id).path;
            if self.lose(id, IMAGE.to_owned()).await == Verdict::Kept {
                return Err(Error::new(
                    ErrorKind::Failed,
                    format!("cannot do without {path}, which {IMAGE}"),
                )
                .hint("bring back the member itself, or the other members that are missing"));
            }
            if let Some(known) = self.state().known.get_mut(&id) {
                *known = stale(path, IMAGE.to_owned());
            }
        }
        Ok(())
    }

    /// A member that an admin took out is not taken back unasked, after a restart neither.
    pub(super) async fn stay_away(&self, id: MemberId) -> Result<()> {
        let proof = self.begin().await;
        if let Some(known) = self.state().known.get_mut(&id) {
            known.returns = Returns::No;
        }
        let edit = |m: &mut Membership| {
            let of_member = |e: &&mut Entry| e.member == id && e.role.is_faulty();
            m.entries.iter_mut().filter(of_member).for_each(|e| e.taken_out = true);
        };
        self.commit_with(&proof, false, edit).await
    }

    /// Whoever was at the path is not taken back unasked.
    fn leave_away(&self, path: &str) {
        let mut state = self.state();
        state.unopened.retain(|unopened| unopened != path);
        state.known.values_mut().filter(|k| k.path == path).for_each(|k| k.returns = Returns::No);
    }
}

/// Why one that looks current is not.
pub(super) const IMAGE: &str = "lacks changes it must have had: an older image of it was put back";

/// How one that was found behind at a start is known.
pub(super) fn stale(path: String, why: String) -> Known {
    let absent = Some((MemberState::Stale, why));
    Known { path, absent, returns: Returns::WhenSeen, ..Known::default() }
}

/// The same of one that an admin had taken out.
pub(super) fn taken_out(path: String) -> Known {
    let absent = Some((MemberState::Faulty, "was taken out by an admin".to_owned()));
    Known { path, absent, ..Known::default() }
}
