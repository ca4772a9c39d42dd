//! Opening files and devices as members: checks, O_DIRECT, size, locks; making image files.

use super::file::FileBackend;
use super::file_in_use::{is_mounted, lock_holder};
use super::{Backend, Opener};
use crate::env::real::{self, Line};
use crate::env::{BufferPool, LocalFuture};
use crate::error::{Error, ErrorKind, Result};
use crate::units::BLOCK_BYTES;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::{File, Metadata, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// How to open a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOptions {
    /// Open for reading only; a lock is then shared.
    pub read_only: bool,
    /// Lock it, so that no other process uses it.
    pub lock: bool,
    /// Go around the page cache where the file allows it.
    pub direct: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { read_only: false, lock: true, direct: true }
    }
}

/// What tells whether two paths name the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// A file: its file system and inode.
    File {
        /// Device number of the file system.
        device: u64,
        /// Inode number.
        inode: u64,
    },
    /// A block device, by its number.
    Device(u64),
}

/// The identity of what a path names.
pub fn identity(path: &Path) -> Result<Identity> {
    let meta = std::fs::metadata(path).map_err(|e| cannot_open(path, e))?;
    Ok(identity_of(&meta))
}

pub(super) fn identity_of(meta: &Metadata) -> Identity {
    if meta.file_type().is_block_device() {
        Identity::Device(meta.rdev())
    } else {
        Identity::File { device: meta.dev(), inode: meta.ino() }
    }
}

/// Major and minor of a device number.
pub(super) fn numbers(device: u64) -> (u64, u64) {
    (nix::sys::stat::major(device), nix::sys::stat::minor(device))
}

pub(super) struct Opened {
    pub(super) file: File,
    pub(super) size_bytes: u64,
    pub(super) direct: bool,
    pub(super) identity: Identity,
}

pub(super) fn open(path: &Path, options: OpenOptions) -> Result<Opened> {
    let cannot = |e| cannot_open(path, e);
    // Before opening: opening a pipe would wait, opening a character device may do anything.
    let named = std::fs::metadata(path).map_err(cannot)?;
    refuse_other_kinds(path, &named)?;
    let device = named.file_type().is_block_device();
    let mut flags = OFlag::O_NOCTTY;
    flags.set(OFlag::O_EXCL, device && options.lock && !options.read_only);
    let open_with = |flags: OFlag| {
        let mut how = File::options();
        how.read(true).write(!options.read_only).custom_flags(flags.bits()).open(path)
    };
    let mut direct = options.direct;
    let failed_with =
        |opened: &io::Result<File>, errno| opened.as_ref().is_err_and(|e| e.raw_os_error() == Some(errno));
    let mut opened = if direct { open_with(flags | OFlag::O_DIRECT) } else { open_with(flags) };
    if direct && failed_with(&opened, libc::EINVAL) {
        direct = false;
        opened = open_with(flags);
    }
    let mut attempt = 0;
    while failed_with(&opened, libc::EBUSY) && attempt < HELD_TRIES && matches!(is_mounted(path), Ok(None)) {
        // What a killed process had under way may not have ended.
        attempt += 1;
        std::thread::sleep(real::ENDING_PAUSE);
        opened = open_with(if direct { flags | OFlag::O_DIRECT } else { flags });
    }
    let file = match opened {
        Err(e) if e.raw_os_error() == Some(libc::EBUSY) => return Err(busy_device(path, e)),
        other => other.map_err(cannot)?,
    };
    let meta = file.metadata().map_err(cannot)?;
    refuse_other_kinds(path, &meta)?;
    if options.lock {
        lock(&file, &meta, path, options.read_only)?;
    }
    let size_bytes = size_of(&file, &meta).map_err(cannot)?;
    if direct && size_bytes > 0 && !direct_works(&file) {
        clear_direct(&file).map_err(cannot)?;
        direct = false;
    }
    let size_bytes = size_bytes - size_bytes % BLOCK_BYTES;
    Ok(Opened { file, size_bytes, direct, identity: identity_of(&meta) })
}

fn refuse_other_kinds(path: &Path, meta: &Metadata) -> Result<()> {
    let kind = meta.file_type();
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    let what = if kind.is_dir() { "is a directory" } else { "is neither a file nor a block device" };
    let error = Error::new(ErrorKind::InvalidInput, what).member(path.display().to_string());
    Err(error.hint("name an image file or a block device"))
}

fn cannot_open(path: &Path, error: io::Error) -> Error {
    let error = Error::io("cannot open", error).member(path.display().to_string());
    match error.kind() {
        ErrorKind::Permission => error.hint("run as a user who may read and write it"),
        _ => error,
    }
}

fn busy_device(path: &Path, error: io::Error) -> Error {
    let what = match is_mounted(path) {
        Ok(Some(how)) => format!("in use: {how}"),
        _ => "in use by the kernel or another program".to_owned(),
    };
    let busy = Error::new(ErrorKind::Busy, what).member(path.display().to_string());
    busy.source(error).hint("unmount it, or stop what uses it")
}

/// The size in bytes, of a file by its length, of a device by its end.
pub(super) fn size_of(mut file: &File, meta: &Metadata) -> io::Result<u64> {
    if meta.file_type().is_block_device() { file.seek(SeekFrom::End(0)) } else { Ok(meta.len()) }
}

/// Some file systems accept O_DIRECT and then refuse to read, or want more than 4 KiB alignment.
fn direct_works(file: &File) -> bool {
    let mut page = BufferPool::new(0).take(4096);
    !matches!(nix::sys::uio::pread(file, &mut page, 0), Err(Errno::EINVAL))
}

fn clear_direct(file: &File) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    fcntl(file, FcntlArg::F_SETFL(flags - OFlag::O_DIRECT))?;
    Ok(())
}

/// How often a lock is tried that somebody holds: a process that was killed this moment may still be
/// listed, and device managers take the lock for a moment while they look.
const HELD_TRIES: u32 = 33;

/// Locks the whole file. Two kinds of lock, because programs use either: the one of flock(2),
/// which tells who holds it, and the one of the open file description, which qemu takes.
fn lock(file: &File, meta: &Metadata, path: &Path, shared: bool) -> Result<()> {
    let mut attempt = 0;
    loop {
        let taken = if shared { file.try_lock_shared() } else { file.try_lock() };
        match taken {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {
                // A lock nobody holds is that of a process that is ending.
                attempt += 1;
                let tries = if lock_holder(meta).is_some() { HELD_TRIES } else { real::ENDING_TRIES };
                if attempt >= tries {
                    return Err(locked(path, meta));
                }
                std::thread::sleep(real::ENDING_PAUSE);
            }
            Err(TryLockError::Error(e)) => {
                return Err(Error::io("cannot lock", e).member(path.display().to_string()));
            }
        }
    }
    let kind = if shared { libc::F_RDLCK } else { libc::F_WRLCK };
    let range = libc::flock {
        l_type: i16::try_from(kind).unwrap_or_default(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&range)) {
        Err(Errno::EAGAIN | Errno::EACCES) => Err(locked(path, meta)),
        // Where a file system has no such locks the other one has to do.
        _ => Ok(()),
    }
}

fn locked(path: &Path, meta: &Metadata) -> Error {
    let what = match lock_holder(meta) {
        Some(holder) => format!("locked by {holder}"),
        None => "locked by another process".to_owned(),
    };
    let error = Error::new(ErrorKind::Busy, what).member(path.display().to_string());
    error.hint("stop the array or program that uses it")
}

/// Makes a new sparse image file of that size; never touches one that exists.
pub fn create_image(path: &Path, size_bytes: u64) -> Result<()> {
    let cannot = |what: &str, e| Error::io(what, e).member(path.display().to_string());
    let made = File::options().read(true).write(true).create_new(true).mode(0o600).open(path);
    let file = made.map_err(|e| cannot("cannot create the image file", e))?;
    let written = file.set_len(size_bytes).and_then(|()| file.sync_all()).and_then(|()| {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    });
    written.map_err(|e| {
        // It is ours and empty; a half-made image helps nobody.
        let _ = std::fs::remove_file(path);
        cannot(&format!("cannot make an image of {size_bytes} bytes"), e)
    })
}

/// Opens files and devices for the engine, on a worker thread, so that a device that does not
/// answer holds up nobody else.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileOpener {
    options: OpenOptions,
}

impl FileOpener {
    /// An opener that opens in this way.
    pub fn new(options: OpenOptions) -> Self {
        Self { options }
    }
}

impl Opener for FileOpener {
    fn open(&self, path: &str) -> LocalFuture<'_, Result<Arc<dyn Backend>>> {
        let (path, options) = (path.to_owned(), self.options);
        Box::pin(async move {
            let (name, line) = (path.clone(), Line::of_path(&path));
            let opened = real::offload(line, move || FileBackend::open(Path::new(&path), options)).await;
            match opened {
                Ok(backend) => Ok(Arc::new(backend?) as Arc<dyn Backend>),
                Err(e) => Err(Error::io("cannot open", e).member(name)),
            }
        })
    }
}
