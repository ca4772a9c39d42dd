//! A tiny executor with virtual time.

use palisade::env::{BufferPool, Env, Environment, LocalFuture, Moment};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

type Task = (Pin<Box<dyn Future<Output = ()>>>, Arc<Flag>);

thread_local! {
    static SPAWNED: RefCell<Vec<Task>> = const { RefCell::new(Vec::new()) };
    /// One for all environments of a thread: making its buffers is most of a short session.
    static POOL: BufferPool = BufferPool::new(8 << 20);
}

#[derive(Default)]
struct Clock {
    now: Duration,
    next: u64,
    timers: BTreeMap<(Duration, u64), Waker>,
}

/// Virtual time, tasks on this thread.
pub struct TestEnv {
    clock: Arc<Mutex<Clock>>,
    pool: BufferPool,
}

pub fn test_env() -> (Env, Arc<TestEnv>) {
    let inner = Arc::new(TestEnv { clock: Arc::default(), pool: POOL.with(BufferPool::clone) });
    (Env::new(inner.clone()), inner)
}

impl Environment for TestEnv {
    fn now(&self) -> Moment {
        Moment(self.clock.lock().unwrap().now)
    }

    fn unix_seconds(&self) -> u64 {
        0
    }

    fn sleep(&self, d: Duration) -> LocalFuture<'static, ()> {
        let clock = self.clock.clone();
        let until = clock.lock().unwrap().now + d;
        let mut key = None;
        Box::pin(poll_fn(move |cx| {
            let mut clock = clock.lock().unwrap();
            if clock.now >= until {
                return Poll::Ready(());
            }
            if let Some(old) = key {
                clock.timers.remove(&old);
            }
            clock.next += 1;
            let at = (until, clock.next);
            key = Some(at);
            clock.timers.insert(at, cx.waker().clone());
            Poll::Pending
        }))
    }

    fn spawn(&self, task: LocalFuture<'static, ()>) {
        SPAWNED.with(|s| s.borrow_mut().push((task, Arc::new(Flag(AtomicBool::new(true))))));
    }

    fn random(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }

    fn buffers(&self) -> &BufferPool {
        &self.pool
    }
}

impl TestEnv {
    /// Lets time pass up to the next timer.
    fn advance(&self) -> bool {
        let mut clock = self.clock.lock().unwrap();
        let Some(((at, _), waker)) = clock.timers.pop_first() else { return false };
        clock.now = clock.now.max(at);
        waker.wake();
        true
    }

    /// Runs `main` and all spawned tasks until `main` ends. Time passes only when all wait.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> T {
        let mut main = pin!(main);
        let main_flag = Arc::new(Flag(AtomicBool::new(true)));
        let mut tasks: Vec<Task> = Vec::new();
        loop {
            let mut busy = false;
            if main_flag.0.swap(false, Ordering::SeqCst) {
                busy = true;
                let waker = Waker::from(main_flag.clone());
                if let Poll::Ready(value) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                    SPAWNED.with(|s| s.borrow_mut().clear());
                    return value;
                }
            }
            tasks.extend(SPAWNED.with(|s| std::mem::take(&mut *s.borrow_mut())));
            tasks.retain_mut(|(task, flag)| {
                if !flag.0.swap(false, Ordering::SeqCst) {
                    return true;
                }
                busy = true;
                let waker = Waker::from(flag.clone());
                task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
            });
            assert!(busy || self.advance(), "everything waits for ever");
        }
    }
}
