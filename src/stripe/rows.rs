//! Which rows of which chunks a piece of a request, or a set of blocks, touches (pure).
//!
//! Rows in which the same chunks are overwritten make a segment, and have one plan:
//!
//! ```text
//!           D0   D1   D2   D3
//!   row 0   .    #    #    .     segment 0: chunks 1, 2
//!   row 1   .    #    #    .
//!   row 2   .    #    .    .     segment 1: chunk 1
//!   row 3   #    .    #    .     segment 2: chunks 0, 2
//! ```

use crate::geometry::Shape;
use crate::units::BLOCK_BYTES;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Some rows (byte range within the chunk) and the data chunks overwritten in all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Bytes from the start of each chunk.
    pub rows: Range<u64>,
    /// Data chunk numbers, ascending.
    pub chunks: Vec<usize>,
}

impl Segment {
    /// The segment, row by row.
    pub fn by_row(&self) -> Vec<Self> {
        let rows = self.rows.clone().step_by(usize::try_from(BLOCK_BYTES).unwrap_or(4096));
        rows.map(|row| Self { rows: row..row + BLOCK_BYTES, chunks: self.chunks.clone() }).collect()
    }
}

/// The rows of data chunk `chunk` that the range `start..end` of a stripe's data covers.
pub fn rows_of(shape: &Shape, start: u64, end: u64, chunk: usize) -> Range<u64> {
    let base = chunk as u64 * shape.chunk_bytes();
    let lo = start.max(base).min(base + shape.chunk_bytes());
    let hi = end.min(base + shape.chunk_bytes()).max(lo);
    lo - base..hi - base
}

/// The data chunks that the range `start..end` of a stripe's data touches.
pub fn chunks_of(shape: &Shape, start: u64, end: u64) -> Range<usize> {
    let index = |at: u64| usize::try_from(at / shape.chunk_bytes()).unwrap_or(usize::MAX);
    index(start)..index(end - 1) + 1
}

/// The segments that blocks of a stripe make: `(chunk, offset in the chunk)` of each.
pub fn segments(blocks: impl Iterator<Item = (usize, u64)>) -> Vec<Segment> {
    let mut rows: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
    for (chunk, row) in blocks {
        rows.entry(row).or_default().insert(chunk);
    }
    let mut found: Vec<Segment> = Vec::new();
    for (row, chunks) in rows {
        let chunks: Vec<usize> = chunks.into_iter().collect();
        match found.last_mut() {
            Some(s) if s.chunks == chunks && s.rows.end == row => s.rows.end = row + BLOCK_BYTES,
            _ => found.push(Segment { rows: row..row + BLOCK_BYTES, chunks }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_the_same_chunks_are_one_segment() {
        let b = BLOCK_BYTES;
        let blocks = [(1, 0), (2, 0), (2, b), (1, b), (1, 2 * b), (0, 3 * b), (2, 3 * b), (2, 5 * b)];
        let found = segments(blocks.into_iter());
        let segment = |rows: Range<u64>, chunks: &[usize]| Segment {
            rows: rows.start * b..rows.end * b,
            chunks: chunks.to_vec(),
        };
        assert_eq!(
            found,
            [segment(0..2, &[1, 2]), segment(2..3, &[1]), segment(3..4, &[0, 2]), segment(5..6, &[2])]
        );
    }
}
