//! A backend with a deadline on every operation and counters of what failed.

use super::{Backend, Persistence, Presence, Span};
use crate::env::{Buffer, Env, deadline};
use crate::error::{Error, ErrorKind, Result};
use crate::mutation::{Protection, without};
use crate::units::MemberId;
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// One open member. Offsets are absolute on the device; see [`Member::data_offset`].
pub struct Member {
    env: Env,
    id: MemberId,
    path: String,
    backend: Arc<dyn Backend>,
    limit: Duration,
    data_offset: u64,
    read_errors: AtomicU64,
    write_errors: AtomicU64,
    mismatches: AtomicU64,
    doubted: AtomicBool,
}

impl Member {
    /// Wraps an open backend. `data_offset` is where the data area begins, in bytes.
    pub fn new(
        env: Env,
        id: MemberId,
        path: String,
        backend: Arc<dyn Backend>,
        limit: Duration,
        data_offset: u64,
    ) -> Self {
        let zero = || AtomicU64::new(0);
        let doubted = AtomicBool::new(false);
        Self {
            env,
            id,
            path,
            backend,
            limit,
            data_offset,
            read_errors: zero(),
            write_errors: zero(),
            mismatches: zero(),
            doubted,
        }
    }

    /// Its identity.
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// The path an admin knows it by.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Size of the device in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.backend.size_bytes()
    }

    /// Where the data area begins, in bytes.
    pub fn data_offset(&self) -> u64 {
        self.data_offset
    }

    /// Failed reads and failed writes (flushes and punches among them) so far.
    pub fn errors(&self) -> (u64, u64) {
        (self.read_errors.load(Ordering::Relaxed), self.write_errors.load(Ordering::Relaxed))
    }

    /// Blocks that were read and were not what had been written, so far.
    pub fn mismatches(&self) -> u64 {
        self.mismatches.load(Ordering::Relaxed)
    }

    /// So many more were found.
    pub fn mismatched(&self, blocks: u64) {
        self.mismatches.fetch_add(blocks, Ordering::Relaxed);
    }

    /// Reads `len` bytes at `offset`.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Buffer> {
        let buffer = self.env.buffers().take(len);
        let done = self.limited("read", offset, async {
            let (result, buffer) = self.backend.read(offset, buffer).await;
            result.map(|()| buffer)
        });
        count(&self.read_errors, done.await)
    }

    /// Writes the pieces one after another from `offset`.
    pub async fn write(&self, offset: u64, pieces: Vec<Bytes>, persistence: Persistence) -> Result<()> {
        let done = self.limited("write", offset, self.backend.write(offset, pieces, persistence));
        count(&self.write_errors, done.await)
    }

    /// Makes every answered write durable.
    pub async fn flush(&self) -> Result<()> {
        let done = self.limited("flush", 0, self.backend.flush()).await;
        if done.is_err() {
            self.doubted.store(true, Ordering::Release);
        }
        count(&self.write_errors, done)
    }

    /// A flush failed: writes answered before it may be gone (Linux drops what it could not
    /// write), so that reads may show older bytes.
    pub fn doubted(&self) -> bool {
        self.doubted.load(Ordering::Acquire) && !without(Protection::DoubtAfterFlush)
    }

    /// Takes what it holds for the best there is.
    pub fn trust(&self) {
        self.doubted.store(false, Ordering::Release);
    }

    /// Makes a range read as zeroes: punched where that can be had, written otherwise.
    pub async fn zero(&self, offset: u64, len: u64, punch: bool) -> Result<()> {
        if punch {
            let done = self.limited("punch", offset, self.backend.punch(offset, len)).await;
            match done {
                Err(e) if e.kind() == ErrorKind::Unsupported => {}
                other => return count(&self.write_errors, other),
            }
        }
        const STEP: u64 = 1 << 20;
        let step = usize::try_from(len.min(STEP)).unwrap_or(1 << 20);
        let zeroes = self.env.buffers().take_zeroed(step).freeze();
        let mut done = 0;
        while done < len {
            let now = (len - done).min(STEP);
            let piece = zeroes.slice(..usize::try_from(now).unwrap_or(step));
            self.write(offset + done, vec![piece], Persistence::Cached).await?;
            done += now;
        }
        Ok(())
    }

    /// Punches without falling back to writing; `Unsupported` where it cannot be had.
    pub async fn punch_only(&self, offset: u64, len: u64) -> Result<()> {
        self.limited("punch", offset, self.backend.punch(offset, len)).await
    }

    /// Which parts of the range are backed by space.
    pub async fn spans(&self, offset: u64, len: u64) -> Result<Vec<Span>> {
        self.limited("map", offset, self.backend.spans(offset, len)).await
    }

    /// Whether the file or device is still there.
    pub async fn probe(&self) -> Result<Presence> {
        self.limited("probe", 0, self.backend.probe()).await
    }

    async fn limited<T>(&self, verb: &str, offset: u64, work: impl Future<Output = Result<T>>) -> Result<T> {
        match deadline(&self.env, self.limit, work).await {
            Some(Ok(value)) => Ok(value),
            Some(Err(e)) => Err(e),
            None => Err(Error::new(
                ErrorKind::Timeout,
                format!("{verb} was not answered within {} ms", self.limit.as_millis()),
            )
            .member(&self.path)
            .at(offset)),
        }
    }
}

fn count<T>(counter: &AtomicU64, result: Result<T>) -> Result<T> {
    if result.is_err() {
        counter.fetch_add(1, Ordering::Relaxed);
    }
    result
}
