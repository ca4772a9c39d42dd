//! What a scrub finds.

use crate::units::{Slot, StripeIndex};
use serde::{Deserialize, Serialize};

/// What is wrong with a block of 4096 bytes on a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// The member cannot read it.
    Unreadable,
    /// It does not match its checksum.
    ChecksumMismatch,
    /// It matches its checksum, but not the rest of its row: parity that is not that of its data, or
    /// data that all parity contradicts.
    ParityMismatch,
}

/// A range of the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VolumeRange {
    /// Where it begins.
    pub offset_bytes: u64,
    /// How long it is.
    pub len_bytes: u64,
}

/// A damaged block of 4096 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Slot of the member that lies.
    pub slot: Slot,
    /// Its path.
    pub path: String,
    /// The stripe the block belongs to.
    pub stripe: StripeIndex,
    /// Its shard in the stripe: data `0..k`, parity `k..k + m`.
    pub shard: usize,
    /// Where it begins, from the start of the member.
    pub offset_bytes: u64,
    /// What it is of the volume; nothing if it is parity, or lies beyond the volume's end.
    pub volume: Option<VolumeRange>,
    /// What is wrong with it.
    pub what: Damage,
    /// It was written anew and read back as it should be.
    pub repaired: bool,
}

impl VolumeRange {
    /// The first byte after it.
    pub fn end_bytes(&self) -> u64 {
        self.offset_bytes.saturating_add(self.len_bytes)
    }

    /// The part of it before `end_bytes`, if there is one.
    #[must_use]
    pub fn before(self, end_bytes: u64) -> Option<Self> {
        let len_bytes = self.end_bytes().min(end_bytes).checked_sub(self.offset_bytes)?;
        (len_bytes > 0).then_some(Self { len_bytes, ..self })
    }

    /// The same bytes in ascending ranges that do not touch.
    pub fn merge(mut ranges: Vec<Self>) -> Vec<Self> {
        ranges.sort_unstable();
        let mut merged: Vec<Self> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if last.end_bytes() >= range.offset_bytes => {
                    last.len_bytes = last.end_bytes().max(range.end_bytes()) - last.offset_bytes;
                }
                _ => merged.push(range),
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(offset_bytes: u64, len_bytes: u64) -> VolumeRange {
        VolumeRange { offset_bytes, len_bytes }
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let all = vec![range(8, 4), range(0, 4), range(4, 4), range(20, 4), range(21, 1)];
        assert_eq!(VolumeRange::merge(all), [range(0, 12), range(20, 4)]);
    }

    #[test]
    fn a_range_ends_with_the_volume() {
        assert_eq!(range(4, 8).before(20), Some(range(4, 8)));
        assert_eq!(range(4, 8).before(6), Some(range(4, 2)));
        assert_eq!((range(4, 8).before(4), range(4, 8).before(0)), (None, None));
    }
}
