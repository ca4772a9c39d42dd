//! Async locks, one per stripe in use: first come, first served, shared or exclusive.
//!
//! ```text
//!            acquire, nobody in the way              release of the last holder
//!   absent ------------------------------> held(r,w) -------------------------> absent
//!                                            |    ^
//!                     acquire, in the way    v    | release hands over to the head of the queue
//!                                           queued
//! ```
//!
//! Tasks that hold several stripes acquire them in ascending order, which excludes deadlock.

use crate::units::StripeIndex;
use futures::channel::oneshot;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SHARDS: u64 = 64;

/// Shared by readers of lost chunks, exclusive for whoever changes the stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Together with other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

#[derive(Default)]
struct Entry {
    readers: usize,
    writer: bool,
    queue: VecDeque<(Mode, oneshot::Sender<Guard>)>,
}

impl Entry {
    fn admits(&self, mode: Mode) -> bool {
        match mode {
            Mode::Shared => !self.writer,
            Mode::Exclusive => !self.writer && self.readers == 0,
        }
    }

    fn admit(&mut self, mode: Mode) {
        match mode {
            Mode::Shared => self.readers += 1,
            Mode::Exclusive => self.writer = true,
        }
    }
}

type Shard = Mutex<HashMap<u64, Entry>>;

/// The table; holds only stripes in use. Clone freely.
#[derive(Clone)]
pub struct LockTable(Arc<Vec<Shard>>);

impl Default for LockTable {
    fn default() -> Self {
        Self(Arc::new((0..SHARDS).map(|_| Mutex::default()).collect()))
    }
}

impl LockTable {
    /// Waits for a stripe. The lock is released when the guard is dropped.
    pub async fn lock(&self, stripe: StripeIndex, mode: Mode) -> Guard {
        let waiting = {
            let mut shard = self.shard(stripe.0);
            let entry = shard.entry(stripe.0).or_default();
            if entry.queue.is_empty() && entry.admits(mode) {
                entry.admit(mode);
                None
            } else {
                let (sender, receiver) = oneshot::channel();
                entry.queue.push_back((mode, sender));
                Some(receiver)
            }
        };
        let own = || Guard { table: self.clone(), stripe: stripe.0, mode };
        match waiting {
            None => own(),
            // The sender is dropped only after it was used, so an error cannot come.
            Some(receiver) => match receiver.await {
                Ok(guard) => guard,
                Err(_) => own(),
            },
        }
    }

    /// Waits for `count` stripes from `first` on, in ascending order.
    pub async fn lock_run(&self, first: StripeIndex, count: u64, mode: Mode) -> Vec<Guard> {
        let mut guards = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        for stripe in first.0..first.0 + count {
            guards.push(self.lock(StripeIndex(stripe), mode).await);
        }
        guards
    }

    fn shard(&self, stripe: u64) -> MutexGuard<'_, HashMap<u64, Entry>> {
        let index = usize::try_from(stripe % SHARDS).unwrap_or(0);
        self.0[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, stripe: u64, mode: Mode) {
        let mut granted = Vec::new();
        {
            let mut shard = self.shard(stripe);
            let Some(entry) = shard.get_mut(&stripe) else { return };
            match mode {
                Mode::Shared => entry.readers -= 1,
                Mode::Exclusive => entry.writer = false,
            }
            while let Some((next, _)) = entry.queue.front() {
                if !entry.admits(*next) {
                    break;
                }
                if let Some((next, sender)) = entry.queue.pop_front() {
                    entry.admit(next);
                    granted.push((next, sender));
                }
            }
            if entry.readers == 0 && !entry.writer && entry.queue.is_empty() {
                shard.remove(&stripe);
            }
        }
        for (mode, sender) in granted {
            // A waiter that gave up hands the guard back here; dropping it releases in turn.
            drop(sender.send(Guard { table: self.clone(), stripe, mode }));
        }
    }
}

/// Holds a stripe until dropped.
pub struct Guard {
    table: LockTable,
    stripe: u64,
    mode: Mode,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.table.release(self.stripe, self.mode);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const S: StripeIndex = StripeIndex(7);

    #[test]
    fn writers_exclude_and_are_served_in_order() {
        let table = LockTable::default();
        let reader = table.lock(S, Mode::Shared).now_or_never().unwrap();
        let reader_2 = table.lock(S, Mode::Shared).now_or_never().unwrap();
        let mut writer = Box::pin(table.lock(S, Mode::Exclusive));
        assert!(writer.as_mut().now_or_never().is_none());
        let mut late_reader = Box::pin(table.lock(S, Mode::Shared));
        assert!(late_reader.as_mut().now_or_never().is_none(), "a queued writer is not overtaken");
        drop((reader, reader_2));
        let held = writer.as_mut().now_or_never().unwrap();
        assert!(late_reader.as_mut().now_or_never().is_none());
        drop(held);
        assert!(late_reader.as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_waiter_that_gives_up_does_not_hold_up_the_rest_and_the_table_empties() {
        let table = LockTable::default();
        let held = table.lock(S, Mode::Exclusive).now_or_never().unwrap();
        let mut quitter = Box::pin(table.lock(S, Mode::Exclusive));
        assert!(quitter.as_mut().now_or_never().is_none());
        let mut next = Box::pin(table.lock(S, Mode::Exclusive));
        assert!(next.as_mut().now_or_never().is_none());
        drop(quitter);
        drop(held);
        drop(next.as_mut().now_or_never().unwrap());
        assert!(table.0.iter().all(|s| s.lock().unwrap().is_empty()));
    }
}
