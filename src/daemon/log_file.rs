//! The log of a daemon in the background: a file that is set aside, as `log.old`, when it has grown large, so
//! that it never takes more than a little of the runtime folder, which is memory.

use crate::error::{Error, Result};
use nix::unistd::dup2_stderr;
use std::fs::{File, metadata, rename};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A larger log is set aside.
const MAX_BYTES: u64 = 4 << 20;
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Opens the log, to write at its end.
pub fn open(path: &Path) -> Result<File> {
    let opened = match is_large(path) {
        true => renew(path),
        false => append(path),
    };
    opened.map_err(|e| Error::io(format!("cannot open the log {}", path.display()), e))
}

/// Starts a thread that keeps it small, if it is what this process writes its errors to.
pub fn spawn_keeper(path: PathBuf) -> Result<()> {
    let keeper = std::thread::Builder::new().name("log".into());
    let spawned = keeper.spawn(move || {
        while is_written_by(io::stderr().as_fd(), &path) {
            std::thread::sleep(LOOK_EVERY);
            let renewed =
                if is_large(&path) { renew(&path).and_then(|new| Ok(dup2_stderr(new)?)) } else { Ok(()) };
            if let Err(e) = renewed {
                tracing::warn!("cannot set the log {} aside: {e}", path.display());
            }
        }
    });
    spawned.map(drop).map_err(|e| Error::io("cannot start a thread", e))
}

fn is_large(path: &Path) -> bool {
    metadata(path).is_ok_and(|meta| meta.len() > MAX_BYTES)
}

fn append(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).mode(0o600).open(path)
}

/// Sets it aside, and opens a new one.
fn renew(path: &Path) -> io::Result<File> {
    rename(path, path.with_extension("old"))?;
    append(path)
}

fn is_written_by(fd: BorrowedFd<'_>, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (nix::sys::stat::fstat(fd), metadata(path)) else { return false };
    (open.st_dev, open.st_ino) == (named.dev(), named.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_large_log_is_set_aside_and_a_small_one_is_continued() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        open(&path).unwrap().write_all(b"one\n").unwrap();
        let file = open(&path).unwrap();
        assert!(is_written_by(file.as_fd(), &path));
        file.set_len(MAX_BYTES + 1).unwrap();
        let new = open(&path).unwrap();
        assert_eq!(metadata(dir.path().join("log.old")).unwrap().len(), MAX_BYTES + 1);
        assert_eq!(metadata(&path).unwrap().len(), 0);
        assert!(is_written_by(new.as_fd(), &path) && !is_written_by(file.as_fd(), &path));
    }
}
