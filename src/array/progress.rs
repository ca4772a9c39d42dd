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

/// How a task is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Orders {
    /// Held by an admin.
    pub paused: bool,
    /// Ceiling in bytes per second of one member.
    pub max_rate: Option<u64>,
    /// It must end, at least for now.
    pub end: bool,
}

impl Orders {
    pub(super) fn change(&mut self, change: RebuildControl) {
        if let Some(rate) = change.max_rate_bytes_per_s {
            self.max_rate = (rate > 0).then_some(rate);
        }
        self.paused = change.paused.unwrap_or(self.paused);
    }
}

#[derive(Default)]
struct Inner {
    running: Option<Progress>,
    rebuild: Orders,
    stopping: bool,
    busy: bool,
}

/// The switchboard between admin and tasks.
#[derive(Default)]
pub struct TaskSwitch(Mutex<Inner>);

impl TaskSwitch {
    /// Starts with this ceiling.
    pub fn new(max_rate: Option<u64>) -> Self {
        let rebuild = Orders { max_rate, ..Orders::default() };
        Self(Mutex::new(Inner { rebuild, ..Inner::default() }))
    }

    /// How rebuilds are to run.
    pub(super) fn rebuild_orders(&self) -> Orders {
        let inner = self.inner();
        Orders { end: inner.stopping, ..inner.rebuild }
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
        self.inner().rebuild.change(change);
    }

    /// What runs now, if anything; `orders` says how each kind of task is to run.
    pub(super) fn task_report(&self, orders: impl Fn(TaskKind) -> Orders) -> Option<TaskReport> {
        let p = self.inner().running.clone()?;
        let Orders { paused, max_rate, .. } = orders(p.kind);
        let rate = if paused { 0 } else { p.rate_bytes_per_s };
        let left = p.total_bytes.saturating_sub(p.done_bytes);
        Some(TaskReport {
            kind: p.kind,
            slots: p.slots,
            percent: match p.total_bytes {
                0 => 100.0,
                total => (p.done_bytes as f64 * 1000.0 / total as f64).floor() / 10.0,
            },
            done_bytes: p.done_bytes,
            total_bytes: p.total_bytes,
            rate_bytes_per_s: rate,
            eta_s: left.checked_div(rate),
            paused,
            max_rate_bytes_per_s: max_rate,
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
