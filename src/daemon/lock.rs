//! The lock that keeps a second daemon off an array: `flock` on its pid file, held as long as the
//! process lives and released by the kernel however it dies.

use super::places::{Places, check_socket_path};
use crate::error::{Error, ErrorKind, Result};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::time::Duration;

/// A running daemon is told from one that is just ending after this many looks.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(30);

/// The held lock.
pub struct Lock {
    file: Flock<File>,
}

impl Lock {
    /// Makes the array's runtime folder and takes the lock; `Busy` if a daemon has it.
    pub fn take(places: &Places, name: &str) -> Result<Self> {
        make_dir(places, name)?;
        let path = places.pid_file(name);
        let failed = |e| Error::io(format!("cannot open the lock {}", path.display()), e);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&path)
            .map_err(failed)?;
        let mut file = match lock_in_time(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => return Err(busy(name, read_pid(&mut file))),
            Err((_, e)) => return Err(failed(e.into())),
        };
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { file })
    }

    /// The process that holds the lock, if one does; 0 if it does not say which.
    pub fn holder(places: &Places, name: &str) -> Result<Option<u32>> {
        let path = places.pid_file(name);
        let failed = |e| Error::io(format!("cannot look at the lock {}", path.display()), e);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        match lock_in_time(file, FlockArg::LockSharedNonblock) {
            Ok(_) => Ok(None),
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => Ok(Some(read_pid(&mut file).unwrap_or(0))),
            Err((_, e)) => Err(failed(e.into())),
        }
    }

    /// Empties the file and lets go.
    pub fn release(self) {
        // The lock is what counts; a stale pid in a file nobody holds misleads no one of us.
        let _ = self.file.set_len(0);
    }
}

/// "already running, pid N".
pub fn busy(name: &str, pid: Option<u32>) -> Error {
    let pid = pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
    Error::new(ErrorKind::Busy, format!("already running{pid}"))
        .array(name)
        .hint(format!("palisade status {name}"))
}

/// Makes the folder of a running array, open to its owner only.
pub fn make_dir(places: &Places, name: &str) -> Result<()> {
    check_socket_path(&places.control_socket(name))?;
    let failed = |e| Error::io(format!("cannot make {}", places.array_dir(name).display()), e);
    fs::create_dir_all(&places.runtime_dir).map_err(failed)?;
    match fs::DirBuilder::new().mode(0o700).create(places.array_dir(name)) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(failed(e)),
        _ => Ok(()),
    }
}

/// A daemon that was killed this moment holds the lock until the kernel is through with it.
fn lock_in_time(
    mut file: File,
    how: FlockArg,
) -> std::result::Result<Flock<File>, (File, nix::errno::Errno)> {
    for _ in 0..TRIES {
        match Flock::lock(file, how) {
            Err((back, nix::errno::Errno::EWOULDBLOCK)) => file = back,
            other => return other,
        }
        std::thread::sleep(PAUSE);
    }
    Flock::lock(file, how)
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_on_one_array_is_refused_with_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            config_dir: dir.path().into(),
            runtime_dir: dir.path().join("run"),
            state_dir: dir.path().join("state"),
        };
        assert_eq!(Lock::holder(&places, "tank").unwrap(), None);
        let lock = Lock::take(&places, "tank").unwrap();
        let pid = std::process::id();
        assert_eq!(Lock::holder(&places, "tank").unwrap(), Some(pid));
        let e = Lock::take(&places, "tank").err().unwrap();
        assert_eq!((e.kind(), e.what()), (ErrorKind::Busy, &*format!("already running, pid {pid}")));
        Lock::take(&places, "other").unwrap();
        lock.release();
        assert_eq!(Lock::holder(&places, "tank").unwrap(), None);
        Lock::take(&places, "tank").unwrap();
    }
}
