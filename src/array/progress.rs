//! Where background tasks say how far they are, and read how they are to run.

use super::{RebuildControl, TaskKind, TaskReport};
use crate::units::Slot;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Progress of one task, counted in bytes of one member.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// What it does.
    pub kind: TaskKind,
    /// Slots it fills.
    pub slots: Vec<Slot>,
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Recent rate.
    pub rate_bytes_per_s: u64,
}

#[derive(Default)]
struct Inner {
    running: Option<Progress>,
    paused: bool,
    max_rate: Option<u64>,
    stopping: bool,
    busy: bool,
}

/// The switchboard between admin and tasks.
#[derive(Default)]
pub struct TaskSwitch(Mutex<Inner>);

impl TaskSwitch {
    /// Starts with this ceiling.
    pub fn new(max_rate: Option<u64>) -> Self {
        Self(Mutex::new(Inner { max_rate, ..Inner::default() }))
    }

    /// What a task is to do now.
    pub fn paused(&self) -> bool {
        self.inner().paused
    }

    /// Ceiling in bytes per second of one member.
    pub fn max_rate(&self) -> Option<u64> {
        self.inner().max_rate
    }

    /// Tasks must end.
    pub fn stopping(&self) -> bool {
        self.inner().stopping
    }

    /// A task says how far it is; `None` when it is done.
    pub fn report(&self, progress: Option<Progress>) {
        self.inner().running = progress;
    }

    /// A task says whether it is in the middle of something that a stop must wait for.
    pub fn set_busy(&self, busy: bool) {
        self.inner().busy = busy;
    }

    /// Tells tasks to end; false while one is still busy.
    pub(super) fn stop(&self) -> bool {
        let mut inner = self.inner();
        inner.stopping = true;
        !inner.busy
    }

    pub(super) fn control(&self, change: RebuildControl) {
        let mut inner = self.inner();
        if let Some(rate) = change.max_rate_bytes_per_s {
            inner.max_rate = (rate > 0).then_some(rate);
        }
        inner.paused = change.paused.unwrap_or(inner.paused);
    }

    pub(super) fn task_report(&self) -> Option<TaskReport> {
        let inner = self.inner();
        let p = inner.running.as_ref()?;
        let rate = if inner.paused { 0 } else { p.rate_bytes_per_s };
        let left = p.total_bytes.saturating_sub(p.done_bytes);
        Some(TaskReport {
            kind: p.kind,
            slots: p.slots.clone(),
            percent: match p.total_bytes {
                0 => 100.0,
                total => (p.done_bytes as f64 * 1000.0 / total as f64).floor() / 10.0,
            },
            done_bytes: p.done_bytes,
            total_bytes: p.total_bytes,
            rate_bytes_per_s: rate,
            eta_s: left.checked_div(rate),
            paused: inner.paused,
            max_rate_bytes_per_s: inner.max_rate,
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
