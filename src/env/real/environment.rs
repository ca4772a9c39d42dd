//! The real environment: the system's clock and random numbers, the thread's executor.

use super::io::{on_this_thread, sleep};
use crate::env::{BufferPool, Environment, LocalFuture, Moment};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Everything nondeterministic, as the operating system gives it.
pub(super) struct RealEnv {
    began: Instant,
    buffers: BufferPool,
}

impl RealEnv {
    pub(super) fn new(buffers: BufferPool) -> Self {
        Self { began: Instant::now(), buffers }
    }
}

impl Environment for RealEnv {
    fn now(&self) -> Moment {
        Moment(self.began.elapsed())
    }

    fn unix_seconds(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
    }

    fn sleep(&self, d: Duration) -> LocalFuture<'static, ()> {
        Box::pin(sleep(d))
    }

    fn spawn(&self, task: LocalFuture<'static, ()>) {
        on_this_thread("spawn").spawn(task);
    }

    fn random(&self, bytes: &mut [u8]) {
        if let Err(error) = getrandom::fill(bytes) {
            // Identities would collide: there is no sane way on.
            panic!("the system gives no random numbers: {error}");
        }
    }

    fn buffers(&self) -> &BufferPool {
        &self.buffers
    }
}
