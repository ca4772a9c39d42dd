//! What the executor and the handles to it share: clock, timers, ready queue, trace.
//!
//! Futures themselves are not here: they need not be `Send`, while an environment must be. A new
//! task waits in a list of its thread until the executor takes it over.

use super::environment::ProcessId;
use super::prng::Prng;
use crate::env::{BufferPool, LocalFuture};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

/// Free buffers a simulation keeps.
const KEEP_BYTES: usize = 8 << 20;

/// A spawned task on its way to the executor.
pub(super) struct Newborn {
    pub process: ProcessId,
    pub future: LocalFuture<'static, ()>,
}

thread_local! {
    /// Spawned tasks by simulation.
    static NEWBORN: RefCell<HashMap<u64, Vec<Newborn>>> = RefCell::new(HashMap::new());
}

/// Identity of a simulation within the operating system's process.
static NEXT_SIMULATION: AtomicU64 = AtomicU64::new(1);

pub(super) struct State {
    pub now: Duration,
    pub timers: BTreeMap<(Duration, u64), Waker>,
    pub next_timer: u64,
    pub ready: Vec<u64>,
    pub dead: BTreeSet<ProcessId>,
    /// Killed, but their tasks are not dropped yet.
    pub to_reap: Vec<ProcessId>,
    pub next_process: u64,
    pub random: Prng,
    pub trace_hash: u64,
    pub print_trace: bool,
}

pub(super) struct Shared {
    pub id: u64,
    pub buffers: BufferPool,
    state: Mutex<State>,
}

impl Shared {
    pub fn new(random: Prng) -> Self {
        Self {
            id: NEXT_SIMULATION.fetch_add(1, Ordering::Relaxed),
            buffers: BufferPool::new(KEEP_BYTES),
            state: Mutex::new(State {
                now: Duration::ZERO,
                timers: BTreeMap::new(),
                next_timer: 0,
                ready: Vec::new(),
                dead: BTreeSet::new(),
                to_reap: Vec::new(),
                next_process: 1,
                random,
                trace_hash: 0xcbf2_9ce4_8422_2325,
                print_trace: false,
            }),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn give_birth(&self, newborn: Newborn) {
        NEWBORN.with(|map| map.borrow_mut().entry(self.id).or_default().push(newborn));
    }

    pub fn take_newborn(&self) -> Vec<Newborn> {
        NEWBORN.with(|map| map.borrow_mut().get_mut(&self.id).map(std::mem::take).unwrap_or_default())
    }

    pub fn forget_newborn(&self) {
        // Dropped outside the borrow: a task's destructor may spawn.
        let left = NEWBORN.with(|map| map.borrow_mut().remove(&self.id));
        drop(left);
    }
}

impl State {
    /// Mixes values into the trace hash.
    pub fn mix(&mut self, words: &[u64]) {
        for word in words {
            self.trace_hash = (self.trace_hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
    }
}

/// Puts its task into the ready queue, once until it is polled.
pub(super) struct TaskWaker {
    pub task: u64,
    pub queued: Mutex<bool>,
    pub shared: Arc<Shared>,
}

impl TaskWaker {
    pub fn set_queued(&self, queued: bool) -> bool {
        std::mem::replace(&mut *self.queued.lock().unwrap_or_else(PoisonError::into_inner), queued)
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.set_queued(true) {
            self.shared.lock().ready.push(self.task);
        }
    }
}
