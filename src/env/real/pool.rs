//! Threads for calls that block: file I/O where io_uring is refused, and opening or examining
//! files everywhere.
//!
//! Problem: a device that hangs keeps every thread that calls it, and must not keep the others
//! waiting. Idea: work stands in one line per file, and a line is served by few threads at most;
//! so the number of threads is bounded by the number of files in use, and a hanging one takes its
//! own. Threads start on demand and go after a while without work.

use super::driver::Completion;
use super::inbox::{Inbox, Message};
use super::op::Op;
use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most threads at work on one file at a time.
const THREADS_PER_FILE: usize = 6;
const IDLE: Duration = Duration::from_secs(10);

/// What stands in one line: the work on one open file, or on one path, by a hash of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Line {
    File(RawFd),
    Path(u64),
}

impl Line {
    /// The line of a path: two may share one, if they have to.
    pub(crate) fn of_path(path: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        Self::Path(hasher.finish())
    }
}

/// Work for a thread of the pool.
pub(super) enum Job {
    Op { key: usize, op: Op, inbox: Arc<Inbox> },
    Call(Line, Box<dyn FnOnce() + Send>),
}

impl Job {
    fn line(&self) -> Line {
        match self {
            Self::Op { op, .. } => Line::File(op.fd().as_raw_fd()),
            Self::Call(line, _) => *line,
        }
    }

    fn run(self) {
        match self {
            Self::Op { key, mut op, inbox } => {
                let result = op.run_blocking();
                inbox.push(Message::Done(Completion { key, op, result }));
            }
            // Whoever waits for the answer sees that it will not come; the worker lives on.
            Self::Call(_, call) => drop(catch_unwind(AssertUnwindSafe(call))),
        }
    }

    /// Ends the job without running it.
    fn refuse(self, error: io::Error) {
        if let Self::Op { key, op, inbox } = self {
            inbox.push(Message::Done(Completion { key, op, result: Err(error) }));
        }
    }
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    running: usize,
}

#[derive(Default)]
struct State {
    lines: HashMap<Line, Waiting>,
    /// A line once for every job in it that a thread may take now, in order of arrival.
    ready: VecDeque<Line>,
    threads: usize,
    /// Threads at work; the others are starting, looking for work or idle.
    busy: usize,
    closed: bool,
}

impl State {
    fn add(&mut self, job: Job) {
        let line = job.line();
        let waiting = self.lines.entry(line).or_default();
        waiting.jobs.push_back(job);
        if waiting.running + waiting.jobs.len() <= THREADS_PER_FILE {
            self.ready.push_back(line);
        }
    }

    fn take(&mut self) -> Option<(Line, Job)> {
        let line = self.ready.pop_front()?;
        let waiting = self.lines.get_mut(&line)?;
        let job = waiting.jobs.pop_front()?;
        waiting.running += 1;
        self.busy += 1;
        Some((line, job))
    }

    fn finished(&mut self, line: Line) {
        self.busy -= 1;
        let Some(waiting) = self.lines.get_mut(&line) else { return };
        waiting.running -= 1;
        if waiting.running + waiting.jobs.len() >= THREADS_PER_FILE {
            // One that had to wait for this one may go now.
            self.ready.push_back(line);
        } else if waiting.running == 0 && waiting.jobs.is_empty() {
            self.lines.remove(&line);
        }
    }
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work_until_idle(&self) {
        let mut state = self.lock();
        loop {
            if let Some((line, job)) = state.take() {
                drop(state);
                job.run();
                state = self.lock();
                state.finished(line);
                continue;
            }
            if state.closed {
                break;
            }
            let (woken, timeout) =
                self.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timeout.timed_out() && state.ready.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

pub(super) struct Pool {
    shared: Arc<Shared>,
}

impl Pool {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { shared: Arc::new(Shared { state: Mutex::default(), work: Condvar::new() }) })
    }

    pub(super) fn submit(&self, job: Job) {
        let mut state = self.shared.lock();
        state.add(job);
        if state.ready.is_empty() {
            // Its line is served by as many threads as it may have.
            return;
        }
        if state.ready.len() + state.busy <= state.threads {
            drop(state);
            self.shared.work.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = Arc::clone(&self.shared);
        let started =
            std::thread::Builder::new().name("palisade-file".into()).spawn(move || shared.work_until_idle());
        if let Err(error) = started {
            self.could_not_start(&error);
        }
    }

    /// Without any thread to do it, waiting work fails rather than waits for ever.
    fn could_not_start(&self, error: &io::Error) {
        let mut state = self.shared.lock();
        state.threads -= 1;
        if state.threads > 0 {
            return;
        }
        state.ready.clear();
        let stranded = std::mem::take(&mut state.lines);
        drop(state);
        for job in stranded.into_values().flat_map(|w| w.jobs) {
            job.refuse(io::Error::new(error.kind(), format!("cannot start a file worker: {error}")));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn call(line: Line, f: impl FnOnce() + Send + 'static) -> Job {
        Job::Call(line, Box::new(f))
    }

    #[test]
    fn a_file_that_hangs_keeps_nobody_else_waiting() {
        let pool = Pool::new();
        let (release, hang) = mpsc::channel::<()>();
        let hang = Arc::new(Mutex::new(hang));
        let (done, finished) = mpsc::channel();
        for i in 0..20 {
            let (hang, done) = (Arc::clone(&hang), done.clone());
            pool.submit(call(Line::File(1), move || {
                hang.lock().unwrap().recv().unwrap();
                done.send(i).unwrap();
            }));
        }
        for i in 100..200 {
            let done = done.clone();
            pool.submit(call(Line::File(2), move || done.send(i).unwrap()));
        }
        let mut others: Vec<_> = finished.iter().take(100).collect();
        others.sort_unstable();
        assert_eq!(others, (100..200).collect::<Vec<_>>());
        assert!(pool.shared.lock().threads <= 2 * THREADS_PER_FILE);
        for _ in 0..20 {
            release.send(()).unwrap();
        }
        let mut rest: Vec<_> = finished.iter().take(20).collect();
        rest.sort_unstable();
        assert_eq!(rest, (0..20).collect::<Vec<_>>(), "work that stood in line was lost");
    }
}
