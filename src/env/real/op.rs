//! One operation on a file or socket, owning everything the kernel touches while it runs.
//!
//! An operation is handed to a driver by value and comes back by value when it is complete, so no
//! future, however early it is dropped, can free memory the kernel still reads or writes.

use crate::env::Buffer;
use bytes::{Buf, Bytes};
use nix::fcntl::FallocateFlags;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Most pieces the kernel takes in one call (`IOV_MAX`).
pub(super) const MAX_PIECES: usize = 1024;

/// Most bytes given to the kernel in one call, below its own limit of 2 GiB less a page.
pub(super) const MAX_CALL_BYTES: usize = 1 << 30;

/// What to wait for on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    Readable,
    Writable,
}

/// An operation. Each is one system call: what it left undone is the caller's to ask for again.
pub(super) enum Op {
    Read { fd: Arc<OwnedFd>, offset: u64, buffer: Buffer, range: Range<usize> },
    Write { fd: Arc<OwnedFd>, offset: u64, pieces: Pieces, synced: bool },
    Sync { fd: Arc<OwnedFd> },
    Punch { fd: Arc<OwnedFd>, offset: u64, len: u64 },
    Recv { fd: Arc<OwnedFd>, buffer: Buffer, range: Range<usize> },
    Send { fd: Arc<OwnedFd>, pieces: Pieces },
    Accept { fd: Arc<OwnedFd>, accepted: Option<OwnedFd> },
    Ready { fd: Arc<OwnedFd>, what: Readiness },
}

impl Op {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Read { fd, .. }
            | Self::Write { fd, .. }
            | Self::Sync { fd }
            | Self::Punch { fd, .. }
            | Self::Recv { fd, .. }
            | Self::Send { fd, .. }
            | Self::Accept { fd, .. }
            | Self::Ready { fd, .. } => fd.as_fd(),
        }
    }

    /// Whether it waits for a peer, possibly for ever, and so has to be cancelled when nobody
    /// wants it any more. File operations end by themselves.
    pub(super) fn waits_for_a_peer(&self) -> bool {
        matches!(self, Self::Recv { .. } | Self::Send { .. } | Self::Accept { .. } | Self::Ready { .. })
    }

    /// Runs a file operation with an ordinary, blocking system call.
    pub(super) fn run_blocking(&mut self) -> io::Result<usize> {
        match self {
            Self::Read { fd, offset, buffer, range } => {
                let part = part_of(buffer, range)?;
                Ok(nix::sys::uio::pread(fd.as_fd(), part, signed(*offset)?)?)
            }
            Self::Write { fd, offset, pieces, synced } => {
                let slices: Vec<_> = pieces.next_call().map(IoSlice::new).collect();
                let written = nix::sys::uio::pwritev(fd.as_fd(), &slices, signed(*offset)?)?;
                if *synced {
                    nix::unistd::fdatasync(fd.as_fd())?;
                }
                Ok(written)
            }
            Self::Sync { fd } => nix::unistd::fdatasync(fd.as_fd()).map(|()| 0).map_err(Into::into),
            Self::Punch { fd, offset, len } => {
                let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                nix::fcntl::fallocate(fd.as_fd(), mode, signed(*offset)?, signed(*len)?)?;
                Ok(0)
            }
            Self::Recv { .. } | Self::Send { .. } | Self::Accept { .. } | Self::Ready { .. } => {
                Err(io::Error::other("a socket operation was given to a file worker"))
            }
        }
    }
}

/// The part of a buffer an operation fills, at most as much as one call may move.
pub(super) fn part_of<'a>(buffer: &'a mut Buffer, range: &Range<usize>) -> io::Result<&'a mut [u8]> {
    let part = buffer.get_mut(range.clone()).ok_or(io::ErrorKind::InvalidInput)?;
    let len = part.len().min(MAX_CALL_BYTES);
    Ok(&mut part[..len])
}

fn signed(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Bytes still to be written, in order.
pub(super) struct Pieces {
    list: Vec<Bytes>,
    first: usize,
}

impl Pieces {
    pub(super) fn new(list: Vec<Bytes>) -> Self {
        let mut pieces = Self { list, first: 0 };
        pieces.advance(0);
        pieces
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first >= self.list.len()
    }

    /// Forgets `count` bytes that were written, and empty pieces after them.
    pub(super) fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.list.get_mut(self.first) {
            if piece.len() > count {
                piece.advance(count);
                return;
            }
            count -= piece.len();
            *piece = Bytes::new();
            self.first += 1;
        }
    }

    /// The slices for the next call, within what one call may take.
    pub(super) fn next_call(&self) -> impl Iterator<Item = &[u8]> {
        let mut room = MAX_CALL_BYTES;
        let rest = self.list.get(self.first..).unwrap_or_default();
        rest.iter().take(MAX_PIECES).map_while(move |piece| {
            let len = piece.len().min(room);
            room -= len;
            (len > 0 || piece.is_empty()).then(|| &piece[..len])
        })
    }

    /// The only piece left, if it is just one.
    pub(super) fn single(&self) -> Option<&Bytes> {
        match self.list.get(self.first..) {
            Some([piece]) => Some(piece),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_advance_over_borders_and_empty_pieces() {
        let list = vec![Bytes::new(), Bytes::from("abc"), Bytes::new(), Bytes::from("defg"), Bytes::new()];
        let mut pieces = Pieces::new(list);
        let all = |p: &Pieces| p.next_call().flatten().copied().collect::<Vec<_>>();
        assert_eq!(all(&pieces), b"abcdefg");
        pieces.advance(1);
        assert_eq!(all(&pieces), b"bcdefg");
        pieces.advance(4);
        assert_eq!(all(&pieces), b"fg");
        assert!(!pieces.is_empty());
        pieces.advance(2);
        assert!(pieces.is_empty());
    }

    #[test]
    fn one_call_takes_no_more_pieces_than_the_kernel_does() {
        let pieces = Pieces::new(vec![Bytes::from("x"); 5000]);
        assert_eq!(pieces.next_call().count(), MAX_PIECES);
    }
}
