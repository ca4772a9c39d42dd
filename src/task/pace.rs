//! Keeping work below a ceiling, and measuring how fast it goes.

use crate::array::{Array, TaskKind};
use crate::env::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// How long the measured rate looks back.
const WINDOW: Duration = Duration::from_secs(3);
/// Longest nap between looking at the orders again.
const NAP: Duration = Duration::from_millis(100);

/// One task's pace, in bytes of one member.
pub(super) struct Pace {
    kind: TaskKind,
    /// When the next byte may be moved under the ceiling.
    next: Moment,
    /// What was done when, for the recent rate.
    recent: VecDeque<(Moment, u64)>,
}

impl Pace {
    pub fn new(array: &Array, kind: TaskKind) -> Self {
        let now = array.env().now();
        Self { kind, next: now, recent: VecDeque::from([(now, 0)]) }
    }

    /// Waits until `bytes` may be moved. False if the task must end.
    pub async fn admit(&mut self, array: &Array, bytes: u64) -> bool {
        loop {
            let orders = array.orders(self.kind);
            if orders.end {
                return false;
            }
            let now = array.env().now();
            let wait = self.next.since(now);
            if orders.paused {
                array.env().sleep(NAP).await;
            } else if wait.is_zero() || orders.max_rate.is_none() {
                let from = self.next.max(now);
                self.next = match orders.max_rate {
                    Some(rate) => from.after(Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64)),
                    None => now,
                };
                return true;
            } else {
                array.env().sleep(wait.min(NAP)).await;
            }
        }
    }

    /// Takes note of work done; answers the recent rate in bytes per second.
    pub fn moved(&mut self, array: &Array, bytes: u64) -> u64 {
        let now = array.env().now();
        self.recent.push_back((now, bytes));
        while self.recent.len() > 2 && self.recent.front().is_some_and(|(at, _)| now.since(*at) > WINDOW) {
            self.recent.pop_front();
        }
        let from = self.recent.front().map_or(now, |(at, _)| *at);
        let sum: u64 = self.recent.iter().skip(1).map(|(_, b)| b).sum();
        let micros = now.since(from).as_micros();
        let rate = (u128::from(sum) * 1_000_000).checked_div(micros).unwrap_or(0);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}
