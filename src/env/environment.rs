//! The environment trait and the cheap handle the engine passes around.

use super::{BufferPool, LocalFuture};
use std::sync::Arc;
use std::time::Duration;

/// A point on the environment's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub Duration);

impl Moment {
    /// Time from `earlier` to `self`, zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `d` after this one.
    #[must_use]
    pub fn after(self, d: Duration) -> Self {
        Self(self.0.saturating_add(d))
    }
}

/// Everything nondeterministic, handed in. One implementation is real, one is simulated.
pub trait Environment: Send + Sync {
    /// Monotonic time since the environment began.
    fn now(&self) -> Moment;

    /// Wall-clock seconds since 1970, for records people read; never for decisions.
    fn unix_seconds(&self) -> u64;

    /// Completes after `d`. Must be called (and polled) on an executor thread.
    fn sleep(&self, d: Duration) -> LocalFuture<'static, ()>;

    /// Runs `task` to completion on the calling thread's executor. A task outlives its spawner.
    fn spawn(&self, task: LocalFuture<'static, ()>);

    /// Fills `bytes` with random bytes (from the seed when simulated).
    fn random(&self, bytes: &mut [u8]);

    /// The pool of aligned buffers.
    fn buffers(&self) -> &BufferPool;
}

/// A shared environment; clone freely.
#[derive(Clone)]
pub struct Env(Arc<dyn Environment>);

impl Env {
    /// Wraps an implementation.
    pub fn new(environment: Arc<dyn Environment>) -> Self {
        Self(environment)
    }

    /// 16 random bytes, for an identity.
    pub fn random_id(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.0.random(&mut bytes);
        bytes
    }
}

impl std::ops::Deref for Env {
    type Target = dyn Environment;
    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}
