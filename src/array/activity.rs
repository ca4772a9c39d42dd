//! Is anything being written? The answer is on the members, for people: what a crash interrupted is
//! in the journal.
//!
//! ```text
//!             first write: record "not clean"
//!    Clean  -----------------------------------> Writing
//!      ^                                            |
//!      +--------------------------------------------+
//!        nothing written for a while: flush, record "clean"
//! ```
//!
//! Both changes are made holding the coordinator's lock; a write that finds the array Clean waits
//! until "not clean" is durable.

use super::coordinator::{Changing, Coordinator};
use crate::env::Moment;
use crate::error::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Without writes for so long, the array is marked clean.
const IDLE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Now {
    writing: bool,
    /// Writes under way.
    under_way: u64,
    last: Moment,
    stopped: bool,
}

/// The gate every write passes.
pub(super) struct Activity {
    coordinator: Arc<Coordinator>,
    now: Mutex<Now>,
}

/// Held while a write is under way.
pub(super) struct Ticket<'a>(&'a Activity);

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let now = self.0.coordinator.options.env.now();
        let mut n = self.0.now();
        n.under_way -= 1;
        n.last = now;
    }
}

fn stopping() -> Error {
    Error::new(ErrorKind::ShuttingDown, "the array is being stopped")
}

impl Activity {
    /// `writing`: the members say "not clean".
    pub fn new(coordinator: Arc<Coordinator>, writing: bool) -> Self {
        Self { coordinator, now: Mutex::new(Now { writing, ..Now::default() }) }
    }

    /// Lets a write begin, once the members know that something is being written.
    pub async fn enter(&self) -> Result<Ticket<'_>> {
        loop {
            {
                let mut now = self.now();
                if now.stopped {
                    return Err(stopping());
                }
                if now.writing {
                    now.under_way += 1;
                    return Ok(Ticket(self));
                }
            }
            let proof = self.coordinator.begin().await;
            let stopped_or_writing = {
                let now = self.now();
                now.writing || now.stopped
            };
            if !stopped_or_writing {
                self.coordinator.refuse_if_failed()?;
                self.coordinator.commit_with(&proof, true, |m| m.clean = false).await?;
                self.now().writing = true;
            }
        }
    }

    /// Ends a long request, of which there is `more` to do, when the array is to stop.
    pub fn may_go_on(&self, more: bool) -> Result<()> {
        match more && self.now().stopped {
            true => Err(stopping()),
            false => Ok(()),
        }
    }

    /// Marks the array clean if it has been idle and everything is home (`is_settled`).
    pub async fn settle(&self, is_settled: impl Fn() -> bool) {
        let idle_since = self.now().last.after(IDLE);
        if self.coordinator.options.env.now() < idle_since {
            return;
        }
        if let Some(proof) = self.coordinator.try_begin() {
            // Not clean is the safe side: a failure here costs nothing but a look into the journal.
            drop(self.close(&proof, is_settled).await);
        }
    }

    /// Refuses writes from now on, and waits for those under way.
    pub async fn refuse(&self) {
        self.now().stopped = true;
        while self.now().under_way > 0 {
            self.coordinator.options.env.sleep(Duration::from_millis(2)).await;
        }
    }

    /// Marks the array clean if everything is home.
    pub async fn stop(&self, is_settled: impl Fn() -> bool) -> Result<()> {
        let proof = self.coordinator.begin().await;
        self.close(&proof, is_settled).await
    }

    async fn close(&self, proof: &Changing<'_>, is_settled: impl Fn() -> bool) -> Result<()> {
        {
            let mut now = self.now();
            if !now.writing || now.under_way > 0 || !is_settled() {
                return Ok(());
            }
            now.writing = false;
        }
        let closed = async {
            self.coordinator.flush_all(proof).await?;
            // Nothing was changed since it was looked at: whoever is lost from now on lacks nothing yet.
            self.coordinator.epochs.all_is_home();
            self.coordinator.commit_with(proof, true, |m| m.clean = true).await
        };
        let closed = closed.await;
        if closed.is_err() {
            self.now().writing = true;
        }
        closed
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
