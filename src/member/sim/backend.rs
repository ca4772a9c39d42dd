//! The handle of an open simulated disk: what the engine sees as a backend.

use super::disk::{Caller, SimDisk, write_change};
use super::media::Change;
use crate::env::sim::SimEnv;
use crate::env::{Buffer, Environment, LocalFuture};
use crate::error::{Error, ErrorKind, Result};
use crate::member::{Backend, Persistence, Presence, Span};
use bytes::Bytes;
use futures::channel::oneshot;
use std::future::{Future, pending};

/// An open, locked disk. The lock goes when the handle is dropped, the process is killed, or the
/// disk is unplugged.
pub struct SimBackend {
    disk: SimDisk,
    path: String,
    handle: u64,
    caller: Caller,
    process: SimEnv,
}

impl SimBackend {
    /// Opens and locks for the process of `env`.
    pub fn open(disk: &SimDisk, path: &str, env: &SimEnv) -> Result<Self> {
        let mut state = disk.lock();
        if !state.present {
            return Err(Error::new(ErrorKind::NotFound, "no such disk").member(path));
        }
        if state.owner.is_some() {
            return Err(Error::new(ErrorKind::Busy, "somebody else holds the disk").member(path));
        }
        if state.is_busy() {
            // A real file is locked until the last operation on it has ended.
            return Err(
                Error::new(ErrorKind::Busy, "operations of a former owner are under way").member(path)
            );
        }
        let handle = state.next_handle;
        state.next_handle += 1;
        state.owner = Some(handle);
        let caller = Caller { process: env.process(), generation: state.generation };
        drop(state);
        Ok(Self { disk: disk.clone(), path: path.to_owned(), handle, caller, process: env.clone() })
    }

    /// Runs an operation on the hardware and waits for its answer.
    fn submit<T: 'static>(&self, operation: impl Future<Output = T> + 'static) -> LocalFuture<'_, T> {
        let (tx, rx) = oneshot::channel();
        self.disk.0.hardware.spawn(Box::pin(async move {
            let _ = tx.send(operation.await);
        }));
        Box::pin(async move {
            match rx.await {
                Ok(answer) => answer,
                // The hardware was torn down with the simulation: no answer ever comes.
                Err(_) => pending().await,
            }
        })
    }

    fn submit_change(&self, change: Change) -> LocalFuture<'_, Result<()>> {
        self.check_range(change.offset, change.len);
        // The rest of the turn in which a process died is not to be seen.
        if self.process.is_dead() {
            return Box::pin(pending());
        }
        let (disk, caller, offset, len) = (self.disk.clone(), self.caller, change.offset, change.len);
        let operation = disk.begin_change(caller, change);
        disk.submitted(&self.process);
        self.submit(async move { disk.change(caller, operation, offset, len).await })
    }

    /// A caller that breaks the rules of the trait is a bug to be found, not a disk error.
    fn check_range(&self, offset: u64, len: u64) {
        let end = offset.checked_add(len);
        assert!(
            offset.is_multiple_of(4096) && len.is_multiple_of(4096) && len > 0,
            "{}: unaligned access {offset}+{len}",
            self.path
        );
        assert!(
            end.is_some_and(|end| end <= self.disk.0.size_bytes),
            "{}: access {offset}+{len} beyond {}",
            self.path,
            self.disk.0.size_bytes
        );
    }
}

impl Drop for SimBackend {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        if state.owner == Some(self.handle) {
            state.owner = None;
        }
    }
}

impl Backend for SimBackend {
    fn path(&self) -> &str {
        &self.path
    }

    fn size_bytes(&self) -> u64 {
        self.disk.0.size_bytes
    }

    fn read(&self, offset_bytes: u64, buffer: Buffer) -> LocalFuture<'_, (Result<()>, Buffer)> {
        self.check_range(offset_bytes, buffer.len() as u64);
        let (disk, caller) = (self.disk.clone(), self.caller);
        self.submit(async move { disk.read(caller, offset_bytes, buffer).await })
    }

    fn write(
        &self,
        offset_bytes: u64,
        pieces: Vec<Bytes>,
        persistence: Persistence,
    ) -> LocalFuture<'_, Result<()>> {
        self.submit_change(write_change(offset_bytes, pieces, persistence == Persistence::Synced))
    }

    fn flush(&self) -> LocalFuture<'_, Result<()>> {
        if self.process.is_dead() {
            return Box::pin(pending());
        }
        let (disk, caller) = (self.disk.clone(), self.caller);
        let covered = disk.lock().media.newest();
        disk.submitted(&self.process);
        self.submit(async move { disk.flush(caller, covered).await })
    }

    fn punch(&self, offset_bytes: u64, len_bytes: u64) -> LocalFuture<'_, Result<()>> {
        if self.disk.lock().keeps_space {
            return Box::pin(async { Err(Error::new(ErrorKind::Unsupported, "no punches")) });
        }
        self.submit_change(Change { offset: offset_bytes, len: len_bytes, pieces: None, synced: false })
    }

    fn spans(&self, offset_bytes: u64, len_bytes: u64) -> LocalFuture<'_, Result<Vec<Span>>> {
        self.check_range(offset_bytes, len_bytes);
        let (disk, caller) = (self.disk.clone(), self.caller);
        self.submit(async move { disk.spans(caller, offset_bytes, len_bytes).await })
    }

    fn probe(&self) -> LocalFuture<'_, Result<Presence>> {
        let (disk, caller) = (self.disk.clone(), self.caller);
        self.submit(async move { disk.probe(caller).await })
    }
}
