//! A listening socket, unix or TCP.

use super::io::{Submission, ready};
use super::op::{Op, Readiness};
use super::process::{ENDING_PAUSE, ENDING_TRIES, is_running};
use super::socket::suit_driver;
use crate::error::{Error, ErrorKind, Result};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A listening socket. It may be made on any thread and accepts on one executor thread; what it
/// accepts may be handed to any.
pub struct Listener {
    fd: Arc<OwnedFd>,
    text: String,
    /// The socket file to remove at the end, with its inode so that no other is removed.
    file: Option<(PathBuf, u64, u64)>,
}

impl Listener {
    /// Listens on a unix socket. A socket file left behind by a dead process is replaced; one
    /// that somebody listens on, or a file that is no socket, is not touched.
    pub fn unix(path: &Path) -> Result<Self> {
        let cannot = |e| Error::io(format!("cannot listen on {}", path.display()), e);
        let listener = match UnixListener::bind(path) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                UnixListener::bind(path).map_err(cannot)?
            }
            other => other.map_err(cannot)?,
        };
        let meta = std::fs::symlink_metadata(path).map_err(cannot)?;
        let file = Some((path.to_owned(), meta.dev(), meta.ino()));
        Ok(Self { fd: Arc::new(listener.into()), text: path.display().to_string(), file })
    }

    /// Listens on a TCP address; port 0 takes a free one.
    pub fn tcp(address: SocketAddr) -> Result<Self> {
        let cannot = |e| Error::io(format!("cannot listen on {address}"), e);
        let listener = TcpListener::bind(address).map_err(cannot)?;
        let text = listener.local_addr().map_err(cannot)?.to_string();
        Ok(Self { fd: Arc::new(listener.into()), text, file: None })
    }

    /// The address listened on: a path, or `host:port` with the real port.
    pub fn local_addr_text(&self) -> String {
        self.text.clone()
    }

    /// The next connection. Hand it to any thread and wrap it there in a `Socket`. Out of
    /// descriptors or memory it fails: pause before trying again.
    pub async fn accept(&self) -> io::Result<OwnedFd> {
        suit_driver(self.fd.as_fd());
        loop {
            let op = Op::Accept { fd: Arc::clone(&self.fd), accepted: None };
            let (op, result) = Submission::new(op).await;
            let Op::Accept { accepted, .. } = op else {
                return Err(io::Error::other("the driver returned another operation"));
            };
            match (result, accepted) {
                (Ok(_), Some(fd)) => return Ok(fd),
                (Ok(_), None) => return Err(io::Error::other("accepted nothing")),
                (Err(e), _) if is_passing(&e) => {}
                (Err(e), _) if e.kind() == io::ErrorKind::WouldBlock => {
                    ready(&self.fd, Readiness::Readable).await?;
                }
                (Err(error), _) => return Err(error),
            }
        }
    }
}

/// The client went away between asking and being accepted, or a signal came: try the next.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted)
}

/// Removes a socket file nobody listens on.
fn remove_stale(path: &Path) -> Result<()> {
    let cannot = |e| Error::io(format!("cannot replace the old socket {}", path.display()), e);
    let meta = std::fs::symlink_metadata(path).map_err(cannot)?;
    if !meta.file_type().is_socket() {
        let what = format!("{} exists and is not a socket", path.display());
        return Err(Error::new(ErrorKind::AlreadyExists, what).hint("name another path for the socket"));
    }
    for _ in 0..ENDING_TRIES {
        match UnixStream::connect(path) {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                return std::fs::remove_file(path).map_err(cannot);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Ok(stream) if is_left_by_the_dead(&stream) => std::thread::sleep(ENDING_PAUSE),
            _ => break,
        }
    }
    Err(Error::new(ErrorKind::Busy, format!("somebody listens on {} already", path.display()))
        .hint("stop the process that serves it, or name another path"))
}

/// The kernel goes on listening for a killed process until it has ended that one's I/O.
fn is_left_by_the_dead(stream: &UnixStream) -> bool {
    getsockopt(stream, PeerCredentials).is_ok_and(|c| u32::try_from(c.pid()).is_ok_and(|p| !is_running(p)))
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some((path, dev, ino)) = &self.file
            && let Ok(meta) = std::fs::symlink_metadata(path)
            && (meta.dev(), meta.ino()) == (*dev, *ino)
        {
            // If it stays, the next listener finds it stale and replaces it.
            let _ = std::fs::remove_file(path);
        }
    }
}
