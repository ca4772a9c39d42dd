//! What drives operations: io_uring, or epoll with worker threads. The executor sees only this.

use super::op::Op;
use std::io;
use std::task::Waker;
use std::time::Duration;

/// An operation that ended, under the key it was started with.
pub(super) struct Completion {
    pub(super) key: usize,
    pub(super) op: Op,
    pub(super) result: io::Result<usize>,
}

/// How long a turn may sleep when nothing has completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Not,
    For(Duration),
    Forever,
}

/// Starts operations and hands them back. Keys are given by the caller and are free again once
/// their completion was returned; every started operation completes exactly once.
pub(super) trait Driver {
    /// Takes the operation; it begins at the next turn at the latest.
    fn start(&mut self, key: usize, op: Op);

    /// Tries to end an operation early; it completes all the same.
    fn cancel(&mut self, key: usize);

    /// Submits what was started, sleeps at most `wait`, and appends what completed. Returns early
    /// when the inbox's event descriptor is written to.
    fn turn(&mut self, wait: Wait, done: &mut Vec<Completion>);

    /// Whether descriptors of sockets have to be non-blocking.
    fn wants_nonblocking(&self) -> bool;
}

enum Slot {
    /// Under way; who waits for it.
    Flying(Option<Waker>),
    /// Under way, wanted by nobody.
    Orphan,
    /// Complete, not yet fetched.
    Done(Op, io::Result<usize>),
}

/// A driver with the table of who waits for what.
pub(super) struct Reactor {
    driver: Box<dyn Driver>,
    slots: slab::Slab<Slot>,
    done: Vec<Completion>,
}

/// What is left to do after a turn, outside of any borrow: wake, and drop.
#[derive(Default)]
pub(super) struct Aftermath {
    pub(super) wakers: Vec<Waker>,
    pub(super) garbage: Vec<Op>,
}

impl Reactor {
    pub(super) fn new(driver: Box<dyn Driver>) -> Self {
        Self { driver, slots: slab::Slab::with_capacity(256), done: Vec::with_capacity(256) }
    }

    pub(super) fn submit(&mut self, op: Op, waker: Waker) -> usize {
        let key = self.slots.insert(Slot::Flying(Some(waker)));
        self.driver.start(key, op);
        key
    }

    /// The finished operation, or `None` with the waker noted.
    pub(super) fn fetch(&mut self, key: usize, waker: &Waker) -> Option<(Op, io::Result<usize>)> {
        match self.slots.get_mut(key)? {
            Slot::Done(..) => match self.slots.remove(key) {
                Slot::Done(op, result) => Some((op, result)),
                Slot::Flying(_) | Slot::Orphan => None,
            },
            Slot::Flying(known) => {
                if !known.as_ref().is_some_and(|w| w.will_wake(waker)) {
                    *known = Some(waker.clone());
                }
                None
            }
            Slot::Orphan => None,
        }
    }

    /// The future that waited was dropped; its operation keeps what it owns until it ends.
    pub(super) fn abandon(&mut self, key: usize) -> Option<Op> {
        match self.slots.get_mut(key)? {
            Slot::Done(..) => match self.slots.remove(key) {
                Slot::Done(op, _) => Some(op),
                Slot::Flying(_) | Slot::Orphan => None,
            },
            slot => {
                *slot = Slot::Orphan;
                self.driver.cancel(key);
                None
            }
        }
    }

    pub(super) fn turn(&mut self, wait: Wait, after: &mut Aftermath) {
        let mut done = std::mem::take(&mut self.done);
        self.driver.turn(wait, &mut done);
        for completion in done.drain(..) {
            self.complete(completion, after);
        }
        self.done = done;
    }

    pub(super) fn complete(&mut self, completion: Completion, after: &mut Aftermath) {
        let Completion { key, op, result } = completion;
        match self.slots.get_mut(key) {
            Some(slot @ Slot::Flying(_)) => {
                if let Slot::Flying(Some(waker)) = std::mem::replace(slot, Slot::Done(op, result)) {
                    after.wakers.push(waker);
                }
            }
            Some(Slot::Orphan) => {
                self.slots.remove(key);
                after.garbage.push(op);
            }
            Some(Slot::Done(..)) | None => after.garbage.push(op),
        }
    }

    pub(super) fn wants_nonblocking(&self) -> bool {
        self.driver.wants_nonblocking()
    }
}
