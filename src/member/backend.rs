//! The trait every backing device implements.

use crate::env::{Buffer, LocalFuture};
use crate::error::Result;
use bytes::Bytes;
use std::sync::Arc;

/// Whether a write must be on stable media when it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Persistence {
    /// A later flush makes it durable.
    #[default]
    Cached,
    /// On stable media once answered (as `RWF_DSYNC`).
    Synced,
}

/// A run of a member's bytes that is backed by space or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Length in bytes, never 0.
    pub len_bytes: u64,
    /// Backed by no space: reads as zeroes.
    pub hole: bool,
}

/// What [`Backend::probe`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// The file or device is where it was, as large as it was.
    Present,
    /// It is gone or changed; the text says how ("the file was deleted").
    Gone(String),
}

/// A file, device or simulated disk. All offsets and lengths are multiples of 4096. Reads and
/// writes are all or nothing: short ones are errors. Futures are polled on the thread that made
/// them; dropping one abandons the operation (it may still happen).
pub trait Backend: Send + Sync {
    /// Where it is, for people: a path.
    fn path(&self) -> &str;

    /// Size in bytes, rounded down to a multiple of 4096, as it was when opened.
    fn size_bytes(&self) -> u64;

    /// Fills `buffer`; it comes back in every case.
    fn read(&self, offset_bytes: u64, buffer: Buffer) -> LocalFuture<'_, (Result<()>, Buffer)>;

    /// Writes the pieces one after another from `offset_bytes`. Pieces are page-aligned in
    /// memory and in length where the caller took them from the pool; others are copied.
    fn write(
        &self,
        offset_bytes: u64,
        pieces: Vec<Bytes>,
        persistence: Persistence,
    ) -> LocalFuture<'_, Result<()>>;

    /// Makes every answered write durable.
    fn flush(&self) -> LocalFuture<'_, Result<()>>;

    /// Frees the space of a range, which then reads as zeroes; `Unsupported` where that cannot
    /// be guaranteed.
    fn punch(&self, offset_bytes: u64, len_bytes: u64) -> LocalFuture<'_, Result<()>>;

    /// Which parts of a range are backed by space; covers exactly the range. What cannot be
    /// told is reported as backed.
    fn spans(&self, offset_bytes: u64, len_bytes: u64) -> LocalFuture<'_, Result<Vec<Span>>>;

    /// Whether the thing behind is still there: deleted, shrunk, replaced, unplugged?
    fn probe(&self) -> LocalFuture<'_, Result<Presence>>;
}

/// Opens members by path, exclusively locked; handed to the engine so that it can try to find a
/// member again.
pub trait Opener: Send + Sync {
    /// Opens and locks. Fails with `Busy` if another process holds it.
    fn open(&self, path: &str) -> LocalFuture<'_, Result<Arc<dyn Backend>>>;
}
