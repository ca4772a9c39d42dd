//! A task's waker: remembers which task of which executor, and queues it at most once.

use super::executor;
use super::inbox::{Inbox, Message};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

pub(super) struct TaskWaker {
    pub(super) index: usize,
    inbox: Arc<Inbox>,
    queued: AtomicBool,
}

impl TaskWaker {
    /// A waker that counts as queued already.
    pub(super) fn queued(index: usize, inbox: Arc<Inbox>) -> Arc<Self> {
        Arc::new(Self { index, inbox, queued: AtomicBool::new(true) })
    }

    /// To be called just before the task is polled: wakes from now on queue it again.
    pub(super) fn about_to_poll(&self) {
        self.queued.store(false, Ordering::SeqCst);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if self.queued.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Err(task) = executor::queue_here(self) {
            let inbox = Arc::clone(&task.inbox);
            inbox.push(Message::Wake(task));
        }
    }
}

impl TaskWaker {
    pub(super) fn belongs_to(&self, inbox: &Inbox) -> bool {
        self.inbox.id == inbox.id
    }
}
