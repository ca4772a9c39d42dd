//! Operations without io_uring: sockets through epoll, files through the pool's threads.
//!
//! A socket operation is tried once a turn when it is new or its descriptor became ready; one
//! that would block waits in `waiting`. Descriptors are armed one-shot, so a descriptor nobody
//! waits for costs nothing and needs no removal when it is closed.

use super::driver::{Completion, Driver, Wait};
use super::inbox::Inbox;
use super::io::whole_milliseconds;
use super::op::{Op, Readiness, part_of};
use super::pool::{Job, Pool};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{AddressFamily, MsgFlags, SockaddrLike, SockaddrStorage};
use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

/// Marks the inbox's event descriptor among epoll's events.
const WAKE: u64 = u64::MAX;
const EVENTS_PER_TURN: usize = 256;

pub(super) struct Portable {
    epoll: Epoll,
    inbox: Arc<Inbox>,
    pool: Arc<Pool>,
    /// To be tried at the next turn.
    fresh: VecDeque<(usize, Op)>,
    /// Would have blocked, by descriptor.
    waiting: HashMap<RawFd, Vec<(usize, Op)>>,
    /// To come back at the next turn.
    cancelled: Vec<(usize, Op)>,
}

impl Portable {
    pub(super) fn new(inbox: Arc<Inbox>, pool: Arc<Pool>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(inbox.event.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        Ok(Self {
            epoll,
            inbox,
            pool,
            fresh: VecDeque::new(),
            waiting: HashMap::new(),
            cancelled: Vec::new(),
        })
    }

    fn try_fresh(&mut self, done: &mut Vec<Completion>) {
        let mut blocked: Vec<RawFd> = Vec::new();
        while let Some((key, mut op)) = self.fresh.pop_front() {
            match attempt(&mut op) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let fd = op.fd().as_raw_fd();
                    self.waiting.entry(fd).or_default().push((key, op));
                    blocked.push(fd);
                }
                result => done.push(Completion { key, op, result }),
            }
        }
        for fd in blocked {
            self.arm(fd, done);
        }
    }

    /// Asks for the next event of a descriptor, for everything that waits for it.
    fn arm(&mut self, fd: RawFd, done: &mut Vec<Completion>) {
        let Some(waiting) = self.waiting.get(&fd) else { return };
        let interest = waiting.iter().fold(EpollFlags::EPOLLONESHOT, |all, (_, op)| all | interest_of(op));
        let Some((_, op)) = waiting.first() else { return };
        let mut event = EpollEvent::new(interest, u64::from(fd.cast_unsigned()));
        let armed = match self.epoll.modify(op.fd(), &mut event) {
            Err(Errno::ENOENT) => self.epoll.add(op.fd(), event),
            other => other,
        };
        if let Err(errno) = armed {
            for (key, op) in self.waiting.remove(&fd).unwrap_or_default() {
                done.push(Completion { key, op, result: Err(errno.into()) });
            }
        }
    }

    fn wait(&mut self, wait: Wait) {
        let timeout = match whole_milliseconds(wait) {
            Some(ms) => EpollTimeout::try_from(ms.min(1 << 30)).unwrap_or(EpollTimeout::ZERO),
            None => EpollTimeout::NONE,
        };
        let mut events = [EpollEvent::empty(); EVENTS_PER_TURN];
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => {
                tracing::error!(%error, "epoll_wait failed");
                0
            }
        };
        for event in events.iter().take(count) {
            if event.data() == WAKE {
                // It is readable, so this does not block; the count itself says nothing.
                let _ = self.inbox.event.read();
            } else if let Ok(fd) = RawFd::try_from(event.data()) {
                self.fresh.extend(self.waiting.remove(&fd).unwrap_or_default());
            }
        }
    }
}

fn interest_of(op: &Op) -> EpollFlags {
    match op {
        Op::Send { .. } | Op::Ready { what: Readiness::Writable, .. } => EpollFlags::EPOLLOUT,
        _ => EpollFlags::EPOLLIN,
    }
}

/// Tries a socket operation without blocking.
fn attempt(op: &mut Op) -> io::Result<usize> {
    match op {
        Op::Recv { fd, buffer, range } => {
            let part = part_of(buffer, range)?;
            Ok(nix::sys::socket::recv(fd.as_raw_fd(), part, MsgFlags::MSG_DONTWAIT)?)
        }
        Op::Send { fd, pieces } => {
            let slices: Vec<_> = pieces.next_call().map(IoSlice::new).collect();
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            Ok(nix::sys::socket::sendmsg::<()>(fd.as_raw_fd(), &slices, &[], flags, None)?)
        }
        Op::Accept { fd, accepted } => {
            *accepted = Some(accept(fd.as_fd())?);
            Ok(0)
        }
        Op::Ready { fd, what } => {
            let flags = match what {
                Readiness::Readable => PollFlags::POLLIN,
                Readiness::Writable => PollFlags::POLLOUT,
            };
            match nix::poll::poll(&mut [PollFd::new(fd.as_fd(), flags)], PollTimeout::ZERO)? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(0),
            }
        }
        file => file.run_blocking(),
    }
}

/// Accepts on a listening socket, with the standard library's call for its family.
fn accept(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let address: SockaddrStorage = nix::sys::socket::getsockname(fd.as_raw_fd())?;
    let listening = fd.try_clone_to_owned()?;
    if address.family() == Some(AddressFamily::Unix) {
        UnixListener::from(listening).accept().map(|(stream, _)| stream.into())
    } else {
        TcpListener::from(listening).accept().map(|(stream, _)| stream.into())
    }
}

impl Driver for Portable {
    fn start(&mut self, key: usize, op: Op) {
        if op.waits_for_a_peer() {
            self.fresh.push_back((key, op));
        } else {
            self.pool.submit(Job::Op { key, op, inbox: Arc::clone(&self.inbox) });
        }
    }

    fn cancel(&mut self, key: usize) {
        // A file operation ends by itself.
        if let Some(place) = self.fresh.iter().position(|(k, _)| *k == key) {
            self.cancelled.extend(self.fresh.remove(place));
            return;
        }
        let cancelled = &mut self.cancelled;
        self.waiting.retain(|_, list| {
            if let Some(place) = list.iter().position(|(k, _)| *k == key) {
                cancelled.push(list.swap_remove(place));
            }
            !list.is_empty()
        });
    }

    fn turn(&mut self, wait: Wait, done: &mut Vec<Completion>) {
        let cancelled = self.cancelled.drain(..);
        done.extend(cancelled.map(|(key, op)| Completion { key, op, result: Err(Errno::ECANCELED.into()) }));
        self.try_fresh(done);
        self.wait(if done.is_empty() { wait } else { Wait::Not });
        self.try_fresh(done);
    }

    fn wants_nonblocking(&self) -> bool {
        true
    }
}
