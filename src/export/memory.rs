//! A volume in memory: for tests, fuzzing and measuring a front end by itself.

use super::{Durability, Extent, Volume, VolumeInfo, ZeroOptions};
use crate::env::{BufferPool, LocalFuture};
use crate::error::{Error, ErrorKind, Result};
use crate::units::BLOCK_BYTES;
use bytes::Bytes;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

const CELL_BYTES: u64 = 64 << 10;
const KEEP_BYTES: usize = 64 << 20;

type Cell = Option<Box<[u8]>>;

/// A sparse volume in memory. Each 64 KiB cell has its own lock and exists once written; a cell
/// that is zeroed or discarded whole is given back.
pub struct MemoryVolume {
    cells: Vec<Mutex<Cell>>,
    size_bytes: u64,
    pool: BufferPool,
}

/// The part of a range that lies in one cell.
struct Part {
    index: usize,
    within: Range<usize>,
}

impl Part {
    fn is_whole(&self, cell_bytes: usize) -> bool {
        self.within == (0..cell_bytes)
    }
}

impl MemoryVolume {
    /// A volume of zeroes; the size is rounded down to whole blocks.
    pub fn new(size_bytes: u64) -> Self {
        let size_bytes = size_bytes / BLOCK_BYTES * BLOCK_BYTES;
        let cells = (0..size_bytes.div_ceil(CELL_BYTES)).map(|_| Mutex::new(None)).collect();
        Self { cells, size_bytes, pool: BufferPool::new(KEEP_BYTES) }
    }

    fn check(&self, offset_bytes: u64, len_bytes: u64) -> Result<()> {
        match offset_bytes.checked_add(len_bytes) {
            Some(end) if end <= self.size_bytes => Ok(()),
            _ => Err(Error::new(ErrorKind::OutOfRange, "beyond the end of the volume").at(offset_bytes)),
        }
    }

    fn cell(&self, index: usize) -> Option<MutexGuard<'_, Cell>> {
        Some(self.cells.get(index)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn cell_bytes(&self, index: usize) -> usize {
        let start = index as u64 * CELL_BYTES;
        usize::try_from(self.size_bytes.saturating_sub(start).min(CELL_BYTES)).unwrap_or(0)
    }

    /// Cuts a checked range at cell borders.
    fn parts(&self, offset_bytes: u64, len_bytes: u64) -> impl Iterator<Item = Part> {
        let end = offset_bytes + len_bytes;
        let mut at = offset_bytes;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let within = at % CELL_BYTES;
            let take = (CELL_BYTES - within).min(end - at);
            let index = usize::try_from(at / CELL_BYTES).ok()?;
            at += take;
            Some(Part { index, within: usize::try_from(within).ok()?..usize::try_from(within + take).ok()? })
        })
    }

    fn read_now(&self, offset_bytes: u64, len_bytes: u64) -> Result<Vec<Bytes>> {
        self.check(offset_bytes, len_bytes)?;
        let len = usize::try_from(len_bytes)
            .map_err(|e| Error::new(ErrorKind::InvalidInput, "read too long").source(e))?;
        if len == 0 {
            return Ok(Vec::new());
        }
        let mut buffer = self.pool.take(len);
        let mut rest: &mut [u8] = &mut buffer;
        for part in self.parts(offset_bytes, len_bytes) {
            let (target, tail) = rest.split_at_mut(part.within.len().min(rest.len()));
            let cell = self.cell(part.index);
            match cell.as_ref().and_then(|c| c.as_ref()).and_then(|c| c.get(part.within)) {
                Some(bytes) => target.copy_from_slice(bytes),
                None => target.fill(0),
            }
            rest = tail;
        }
        Ok(vec![buffer.freeze()])
    }

    fn write_now(&self, offset_bytes: u64, data: &[u8]) -> Result<()> {
        self.check(offset_bytes, data.len() as u64)?;
        let mut rest = data;
        for part in self.parts(offset_bytes, data.len() as u64) {
            let (source, tail) = rest.split_at(part.within.len().min(rest.len()));
            let Some(mut cell) = self.cell(part.index) else { continue };
            let bytes = cell.get_or_insert_with(|| vec![0; self.cell_bytes(part.index)].into());
            if let Some(target) = bytes.get_mut(part.within) {
                target.copy_from_slice(source);
            }
            rest = tail;
        }
        Ok(())
    }

    fn zero_now(&self, offset_bytes: u64, len_bytes: u64, options: ZeroOptions) -> Result<()> {
        self.check(offset_bytes, len_bytes)?;
        let whole = |p: &Part| p.is_whole(self.cell_bytes(p.index));
        if options.fast_only && (options.no_hole || !self.parts(offset_bytes, len_bytes).all(|p| whole(&p))) {
            return Err(Error::new(ErrorKind::Unsupported, "only whole cells are zeroed fast"));
        }
        for part in self.parts(offset_bytes, len_bytes) {
            let Some(mut cell) = self.cell(part.index) else { continue };
            if whole(&part) && !options.no_hole {
                *cell = None;
                continue;
            }
            if options.no_hole {
                cell.get_or_insert_with(|| vec![0; self.cell_bytes(part.index)].into());
            }
            if let Some(target) = cell.as_mut().and_then(|c| c.get_mut(part.within)) {
                target.fill(0);
            }
        }
        Ok(())
    }

    fn status_now(&self, offset_bytes: u64, len_bytes: u64) -> Result<Vec<Extent>> {
        self.check(offset_bytes, len_bytes)?;
        let mut extents: Vec<Extent> = Vec::new();
        for part in self.parts(offset_bytes, len_bytes) {
            let hole = self.cell(part.index).is_none_or(|cell| cell.is_none());
            let len_bytes = part.within.len() as u64;
            match extents.last_mut() {
                Some(last) if last.hole == hole => last.len_bytes += len_bytes,
                _ => extents.push(Extent { len_bytes, hole, zero: hole }),
            }
        }
        Ok(extents)
    }
}

impl Volume for MemoryVolume {
    fn info(&self) -> VolumeInfo {
        VolumeInfo {
            size_bytes: self.size_bytes,
            preferred_bytes: 4096,
            optimal_bytes: 64 << 10,
            read_only: false,
        }
    }

    fn read(&self, offset_bytes: u64, len_bytes: u64) -> LocalFuture<'_, Result<Vec<Bytes>>> {
        Box::pin(async move { self.read_now(offset_bytes, len_bytes) })
    }

    fn write(&self, offset_bytes: u64, data: Bytes, _: Durability) -> LocalFuture<'_, Result<()>> {
        Box::pin(async move { self.write_now(offset_bytes, &data) })
    }

    fn write_zeroes(
        &self,
        offset_bytes: u64,
        len_bytes: u64,
        options: ZeroOptions,
    ) -> LocalFuture<'_, Result<()>> {
        Box::pin(async move { self.zero_now(offset_bytes, len_bytes, options) })
    }

    fn discard(&self, offset_bytes: u64, len_bytes: u64, _: Durability) -> LocalFuture<'_, Result<()>> {
        Box::pin(async move { self.zero_now(offset_bytes, len_bytes, ZeroOptions::default()) })
    }

    fn flush(&self) -> LocalFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn status(&self, offset_bytes: u64, len_bytes: u64) -> LocalFuture<'_, Result<Vec<Extent>>> {
        Box::pin(async move { self.status_now(offset_bytes, len_bytes) })
    }
}
