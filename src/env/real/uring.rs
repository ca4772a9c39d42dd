//! Operations through io_uring: one ring per thread, one system call per turn.
//!
//! Problem: the kernel reads and writes memory of ours long after the call that asked for it.
//! Idea: an operation moves into `flights` before its entry is pushed, and out of it only when
//! its completion has been taken from the ring. All memory the entry points to is on the heap
//! (buffer pages, `Bytes`, `Scratch`), so growing the table does not move it. At the end the
//! driver cancels what waits for peers and reaps everything; what a broken device still holds
//! after a grace period is leaked, never freed.
//!
//! ```text
//!   start -> [flight] -> entry pushed -> submitted -> completion reaped -> handed back
//!                 \-> ring full: backlog, in order -/
//! ```
//!
//! Source: io_uring_enter(2), io_uring_setup(2).

use super::busy_poll::BusyPoll;
use super::driver::{Completion, Driver, Wait};
use super::inbox::Inbox;
use super::op::{Op, Readiness, part_of};
use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SUBMISSIONS: u32 = 256;
const COMPLETIONS: u32 = 4096;
/// So many operations start before the turn ends, that disks need not wait for the rest of it...
const FIRST_BATCH: usize = 8;
/// ...and then so many at a time, that the kernel merges neighbours and wakes a device less often.
const NEXT_BATCH: usize = 32;
/// Most kernel threads at work on files for one ring.
const KERNEL_WORKERS: u32 = 128;

/// Looks at the ring for each look at the clock.
const LOOKS: u32 = 16;

/// Marks completions of cancel requests, which nobody waits for.
const CANCEL: u64 = u64::MAX;
/// Marks the read of the inbox's event descriptor.
const WAKE: u64 = u64::MAX - 1;

/// How long the end waits for operations that do not come back.
const GRACE_TURNS: u32 = 50;
const GRACE_TURN: Duration = Duration::from_millis(100);

/// What an entry points to besides the operation's own bytes; boxed, so that it stays in place.
struct Scratch {
    slices: Vec<libc::iovec>,
    message: libc::msghdr,
}

struct Flight {
    op: Op,
    scratch: Option<Box<Scratch>>,
    /// Distinguishes the operations that use one key after another.
    generation: u32,
}

pub(super) struct Uring {
    ring: IoUring,
    inbox: Arc<Inbox>,
    /// Where the event descriptor's count is read to.
    wake_count: Box<[u8; 8]>,
    wake_armed: bool,
    flights: Vec<Option<Flight>>,
    flying: usize,
    backlog: VecDeque<squeue::Entry>,
    #[expect(clippy::vec_box, reason = "boxed when it is used again, so boxed while it waits")]
    spare: Vec<Box<Scratch>>,
    generation: u32,
    /// So many queued entries are submitted at once now.
    batch: usize,
    busy_poll: BusyPoll,
}

/// Builds a ring with the best flags the kernel has.
fn build_ring() -> io::Result<IoUring> {
    let mut last = io::Error::from_raw_os_error(libc::EINVAL);
    for level in 0..3 {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_cqsize(COMPLETIONS);
        if level < 2 {
            builder.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
        }
        if level < 1 {
            builder.setup_single_issuer().setup_defer_taskrun();
        }
        match builder.build(SUBMISSIONS) {
            Ok(ring) if ring.params().is_feature_ext_arg() && ring.params().is_feature_nodrop() => {
                return Ok(ring);
            }
            Ok(_) => {
                return Err(io::Error::new(io::ErrorKind::Unsupported, "this kernel's io_uring is too old"));
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

impl Uring {
    /// A ring for the calling thread, which alone may use it.
    pub(super) fn new(inbox: Arc<Inbox>, busy_poll: BusyPoll) -> io::Result<Self> {
        let ring = build_ring()?;
        // Flushes run on kernel workers; a device that hangs must not take them all. Older
        // kernels keep their own, smaller bound.
        let _ = ring.submitter().register_iowq_max_workers(&mut [KERNEL_WORKERS, 0]);
        Ok(Self {
            ring,
            inbox,
            wake_count: Box::new([0; 8]),
            wake_armed: false,
            flights: Vec::with_capacity(256),
            flying: 0,
            backlog: VecDeque::new(),
            spare: Vec::new(),
            generation: 0,
            batch: FIRST_BATCH,
            busy_poll,
        })
    }

    fn arm_wake(&mut self) {
        if !self.wake_armed {
            self.wake_armed = true;
            let fd = Fd(self.inbox.event.as_fd().as_raw_fd());
            let entry = opcode::Read::new(fd, self.wake_count.as_mut_ptr(), 8).build().user_data(WAKE);
            self.push(entry);
        }
    }

    /// Queues an entry, in order. The memory it points to is owned by `flights` (or is
    /// `wake_count`) and stays in place until its completion is reaped.
    fn push(&mut self, entry: squeue::Entry) {
        self.backlog.push_back(entry);
        self.push_backlog();
        if !self.backlog.is_empty() || self.ring.submission().len() >= self.batch {
            // Full: let the kernel take what is queued. If it cannot now, the next turn tries.
            let _ = self.ring.submit();
            self.batch = NEXT_BATCH;
            self.push_backlog();
        }
    }

    fn push_backlog(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: every entry in the backlog was made by `entry_for` for an operation that is
            // in `flights`, or points to `wake_count`, or to no memory at all (cancel). `flights`
            // and `wake_count` are given up only after the completion was reaped (see `reap`), or
            // leaked (see `drop`), so the memory outlives the kernel's use of it.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            self.backlog.pop_front();
        }
    }

    fn reap(&mut self, done: &mut Vec<Completion>) {
        let mut queue = self.ring.completion();
        queue.sync();
        for entry in &mut queue {
            match entry.user_data() {
                CANCEL => {}
                WAKE => self.wake_armed = false,
                data => {
                    let Some((key, flight)) = take_flight(&mut self.flights, data) else { continue };
                    self.flying -= 1;
                    let Flight { mut op, scratch, .. } = flight;
                    if let Some(mut scratch) = scratch
                        && self.spare.len() < 256
                    {
                        scratch.slices.clear();
                        self.spare.push(scratch);
                    }
                    let result = outcome(entry.result(), &mut op);
                    done.push(Completion { key, op, result });
                }
            }
        }
    }

    /// Submits, looks for completions as long as that pays, then sleeps.
    fn look_then_sleep(&mut self, wait: Wait) {
        let begin = Instant::now();
        let window = match wait {
            Wait::For(limit) => self.busy_poll.window().min(limit),
            _ => self.busy_poll.window(),
        };
        if window.is_zero() {
            self.enter(wait);
        } else {
            self.enter(Wait::Not);
            while !self.has_news() {
                // Looking is cheaper than asking for the time.
                if (0..LOOKS).all(|_| !self.has_news()) && begin.elapsed() >= window {
                    break;
                }
            }
            let found = self.has_news();
            self.enter(if found { Wait::Not } else { wait });
        }
        self.busy_poll.learn(begin.elapsed());
    }

    /// Whether there are completions, or the kernel has some that it wants to be asked for.
    fn has_news(&mut self) -> bool {
        std::hint::spin_loop();
        let mut queue = self.ring.completion();
        queue.sync();
        let some = !queue.is_empty();
        drop(queue);
        some || self.ring.submission().taskrun()
    }

    fn enter(&mut self, wait: Wait) {
        let result = match wait {
            Wait::Not => {
                let queue = self.ring.submission();
                let idle = queue.is_empty() && !queue.taskrun() && !queue.cq_overflow();
                drop(queue);
                if idle {
                    return;
                }
                self.ring.submit()
            }
            Wait::For(limit) => {
                let limit = Timespec::from(limit);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&limit))
            }
            Wait::Forever => self.ring.submit_and_wait(1),
        };
        match result {
            Ok(_) => {}
            // Time is up, a signal came, or completions must be taken first: the next turn goes on.
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
                ) => {}
            Err(error) => {
                tracing::error!(%error, "io_uring_enter failed");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Removes the flight a completion is for; `None` if there is none of that generation.
fn take_flight(flights: &mut [Option<Flight>], data: u64) -> Option<(usize, Flight)> {
    let key = usize::try_from(data & u64::from(u32::MAX)).ok()?;
    let slot = flights.get_mut(key)?;
    if slot.as_ref().is_some_and(|f| u64::from(f.generation) == data >> 32) {
        return slot.take().map(|flight| (key, flight));
    }
    None
}

/// What an operation's result code means.
fn outcome(code: i32, op: &mut Op) -> io::Result<usize> {
    let Ok(value) = usize::try_from(code) else { return Err(io::Error::from_raw_os_error(-code)) };
    if let Op::Accept { accepted, .. } = op {
        // SAFETY: the kernel made this descriptor for this accept, reports it once, and nobody
        // else knows it.
        *accepted = Some(unsafe { OwnedFd::from_raw_fd(code) });
    }
    Ok(value)
}

/// The entry for an operation. It points into `op` and `scratch`, whose heap memory must stay
/// until the completion.
fn entry_for(op: &mut Op, scratch: &mut Option<Box<Scratch>>) -> io::Result<squeue::Entry> {
    let fd = Fd(op.fd().as_raw_fd());
    Ok(match op {
        Op::Read { offset, buffer, range, .. } => {
            let part = part_of(buffer, range)?;
            opcode::Read::new(fd, part.as_mut_ptr(), length(part.len())).offset(*offset).build()
        }
        Op::Write { offset, pieces, synced, .. } => {
            let flags = if *synced { libc::RWF_DSYNC } else { 0 };
            if let Some(piece) = pieces.single() {
                let len = length(piece.len().min(super::op::MAX_CALL_BYTES));
                opcode::Write::new(fd, piece.as_ptr(), len).offset(*offset).rw_flags(flags).build()
            } else {
                let slices = &fill(scratch, pieces.next_call()).slices;
                let count = length(slices.len());
                opcode::Writev::new(fd, slices.as_ptr(), count).offset(*offset).rw_flags(flags).build()
            }
        }
        Op::Sync { .. } => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(),
        Op::Punch { offset, len, .. } => {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            opcode::Fallocate::new(fd, *len).offset(*offset).mode(mode).build()
        }
        Op::Recv { buffer, range, .. } => {
            let part = part_of(buffer, range)?;
            opcode::Recv::new(fd, part.as_mut_ptr(), length(part.len())).build()
        }
        Op::Send { pieces, .. } => {
            let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
            if let Some(piece) = pieces.single() {
                let len = length(piece.len().min(super::op::MAX_CALL_BYTES));
                opcode::Send::new(fd, piece.as_ptr(), len).flags(flags).build()
            } else {
                let scratch = fill(scratch, pieces.next_call());
                scratch.message.msg_iov = scratch.slices.as_mut_ptr();
                scratch.message.msg_iovlen = scratch.slices.len();
                opcode::SendMsg::new(fd, &raw const scratch.message).flags(flags.cast_unsigned()).build()
            }
        }
        Op::Accept { .. } => opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut())
            .flags(libc::SOCK_CLOEXEC)
            .build(),
        Op::Ready { what, .. } => {
            let events = match what {
                Readiness::Readable => libc::POLLIN,
                Readiness::Writable => libc::POLLOUT,
            };
            opcode::PollAdd::new(fd, u32::from(events.cast_unsigned())).build()
        }
    })
}

/// Lengths given to the kernel are at most `MAX_CALL_BYTES`.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn fill<'a>(
    scratch: &'a mut Option<Box<Scratch>>,
    slices: impl Iterator<Item = &'a [u8]>,
) -> &'a mut Scratch {
    let scratch = scratch.get_or_insert_with(|| {
        // SAFETY: `msghdr` is a plain C structure of pointers and integers; all zero bytes are a
        // valid value of it (no name, no pieces, no control data).
        let message = unsafe { std::mem::zeroed() };
        Box::new(Scratch { slices: Vec::new(), message })
    });
    scratch.slices.clear();
    scratch
        .slices
        .extend(slices.map(|s| libc::iovec { iov_base: s.as_ptr().cast_mut().cast(), iov_len: s.len() }));
    scratch
}

fn user_data(key: usize, generation: u32) -> u64 {
    (u64::from(generation) << 32) | (key as u64 & u64::from(u32::MAX))
}

impl Driver for Uring {
    fn start(&mut self, key: usize, mut op: Op) {
        // The two highest generations would collide with the marks above.
        self.generation = (self.generation + 1) % (u32::MAX - 1);
        let generation = self.generation;
        let mut scratch = None;
        if matches!(op, Op::Write { .. } | Op::Send { .. }) {
            scratch = self.spare.pop();
        }
        let entry = entry_for(&mut op, &mut scratch).unwrap_or_else(|_| {
            // A range outside its buffer: an entry that transfers nothing and says so.
            opcode::AsyncCancel::new(CANCEL).build()
        });
        if self.flights.len() <= key {
            self.flights.resize_with(key + 1, || None);
        }
        if let Some(slot) = self.flights.get_mut(key) {
            *slot = Some(Flight { op, scratch, generation });
            self.flying += 1;
        }
        self.push(entry.user_data(user_data(key, generation)));
    }

    fn cancel(&mut self, key: usize) {
        if let Some(Some(flight)) = self.flights.get(key)
            && flight.op.waits_for_a_peer()
        {
            let target = user_data(key, flight.generation);
            self.push(opcode::AsyncCancel::new(target).build().user_data(CANCEL));
        }
    }

    fn turn(&mut self, wait: Wait, done: &mut Vec<Completion>) {
        self.batch = FIRST_BATCH;
        self.arm_wake();
        self.push_backlog();
        let waiting = !self.ring.completion().is_empty() || !self.backlog.is_empty();
        match wait {
            Wait::Not => self.enter(Wait::Not),
            _ if waiting => self.enter(Wait::Not),
            _ if self.busy_poll.is_on() => self.look_then_sleep(wait),
            _ => self.enter(wait),
        }
        self.reap(done);
    }

    fn wants_nonblocking(&self) -> bool {
        false
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        for key in 0..self.flights.len() {
            self.cancel(key);
        }
        if self.wake_armed {
            self.push(opcode::AsyncCancel::new(WAKE).build().user_data(CANCEL));
        }
        let mut done = Vec::new();
        for _ in 0..GRACE_TURNS {
            if self.flying == 0 && !self.wake_armed {
                break;
            }
            self.push_backlog();
            self.enter(Wait::For(GRACE_TURN));
            self.reap(&mut done);
        }
        if self.flying > 0 || self.wake_armed {
            tracing::warn!(operations = self.flying, "operations did not end; their memory is kept");
            std::mem::forget(std::mem::take(&mut self.flights));
            std::mem::forget(std::mem::take(&mut self.wake_count));
        }
    }
}
