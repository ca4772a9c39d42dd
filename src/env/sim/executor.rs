//! The deterministic executor.
//!
//! One turn: poll one ready task (the oldest, or one drawn by the seed); if none is ready, move
//! the clock to the earliest timer and wake it; if there is no timer either, nothing can ever
//! happen again and the run ends with [`Stuck`].

use super::environment::{ProcessId, SimEnv};
use super::prng::Prng;
use super::shared::{Shared, TaskWaker};
use crate::env::{Env, LocalFuture};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The task number of the future given to [`Simulation::run`].
const ROOT: u64 = 0;

/// Why a simulation cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stuck {
    /// Nothing is ready and no timer is set.
    Deadlock {
        /// When.
        now: Duration,
        /// Tasks that wait for ever.
        tasks: usize,
    },
    /// The step limit was reached.
    StepLimit {
        /// When.
        now: Duration,
        /// Polls made.
        steps: u64,
    },
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadlock { now, tasks } => {
                write!(f, "deadlock: nothing can make progress at t={now:?} ({tasks} tasks wait)")
            }
            Self::StepLimit { now, steps } => write!(f, "step limit: {steps} polls made by t={now:?}"),
        }
    }
}

impl std::error::Error for Stuck {}

struct Task {
    process: ProcessId,
    future: LocalFuture<'static, ()>,
    waker: Arc<TaskWaker>,
}

/// A simulation: the executor and everything in it.
pub struct Simulation {
    shared: Arc<Shared>,
    tasks: BTreeMap<u64, Task>,
    next_task: u64,
    schedule: Option<Prng>,
    steps: u64,
    step_limit: u64,
}

impl Simulation {
    /// A simulation whose every choice, the order of tasks included, is drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        let mut random = Prng::new(seed);
        let schedule = Some(random.fork());
        Self {
            shared: Arc::new(Shared::new(random)),
            tasks: BTreeMap::new(),
            next_task: ROOT + 1,
            schedule,
            steps: 0,
            step_limit: u64::MAX,
        }
    }

    /// Polls ready tasks first come, first served, instead of in an order drawn from the seed.
    #[must_use]
    pub fn in_order(mut self) -> Self {
        self.schedule = None;
        self
    }

    /// Ends a run after so many polls.
    #[must_use]
    pub fn step_limit(mut self, polls: u64) -> Self {
        self.step_limit = polls;
        self
    }

    /// Prints every noted event to standard error.
    #[must_use]
    pub fn print_trace(self, on: bool) -> Self {
        self.shared.lock().print_trace = on;
        self
    }

    /// The harness's environment, as the engine wants it.
    pub fn env(&self) -> Env {
        self.handle().env()
    }

    /// The harness's environment, from which processes are started.
    pub fn handle(&self) -> SimEnv {
        SimEnv::new(Arc::clone(&self.shared), ProcessId::HARNESS)
    }

    /// A hash over everything that happened so far.
    pub fn trace_hash(&self) -> u64 {
        self.shared.lock().trace_hash
    }

    /// Polls made so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Runs until `root` is done; other tasks stay where they are.
    pub fn run<T>(&mut self, root: impl Future<Output = T>) -> Result<T, Stuck> {
        let mut root = pin!(root);
        let root_waker =
            Arc::new(TaskWaker { task: ROOT, queued: false.into(), shared: Arc::clone(&self.shared) });
        let waker = Waker::from(Arc::clone(&root_waker));
        waker.wake_by_ref();
        loop {
            match self.next_ready()? {
                Some(ROOT) => {
                    root_waker.set_queued(false);
                    if let Poll::Ready(output) = root.as_mut().poll(&mut Context::from_waker(&waker)) {
                        self.adopt();
                        self.reap();
                        return Ok(output);
                    }
                }
                Some(task) => self.poll_task(task),
                None => self.advance()?,
            }
        }
    }

    /// Runs until nothing is ready and no timer is set.
    pub fn run_until_idle(&mut self) -> Result<(), Stuck> {
        loop {
            match self.next_ready()? {
                Some(task) => self.poll_task(task),
                None if self.advance().is_err() => return Ok(()),
                None => {}
            }
        }
    }

    /// Takes over new tasks, drops those of killed processes, and draws the next to poll.
    fn next_ready(&mut self) -> Result<Option<u64>, Stuck> {
        self.adopt();
        self.reap();
        let mut state = self.shared.lock();
        if state.ready.is_empty() {
            return Ok(None);
        }
        if self.steps >= self.step_limit {
            return Err(Stuck::StepLimit { now: state.now, steps: self.steps });
        }
        self.steps += 1;
        let task = match &mut self.schedule {
            Some(random) => {
                let index = random.index(state.ready.len());
                state.ready.swap_remove(index)
            }
            None => state.ready.remove(0),
        };
        let now = u64::try_from(state.now.as_nanos()).unwrap_or(u64::MAX);
        state.mix(&[task, now]);
        Ok(Some(task))
    }

    fn poll_task(&mut self, id: u64) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.waker.set_queued(false);
        let waker = Waker::from(Arc::clone(&task.waker));
        if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.tasks.remove(&id);
        }
    }

    /// Moves the clock to the earliest timer.
    fn advance(&mut self) -> Result<(), Stuck> {
        let mut state = self.shared.lock();
        let Some(((at, _), waker)) = state.timers.pop_first() else {
            return Err(Stuck::Deadlock { now: state.now, tasks: self.tasks.len() });
        };
        state.now = state.now.max(at);
        drop(state);
        waker.wake();
        Ok(())
    }

    fn adopt(&mut self) {
        for newborn in self.shared.take_newborn() {
            if self.shared.lock().dead.contains(&newborn.process) {
                continue;
            }
            let id = self.next_task;
            self.next_task += 1;
            let shared = Arc::clone(&self.shared);
            let waker = Arc::new(TaskWaker { task: id, queued: true.into(), shared });
            self.tasks.insert(id, Task { process: newborn.process, future: newborn.future, waker });
            self.shared.lock().ready.push(id);
        }
    }

    /// Drops the tasks of killed processes. Destructors may wake and spawn: both come to nothing.
    fn reap(&mut self) {
        loop {
            let Some(process) = self.shared.lock().to_reap.pop() else { return };
            let ids: Vec<u64> =
                self.tasks.iter().filter(|(_, t)| t.process == process).map(|(id, _)| *id).collect();
            for id in ids {
                drop(self.tasks.remove(&id));
            }
            let tasks = &self.tasks;
            self.shared.lock().ready.retain(|id| *id == ROOT || tasks.contains_key(id));
            self.adopt();
        }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.tasks.clear();
        self.shared.forget_newborn();
        // Timers hold wakers, wakers hold the shared state: break the circle.
        let timers = std::mem::take(&mut self.shared.lock().timers);
        drop(timers);
    }
}
