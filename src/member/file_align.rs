//! Pieces as O_DIRECT wants them: whole pages, in whole pages of memory.

use crate::env::BufferPool;
use bytes::Bytes;

const PAGE_BYTES: usize = 4096;

/// The same bytes in pieces that are aligned in memory and in length, given that all of them
/// together are whole pages. Aligned pieces pass as they are; only runs of others are copied.
pub(super) fn align_pieces(pieces: Vec<Bytes>, buffers: &BufferPool) -> Vec<Bytes> {
    if pieces.iter().all(is_aligned) {
        return pieces;
    }
    let mut aligned = Vec::with_capacity(pieces.len());
    let mut run: Vec<Bytes> = Vec::new();
    let mut run_len = 0;
    for piece in pieces {
        if run.is_empty() && is_aligned(&piece) {
            aligned.push(piece);
            continue;
        }
        run_len += piece.len();
        run.push(piece);
        if run_len.is_multiple_of(PAGE_BYTES) {
            aligned.push(copy(&mut run, run_len, buffers));
            run_len = 0;
        }
    }
    if !run.is_empty() {
        aligned.push(copy(&mut run, run_len, buffers));
    }
    aligned
}

fn is_aligned(piece: &Bytes) -> bool {
    piece.len().is_multiple_of(PAGE_BYTES) && (piece.as_ptr() as usize).is_multiple_of(PAGE_BYTES)
}

fn copy(run: &mut Vec<Bytes>, len: usize, buffers: &BufferPool) -> Bytes {
    let mut buffer = buffers.take(len);
    let mut rest: &mut [u8] = &mut buffer;
    for piece in run.drain(..) {
        let (head, tail) = rest.split_at_mut(piece.len());
        head.copy_from_slice(&piece);
        rest = tail;
    }
    buffer.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unaligned_runs_are_copied_and_the_bytes_stay_in_order() {
        let pool = BufferPool::new(1 << 20);
        let page = |fill: u8| {
            let mut buffer = pool.take(PAGE_BYTES);
            buffer.fill(fill);
            buffer.freeze()
        };
        let odd: Bytes = page(9).slice(1..);
        let pieces = vec![page(1), odd, Bytes::from_static(b"x"), page(2), Bytes::new(), page(3)];
        let whole: Vec<u8> = pieces.iter().flatten().copied().collect();
        let kept = [pieces[0].as_ptr(), pieces[3].as_ptr(), pieces[5].as_ptr()];
        let aligned = align_pieces(pieces, &pool);
        assert!(aligned.iter().all(|p| p.is_empty() || is_aligned(p)));
        assert_eq!(aligned.iter().flatten().copied().collect::<Vec<_>>(), whole);
        for pointer in kept {
            assert!(aligned.iter().any(|p| p.as_ptr() == pointer), "an aligned piece was copied");
        }
    }
}
