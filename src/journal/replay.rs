//! What the records of a log mean together (pure).
//!
//! Read in order, each record changes what is to be done:
//!
//! ```text
//!   record   staged blocks                  parity to redo             stripes to resync
//!   Data     + block at its version         -                          -
//!   Parity   - its pieces at that version   rows replaced, and the     -
//!                                           pieces' bytes with them
//!   Open     - versions up to the limit     forgotten for the stripes  + the stripes
//!   Zero     - versions up to the limit     forgotten for the stripes  -
//! ```
//!
//! A Parity record names blocks by version. One whose Data record lies before the tail is home
//! already, durably: only its parity is redone, which does no harm.

use crate::format::{ParityRow, Piece, Record};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A block that was answered and is not home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedBlock {
    /// Which of the block's contents.
    pub version: u64,
    /// 4096 bytes.
    pub bytes: Bytes,
    /// The frame that holds it.
    pub seq: u64,
}

/// What to write home in one stripe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redo {
    /// Data, by block of the volume.
    pub data: BTreeMap<u64, Bytes>,
    /// Parity, by shard and block within the chunk.
    pub parity: BTreeMap<(u8, u32), Bytes>,
}

/// What is to be done after a crash.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Blocks to stage again.
    pub staged: BTreeMap<u64, StagedBlock>,
    /// By stripe: what was on its way home.
    pub redo: BTreeMap<u64, Redo>,
    /// Stripes that were being written whole: their parity may be behind.
    pub resync: BTreeSet<u64>,
    /// The highest version seen.
    pub last_version: u64,
}

/// Folds records together.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// Every version still in the log, by (block, version).
    versions: HashMap<(u64, u64), Bytes>,
    so_far: Replayed,
    /// Blocks of a stripe.
    stripe_blocks: u64,
}

impl Replay {
    /// A replay for stripes of so many blocks of data.
    pub fn new(stripe_blocks: u64) -> Self {
        Self { stripe_blocks: stripe_blocks.max(1), ..Self::default() }
    }

    /// Takes the next record, of frame `seq`.
    pub fn take(&mut self, seq: u64, record: Record) {
        match record {
            Record::Data { version, block, bytes } => {
                self.saw(version);
                for (i, bytes) in (0..).zip(bytes.chunks(4096).map(|c| bytes.slice_ref(c))) {
                    let block = block + i;
                    self.versions.insert((block, version), bytes.clone());
                    self.so_far.staged.insert(block, StagedBlock { version, bytes, seq });
                }
            }
            Record::Parity(parity) => {
                let redo = self.so_far.redo.entry(parity.stripe).or_default();
                for Piece { block, version, .. } in parity.pieces {
                    if let Some(bytes) = self.versions.get(&(block, version)) {
                        redo.data.insert(block, bytes.clone());
                    }
                    if self.so_far.staged.get(&block).is_some_and(|s| s.version == version) {
                        self.so_far.staged.remove(&block);
                    }
                }
                for ParityRow { shard, row_block, bytes } in parity.rows {
                    redo.parity.insert((shard, row_block), bytes);
                }
            }
            Record::Open { first_stripe, count, up_to_version, .. } => {
                self.forget(first_stripe, count, up_to_version);
                self.so_far.resync.extend(first_stripe..first_stripe.saturating_add(count));
            }
            Record::Zero { first_stripe, count, up_to_version } => {
                self.forget(first_stripe, count, up_to_version);
            }
        }
    }

    /// Nothing of these stripes is to be redone, or staged up to this version.
    fn forget(&mut self, first_stripe: u64, count: u64, up_to_version: u64) {
        self.saw(up_to_version);
        for stripe in first_stripe..first_stripe.saturating_add(count) {
            self.so_far.redo.remove(&stripe);
            let blocks = stripe.saturating_mul(self.stripe_blocks);
            let blocks = blocks..blocks.saturating_add(self.stripe_blocks);
            let staged = self.so_far.staged.range(blocks);
            let old: Vec<u64> = staged.filter(|(_, s)| s.version <= up_to_version).map(|(b, _)| *b).collect();
            for block in old {
                self.so_far.staged.remove(&block);
            }
        }
    }

    /// The outcome.
    pub fn finish(self) -> Replayed {
        self.so_far
    }

    fn saw(&mut self, version: u64) {
        self.so_far.last_version = self.so_far.last_version.max(version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ParityRecord;

    fn data(version: u64, block: u64, fill: u8) -> Record {
        Record::Data { version, block, bytes: Bytes::from(vec![fill; 4096]) }
    }

    fn parity(stripe: u64, pieces: &[(u64, u64)], fill: u8) -> Record {
        let rows = vec![ParityRow { shard: 4, row_block: 0, bytes: Bytes::from(vec![fill; 4096]) }];
        let pieces = pieces.iter().map(|(block, version)| Piece { block: *block, version: *version, crc: 0 });
        Record::Parity(ParityRecord { stripe, fresh: false, pieces: pieces.collect(), rows })
    }

    fn open(first_stripe: u64, count: u64, up_to_version: u64) -> Record {
        Record::Open { first_stripe, count, up_to_version, fresh: false, crcs: Vec::new() }
    }

    fn zero(first_stripe: u64, count: u64, up_to_version: u64) -> Record {
        Record::Zero { first_stripe, count, up_to_version }
    }

    /// Stripes of 8 blocks: blocks 8 to 15 are those of stripe 1.
    fn replay(records: Vec<Record>) -> Replayed {
        let mut replay = Replay::new(8);
        for (seq, record) in (1..).zip(records) {
            replay.take(seq, record);
        }
        replay.finish()
    }

    fn staged(r: &Replayed) -> Vec<(u64, u64)> {
        r.staged.iter().map(|(b, s)| (*b, s.version)).collect()
    }

    #[test]
    fn every_row_of_the_table() {
        // Data: the newest version is staged.
        let r = replay(vec![data(1, 8, 0xA1), data(2, 8, 0xA2), data(3, 9, 0xA3)]);
        assert_eq!(staged(&r), [(8, 2), (9, 3)]);
        assert_eq!((r.redo.len(), r.resync.len(), r.last_version), (0, 0, 3));

        // Parity: what goes home is redone and staged no more.
        let r = replay(vec![data(1, 8, 0xA1), data(2, 9, 0xA2), parity(1, &[(8, 1)], 0xB0)]);
        assert_eq!(staged(&r), [(9, 2)]);
        assert_eq!(r.redo[&1].data[&8][0], 0xA1);
        assert_eq!(r.redo[&1].parity[&(4, 0)][0], 0xB0);

        // A block written again while it was going home stays staged at its newer version.
        let r = replay(vec![data(1, 8, 0xA1), data(2, 8, 0xA2), parity(1, &[(8, 1)], 0xB0)]);
        assert_eq!(staged(&r), [(8, 2)]);
        assert_eq!(r.redo[&1].data[&8][0], 0xA1, "home gets what the parity was made for");

        // Parity again: the later rows and bytes count.
        let again = vec![data(1, 8, 1), parity(1, &[(8, 1)], 2), data(2, 8, 3), parity(1, &[(8, 2)], 4)];
        let r = replay(again);
        assert_eq!((r.redo[&1].data[&8][0], r.redo[&1].parity[&(4, 0)][0]), (3, 4));

        // Parity of a version from before the tail: parity alone.
        let r = replay(vec![parity(1, &[(8, 1)], 0xB0)]);
        assert_eq!((r.redo[&1].data.len(), r.redo[&1].parity.len()), (0, 1));

        // Open: earlier versions and redo of these stripes are void, later versions are not.
        let records =
            vec![data(1, 8, 1), parity(1, &[(8, 1)], 2), data(2, 9, 3), open(1, 2, 1), data(3, 16, 4)];
        let r = replay(records);
        assert_eq!(staged(&r), [(9, 2), (16, 3)]);
        assert_eq!((r.redo.len(), r.resync.iter().copied().collect::<Vec<_>>()), (0, vec![1, 2]));

        // Zero: the same, and nothing to resync.
        let records =
            vec![data(1, 8, 1), parity(1, &[(8, 1)], 2), data(2, 9, 3), zero(1, 2, 1), data(3, 16, 4)];
        let r = replay(records);
        assert_eq!(staged(&r), [(9, 2), (16, 3)]);
        assert_eq!((r.redo.len(), r.resync.len(), r.last_version), (0, 0, 3));

        // Parity after Open is redone.
        let r = replay(vec![open(1, 1, 0), data(1, 8, 1), parity(1, &[(8, 1)], 2)]);
        assert_eq!((r.redo.len(), r.resync.len()), (1, 1));
    }
}
