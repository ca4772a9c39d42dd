//! What every byte of the volume should be: pseudo-random, a function of its block's number and of
//! how often the block was written, so that a block in the wrong place or from the past is seen.

use crate::units::BLOCK_BYTES;
use std::ops::Range;

/// Bytes per block.
const BLOCK: usize = 4096;
const _: () = assert!(BLOCK as u64 == BLOCK_BYTES, "a block is a block");

/// The expected contents of the volume's first blocks.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// How often each block was written.
    generations: Vec<u8>,
}

impl Pattern {
    /// Of so many blocks, none of them written.
    pub fn new(blocks: usize) -> Self {
        Self { generations: vec![0; blocks] }
    }

    /// From now on these blocks are expected to have new contents.
    pub fn advance(&mut self, blocks: Range<usize>) {
        for generation in self.generations.get_mut(blocks).unwrap_or_default() {
            *generation = generation.wrapping_add(1);
        }
    }

    /// Fills `bytes` with what should be there from `block` on.
    pub fn fill(&self, block: usize, bytes: &mut [u8]) {
        for (i, chunk) in bytes.chunks_mut(BLOCK).enumerate() {
            let number = block + i;
            let generation = self.generations.get(number).copied().unwrap_or(0);
            if generation == 0 {
                chunk.fill(0);
                continue;
            }
            let mut seed = mix((number as u64) << 8 | u64::from(generation));
            for word in chunk.chunks_mut(8) {
                seed = step(seed);
                for (byte, value) in word.iter_mut().zip(seed.to_le_bytes()) {
                    *byte = value;
                }
            }
        }
    }

    /// Number of the first byte of `bytes`, read from `block` on, that is not what it should be;
    /// `room` is scratch space.
    pub fn first_difference(&self, block: usize, bytes: &[u8], room: &mut Vec<u8>) -> Option<u64> {
        room.resize(bytes.len(), 0);
        self.fill(block, room);
        if bytes == room.as_slice() {
            return None;
        }
        let at = bytes.iter().zip(room.iter()).position(|(a, b)| a != b)?;
        Some(block as u64 * BLOCK_BYTES + at as u64)
    }
}

/// xorshift64: one word of the block from the one before.
fn step(mut x: u64) -> u64 {
    x ^= x << 13;
    x ^= x >> 7;
    x ^ (x << 17)
}

/// splitmix64: spreads neighbouring numbers far apart; never 0, on which xorshift would stay.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_differs_from_its_neighbour_and_from_its_past() {
        let mut pattern = Pattern::new(4);
        let block = |pattern: &Pattern, n| {
            let mut bytes = vec![1; BLOCK];
            pattern.fill(n, &mut bytes);
            bytes
        };
        assert_eq!(block(&pattern, 1), vec![0; BLOCK]);
        pattern.advance(0..4);
        let first = block(&pattern, 1);
        assert_ne!(first, block(&pattern, 2));
        assert_eq!(first, block(&pattern.clone(), 1));
        pattern.advance(1..2);
        assert_ne!(first, block(&pattern, 1));
        assert_eq!(pattern.generations, [1, 2, 1, 1]);
    }

    #[test]
    fn the_first_wrong_byte_is_named() {
        let mut pattern = Pattern::new(4);
        pattern.advance(0..4);
        let mut bytes = vec![0; 2 * BLOCK];
        pattern.fill(2, &mut bytes);
        let mut room = Vec::new();
        assert_eq!(pattern.first_difference(2, &bytes, &mut room), None);
        bytes[BLOCK + 5] ^= 1;
        bytes[BLOCK + 9] ^= 1;
        assert_eq!(pattern.first_difference(2, &bytes, &mut room), Some(3 * BLOCK_BYTES + 5));
    }
}
