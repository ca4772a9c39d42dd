//! Home writes that too few members could take.
//!
//! They are kept and written again before the stripe is used for anything that depends on its
//! parity. Meanwhile its lost chunks cannot be reconstructed, and everything else can be read.

use super::engine::{Store, Stripes, part, to_usize};
use super::lock::Mode;
use super::roster::Roster;
use crate::env::join_all;
use crate::error::Result;
use crate::integrity::{Pinned, UNKNOWN, ZERO};
use crate::mutation::{Protection, without};
use crate::units::{BLOCK_BYTES, StripeIndex};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes for a stripe: shard, offset in the chunk, content.
pub(super) type Shred = (usize, u64, Bytes);
pub(super) type Shreds = Vec<Shred>;

/// What is to be written to a stripe, all or nothing.
#[derive(Clone, Default)]
pub(super) struct Load {
    pub shreds: Shreds,
    /// What is there already, and is written along.
    pub rest: Shreds,
    /// The stripe was unallocated: everything else in it is zero.
    pub fresh: bool,
    /// Rows whose parity is not known from now on.
    pub bare: Vec<u64>,
    /// Keeps the frame that can do it again after a crash.
    pub pin: Option<Pinned>,
}

/// The stripes whose home writes are not complete.
#[derive(Default)]
pub(super) struct Torn {
    count: AtomicUsize,
    stripes: Mutex<BTreeMap<u64, Load>>,
}

impl Torn {
    /// Whether the stripe's parity may not match its data.
    pub fn contains(&self, stripe: StripeIndex) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.stripes().contains_key(&stripe.0)
    }

    /// Keeps what a stripe lacks.
    pub fn keep(&self, stripe: StripeIndex, load: Load) {
        let mut stripes = self.stripes();
        stripes.insert(stripe.0, load);
        self.count.store(stripes.len(), Ordering::Release);
    }

    /// What a block of a shard is to be, if the stripe lacks it.
    pub fn block(&self, stripe: StripeIndex, shard: usize, row: u64) -> Option<Bytes> {
        if self.is_empty() {
            return None;
        }
        let stripes = self.stripes();
        stripes.get(&stripe.0)?.shreds.iter().find_map(|(s, from, bytes)| {
            let at =
                row.checked_sub(*from).filter(|at| *s == shard && at + BLOCK_BYTES <= bytes.len() as u64)?;
            Some(part(bytes, at, BLOCK_BYTES))
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// All of them.
    pub fn all(&self) -> Vec<StripeIndex> {
        self.stripes().keys().copied().map(StripeIndex).collect()
    }

    /// Takes what a stripe lacks.
    pub fn take(&self, stripe: StripeIndex) -> Option<Load> {
        if self.is_empty() {
            return None;
        }
        let mut stripes = self.stripes();
        let load = stripes.remove(&stripe.0);
        self.count.store(stripes.len(), Ordering::Release);
        load
    }

    fn stripes(&self) -> MutexGuard<'_, BTreeMap<u64, Load>> {
        self.stripes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stripes that were changed at home and are not known to be durable there.
#[derive(Default)]
pub(super) struct Settling(Mutex<Changes>);

#[derive(Default)]
struct Changes {
    /// By stripe: the number of its last change.
    stripes: HashMap<u64, u64>,
    count: u64,
}

impl Settling {
    pub fn insert(&self, stripe: StripeIndex) {
        let mut changes = self.changes();
        changes.count += 1;
        let number = changes.count;
        changes.stripes.insert(stripe.0, number);
    }

    pub fn any(&self, mut stripes: impl Iterator<Item = StripeIndex>) -> bool {
        let changes = self.changes();
        !changes.stripes.is_empty() && stripes.any(|s| changes.stripes.contains_key(&s.0))
    }

    pub fn is_empty(&self) -> bool {
        self.changes().stripes.is_empty()
    }

    /// The last change so far, which a sync that begins now makes durable.
    pub fn mark(&self) -> u64 {
        self.changes().count
    }

    /// A sync that began at `mark` has ended.
    pub fn settled(&self, mark: u64) {
        self.changes().stripes.retain(|_, number| *number > mark);
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pin_of(load: &Load) -> Option<&Pinned> {
    load.pin.as_ref().filter(|_| !without(Protection::SumsKeepFrame))
}

impl Stripes {
    /// Writes to a stripe, with its exclusive lock held. What members lack afterwards is kept.
    pub(super) async fn store_whole(&self, stripe: StripeIndex, load: Load) -> Result<()> {
        self.store_all(vec![(stripe, load)]).await.into_iter().collect()
    }

    /// Writes to stripes side by side, with their exclusive locks held; answers in their order. What members
    /// lack of a stripe afterwards is kept.
    pub(super) async fn store_all(&self, loads: Vec<(StripeIndex, Load)>) -> Vec<Result<()>> {
        let mut outcomes = Vec::with_capacity(loads.len());
        let mut stores = Vec::with_capacity(loads.len());
        for (index, (stripe, load)) in loads.iter().enumerate() {
            outcomes.push(match self.prepare(*stripe, load).await {
                Ok(of_stripe) => {
                    stores.extend(of_stripe.into_iter().map(|store| (index, pin_of(load), store)));
                    Ok(())
                }
                Err(e) => Err(e),
            });
        }
        for (index, outcome) in self.store_each(stores).await {
            if let (Err(e), Some(known)) = (outcome, outcomes.get_mut(index)) {
                *known = Err(e);
            }
        }
        for ((stripe, load), outcome) in loads.into_iter().zip(&outcomes) {
            // Only now: a sync that began before does not make these writes durable.
            self.settling.insert(stripe);
            match outcome {
                Ok(()) => self.epochs.note(stripe, true, load.pin.as_ref()),
                Err(_) if without(Protection::TornKept) => {}
                Err(_) => self.torn.keep(stripe, load),
            }
        }
        outcomes
    }

    /// What is to be written to the members, after what needs no more than an entry in a table.
    async fn prepare(&self, stripe: StripeIndex, load: &Load) -> Result<Vec<Store>> {
        let roster = self.writable_roster()?;
        if load.fresh && !without(Protection::FreshIsZero) {
            self.enter_zeroes(&roster, stripe, load.pin.as_ref()).await?;
        }
        for row in load.bare.iter().filter(|_| !without(Protection::BareParityUnknown)) {
            for shard in self.shape.data()..self.shape.width() {
                self.enter_shard(&roster, stripe, shard, *row, &[UNKNOWN], pin_of(load)).await?;
            }
        }
        Ok(self.stores(&roster, stripe, load))
    }

    /// Makes every block of a stripe read as zeroes.
    async fn enter_zeroes(&self, roster: &Roster, stripe: StripeIndex, pin: Option<&Pinned>) -> Result<()> {
        let sums = vec![ZERO; to_usize(self.shape.chunk_bytes() / BLOCK_BYTES)];
        let first = self.block_on(stripe, 0);
        let members = roster.slots.iter().flat_map(|s| s.writable(stripe));
        let entered = members.map(|m| self.enter(m, first, &sums, pin));
        join_all(entered).await.into_iter().collect()
    }

    /// Completes what an earlier write to the stripe lacks, with its exclusive lock held.
    pub(super) async fn mend(&self, stripe: StripeIndex) -> Result<()> {
        match self.torn.take(stripe) {
            Some(load) => self.store_whole(stripe, load).await,
            None => Ok(()),
        }
    }

    /// Completes what every stripe lacks.
    pub(super) async fn mend_all(&self) -> Result<()> {
        for stripe in self.torn.all() {
            let _guard = self.locks.lock(stripe, Mode::Exclusive).await;
            self.mend(stripe).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stripe_settles_only_at_the_end_of_a_sync_that_began_after_its_last_change() {
        let settling = Settling::default();
        let unsettled = |s| settling.any([StripeIndex(s)].into_iter());
        settling.insert(StripeIndex(1));
        settling.insert(StripeIndex(2));
        let mark = settling.mark();
        assert!(unsettled(1), "the sync has only begun");
        settling.insert(StripeIndex(2));
        settling.settled(mark);
        assert!(!unsettled(1) && unsettled(2));
        settling.settled(settling.mark());
        assert!(!unsettled(2));
    }
}
