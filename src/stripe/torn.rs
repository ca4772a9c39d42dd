//! Home writes that too few members could take.
//!
//! They are kept and written again before the stripe is used for anything that depends on its
//! parity. Meanwhile its lost chunks cannot be reconstructed, and everything else can be read.

use super::engine::Stripes;
use crate::error::Result;
use crate::member::Persistence;
use crate::units::StripeIndex;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes for a stripe: shard, offset in the chunk, content.
pub(super) type Shreds = Vec<(usize, u64, Bytes)>;

/// The stripes whose home writes are not complete.
#[derive(Default)]
pub(super) struct Torn {
    count: AtomicUsize,
    stripes: Mutex<HashMap<u64, Shreds>>,
}

impl Torn {
    /// Whether the stripe's parity may not match its data.
    pub fn contains(&self, stripe: StripeIndex) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.stripes().contains_key(&stripe.0)
    }

    /// Keeps what a stripe lacks.
    pub fn keep(&self, stripe: StripeIndex, shreds: Shreds) {
        let mut stripes = self.stripes();
        stripes.insert(stripe.0, shreds);
        self.count.store(stripes.len(), Ordering::Release);
    }

    fn take(&self, stripe: StripeIndex) -> Option<Shreds> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut stripes = self.stripes();
        let shreds = stripes.remove(&stripe.0);
        self.count.store(stripes.len(), Ordering::Release);
        shreds
    }

    fn stripes(&self) -> MutexGuard<'_, HashMap<u64, Shreds>> {
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

impl Stripes {
    /// Writes to a stripe, with its exclusive lock held. What members lack afterwards is kept.
    pub(super) async fn store_whole(&self, stripe: StripeIndex, shreds: Shreds) -> Result<()> {
        let roster = match self.writable_roster() {
            Ok(roster) => roster,
            Err(e) => {
                self.torn.keep(stripe, shreds);
                return Err(e);
            }
        };
        let stores = self.stores(&roster, stripe, shreds.iter().cloned());
        let done = self.store(stores, Persistence::Cached).await;
        // Only now: a sync that began before does not make these writes durable.
        self.settling.insert(stripe);
        if done.is_err() {
            self.torn.keep(stripe, shreds);
        }
        done
    }

    /// Completes what an earlier write to the stripe lacks, with its exclusive lock held.
    pub(super) async fn mend(&self, stripe: StripeIndex) -> Result<()> {
        match self.torn.take(stripe) {
            Some(shreds) => self.store_whole(stripe, shreds).await,
            None => Ok(()),
        }
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
