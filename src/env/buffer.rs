//! Pooled buffers aligned for O_DIRECT.
//!
//! A buffer is a run of whole 4 KiB pages with a byte length. Dropping it (or the last `Bytes`
//! made of it) returns its pages to the pool, which keeps at most a configured number of bytes.

use bytemuck::{Pod, Zeroable};
use bytes::Bytes;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

const PAGE_BYTES: usize = 4096;
const CLASSES: usize = 16;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(4096))]
struct Page([u8; PAGE_BYTES]);

type Pages = Box<[Page]>;

struct Shelf {
    /// Free runs of `1 << class` pages.
    classes: [Vec<Pages>; CLASSES],
    kept_bytes: usize,
}

struct Shared {
    shelf: Mutex<Shelf>,
    keep_bytes: usize,
}

/// A pool of page-aligned buffers; clone freely.
#[derive(Clone)]
pub struct BufferPool(Arc<Shared>);

impl BufferPool {
    /// A pool that keeps at most `keep_bytes` of free buffers.
    pub fn new(keep_bytes: usize) -> Self {
        let shelf = Shelf { classes: Default::default(), kept_bytes: 0 };
        Self(Arc::new(Shared { shelf: Mutex::new(shelf), keep_bytes }))
    }

    /// A buffer of `len` bytes whose content is unspecified (old bytes of this process, or zero).
    pub fn take(&self, len: usize) -> Buffer {
        let pages = len.div_ceil(PAGE_BYTES).max(1);
        let class = class_of(pages);
        let run = class.and_then(|c| self.pop(c));
        let pages = run.unwrap_or_else(|| {
            let count = class.map_or(pages, |c| 1 << c);
            bytemuck::allocation::zeroed_slice_box(count)
        });
        Buffer { pages, len, pool: self.clone() }
    }

    /// A buffer of `len` zero bytes.
    pub fn take_zeroed(&self, len: usize) -> Buffer {
        let mut buffer = self.take(len);
        buffer.fill(0);
        buffer
    }

    fn pop(&self, class: usize) -> Option<Pages> {
        let mut shelf = self.0.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let pages = shelf.classes.get_mut(class)?.pop()?;
        shelf.kept_bytes -= pages.len() * PAGE_BYTES;
        Some(pages)
    }

    fn put(&self, pages: Pages) {
        let Some(class) = class_of(pages.len()) else { return };
        if pages.len() != 1 << class {
            return;
        }
        let bytes = pages.len() * PAGE_BYTES;
        let mut shelf = self.0.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.kept_bytes + bytes > self.0.keep_bytes {
            return;
        }
        if let Some(list) = shelf.classes.get_mut(class) {
            list.push(pages);
            shelf.kept_bytes += bytes;
        }
    }
}

/// The size class that holds `pages` pages: `1 << class >= pages`; `None` if too big to keep.
fn class_of(pages: usize) -> Option<usize> {
    let class = pages.max(1).next_power_of_two().trailing_zeros() as usize;
    (class < CLASSES).then_some(class)
}

/// An owned, page-aligned run of bytes from a [`BufferPool`].
pub struct Buffer {
    pages: Pages,
    len: usize,
    pool: BufferPool,
}

impl Buffer {
    /// Freezes the buffer into cheaply shareable, sliceable bytes; the pages return to the pool
    /// when the last slice is dropped.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// Shortens the buffer to `len` bytes; no effect if it is shorter already.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let bytes: &[u8] = bytemuck::cast_slice(&self.pages);
        bytes.get(..self.len).unwrap_or(bytes)
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.pages);
        let len = self.len.min(bytes.len());
        &mut bytes[..len]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let pages = std::mem::take(&mut self.pages);
        if !pages.is_empty() {
            self.pool.put(pages);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_come_back_to_the_pool_within_its_bound() {
        let pool = BufferPool::new(64 << 10);
        let first = pool.take(10_000);
        assert_eq!(first.len(), 10_000);
        assert_eq!(first.as_ptr() as usize % PAGE_BYTES, 0);
        let address = first.as_ptr() as usize;
        let bytes = first.freeze();
        let tail = bytes.slice(5000..);
        drop(bytes);
        assert_ne!(pool.take(10_000).as_ptr() as usize, address, "a slice still holds the pages");
        drop(tail);
        let many: Vec<_> = (0..10).map(|_| pool.take(16 << 10)).collect();
        assert!(many.iter().any(|b| b.as_ptr() as usize == address));
        drop(many);
        assert!(pool.0.shelf.lock().unwrap().kept_bytes <= 64 << 10);
    }
}
