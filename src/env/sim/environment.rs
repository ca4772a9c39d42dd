//! The handle simulated programs get: the `Environment` of one simulated process.

use super::prng::Prng;
use super::shared::{Newborn, Shared};
use crate::env::{BufferPool, Env, Environment, LocalFuture, Moment};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Wall-clock time at which every simulation begins.
const BEGINNING_UNIX_SECONDS: u64 = 1_767_225_600;

/// A simulated process: what is killed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u64);

impl ProcessId {
    /// The process of the harness and of the hardware; never killed.
    pub const HARNESS: Self = Self(0);
}

/// The environment of one process of a simulation; clone freely.
#[derive(Clone)]
pub struct SimEnv {
    shared: Arc<Shared>,
    process: ProcessId,
}

impl SimEnv {
    pub(super) fn new(shared: Arc<Shared>, process: ProcessId) -> Self {
        Self { shared, process }
    }

    /// As the engine wants it.
    pub fn env(&self) -> Env {
        Env::new(Arc::new(self.clone()))
    }

    /// Which process this is.
    pub fn process(&self) -> ProcessId {
        self.process
    }

    /// Starts a new process in the same simulation.
    #[must_use]
    pub fn new_process(&self) -> Self {
        let mut state = self.shared.lock();
        let process = ProcessId(state.next_process);
        state.next_process += 1;
        Self { shared: Arc::clone(&self.shared), process }
    }

    /// Kills this process: its tasks are dropped before anything else is polled, what it spawns
    /// from now on is dropped too. The harness cannot be killed.
    pub fn kill(&self) {
        if self.process == ProcessId::HARNESS {
            return;
        }
        let mut state = self.shared.lock();
        if state.dead.insert(self.process) {
            state.to_reap.push(self.process);
        }
    }

    /// Whether the process was killed.
    pub fn is_dead(&self) -> bool {
        self.shared.lock().dead.contains(&self.process)
    }

    /// A generator forked from the simulation's.
    pub fn prng(&self) -> Prng {
        self.shared.lock().random.fork()
    }

    /// Mixes `words` into the trace hash; prints `text` if the trace is wanted.
    pub fn note(&self, words: &[u64], text: impl FnOnce() -> String) {
        let mut state = self.shared.lock();
        state.mix(words);
        if state.print_trace {
            let now = state.now;
            drop(state);
            eprintln!("{:>14.6} {}", now.as_secs_f64(), text());
        }
    }

    /// Starts a task in this process and gives a future for its output: `None` if the process is
    /// killed first.
    pub fn call<T: 'static>(
        &self,
        future: impl Future<Output = T> + 'static,
    ) -> impl Future<Output = Option<T>> + 'static {
        let (tx, rx) = futures::channel::oneshot::channel();
        self.spawn(Box::pin(async move {
            let _ = tx.send(future.await);
        }));
        async move { rx.await.ok() }
    }
}

impl Environment for SimEnv {
    fn now(&self) -> Moment {
        Moment(self.shared.lock().now)
    }

    fn unix_seconds(&self) -> u64 {
        BEGINNING_UNIX_SECONDS + self.shared.lock().now.as_secs()
    }

    fn sleep(&self, d: Duration) -> LocalFuture<'static, ()> {
        let until = self.shared.lock().now.saturating_add(d);
        Box::pin(Sleep { shared: Arc::clone(&self.shared), until, timer: None })
    }

    fn spawn(&self, task: LocalFuture<'static, ()>) {
        self.shared.give_birth(Newborn { process: self.process, future: task });
    }

    fn random(&self, bytes: &mut [u8]) {
        self.shared.lock().random.fill(bytes);
    }

    fn buffers(&self) -> &BufferPool {
        &self.shared.buffers
    }
}

/// Completes at a moment. At least one poll returns pending, as with a real timer, even for no
/// time at all.
struct Sleep {
    shared: Arc<Shared>,
    until: Duration,
    timer: Option<((Duration, u64), Waker)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut state = this.shared.lock();
        let key = match &this.timer {
            Some((key, _)) if !state.timers.contains_key(key) => return Poll::Ready(()),
            Some((_, waker)) if waker.will_wake(cx.waker()) => return Poll::Pending,
            Some((key, _)) => *key,
            None => {
                state.next_timer += 1;
                (this.until, state.next_timer)
            }
        };
        let replaced = state.timers.insert(key, cx.waker().clone());
        drop(state);
        drop(replaced);
        this.timer = Some((key, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((key, _)) = &self.timer {
            let removed = self.shared.lock().timers.remove(key);
            drop(removed);
        }
    }
}
