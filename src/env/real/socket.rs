//! A connected socket, unix or TCP, as a byte stream of the current thread.

use super::executor::Executor;
use super::io::{Submission, ready};
use super::op::{Op, Pieces, Readiness};
use crate::env::{Buffer, BufferPool, LocalFuture, Stream};
use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, UnixAddr, connect,
    getsockopt, setsockopt, shutdown, socket, sockopt,
};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// An idle TCP peer is asked after so many seconds whether it is still there,
const KEEP_IDLE_S: u32 = 60;
/// again every so many,
const KEEP_INTERVAL_S: u32 = 10;
/// and so often before it counts as gone.
const KEEP_COUNT: u32 = 6;

/// A connected socket. It belongs to the thread that wrapped it.
///
/// A receive that is dropped before it ends may take bytes with it: keep it and poll it again
/// where they matter. A send that is dropped may have sent any part.
pub struct Socket {
    fd: Arc<OwnedFd>,
}

impl Socket {
    /// Wraps a connected socket for the current thread. Small messages on TCP are sent at once.
    pub fn from_fd(fd: OwnedFd) -> Self {
        // Only TCP has them; others refuse, which is fine.
        let _ = setsockopt(&fd, sockopt::TcpNoDelay, &true);
        let _ = setsockopt(&fd, sockopt::TcpKeepIdle, &KEEP_IDLE_S);
        let _ = setsockopt(&fd, sockopt::TcpKeepInterval, &KEEP_INTERVAL_S);
        let _ = setsockopt(&fd, sockopt::TcpKeepCount, &KEEP_COUNT);
        let _ = setsockopt(&fd, sockopt::KeepAlive, &true);
        suit_driver(fd.as_fd());
        Self { fd: Arc::new(fd) }
    }

    /// Connects to a unix socket.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        let address = UnixAddr::new(path)?;
        Self::connect(AddressFamily::Unix, &address).await
    }

    /// Connects over TCP.
    pub async fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        match address {
            SocketAddr::V4(v4) => Self::connect(AddressFamily::Inet, &SockaddrIn::from(v4)).await,
            SocketAddr::V6(v6) => Self::connect(AddressFamily::Inet6, &SockaddrIn6::from(v6)).await,
        }
    }

    async fn connect(family: AddressFamily, address: &dyn SockaddrLike) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = Arc::new(socket(family, SockType::Stream, flags, None)?);
        loop {
            match connect(fd.as_raw_fd(), address) {
                Ok(()) | Err(Errno::EISCONN) => break,
                Err(Errno::EINPROGRESS) => {
                    ready(&fd, Readiness::Writable).await?;
                    let error = getsockopt(&fd, sockopt::SocketError)?;
                    if error != 0 {
                        return Err(io::Error::from_raw_os_error(error));
                    }
                    break;
                }
                Err(Errno::EINTR) => {}
                // A unix listener's queue is full: there is no event for it.
                Err(Errno::EAGAIN) => super::io::sleep(std::time::Duration::from_millis(1)).await,
                Err(errno) => return Err(errno.into()),
            }
        }
        let fd = Arc::try_unwrap(fd).map_err(|_| io::Error::other("the socket is still in use"))?;
        Ok(Self::from_fd(fd))
    }

    async fn receive(&self, mut buffer: Buffer, range: Range<usize>) -> (io::Result<usize>, Buffer) {
        if buffer.get(range.clone()).is_none_or(<[u8]>::is_empty) {
            return (Err(io::ErrorKind::InvalidInput.into()), buffer);
        }
        loop {
            let len = buffer.len();
            let op = Op::Recv { fd: Arc::clone(&self.fd), buffer, range: range.clone() };
            let (op, result) = Submission::new(op).await;
            let Op::Recv { buffer: returned, .. } = op else {
                let error = io::Error::other("the driver returned another operation");
                return (Err(error), BufferPool::new(0).take(len));
            };
            buffer = returned;
            match result {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = ready(&self.fd, Readiness::Readable).await {
                        return (Err(error), buffer);
                    }
                }
                other => return (other, buffer),
            }
        }
    }

    async fn send_all(&self, pieces: Vec<Bytes>) -> io::Result<()> {
        let mut pieces = Pieces::new(pieces);
        while !pieces.is_empty() {
            let op = Op::Send { fd: Arc::clone(&self.fd), pieces };
            let (op, result) = Submission::new(op).await;
            let Op::Send { pieces: returned, .. } = op else {
                return Err(io::Error::other("the driver returned another operation"));
            };
            pieces = returned;
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => pieces.advance(count),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    ready(&self.fd, Readiness::Writable).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Sets the blocking mode this thread's driver wants: io_uring fails at once on descriptors that
/// do not block, epoll needs them.
pub(super) fn suit_driver(fd: BorrowedFd<'_>) {
    let Some(executor) = Executor::current() else { return };
    let nonblocking = executor.reactor.borrow().wants_nonblocking();
    let Ok(bits) = fcntl(fd, FcntlArg::F_GETFL) else { return };
    let mut flags = OFlag::from_bits_retain(bits);
    if flags.contains(OFlag::O_NONBLOCK) != nonblocking {
        flags.set(OFlag::O_NONBLOCK, nonblocking);
        // Either way operations work, at worst by waiting for readiness first.
        let _ = fcntl(fd, FcntlArg::F_SETFL(flags));
    }
}

impl Stream for Socket {
    fn recv(&self, buffer: Buffer, range: Range<usize>) -> LocalFuture<'_, (io::Result<usize>, Buffer)> {
        Box::pin(self.receive(buffer, range))
    }

    fn send(&self, pieces: Vec<Bytes>) -> LocalFuture<'_, io::Result<()>> {
        Box::pin(self.send_all(pieces))
    }

    fn close(&self) {
        // Fails only if the peer has gone already.
        let _ = shutdown(self.fd.as_raw_fd(), Shutdown::Both);
    }
}
