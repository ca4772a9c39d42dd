//! The threads: each with its own executor, ring, timers and tasks; and the handle to reach them.

use super::busy_poll::BusyPoll;
use super::driver::{Driver, Reactor};
use super::environment::RealEnv;
use super::executor::Executor;
use super::inbox::{Inbox, Message};
use super::pool::Pool;
use super::portable::Portable;
use super::uring::Uring;
use crate::env::{BufferPool, Env};
use crate::error::{Error, ErrorKind, Result};
use futures::channel::oneshot;
use std::fmt;
use std::future::Future;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How I/O is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoKind {
    /// io_uring, or the portable way where it is refused.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll and worker threads.
    Portable,
}

impl FromStr for IoKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "io_uring" => Ok(Self::Uring),
            "portable" => Ok(Self::Portable),
            other => {
                let what = format!("'{other}' is no way to do I/O: use auto, io_uring or portable");
                Err(Error::new(ErrorKind::InvalidInput, what))
            }
        }
    }
}

impl fmt::Display for IoKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "io_uring",
            Self::Portable => "portable",
        })
    }
}

/// How to run the threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// Number of executor threads; none is taken as one.
    pub threads: usize,
    /// How I/O is done.
    pub io: IoKind,
    /// Free buffers are kept up to this many bytes.
    pub keep_bytes: usize,
    /// Longest time a thread looks for completions before it sleeps (io_uring only); adapted to
    /// the load, and never by an idle thread. Zero: sleep at once.
    pub busy_poll: Duration,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self { threads: 1, io: IoKind::Auto, keep_bytes: 64 << 20, busy_poll: Duration::ZERO }
    }
}

/// A running set of executor threads. Dropping it stops them.
pub struct Runtime {
    env: Env,
    description: String,
    workers: Vec<Worker>,
}

struct Worker {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

impl Runtime {
    /// Starts the threads.
    pub fn start(options: RuntimeOptions) -> Result<Self> {
        let buffers = BufferPool::new(options.keep_bytes);
        let pool = Pool::new();
        let env = Env::new(Arc::new(RealEnv::new(buffers.clone())));
        let mut runtime = Self { env, description: String::new(), workers: Vec::new() };
        for number in 0..options.threads.max(1) {
            let (worker, description) = start_worker(number, options, buffers.clone(), Arc::clone(&pool))?;
            runtime.workers.push(worker);
            runtime.note(description);
        }
        Ok(runtime)
    }

    /// The environment for code that runs on these threads.
    pub fn env(&self) -> Env {
        self.env.clone()
    }

    /// How I/O is done, and why so if it is not io_uring by choice of the kernel.
    pub fn io_description(&self) -> String {
        self.description.clone()
    }

    /// Number of executor threads.
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// The handle of one thread, counted modulo their number.
    pub fn remote(&self, thread: usize) -> Remote {
        let inbox = &self.workers[thread % self.workers.len()].inbox;
        Remote { inbox: Arc::clone(inbox) }
    }

    /// Drops every task and joins the threads.
    pub fn stop(self) {
        drop(self);
    }

    fn note(&mut self, description: String) {
        if self.description.is_empty() {
            self.description = description;
        } else if !self.description.split("; ").any(|known| known == description) {
            self.description = format!("{}; {description}", self.description);
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        for worker in &self.workers {
            worker.inbox.push(Message::Stop);
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take()
                && thread.thread().id() != std::thread::current().id()
                && thread.join().is_err()
            {
                tracing::error!("an executor thread panicked");
            }
        }
    }
}

fn start_worker(
    number: usize,
    options: RuntimeOptions,
    buffers: BufferPool,
    pool: Arc<Pool>,
) -> Result<(Worker, String)> {
    let cannot = |e| Error::io("cannot start an I/O thread", e);
    let inbox = Inbox::new().map_err(cannot)?;
    let (tell, told) = mpsc::sync_channel(1);
    let theirs = Arc::clone(&inbox);
    let body = move || {
        // The ring belongs to the thread that makes it.
        let driver = make_driver(options, &theirs, &pool);
        match driver {
            Ok((driver, description)) => {
                drop(tell.send(Ok(description)));
                Executor::new(theirs, Reactor::new(driver), buffers, pool).run();
            }
            Err(error) => drop(tell.send(Err(error))),
        }
    };
    let thread =
        std::thread::Builder::new().name(format!("palisade-io-{number}")).spawn(body).map_err(cannot)?;
    match told.recv() {
        Ok(Ok(description)) => Ok((Worker { inbox, thread: Some(thread) }, description)),
        Ok(Err(error)) => {
            drop(thread.join());
            Err(error)
        }
        Err(_) => Err(Error::new(ErrorKind::Io, "an I/O thread ended before it began")),
    }
}

fn make_driver(
    options: RuntimeOptions,
    inbox: &Arc<Inbox>,
    pool: &Arc<Pool>,
) -> Result<(Box<dyn Driver>, String)> {
    let RuntimeOptions { io, busy_poll, .. } = options;
    let refusal = if io == IoKind::Portable {
        None
    } else {
        match Uring::new(Arc::clone(inbox), BusyPoll::new(busy_poll)) {
            Ok(ring) => return Ok((Box::new(ring), "io_uring".into())),
            Err(error) => Some(error),
        }
    };
    if let (IoKind::Uring, Some(error)) = (io, refusal.as_ref()) {
        let kind = Error::io("", io::Error::from(error.kind())).kind();
        return Err(Error::new(kind, format!("io_uring cannot be used: {}", plain(error)))
            .hint("let it choose by itself with --io auto, or use --io portable"));
    }
    let portable = Portable::new(Arc::clone(inbox), Arc::clone(pool))
        .map_err(|e| Error::io("cannot start portable I/O", e))?;
    let description = match refusal {
        None => "portable".to_owned(),
        Some(error) => format!("portable (io_uring refused: {})", plain(&error)),
    };
    Ok((Box::new(portable), description))
}

/// The system's words for an error, without its number.
fn plain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => nix::errno::Errno::from_raw(code).desc().to_owned(),
        None => error.to_string(),
    }
}

/// A handle to one executor thread, usable from any thread.
#[derive(Clone)]
pub struct Remote {
    inbox: Arc<Inbox>,
}

impl Remote {
    /// Makes a task on that thread and runs it there. If the thread has stopped, nothing runs.
    pub fn spawn<F, Fut>(&self, make: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        self.inbox.push(Message::Spawn(Box::new(move || Box::pin(make()))));
    }

    /// As [`Remote::spawn`], and sends back what the task returns; the receiver is cancelled if
    /// the task panics or the thread stops first.
    pub fn call<T, F, Fut>(&self, make: F) -> oneshot::Receiver<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.spawn(move || async move {
            // Nobody may be waiting any more; that is their choice.
            drop(sender.send(make().await));
        });
        receiver
    }
}
