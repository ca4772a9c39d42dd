//! Little-endian fields one after another: a reader that cannot run past the end, and a writer.

use crate::error::{Error, ErrorKind, Result};

/// Reads fields in order.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (field, rest) = self.rest.split_first_chunk::<N>().ok_or_else(truncated)?;
        self.rest = rest;
        Ok(*field)
    }

    pub(super) fn skip(&mut self, count: usize) -> Result<()> {
        self.rest = self.rest.get(count..).ok_or_else(truncated)?;
        Ok(())
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}

fn truncated() -> Error {
    Error::new(ErrorKind::Corrupt, "structure is cut short")
}

/// Writes fields in order.
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Makes room for so many more bytes at once.
    pub(super) fn reserve(&mut self, additional: usize) {
        self.bytes.reserve(additional);
    }

    pub(super) fn put(&mut self, field: &[u8]) {
        self.bytes.extend_from_slice(field);
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.put(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    /// Zeroes up to offset `end`.
    pub(super) fn pad_to(&mut self, end: usize) {
        debug_assert!(self.bytes.len() <= end, "{} bytes do not fit before {end}", self.bytes.len());
        self.bytes.resize(end, 0);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}
