//! A member that is a regular file or a block device.
//!
//! Reads and writes go around the page cache (O_DIRECT) where the file allows it: the array has
//! no use for a second copy, and a write that is answered has reached the device. What O_DIRECT
//! demands of memory (pages) is met by copying those pieces that do not meet it.

use super::file_align::align_pieces;
use super::file_open::{self, Identity, OpenOptions, Opened};
use super::{Backend, Persistence, Presence, Span};
use crate::env::real::{self, Line};
use crate::env::{Buffer, LocalFuture};
use crate::error::{Error, ErrorKind, Result};
use crate::units::BLOCK_BYTES;
use bytes::Bytes;
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

/// A regular file or block device, open and (by default) exclusively locked. Its operations run
/// on the executor thread that calls them.
pub struct FileBackend {
    /// Shared with operations under way, so that neither descriptor nor lock goes before them.
    fd: Arc<OwnedFd>,
    path: String,
    size_bytes: u64,
    direct: bool,
    read_only: bool,
    identity: Identity,
}

impl FileBackend {
    /// Opens an existing file or device. May block: on an executor thread use `FileOpener`.
    pub fn open(path: &Path, options: OpenOptions) -> Result<Self> {
        let Opened { file, size_bytes, direct, identity } = file_open::open(path, options)?;
        Ok(Self {
            fd: Arc::new(file.into()),
            path: path.display().to_string(),
            size_bytes,
            direct,
            read_only: options.read_only,
            identity,
        })
    }

    /// Whether I/O goes around the page cache.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// What tells whether two paths name the same file or device.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    fn line(&self) -> Line {
        Line::File(self.fd.as_raw_fd())
    }

    fn failed(&self, what: impl Into<String>, offset: u64, error: io::Error) -> Error {
        let unsupported = [libc::EOPNOTSUPP, libc::ENOSYS];
        let error = match error.raw_os_error() {
            Some(code) if unsupported.contains(&code) => {
                Error::new(ErrorKind::Unsupported, what).source(error)
            }
            _ => Error::io(what, error),
        };
        error.member(&self.path).at(offset)
    }

    fn check(&self, offset: u64, len: u64) -> Result<()> {
        let error = |kind, what| Err(Error::new(kind, what).member(&self.path).at(offset));
        if !offset.is_multiple_of(BLOCK_BYTES) || !len.is_multiple_of(BLOCK_BYTES) {
            return error(ErrorKind::InvalidInput, format!("{len} bytes are not whole blocks of 4096"));
        }
        if offset.checked_add(len).is_none_or(|end| end > self.size_bytes) {
            let what = format!("{len} bytes reach beyond the end at {}", self.size_bytes);
            return error(ErrorKind::OutOfRange, what);
        }
        Ok(())
    }

    fn check_change(&self, offset: u64, len: u64) -> Result<()> {
        if self.read_only {
            let error = Error::new(ErrorKind::ReadOnly, "opened for reading only");
            return Err(error.member(&self.path).at(offset));
        }
        self.check(offset, len)
    }

    async fn read_all(&self, offset: u64, buffer: Buffer) -> (Result<()>, Buffer) {
        let len = buffer.len();
        if let Err(error) = self.check(offset, len as u64) {
            return (Err(error), buffer);
        }
        let (result, buffer) = real::read_at(&self.fd, offset, buffer).await;
        (result.map_err(|f| self.failed(format!("cannot read {len} bytes"), f.offset, f.error)), buffer)
    }

    async fn write_all(&self, offset: u64, pieces: Vec<Bytes>, persistence: Persistence) -> Result<()> {
        let len: usize = pieces.iter().map(Bytes::len).sum();
        self.check_change(offset, len as u64)?;
        let pieces = match real::local_buffers() {
            Some(buffers) if self.direct => align_pieces(pieces, &buffers),
            _ => pieces,
        };
        let synced = persistence == Persistence::Synced;
        let result = real::write_at(&self.fd, offset, pieces, synced).await;
        result.map_err(|f| self.failed(format!("cannot write {len} bytes"), f.offset, f.error))
    }

    async fn punch_all(&self, offset: u64, len: u64) -> Result<()> {
        self.check_change(offset, len)?;
        if len == 0 {
            return Ok(());
        }
        let result = real::punch(&self.fd, offset, len).await;
        result.map_err(|e| self.failed(format!("cannot free {len} bytes"), offset, e))
    }

    async fn spans_of(&self, offset: u64, len: u64) -> Result<Vec<Span>> {
        self.check(offset, len)?;
        if len == 0 {
            return Ok(Vec::new());
        }
        if matches!(self.identity, Identity::Device(_)) {
            return Ok(vec![Span { len_bytes: len, hole: false }]);
        }
        let fd = Arc::clone(&self.fd);
        let looked = real::offload(self.line(), move || look_for_holes(fd.as_fd(), offset, len)).await;
        looked.and_then(|r| r).map_err(|e| self.failed("cannot look for holes", offset, e))
    }

    async fn look(&self) -> Result<Presence> {
        let (fd, path) = (Arc::clone(&self.fd), self.path.clone());
        let (identity, size_bytes) = (self.identity, self.size_bytes);
        let found =
            real::offload(self.line(), move || presence(fd.as_fd(), Path::new(&path), identity, size_bytes))
                .await;
        found.and_then(|r| r).map_err(|e| Error::io("cannot tell whether it is there", e).member(&self.path))
    }
}

/// The spans of a range by the file system's own account. A block partly backed counts as backed.
fn look_for_holes(fd: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<Vec<Span>> {
    let end = offset + len;
    let mut spans: Vec<Span> = Vec::new();
    let mut add = |len_bytes: u64, hole: bool| match spans.last_mut() {
        _ if len_bytes == 0 => {}
        Some(last) if last.hole == hole => last.len_bytes += len_bytes,
        _ => spans.push(Span { len_bytes, hole }),
    };
    let mut at = offset;
    while at < end {
        let data = seek(fd, at, Whence::SeekData)?.unwrap_or(end);
        let data = (data - data % BLOCK_BYTES).clamp(at, end);
        add(data - at, true);
        if data == end {
            break;
        }
        let hole = seek(fd, data, Whence::SeekHole)?.unwrap_or(end);
        // At least one block, so that this ends whatever the file system answers.
        let hole = hole.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(end);
        let hole = hole.max(data + BLOCK_BYTES).min(end);
        add(hole - data, false);
        at = hole;
    }
    Ok(spans)
}

/// The next data or hole from `from`, `None` if there is none up to the end of the file.
fn seek(fd: BorrowedFd<'_>, from: u64, whence: Whence) -> io::Result<Option<u64>> {
    let from = i64::try_from(from).map_err(|_| io::ErrorKind::InvalidInput)?;
    match lseek(fd, from, whence) {
        Ok(found) => Ok(u64::try_from(found).ok()),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Compares what is open with what the path names now.
fn presence(fd: BorrowedFd<'_>, path: &Path, identity: Identity, size: u64) -> io::Result<Presence> {
    let gone = |how: String| Ok(Presence::Gone(how));
    let file = File::from(fd.try_clone_to_owned()?);
    let open = file.metadata()?;
    let (thing, device) = match identity {
        Identity::Device(_) => ("device", true),
        Identity::File { .. } => ("file", false),
    };
    if !device && open.nlink() == 0 {
        return gone("the file was deleted".into());
    }
    let named = match std::fs::metadata(path) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return gone(format!("the {thing} is no longer at its path"));
        }
        other => other?,
    };
    if named.file_type().is_block_device() != device || file_open::identity_of(&named) != identity {
        return gone(format!("another {thing} is at its path"));
    }
    if device {
        let (major, minor) = file_open::numbers(open.rdev());
        if !Path::new(&format!("/sys/dev/block/{major}:{minor}")).exists() {
            return gone("the device was removed".into());
        }
    }
    let now = file_open::size_of(&file, &open)?;
    if now < size {
        return gone(format!("the {thing} shrank from {size} to {now} bytes"));
    }
    Ok(Presence::Present)
}

impl Backend for FileBackend {
    fn path(&self) -> &str {
        &self.path
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read(&self, offset_bytes: u64, buffer: Buffer) -> LocalFuture<'_, (Result<()>, Buffer)> {
        Box::pin(self.read_all(offset_bytes, buffer))
    }

    fn write(
        &self,
        offset_bytes: u64,
        pieces: Vec<Bytes>,
        persistence: Persistence,
    ) -> LocalFuture<'_, Result<()>> {
        Box::pin(self.write_all(offset_bytes, pieces, persistence))
    }

    fn flush(&self) -> LocalFuture<'_, Result<()>> {
        Box::pin(async {
            let result = real::sync(&self.fd).await;
            result.map_err(|e| Error::io("cannot flush", e).member(&self.path))
        })
    }

    fn punch(&self, offset_bytes: u64, len_bytes: u64) -> LocalFuture<'_, Result<()>> {
        Box::pin(self.punch_all(offset_bytes, len_bytes))
    }

    fn spans(&self, offset_bytes: u64, len_bytes: u64) -> LocalFuture<'_, Result<Vec<Span>>> {
        Box::pin(self.spans_of(offset_bytes, len_bytes))
    }

    fn probe(&self) -> LocalFuture<'_, Result<Presence>> {
        Box::pin(self.look())
    }
}
