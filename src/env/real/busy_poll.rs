//! How long to look for completions before going to sleep for them.
//!
//! Problem: waking a sleeping thread costs 30 microseconds or more in a virtual machine, as much as
//! the I/O it waits for, and a queue of requests that all wait for it moves in lockstep.
//! Idea: before sleeping, look at the ring for a moment. The moment grows while there is traffic
//! and looking is sometimes rewarded. Waits somewhat longer than the longest moment count as
//! traffic, because not to look makes waits longer. It shrinks to nothing when the thread is idle,
//! and rests when looking was in vain many times in a row.
//!
//! Source: grows and shrinks as KVM's halt polling (Documentation/virt/kvm/halt-polling.rst).

use std::time::Duration;

const FIRST: Duration = Duration::from_micros(8);
/// A wait of more than so many longest moments is one of an idle thread.
const IDLE_FACTOR: u32 = 4;
/// So many times in vain in a row, and looking rests for as many waits as the second number.
const IN_VAIN: u32 = 32;
const REST: u32 = 256;

/// The window, adapted to what was seen.
pub(super) struct BusyPoll {
    longest: Duration,
    window: Duration,
    in_vain: u32,
}

impl BusyPoll {
    /// Looks for at most `longest`; zero never looks.
    pub(super) fn new(longest: Duration) -> Self {
        Self { longest, window: Duration::ZERO, in_vain: 0 }
    }

    /// How long to look, this time.
    pub(super) fn window(&self) -> Duration {
        self.window
    }

    /// Whether waits are to be measured at all.
    pub(super) fn is_on(&self) -> bool {
        !self.longest.is_zero()
    }

    /// Takes note of how long it took, looking and sleeping, until there was something to do.
    pub(super) fn learn(&mut self, waited: Duration) {
        if waited <= self.window {
            self.in_vain = 0;
            return;
        }
        self.in_vain = (self.in_vain + 1) % (IN_VAIN + REST);
        if waited > self.longest * IDLE_FACTOR || self.in_vain > IN_VAIN {
            self.window = if self.window > FIRST { self.window / 2 } else { Duration::ZERO };
        } else {
            self.window = (self.window * 2).max(FIRST).min(self.longest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn the_window_grows_to_cover_short_waits_and_no_further() {
        let mut poll = BusyPoll::new(us(100));
        assert_eq!(poll.window(), us(0));
        let windows: Vec<_> = (0..6).map(|_| (poll.learn(us(60)), poll.window()).1).collect();
        assert_eq!(windows, [us(8), us(16), us(32), us(64), us(64), us(64)]);
        for _ in 0..6 {
            poll.learn(us(99));
        }
        assert_eq!(poll.window(), us(100));
    }

    #[test]
    fn an_idle_thread_stops_looking() {
        let mut poll = BusyPoll::new(us(100));
        (0..9).for_each(|_| poll.learn(us(90)));
        let windows: Vec<_> = (0..5).map(|_| (poll.learn(us(500)), poll.window().as_micros()).1).collect();
        assert_eq!(windows, [50, 25, 12, 6, 0]);
    }

    #[test]
    fn looking_in_vain_rests_and_is_tried_again() {
        let mut poll = BusyPoll::new(us(100));
        let looked = |poll: &mut BusyPoll, waits| {
            (0..waits).filter(|_| (poll.learn(us(300)), !poll.window().is_zero()).1).count()
        };
        assert_eq!(looked(&mut poll, 32), 32);
        assert_eq!(looked(&mut poll, 255), 4);
        assert_eq!(looked(&mut poll, 32), 32);
        poll.learn(us(60));
        assert_eq!(poll.window(), us(100), "one success is enough to go on");
    }

    #[test]
    fn switched_off_it_never_looks() {
        let mut poll = BusyPoll::new(us(0));
        assert!(!poll.is_on());
        (0..9).for_each(|_| poll.learn(us(0)));
        assert_eq!(poll.window(), us(0));
    }
}
