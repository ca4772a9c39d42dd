//! The executor of one thread: polls its tasks, runs its timers, turns its reactor.
//!
//! ```text
//!      +-> take messages -> fire timers -> poll every woken task -> submit, sleep, reap -+
//!      +---------------------------------------------------------------------------------+
//! ```
//!
//! One turn makes at most one system call for all the operations its tasks started. A task woken
//! by another task of the same thread costs a push to a local queue. Nothing else may be borrowed
//! while foreign code (a poll, a waker, a drop) runs.

use super::driver::{Aftermath, Reactor, Wait};
use super::inbox::{Inbox, MakeTask, Message};
use super::pool::Pool;
use super::task::TaskWaker;
use super::timers::Timers;
use crate::env::{BufferPool, LocalFuture};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Tasks polled in a turn before the reactor gets its chance.
const POLLS_PER_TURN: usize = 1024;

/// Rounds of dropping tasks at the end, in case a dropped task spawns another.
const DROP_ROUNDS: usize = 64;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Executor>>> = const { RefCell::new(None) };
}

struct Task {
    /// `None` while it is being polled.
    future: Option<LocalFuture<'static, ()>>,
    waker: Arc<TaskWaker>,
}

pub(super) struct Executor {
    inbox: Arc<Inbox>,
    tasks: RefCell<slab::Slab<Task>>,
    ready: RefCell<VecDeque<Arc<TaskWaker>>>,
    pub(super) timers: RefCell<Timers>,
    pub(super) reactor: RefCell<Reactor>,
    pub(super) buffers: BufferPool,
    pub(super) pool: Arc<Pool>,
    stopping: Cell<bool>,
}

/// Queues a task if this is its thread, else gives it back.
pub(super) fn queue_here(task: Arc<TaskWaker>) -> Result<(), Arc<TaskWaker>> {
    let executor = CURRENT.try_with(|current| current.try_borrow().ok().and_then(|c| c.clone()));
    match executor {
        Ok(Some(executor)) if task.belongs_to(&executor.inbox) => {
            executor.ready.borrow_mut().push_back(task);
            Ok(())
        }
        _ => Err(task),
    }
}

impl Executor {
    pub(super) fn new(inbox: Arc<Inbox>, reactor: Reactor, buffers: BufferPool, pool: Arc<Pool>) -> Rc<Self> {
        Rc::new(Self {
            inbox,
            tasks: RefCell::default(),
            ready: RefCell::default(),
            timers: RefCell::default(),
            reactor: RefCell::new(reactor),
            buffers,
            pool,
            stopping: Cell::new(false),
        })
    }

    /// The executor of the calling thread.
    pub(super) fn current() -> Option<Rc<Self>> {
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    pub(super) fn spawn(&self, future: LocalFuture<'static, ()>) {
        let mut tasks = self.tasks.borrow_mut();
        let entry = tasks.vacant_entry();
        let waker = TaskWaker::queued(entry.key(), Arc::clone(&self.inbox));
        entry.insert(Task { future: Some(future), waker: Arc::clone(&waker) });
        self.ready.borrow_mut().push_back(waker);
    }

    /// Runs until told to stop; then every task is dropped.
    pub(super) fn run(self: Rc<Self>) {
        CURRENT.set(Some(Rc::clone(&self)));
        let mut after = Aftermath::default();
        while !self.stopping.get() {
            self.take_messages(&mut after);
            self.timers.borrow_mut().expire(Instant::now(), &mut after.wakers);
            settle(&mut after);
            self.poll_ready();
            if self.stopping.get() {
                break;
            }
            let wait = self.how_long_to_wait();
            let slept = wait != Wait::Not;
            self.reactor.borrow_mut().turn(wait, &mut after);
            if slept {
                self.inbox.after_sleep();
            }
            settle(&mut after);
        }
        self.drop_everything();
        CURRENT.set(None);
    }

    fn take_messages(&self, after: &mut Aftermath) {
        while let Some(message) = self.inbox.pop() {
            match message {
                Message::Wake(task) => self.ready.borrow_mut().push_back(task),
                Message::Spawn(make) => self.make_task(make),
                Message::Done(completion) => self.reactor.borrow_mut().complete(completion, after),
                Message::Stop => self.stopping.set(true),
            }
        }
    }

    fn make_task(&self, make: MakeTask) {
        match catch_unwind(AssertUnwindSafe(make)) {
            Ok(future) => self.spawn(future),
            Err(_) => tracing::error!("a task panicked while it was being made"),
        }
    }

    fn poll_ready(&self) {
        for _ in 0..POLLS_PER_TURN {
            let next = self.ready.borrow_mut().pop_front();
            let Some(waker) = next else { break };
            self.poll_task(waker);
        }
    }

    fn poll_task(&self, waker: Arc<TaskWaker>) {
        let index = waker.index;
        let future = match self.tasks.borrow_mut().get_mut(index) {
            Some(task) if Arc::ptr_eq(&task.waker, &waker) => task.future.take(),
            // The task has ended, and the wake came late.
            _ => None,
        };
        let Some(mut future) = future else { return };
        waker.about_to_poll();
        let waker = Waker::from(waker);
        let poll = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
        match poll {
            Ok(Poll::Pending) => {
                if let Some(task) = self.tasks.borrow_mut().get_mut(index) {
                    task.future = Some(future);
                }
            }
            ended => {
                if ended.is_err() {
                    tracing::error!("a task panicked and was dropped");
                }
                let task = self.tasks.borrow_mut().try_remove(index);
                drop(task);
                drop(future);
            }
        }
    }

    fn how_long_to_wait(&self) -> Wait {
        if !self.ready.borrow().is_empty() {
            return Wait::Not;
        }
        let wait = match self.timers.borrow().next_deadline() {
            None => Wait::Forever,
            Some(at) => match at.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => Wait::For(left),
                _ => return Wait::Not,
            },
        };
        if self.inbox.before_sleep() { wait } else { Wait::Not }
    }

    fn drop_everything(&self) {
        self.inbox.close();
        for _ in 0..DROP_ROUNDS {
            let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
            if tasks.is_empty() {
                break;
            }
            drop(tasks);
            let ready = std::mem::take(&mut *self.ready.borrow_mut());
            drop(ready);
        }
        let timers = self.timers.take();
        drop(timers);
    }
}

fn settle(after: &mut Aftermath) {
    after.garbage.clear();
    for waker in after.wakers.drain(..) {
        waker.wake();
    }
}
