//! What the data path knows of membership: an immutable snapshot, and the questions it may ask.

use crate::env::LocalFuture;
use crate::error::Error;
use crate::member::Member;
use crate::units::{Epoch, MemberId, Slot, StripeIndex};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Which stripes of a replacement have been filled: one bit each.
pub struct RebuiltMap {
    words: Vec<AtomicU64>,
    stripes: u64,
    count: AtomicU64,
}

impl RebuiltMap {
    /// No stripe filled yet.
    pub fn new(stripes: u64) -> Self {
        let words = usize::try_from(stripes.div_ceil(64)).unwrap_or(usize::MAX);
        Self { words: (0..words).map(|_| AtomicU64::new(0)).collect(), stripes, count: AtomicU64::new(0) }
    }

    /// Whether the stripe is filled.
    pub fn contains(&self, stripe: StripeIndex) -> bool {
        self.word(stripe).is_some_and(|(w, bit)| w.load(Ordering::Acquire) & bit != 0)
    }

    /// Marks the stripe filled. Call with its lock held.
    pub fn insert(&self, stripe: StripeIndex) {
        if stripe.0 < self.stripes
            && let Some((word, bit)) = self.word(stripe)
            && word.fetch_or(bit, Ordering::AcqRel) & bit == 0
        {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Marks the stripe not filled. Call with its lock held.
    pub fn remove(&self, stripe: StripeIndex) {
        if let Some((word, bit)) = self.word(stripe)
            && word.fetch_and(!bit, Ordering::AcqRel) & bit != 0
        {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Number of filled stripes.
    pub fn filled(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Number of stripes in all.
    pub fn stripes(&self) -> u64 {
        self.stripes
    }

    /// The longest filled runs `(start, count)`, at most `most`, in address order.
    pub fn longest_runs(&self, most: usize) -> Vec<(StripeIndex, u64)> {
        let mut runs: Vec<(StripeIndex, u64)> = Vec::new();
        let mut start = None;
        for s in 0..=self.stripes {
            match (self.contains(StripeIndex(s)), start) {
                (true, None) => start = Some(s),
                (false, Some(from)) => {
                    runs.push((StripeIndex(from), s - from));
                    start = None;
                    if runs.len() > 4 * most {
                        keep_longest(&mut runs, most);
                    }
                }
                _ => {}
            }
        }
        keep_longest(&mut runs, most);
        runs.sort_unstable();
        runs
    }

    fn word(&self, stripe: StripeIndex) -> Option<(&AtomicU64, u64)> {
        let word = self.words.get(usize::try_from(stripe.0 / 64).ok()?)?;
        Some((word, 1 << (stripe.0 % 64)))
    }
}

fn keep_longest(runs: &mut Vec<(StripeIndex, u64)>, most: usize) {
    runs.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(*count));
    runs.truncate(most);
}

/// A replacement being filled.
#[derive(Clone)]
pub struct Target {
    /// The member.
    pub member: Arc<Member>,
    /// What it holds already.
    pub rebuilt: Arc<RebuiltMap>,
    /// It was taken back, and lacks no change of earlier epochs.
    pub lacks_from: Epoch,
}

/// A slot as the data path sees it.
#[derive(Clone, Default)]
pub struct SlotView {
    /// The member in sync, if any.
    pub primary: Option<Arc<Member>>,
    /// The replacement being filled, if any.
    pub target: Option<Target>,
}

impl SlotView {
    /// The member to read a stripe's chunk from.
    pub fn readable(&self, stripe: StripeIndex) -> Option<&Arc<Member>> {
        self.writable(stripe).find(|m| !m.doubted())
    }

    /// Whether some member holds the stripe's chunk, in doubt or not.
    pub fn held(&self, stripe: StripeIndex) -> bool {
        self.writable(stripe).next().is_some()
    }

    /// The members that must take a write to a stripe.
    pub fn writable(&self, stripe: StripeIndex) -> impl Iterator<Item = &Arc<Member>> {
        let target = self.target.as_ref().filter(|t| t.rebuilt.contains(stripe)).map(|t| &t.member);
        self.primary.iter().chain(target)
    }
}

/// The members that bear the journal and nothing else, by their number.
#[derive(Clone, Default)]
pub struct JournalView {
    /// Those that have every frame.
    pub in_sync: Vec<(usize, Arc<Member>)>,
    /// Those that take new frames and lack older ones.
    pub filling: Vec<(usize, Arc<Member>)>,
}

impl JournalView {
    /// Every member that must take a frame.
    pub fn members(&self) -> impl Iterator<Item = &(usize, Arc<Member>)> {
        self.in_sync.iter().chain(&self.filling)
    }
}

/// An immutable snapshot of who is who. Taken under a stripe's lock, it holds for that stripe
/// until the lock is released: changes that matter to a stripe are made under its lock.
#[derive(Clone, Default)]
pub struct Roster {
    /// By slot.
    pub slots: Vec<SlotView>,
    /// Who bears the journal, if the members of the slots do not.
    pub journal: Option<JournalView>,
    /// Writes are refused, and why.
    pub refuse_writes: Option<String>,
}

impl Roster {
    /// Every member of a slot: primaries and replacements.
    pub fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.slots.iter().flat_map(|s| s.primary.iter().chain(s.target.as_ref().map(|t| &t.member)))
    }

    /// Whether this member, opened like this, has a part in a slot.
    pub fn has(&self, slot: Slot, member: &Arc<Member>) -> bool {
        self.slots.get(slot.index()).is_some_and(|view| {
            let target = view.target.as_ref().map(|t| &t.member);
            view.primary.iter().chain(target).any(|one| Arc::ptr_eq(one, member))
        })
    }

    /// Whether the slots have the same members as in `other`, opened like there. Snapshots are
    /// also published when nothing but a suspicion came or went, as often as a member flaps.
    pub fn has_members_of(&self, other: &Self) -> bool {
        let parts = |view: &SlotView| {
            [view.primary.as_ref(), view.target.as_ref().map(|t| &t.member)].map(|m| m.map(Arc::as_ptr))
        };
        self.slots.iter().map(parts).eq(other.slots.iter().map(parts))
    }

    /// Every member that takes part in flushes: those of the slots, and those that bear the journal.
    pub fn everyone(&self) -> impl Iterator<Item = &Arc<Member>> {
        let bear = self.journal.iter().flat_map(|j| j.members().map(|(_, m)| m));
        self.members().chain(bear)
    }

    /// Who has the journal, by number of the shard: the members in sync.
    pub fn journal_holders(&self) -> Vec<(usize, Arc<Member>)> {
        match &self.journal {
            Some(journal) => journal.in_sync.clone(),
            None => (0..).zip(&self.slots).filter_map(|(i, s)| Some((i, s.primary.clone()?))).collect(),
        }
    }
}

/// What became of a member that was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It no longer counts, and the survivors know so durably.
    Kicked,
    /// It cannot be spared, or is fine after all: the operation itself failed.
    Kept,
}

/// What the data path asks of the coordinator.
pub trait Membership: Send + Sync {
    /// The current snapshot.
    fn roster(&self) -> Arc<Roster>;

    /// A write, flush or punch failed on a member. Answered when the consequence is durable.
    fn write_failed(&self, member: MemberId, error: Error) -> LocalFuture<'_, Verdict>;

    /// A read failed on a member; looked into in the background. `Kept` means the member answers
    /// otherwise, so that what could not be read is worth repairing in place.
    fn read_failed(&self, member: MemberId, error: Error) -> LocalFuture<'_, Verdict>;

    /// A block that could not be read was reconstructed and written back.
    fn repaired(&self, member: MemberId, offset_bytes: u64, len_bytes: u64);
}

/// A roster behind a lock, replaced as a whole.
#[derive(Default)]
pub struct RosterCell(Mutex<Arc<Roster>>);

impl RosterCell {
    /// The current snapshot.
    pub fn get(&self) -> Arc<Roster> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Publishes a new snapshot.
    pub fn set(&self, roster: Roster) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(roster);
    }
}
