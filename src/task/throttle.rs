//! Making way for requests.
//!
//! Target: while background work moves data, at most one request in a hundred takes more than 1.5 times
//! as long as 99 in a hundred take without. What a request may have to wait behind is what is moved at
//! once, and the longer the pauses are, the fewer meet it. So the work takes a *share*, halved when too
//! many requests are slow, and raised by a quarter when few are:
//!
//! ```text
//!   share    1 .............. 1/16 ............ 1/256
//!   at once  2 MiB .......... 128 KiB ......... 128 KiB   of each member
//!   pause    none ........... 1 step .......... 16 steps
//! ```
//!
//! What is usual is heard in pauses made for that, a twentieth of the time. Nobody there to be disturbed:
//! all of it, without a pause.

use crate::array::Array;
use crate::env::Moment;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The most that is moved at once, in bytes of one member.
pub(super) const MOST_AT_ONCE: u64 = 2 << 20;
/// The least.
const LEAST_AT_ONCE: u64 = 128 << 10;
/// The whole share.
const WHOLE: u64 = 1 << 16;
/// The least: so much is done however slow requests are.
const LEAST_SHARE: u64 = WHOLE / 256;
/// Where it begins.
const FIRST_SHARE: u64 = WHOLE / 4;
/// Of so many requests one may be slow.
const ONE_IN: f64 = 100.0;
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Without a request for so long nobody is there.
const ALONE: Duration = Duration::from_secs(1);
/// Between two judgements.
const JUDGE: Duration = Duration::from_millis(250);
/// How long to keep still to hear what is usual: four times as long as requests take, within this.
const STILL: RangeInclusive<Duration> = Duration::from_millis(25)..=Duration::from_millis(250);
/// All so many times that.
const STILL_EVERY: u32 = 20;

/// The share of one task.
pub(super) struct Throttle {
    share: u64,
    judged: Moment,
    begun: Moment,
    /// When it last kept still.
    still: Moment,
}

impl Throttle {
    pub fn new(array: &Array) -> Self {
        let now = array.env().now();
        array.waits().watch(true);
        Self { share: FIRST_SHARE, judged: now, begun: now, still: Moment::default() }
    }

    /// Bytes of one member that may be moved at once now.
    pub fn at_once(&self, array: &Array) -> u64 {
        match is_alone(array) {
            true => MOST_AT_ONCE,
            false => at_once(self.share),
        }
    }

    /// A step begins.
    pub fn begin(&mut self, array: &Array) {
        self.begun = array.env().now();
    }

    /// A step has ended: pauses as long as it should. False if the task must end.
    pub async fn end(&mut self, array: &Array) -> bool {
        let now = array.env().now();
        if now.since(self.judged) >= JUDGE
            && let Some(judgement) = array.waits().judge()
        {
            self.judged = now;
            self.share = next_share(self.share, judgement.slow, judgement.requests);
        }
        if is_alone(array) {
            return true;
        }
        let pause = now.since(self.begun).mul_f64(pause(self.share)).min(LONGEST_PAUSE);
        if !pause.is_zero() {
            array.env().sleep(pause).await;
        }
        self.keep_still(array).await;
        // Meanwhile the array may have been stopped.
        !array.switch().stopping()
    }

    /// From time to time: lets requests that wait for a step end, hears those that begin then, and waits
    /// until they have ended.
    async fn keep_still(&mut self, array: &Array) {
        let len = (4 * array.waits().usual()).clamp(*STILL.start(), *STILL.end());
        if array.env().now().since(self.still) < len * STILL_EVERY {
            return;
        }
        array.env().sleep(len / 4).await;
        array.waits().set_still(true);
        array.env().sleep(len / 2).await;
        array.waits().set_still(false);
        array.env().sleep(len / 4).await;
        self.still = array.env().now();
    }
}

fn is_alone(array: &Array) -> bool {
    array.env().now().since(array.waits().last()) > ALONE
}

fn at_once(share: u64) -> u64 {
    (MOST_AT_ONCE * share / WHOLE).clamp(LEAST_AT_ONCE, MOST_AT_ONCE)
}

/// The pause after a step, in steps.
fn pause(share: u64) -> f64 {
    let without = WHOLE * LEAST_AT_ONCE / MOST_AT_ONCE;
    if share > without { 0.0 } else { without as f64 / share as f64 }
}

fn next_share(share: u64, slow: f64, requests: f64) -> u64 {
    if slow * ONE_IN > requests {
        return (share / 2).max(LEAST_SHARE);
    }
    match slow * ONE_IN * 2.0 <= requests {
        true => (share * 5 / 4).min(WHOLE),
        false => share,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_falls_fast_and_rises_slowly_between_its_bounds() {
        assert_eq!(next_share(WHOLE / 2, 11.0, 1000.0), WHOLE / 4);
        assert_eq!(next_share(WHOLE / 2, 10.0, 1000.0), WHOLE / 2, "as many as may be");
        assert_eq!(next_share(WHOLE / 2, 5.0, 1000.0), WHOLE / 8 * 5);
        assert_eq!(next_share(WHOLE, 0.0, 1000.0), WHOLE);
        assert_eq!(next_share(LEAST_SHARE, 1000.0, 1000.0), LEAST_SHARE);
    }

    /// Requests that meet a step are slow the more often the more it moves: `all` of them at 2 MiB.
    #[test]
    fn the_share_settles_where_one_in_a_hundred_is_slow() {
        for (all, least, most) in [(0.001, 1.0, 1.0), (0.02, 0.3, 0.7), (0.5, 0.01, 0.03), (9.0, 0.0, 0.01)] {
            let mut share = FIRST_SHARE;
            let mut sum = 0.0;
            for judgement in 0..200 {
                let met = 1.0 / (1.0 + pause(share));
                let slow = met * (all * at_once(share) as f64 / MOST_AT_ONCE as f64).min(1.0);
                share = next_share(share, slow * 1000.0, 1000.0);
                sum += if judgement < 100 { 0.0 } else { share as f64 / WHOLE as f64 };
            }
            let mean = sum / 100.0;
            assert!((least..=most).contains(&mean), "{all}: {mean}");
        }
    }

    #[test]
    fn less_is_moved_at_once_first_and_then_pauses_grow() {
        assert_eq!((at_once(WHOLE), pause(WHOLE)), (2 << 20, 0.0));
        assert_eq!((at_once(WHOLE / 4), pause(WHOLE / 4)), (512 << 10, 0.0));
        assert_eq!((at_once(WHOLE / 16), pause(WHOLE / 16)), (128 << 10, 1.0));
        assert_eq!((at_once(LEAST_SHARE), pause(LEAST_SHARE)), (128 << 10, 16.0));
    }
}
