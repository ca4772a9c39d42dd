//! Home writes that too few members could take.
//!
//! They are kept and written again before the stripe is used for anything that depends on its
//! parity. Meanwhile its lost chunks cannot be reconstructed, and everything else can be read.

use super::engine::Stripes;
use crate::error::Result;
use crate::member::Persistence;
use crate::units::StripeIndex;
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
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

/// Stripes that were changed at home since the last sync.
#[derive(Default)]
pub(super) struct Settling(Mutex<HashSet<u64>>);

impl Settling {
    pub fn insert(&self, stripe: StripeIndex) {
        self.stripes().insert(stripe.0);
    }

    pub fn any(&self, mut stripes: impl Iterator<Item = StripeIndex>) -> bool {
        let settling = self.stripes();
        !settling.is_empty() && stripes.any(|s| settling.contains(&s.0))
    }

    /// Those that a sync beginning now makes durable.
    pub fn take(&self) -> HashSet<u64> {
        std::mem::take(&mut *self.stripes())
    }

    /// The sync failed.
    pub fn put_back(&self, stripes: HashSet<u64>) {
        self.stripes().extend(stripes);
    }

    fn stripes(&self) -> MutexGuard<'_, HashSet<u64>> {
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
