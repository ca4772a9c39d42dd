//! Deadlines in order, with who waits for each.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Instant;

pub(super) type TimerKey = (Instant, u64);

#[derive(Default)]
pub(super) struct Timers {
    entries: BTreeMap<TimerKey, Waker>,
    next: u64,
}

impl Timers {
    pub(super) fn insert(&mut self, at: Instant, waker: Waker) -> TimerKey {
        self.next += 1;
        let key = (at, self.next);
        self.entries.insert(key, waker);
        key
    }

    /// Whether the timer still waits; its waker is then replaced.
    pub(super) fn rearm(&mut self, key: TimerKey, waker: &Waker) -> bool {
        match self.entries.get_mut(&key) {
            Some(known) => {
                if !known.will_wake(waker) {
                    *known = waker.clone();
                }
                true
            }
            None => false,
        }
    }

    #[must_use]
    pub(super) fn remove(&mut self, key: TimerKey) -> Option<Waker> {
        self.entries.remove(&key)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the wakers whose time has come, earliest first.
    pub(super) fn expire(&mut self, now: Instant, wakers: &mut Vec<Waker>) {
        while let Some(first) = self.entries.first_entry() {
            if first.key().0 > now {
                break;
            }
            wakers.push(first.remove());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use std::task::Wake;
    use std::time::Duration;

    struct Note(u64, Arc<Mutex<Vec<u64>>>);

    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn timers_fire_in_the_order_of_their_deadlines_and_removed_ones_never() {
        let mut timers = Timers::default();
        let fired = Arc::new(Mutex::new(Vec::new()));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let keys: Vec<_> = [(30, 0), (10, 1), (20, 2), (10, 3), (15, 4)]
            .map(|(ms, who)| timers.insert(at(ms), Arc::new(Note(who, Arc::clone(&fired))).into()))
            .into();
        assert!(timers.remove(keys[4]).is_some());
        assert_eq!(timers.next_deadline(), Some(at(10)));
        let mut wakers = Vec::new();
        timers.expire(at(20), &mut wakers);
        wakers.drain(..).for_each(Waker::wake);
        assert_eq!(*fired.lock().unwrap(), [1, 3, 2]);
        assert!(!timers.rearm(keys[1], Waker::noop()), "a timer that fired still waits");
        assert!(timers.rearm(keys[0], Waker::noop()));
        timers.expire(at(30), &mut wakers);
        assert_eq!(wakers.len(), 1);
        assert_eq!(timers.next_deadline(), None);
    }
}
