//! What other threads send to an executor: wakes, tasks, finished file operations, the word to
//! stop. A lock-free queue, and an event descriptor written only when the executor sleeps.

use super::driver::Completion;
use super::task::TaskWaker;
use crate::env::LocalFuture;
use crossbeam::queue::SegQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A task made on the executor's own thread.
pub(super) type MakeTask = Box<dyn FnOnce() -> LocalFuture<'static, ()> + Send>;

pub(super) enum Message {
    Wake(Arc<TaskWaker>),
    Spawn(MakeTask),
    Done(Completion),
    Stop,
}

pub(super) struct Inbox {
    /// Tells executors apart, for wakers.
    pub(super) id: u64,
    queue: SegQueue<Message>,
    /// The executor sleeps or is about to.
    sleeping: AtomicBool,
    closed: AtomicBool,
    pub(super) event: EventFd,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Inbox {
    pub(super) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            queue: SegQueue::new(),
            sleeping: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            event: EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?,
        }))
    }

    /// Delivers a message, or drops it if the executor has stopped.
    pub(super) fn push(&self, message: Message) {
        self.queue.push(message);
        // Pairs with the fence-like store in `before_sleep` and `close`: either the executor sees
        // the message, or this thread sees that it sleeps (or has gone).
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.closed.load(Ordering::SeqCst) {
            self.drain_dropping();
        } else if self.sleeping.load(Ordering::SeqCst) && self.sleeping.swap(false, Ordering::SeqCst) {
            // Only fails if the counter is full, and then the executor is awake anyway.
            let _ = self.event.write(1);
        }
    }

    pub(super) fn pop(&self) -> Option<Message> {
        self.queue.pop()
    }

    /// Announces sleep; `false` if something has arrived and the executor must not sleep.
    pub(super) fn before_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.queue.is_empty() {
            return true;
        }
        self.after_sleep();
        false
    }

    pub(super) fn after_sleep(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// From now on messages are dropped.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
        self.drain_dropping();
    }

    fn drain_dropping(&self) {
        while let Some(message) = self.queue.pop() {
            drop(message);
        }
    }
}
