//! Which rows of which chunks a piece of a request touches (pure).
//!
//! A contiguous piece of a stripe covers the tail of its first chunk, whole chunks, and the head
//! of its last. Cut at those two borders, the rows fall into at most three segments, each with
//! one set of chunks for all of its rows:
//!
//! ```text
//!           D0   D1   D2   D3
//!   row 0   .    #    #    .     segment 0: chunks 1..3
//!   row 1   .    #    #    .
//!   row 2   .    #    .    .     segment 1: chunk 1
//!   row 3   #    #    .    .     segment 2: chunks 0..2
//! ```

use crate::geometry::Shape;
use std::ops::Range;

/// Some rows (byte range within the chunk) and the data chunks touched in all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Bytes from the start of each chunk.
    pub rows: Range<u64>,
    /// Data chunk numbers.
    pub chunks: Range<usize>,
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

/// Cuts a non-empty range of a stripe's data into segments, in row order.
pub fn segments(shape: &Shape, start: u64, end: u64) -> Vec<Segment> {
    let chunks = chunks_of(shape, start, end);
    let first = rows_of(shape, start, end, chunks.start);
    let last = rows_of(shape, start, end, chunks.end - 1);
    let mut cuts = vec![0, first.start, first.end, last.start, last.end, shape.chunk_bytes()];
    cuts.sort_unstable();
    cuts.dedup();
    let mut found: Vec<Segment> = Vec::with_capacity(3);
    for cut in cuts.windows(2) {
        let rows = cut[0]..cut[1];
        let touched = |c: &usize| {
            let r = rows_of(shape, start, end, *c);
            r.start <= rows.start && rows.end <= r.end
        };
        let Some(lo) = chunks.clone().find(touched) else { continue };
        let hi = chunks.clone().rev().find(touched).map_or(lo, |c| c);
        match found.last_mut() {
            Some(s) if s.chunks == (lo..hi + 1) && s.rows.end == rows.start => s.rows.end = rows.end,
            _ => found.push(Segment { rows, chunks: lo..hi + 1 }),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn segments_cover_exactly_the_range(k in 1u8..7, a in 0u64..448, b in 0u64..448) {
            let shape = Shape::new(k, 2, 65536).unwrap();
            let limit = shape.stripe_bytes() / 1024;
            let (start, end) = (a.min(b).min(limit - 1) * 1024, (a.max(b).min(limit - 1) + 1) * 1024);
            let mut seen = vec![vec![0u8; 64]; usize::from(k)];
            for s in segments(&shape, start, end) {
                for c in s.chunks.clone() {
                    for r in s.rows.start / 1024..s.rows.end / 1024 {
                        seen[c][usize::try_from(r).unwrap()] += 1;
                    }
                }
            }
            for (c, rows) in seen.iter().enumerate() {
                for (r, count) in rows.iter().enumerate() {
                    let at = c as u64 * 65536 + r as u64 * 1024;
                    prop_assert_eq!(*count, u8::from((start..end).contains(&at)));
                }
            }
        }
    }

    #[test]
    fn an_aligned_part_is_one_segment() {
        let shape = Shape::new(4, 2, 65536).unwrap();
        assert_eq!(segments(&shape, 65536, 3 * 65536), [Segment { rows: 0..65536, chunks: 1..3 }]);
        assert_eq!(segments(&shape, 4096, 8192), [Segment { rows: 4096..8192, chunks: 0..1 }]);
    }
}
