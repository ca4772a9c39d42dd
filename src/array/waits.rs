//! How long requests take while there is background work, and how long they take without.
//!
//! What is usual is known from requests that began while the work kept still for that purpose, however
//! long they took: of those that fit into just any pause the long ones would be missing.

use crate::env::{Env, Moment};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Buckets for each doubling, and their number: up to an hour.
const PER_DOUBLING: u32 = 8;
const BUCKETS: usize = 32 * PER_DOUBLING as usize;
/// As many buckets above what is usual are slow: 2^(5/8) = 1.5 times as long.
const SLOWER: usize = 5;
/// So many requests say what is usual; of more the older ones count half.
const USUAL: f64 = 4000.0;
/// With fewer nothing is known.
const FEW: f64 = 100.0;

/// How many requests took how long. Not whole numbers, for those of long ago count less.
struct Histogram {
    counts: [f64; BUCKETS],
    total: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0.0; BUCKETS], total: 0.0 }
    }
}

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let doublings = micros.ilog2();
    // The bits behind the first one.
    let part = match doublings.checked_sub(PER_DOUBLING.ilog2()) {
        Some(shift) => (micros >> shift) & u64::from(PER_DOUBLING - 1),
        None => 0,
    };
    let index = u64::from(doublings * PER_DOUBLING) + part;
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

impl Histogram {
    fn add(&mut self, took: Duration) {
        if let Some(count) = self.counts.get_mut(bucket(took)) {
            *count += 1.0;
            self.total += 1.0;
        }
    }

    /// The first bucket above 99 % of all.
    fn p99(&self) -> usize {
        let mut left = self.total / 100.0;
        let above = self.counts.iter().rposition(|count| {
            let is_it = *count > left;
            left -= count;
            is_it
        });
        above.unwrap_or(0)
    }

    /// How many are above a bucket.
    fn above(&self, bucket: usize) -> f64 {
        self.counts.iter().skip(bucket + 1).sum()
    }

    fn age(&mut self) {
        self.counts.iter_mut().for_each(|count| *count /= 2.0);
        self.total /= 2.0;
    }
}

#[derive(Default)]
struct Seen {
    still: bool,
    last: Moment,
    /// Requests that began while all was still.
    usual: Histogram,
    /// All since they were last judged.
    recent: Histogram,
}

/// The requests of late.
#[derive(Default)]
pub struct Waits {
    watched: AtomicBool,
    seen: Mutex<Seen>,
}

/// A request under way.
pub(super) struct Timer<'a> {
    waits: &'a Waits,
    env: &'a Env,
    begun: Moment,
    still: bool,
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        let now = self.env.now();
        let took = now.since(self.begun);
        let mut seen = self.waits.seen();
        seen.last = now;
        seen.recent.add(took);
        if self.still {
            seen.usual.add(took);
            if seen.usual.total > USUAL {
                seen.usual.age();
            }
        }
    }
}

/// What became of the requests since the last time somebody asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// All of them.
    pub requests: f64,
    /// Those that took more than 1.5 times as long as 99 of 100 do without the work.
    pub slow: f64,
}

impl Waits {
    /// Measures a request until the timer is dropped, if that is asked for.
    pub(super) fn timer<'a>(&'a self, env: &'a Env) -> Option<Timer<'a>> {
        if !self.watched.load(Ordering::Relaxed) {
            return None;
        }
        let still = self.seen().still;
        Some(Timer { waits: self, env, begun: env.now(), still })
    }

    /// From now on requests are measured, or no more.
    pub fn watch(&self, watched: bool) {
        if self.watched.swap(watched, Ordering::Relaxed) != watched {
            *self.seen() = Seen::default();
        }
    }

    /// Requests that begin from now on say what is usual, or no more.
    pub fn set_still(&self, still: bool) {
        self.seen().still = still;
    }

    /// As long as 99 of 100 requests take without background work, as far as that is known.
    pub fn usual(&self) -> Duration {
        let seen = self.seen();
        let doublings = u32::try_from(seen.usual.p99()).unwrap_or(0) / PER_DOUBLING;
        Duration::from_micros(2 << doublings)
    }

    /// When the last request ended.
    pub fn last(&self) -> Moment {
        self.seen().last
    }

    /// Judges the requests since the last judgement; none as long as too few are known.
    pub fn judge(&self) -> Option<Judgement> {
        let mut seen = self.seen();
        if seen.usual.total < FEW || seen.recent.total < FEW {
            return None;
        }
        let longest = seen.usual.p99() + SLOWER;
        let judgement = Judgement { requests: seen.recent.total, slow: seen.recent.above(longest) };
        seen.recent = Histogram::default();
        Some(judgement)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_an_eighth_of_a_doubling_wide() {
        let of = |micros| bucket(Duration::from_micros(micros));
        assert_eq!(of(0), of(1));
        assert_eq!(of(1 << 20), of(1 << 19) + 8);
        assert_eq!(of(1000), of(1010));
        assert_eq!(of(1024 + 128), of(1024) + 1);
        assert!(of(u64::MAX) < BUCKETS);
        assert!((1..100_000).all(|micros| of(micros) <= of(micros + 1)));
    }

    #[test]
    fn slow_are_those_that_take_half_as_long_again_as_99_of_100() {
        let waits = Waits::default();
        let add = |count, micros, usual| {
            for _ in 0..count {
                let mut seen = waits.seen();
                seen.recent.add(Duration::from_micros(micros));
                if usual {
                    seen.usual.add(Duration::from_micros(micros));
                }
            }
        };
        add(99, 100, true);
        assert_eq!(waits.judge(), None, "too few");
        add(890, 100, true);
        add(11, 1000, true);
        assert_eq!(
            waits.judge(),
            Some(Judgement { requests: 1000.0, slow: 0.0 }),
            "1000 us is the 99th of 100"
        );
        add(90, 1500, false);
        add(10, 1700, false);
        assert_eq!(waits.judge(), Some(Judgement { requests: 100.0, slow: 10.0 }));
        assert_eq!(waits.judge(), None, "judged already");
    }
}
