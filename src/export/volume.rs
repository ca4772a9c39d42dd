//! The one trait between front ends and everything below.

use crate::env::LocalFuture;
use crate::error::Result;
use bytes::Bytes;

/// When a write may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Once it is visible to every later read and survives the process; a flush makes it durable.
    #[default]
    Volatile,
    /// Once it survives power loss (FUA).
    Durable,
}

/// What a front end must know to announce a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Size in bytes, a multiple of 4096.
    pub size_bytes: u64,
    /// Requests of this size and alignment avoid read-modify-write of a block.
    pub preferred_bytes: u32,
    /// Writes of this size and alignment (a full stripe) are the cheapest.
    pub optimal_bytes: u32,
    /// Writes are refused.
    pub read_only: bool,
}

/// How to write zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ZeroOptions {
    /// When it may be answered.
    pub durability: Durability,
    /// Keep the space allocated (NBD `NO_HOLE`).
    pub no_hole: bool,
    /// Fail with `Unsupported` at once unless it is much cheaper than writing (NBD `FAST_ZERO`).
    pub fast_only: bool,
}

/// A run of bytes with the same status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Length in bytes, never 0.
    pub len_bytes: u64,
    /// Backed by no space (NBD `STATE_HOLE`).
    pub hole: bool,
    /// Reads as zeroes (NBD `STATE_ZERO`).
    pub zero: bool,
}

/// A block device, as bytes. Offsets and lengths are in bytes and need no alignment. Every method
/// fails with `OutOfRange` beyond the size. Futures must be polled on the thread that made them.
pub trait Volume: Send + Sync {
    /// Size and preferences; fixed while the volume is exported.
    fn info(&self) -> VolumeInfo;

    /// Reads `len_bytes` at `offset_bytes`; the pieces concatenated are the answer.
    fn read(&self, offset_bytes: u64, len_bytes: u64) -> LocalFuture<'_, Result<Vec<Bytes>>>;

    /// Writes `data` at `offset_bytes`. Data in a page-aligned buffer at a page-aligned offset
    /// is not copied.
    fn write(&self, offset_bytes: u64, data: Bytes, durability: Durability) -> LocalFuture<'_, Result<()>>;

    /// Makes the range read as zeroes.
    fn write_zeroes(
        &self,
        offset_bytes: u64,
        len_bytes: u64,
        options: ZeroOptions,
    ) -> LocalFuture<'_, Result<()>>;

    /// The range is no longer needed; afterwards each block of it reads as before or as zeroes.
    fn discard(
        &self,
        offset_bytes: u64,
        len_bytes: u64,
        durability: Durability,
    ) -> LocalFuture<'_, Result<()>>;

    /// Everything answered before this call survives power loss once this is answered.
    fn flush(&self) -> LocalFuture<'_, Result<()>>;

    /// Status of the range, in order. Covers at least the first byte and at most the range;
    /// neighbours with equal status are merged.
    fn status(&self, offset_bytes: u64, len_bytes: u64) -> LocalFuture<'_, Result<Vec<Extent>>>;
}
