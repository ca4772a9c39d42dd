//! The checksum of one block.
//!
//! An entry of a checksum table is CRC32C over the block's 4096 bytes, mixed with the member's slot
//! and the block's number on the member, so that a block that was written to another place, or came
//! from another member, does not match. Two values are set apart; a checksum that would be one
//! of them gives way by one bit.

use crate::format::crc32c;
use crate::mutation::{Protection, without};
use crate::units::{BLOCK_BYTES, Slot};

/// The block reads as zeroes, whatever is on the media.
pub const ZERO: u32 = 0;
/// Nothing is known of the block: only the other members can say what belongs there.
pub const UNKNOWN: u32 = u32::MAX;

/// The entry for a block of 4096 bytes, which is the `block`-th of the data area in `slot`.
pub fn sum(slot: Slot, block: u64, bytes: &[u8]) -> u32 {
    seal(slot, block, crc32c(bytes))
}

/// The entry for a block whose CRC32C is known.
pub fn seal(slot: Slot, block: u64, crc: u32) -> u32 {
    match crc ^ mark(slot, block) {
        ZERO => 1,
        UNKNOWN => UNKNOWN - 1,
        sum => sum,
    }
}

/// What a place mixes into its checksum (the finaliser of SplitMix64: every bit of the place
/// changes half of the mark's).
fn mark(slot: Slot, block: u64) -> u32 {
    let slot = if without(Protection::SlotInChecksum) { Slot(0) } else { slot };
    let block = if without(Protection::BlockInChecksum) { 0 } else { block };
    let mut z = (u64::from(slot.0) << 56 ^ block).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    let [a, b, c, d, ..] = (z ^ z >> 31).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Makes what was read from `first` on what it is to be: blocks that are zero become so. Says
/// which blocks (counted from `first`) are not what `entries` say.
pub fn judge(slot: Slot, first: u64, entries: &[u32], bytes: &mut [u8]) -> Vec<usize> {
    let blocks = bytes.chunks_exact_mut(usize::try_from(BLOCK_BYTES).unwrap_or(4096));
    let mut bad = Vec::new();
    for (i, (block, entry)) in blocks.zip(entries).enumerate() {
        match *entry {
            ZERO => block.fill(0),
            UNKNOWN => bad.push(i),
            _ if without(Protection::BlockChecksum) => {}
            entry if sum(slot, first + i as u64, block) != entry => bad.push(i),
            _ => {}
        }
    }
    bad
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_matches_only_in_its_own_place() {
        let bytes = [7; 4096];
        let here = sum(Slot(1), 10, &bytes);
        assert_eq!(here, sum(Slot(1), 10, &bytes));
        for (slot, block) in [(0, 10), (2, 10), (1, 9), (1, 11), (1, 10 + (1 << 32))] {
            assert_ne!(here, sum(Slot(slot), block, &bytes), "{slot} {block}");
        }
        let mut other = bytes;
        other[4095] ^= 1;
        assert_ne!(here, sum(Slot(1), 10, &other));
    }

    #[test]
    fn no_block_has_a_checksum_that_says_something_else() {
        let place = (Slot(3), 77);
        let mark = mark(place.0, place.1);
        assert_eq!(seal(place.0, place.1, mark), 1);
        assert_eq!(seal(place.0, place.1, !mark), UNKNOWN - 1);
        assert_ne!(sum(place.0, place.1, &[0; 4096]), ZERO);
    }

    #[test]
    fn what_was_read_is_judged_block_by_block() {
        let mut bytes = vec![9; 4 * 4096];
        let good = |i: u64| sum(Slot(0), 100 + i, &[9; 4096]);
        let entries = [good(0), ZERO, UNKNOWN, good(3) ^ 1];
        assert_eq!(judge(Slot(0), 100, &entries, &mut bytes), [2, 3]);
        assert_eq!((bytes[0], bytes[4096], bytes[2 * 4096]), (9, 0, 9));
    }
}
