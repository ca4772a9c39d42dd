//! File operations as futures, on the calling thread's executor.
//!
//! Each is all or nothing: what one system call left undone is asked for again, from there.

use super::driver::Wait;
use super::executor::Executor;
use super::op::{Op, Pieces, Readiness};
use super::pool::{Job, Line};
use crate::env::{Buffer, BufferPool};
use bytes::Bytes;
use futures::channel::oneshot;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How often an operation that the kernel had no room for is tried, a millisecond apart.
const MOST_TRIES_LATER: u32 = 1000;

/// A file operation that failed, and at which byte.
#[derive(Debug)]
pub(crate) struct FileFailure {
    pub(crate) offset: u64,
    pub(crate) error: io::Error,
}

/// An operation under way. Dropping it abandons the operation; its buffers live until it ends.
pub(super) struct Submission {
    op: Option<Op>,
    flight: Option<(Rc<Executor>, usize)>,
}

impl Submission {
    pub(super) fn new(op: Op) -> Self {
        Self { op: Some(op), flight: None }
    }
}

impl Future for Submission {
    type Output = (Op, io::Result<usize>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(op) = self.op.take() {
            let Some(executor) = Executor::current() else {
                return Poll::Ready((op, Err(io::Error::other("not on an executor thread"))));
            };
            let key = executor.reactor.borrow_mut().submit(op, cx.waker().clone());
            self.flight = Some((executor, key));
            return Poll::Pending;
        }
        let Some((executor, key)) = self.flight.take() else { return Poll::Pending };
        let fetched = executor.reactor.borrow_mut().fetch(key, cx.waker());
        match fetched {
            Some(done) => Poll::Ready(done),
            None => {
                self.flight = Some((executor, key));
                Poll::Pending
            }
        }
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        if let Some((executor, key)) = self.flight.take() {
            let done = executor.reactor.borrow_mut().abandon(key);
            drop(done);
        }
    }
}

/// Counts how often one operation was put off.
#[derive(Default)]
struct Patience(u32);

impl Patience {
    /// Whether to try again: at once after a signal, in a moment if the kernel had no room.
    async fn again(&mut self, error: &io::Error) -> bool {
        match error.kind() {
            io::ErrorKind::Interrupted => true,
            io::ErrorKind::WouldBlock if self.0 < MOST_TRIES_LATER => {
                self.0 += 1;
                sleep(Duration::from_millis(1)).await;
                true
            }
            _ => false,
        }
    }
}

/// Fills the whole buffer from `offset`; the end of the file before that is an error.
pub(crate) async fn read_at(
    fd: &Arc<OwnedFd>,
    offset: u64,
    mut buffer: Buffer,
) -> (Result<(), FileFailure>, Buffer) {
    let len = buffer.len();
    let (mut at, mut done, mut patience) = (offset, 0, Patience::default());
    while done < len {
        let op = Op::Read { fd: Arc::clone(fd), offset: at, buffer, range: done..len };
        let (op, result) = Submission::new(op).await;
        let Op::Read { buffer: returned, .. } = op else {
            return (Err(mixed_up(at)), BufferPool::new(0).take(len));
        };
        buffer = returned;
        match result {
            Ok(0) => {
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends here");
                return (Err(FileFailure { offset: at, error }), buffer);
            }
            Ok(count) => {
                done += count;
                at += count as u64;
            }
            Err(error) if patience.again(&error).await => {}
            Err(error) => return (Err(FileFailure { offset: at, error }), buffer),
        }
    }
    (Ok(()), buffer)
}

/// Writes every byte of the pieces, one after another from `offset`; when `synced`, they are on
/// stable media once this is done.
pub(crate) async fn write_at(
    fd: &Arc<OwnedFd>,
    offset: u64,
    pieces: Vec<Bytes>,
    synced: bool,
) -> Result<(), FileFailure> {
    let (mut at, mut patience) = (offset, Patience::default());
    let mut pieces = Pieces::new(pieces);
    while !pieces.is_empty() {
        let op = Op::Write { fd: Arc::clone(fd), offset: at, pieces, synced };
        let (op, result) = Submission::new(op).await;
        let Op::Write { pieces: returned, .. } = op else { return Err(mixed_up(at)) };
        pieces = returned;
        match result {
            Ok(0) => return Err(FileFailure { offset: at, error: io::ErrorKind::WriteZero.into() }),
            Ok(count) => {
                pieces.advance(count);
                at += count as u64;
            }
            Err(error) if patience.again(&error).await => {}
            Err(error) => return Err(FileFailure { offset: at, error }),
        }
    }
    Ok(())
}

/// Makes written data durable (`fdatasync`).
pub(crate) async fn sync(fd: &Arc<OwnedFd>) -> io::Result<()> {
    repeat(|| Op::Sync { fd: Arc::clone(fd) }).await
}

/// Frees the space of a range (`fallocate` with a hole punched, size kept).
pub(crate) async fn punch(fd: &Arc<OwnedFd>, offset: u64, len: u64) -> io::Result<()> {
    repeat(|| Op::Punch { fd: Arc::clone(fd), offset, len }).await
}

/// Waits until a descriptor can be read or written without blocking.
pub(super) async fn ready(fd: &Arc<OwnedFd>, what: Readiness) -> io::Result<()> {
    loop {
        match Submission::new(Op::Ready { fd: Arc::clone(fd), what }).await.1 {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(drop),
        }
    }
}

async fn repeat(make: impl Fn() -> Op) -> io::Result<()> {
    let mut patience = Patience::default();
    loop {
        match Submission::new(make()).await.1 {
            Ok(_) => return Ok(()),
            Err(error) if patience.again(&error).await => {}
            Err(error) => return Err(error),
        }
    }
}

fn mixed_up(offset: u64) -> FileFailure {
    FileFailure { offset, error: io::Error::other("the driver returned another operation") }
}

/// Runs a blocking call on a worker thread, in line with what else is done to that file.
pub(crate) async fn offload<T: Send + 'static>(
    line: Line,
    call: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let executor = Executor::current().ok_or_else(|| io::Error::other("not on an executor thread"))?;
    let (sender, receiver) = oneshot::channel();
    executor.pool.submit(Job::Call(line, Box::new(move || drop(sender.send(call())))));
    drop(executor);
    receiver.await.map_err(|_| io::Error::other("a file worker could not finish its call"))
}

/// The calling thread's pool of aligned buffers.
pub(crate) fn local_buffers() -> Option<BufferPool> {
    Executor::current().map(|executor| executor.buffers.clone())
}

/// Completes after `limit`; after no time at all it still lets other tasks run first.
pub(super) fn sleep(limit: Duration) -> Sleep {
    Sleep { limit, timer: None }
}

pub(super) struct Sleep {
    limit: Duration,
    timer: Option<(Rc<Executor>, super::timers::TimerKey)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((executor, key)) = &self.timer {
            if executor.timers.borrow_mut().rearm(*key, cx.waker()) {
                return Poll::Pending;
            }
            self.timer = None;
            return Poll::Ready(());
        }
        let executor = on_this_thread("sleep");
        // Further than anyone waits, where the clock cannot count that far.
        let now = Instant::now();
        let at = now.checked_add(self.limit).unwrap_or(now + Duration::from_secs(1 << 32));
        let key = executor.timers.borrow_mut().insert(at, cx.waker().clone());
        self.timer = Some((executor, key));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((executor, key)) = self.timer.take() {
            let waker = executor.timers.borrow_mut().remove(key);
            drop(waker);
        }
    }
}

/// The executor of this thread; a program that calls without one is wrong, not unlucky.
pub(super) fn on_this_thread(what: &str) -> Rc<Executor> {
    match Executor::current() {
        Some(executor) => executor,
        None => panic!("{what} needs an executor thread"),
    }
}

/// Rounds a wait up to whole milliseconds, so that a coarse timer never spins.
pub(super) fn whole_milliseconds(wait: Wait) -> Option<u64> {
    match wait {
        Wait::Not => Some(0),
        Wait::For(left) => {
            let rounded = left.saturating_add(Duration::from_nanos(999_999)).as_millis();
            Some(u64::try_from(rounded).unwrap_or(u64::MAX))
        }
        Wait::Forever => None,
    }
}
