//! What the records of a log mean together (pure).
//!
//! Read in order, each record changes what is to be done:
//!
//! ```text
//!   record        staged blocks                  the stripe's redo
//!   Data          + block at its version         -
//!   Parity        - its pieces at that version   pieces and rows replace what was logged of them
//!   Parity fresh  - its pieces at that version   begins anew, all zero; then the same
//!   Open          - versions up to the limit     begins anew, opened; what it was before is kept
//!   Zero          - versions up to the limit     begins anew, unallocated
//! ```
//!
//! A Parity record names blocks by version. One whose Data record lies before the tail is home
//! already, durably: only its checksum and its parity are redone, which does no harm.

use crate::format::{OpenRecord, ParityRecord, ParityRow, Piece, Record};
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

/// A block of data that was on its way home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underway {
    /// What the checksum table is to say of it.
    pub sum: u32,
    /// 4096 bytes; none if it is home durably.
    pub bytes: Option<Bytes>,
}

/// Blocks of a stripe that were on their way home.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Data, by block of the volume.
    pub data: BTreeMap<u64, Underway>,
    /// Parity, by shard and block within the chunk.
    pub parity: BTreeMap<(u8, u32), Bytes>,
    /// Rows, by block within the chunk, of which data was brought home without parity: it is not known.
    pub bare: BTreeSet<u32>,
}

/// What a stripe was before the changes that the log knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Start {
    /// What the members' tables say.
    #[default]
    AsItIs,
    /// It was unallocated, or made so: all zero.
    Zero,
    /// It was being written whole.
    Opened(Box<Opened>),
}

/// A stripe that was being written whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What the checksum tables are to say: shard after shard, block after block.
    pub sums: Vec<u32>,
    /// Of which of them they said so before; none at all if of none.
    pub same: Vec<bool>,
    /// What they said before, if that is in the log too.
    pub before: Option<Vec<u32>>,
    /// It was all zero before.
    pub was_zero: bool,
    /// What was changed before, beyond that.
    pub changed: Changes,
}

/// What is to be done in one stripe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redo {
    /// The state to begin with.
    pub start: Start,
    /// It ends up unallocated.
    pub unallocated: bool,
    /// What to write over it.
    pub changes: Changes,
}

/// What is to be done after a crash.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Blocks to stage again.
    pub staged: BTreeMap<u64, StagedBlock>,
    /// By stripe: what was on its way home.
    pub redo: BTreeMap<u64, Redo>,
    /// The highest version seen.
    pub last_version: u64,
}

/// Folds records together.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// Every version still in the log, by (block, version).
    versions: HashMap<(u64, u64), Bytes>,
    so_far: Replayed,
    /// Blocks of data in a stripe.
    stripe_blocks: u64,
    /// Blocks of a chunk.
    chunk_blocks: u64,
}

impl Replay {
    /// A replay for stripes, and chunks, of so many blocks of data.
    pub fn new(stripe_blocks: u64, chunk_blocks: u64) -> Self {
        let (stripe_blocks, chunk_blocks) = (stripe_blocks.max(1), chunk_blocks.max(1));
        Self { stripe_blocks, chunk_blocks, ..Self::default() }
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
            Record::Parity(parity) => self.go_home(parity),
            Record::Open(record) => self.open_all(&record),
            Record::Zero { first_stripe, count, up_to_version } => {
                self.void(first_stripe, count, up_to_version);
                for stripe in first_stripe..first_stripe.saturating_add(count) {
                    let redo = Redo { start: Start::Zero, unallocated: true, ..Redo::default() };
                    self.so_far.redo.insert(stripe, redo);
                }
            }
        }
    }

    fn go_home(&mut self, parity: ParityRecord) {
        let redo = self.so_far.redo.entry(parity.stripe).or_default();
        if parity.fresh {
            *redo = Redo { start: Start::Zero, ..Redo::default() };
        }
        for Piece { block, version, crc } in parity.pieces {
            let bytes = self.versions.get(&(block, version)).cloned();
            redo.changes.data.insert(block, Underway { sum: crc, bytes });
            let row = u32::try_from(block % self.stripe_blocks % self.chunk_blocks).unwrap_or(u32::MAX);
            // Parity whose member is lost by now is not logged anew, and that of before is not the row's.
            redo.changes.parity.retain(|(_, r), _| *r != row);
            if parity.bare {
                redo.changes.bare.insert(row);
            }
            if self.so_far.staged.get(&block).is_some_and(|s| s.version == version) {
                self.so_far.staged.remove(&block);
            }
        }
        for ParityRow { shard, row_block, bytes } in parity.rows {
            redo.changes.bare.remove(&row_block);
            redo.changes.parity.insert((shard, row_block), bytes);
        }
    }

    fn open_all(&mut self, record: &OpenRecord) {
        self.void(record.first_stripe, record.count, record.up_to_version);
        let per_stripe = record.crcs.len() / usize::try_from(record.count).unwrap_or(usize::MAX).max(1);
        let mut same = record.same.chunks(per_stripe.max(1));
        for (stripe, sums) in (record.first_stripe..).zip(record.crcs.chunks(per_stripe.max(1))) {
            let same = same.next().unwrap_or_default().to_vec();
            self.open(stripe, sums.to_vec(), same, record.fresh);
        }
    }

    fn open(&mut self, stripe: u64, sums: Vec<u32>, same: Vec<bool>, fresh: bool) {
        let old = self.so_far.redo.remove(&stripe).unwrap_or_default();
        let (before, was_zero) = match old.start {
            Start::AsItIs => (None, fresh),
            Start::Zero => (None, true),
            Start::Opened(opened) => (Some(opened.sums), fresh),
        };
        let opened = Opened { sums, same, before, was_zero, changed: old.changes };
        let redo = Redo { start: Start::Opened(Box::new(opened)), ..Redo::default() };
        self.so_far.redo.insert(stripe, redo);
    }

    /// Nothing is staged of these stripes up to this version.
    fn void(&mut self, first_stripe: u64, count: u64, up_to_version: u64) {
        self.saw(up_to_version);
        let block = |stripe: u64| stripe.saturating_mul(self.stripe_blocks);
        let blocks = block(first_stripe)..block(first_stripe.saturating_add(count));
        let staged = self.so_far.staged.range(blocks);
        let old: Vec<u64> = staged.filter(|(_, s)| s.version <= up_to_version).map(|(b, _)| *b).collect();
        for block in old {
            self.so_far.staged.remove(&block);
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

    fn data(version: u64, block: u64, fill: u8) -> Record {
        Record::Data { version, block, bytes: Bytes::from(vec![fill; 4096]) }
    }

    fn parity(stripe: u64, pieces: &[(u64, u64)], fill: u8) -> Record {
        parity_of(stripe, pieces, fill, false)
    }

    fn parity_of(stripe: u64, pieces: &[(u64, u64)], fill: u8, fresh: bool) -> Record {
        let rows = vec![ParityRow { shard: 4, row_block: 0, bytes: Bytes::from(vec![fill; 4096]) }];
        let piece = |(block, version): &(u64, u64)| Piece {
            block: *block,
            version: *version,
            crc: u32::try_from(*version).unwrap() + 100,
        };
        let pieces = pieces.iter().map(piece).collect();
        Record::Parity(ParityRecord { stripe, fresh, bare: false, pieces, rows })
    }

    /// Stripes have two sums each, `sum` and one more.
    fn open(first_stripe: u64, count: u64, up_to_version: u64, sum: u32) -> Record {
        let crcs = (0..count).flat_map(|_| [sum, sum + 1]).collect();
        Record::Open(OpenRecord { first_stripe, count, up_to_version, crcs, ..OpenRecord::default() })
    }

    fn zero(first_stripe: u64, count: u64, up_to_version: u64) -> Record {
        Record::Zero { first_stripe, count, up_to_version }
    }

    /// Stripes of 8 blocks, 2 to a chunk: blocks 8 to 15 are those of stripe 1.
    fn replay(records: Vec<Record>) -> Replayed {
        let mut replay = Replay::new(8, 2);
        for (seq, record) in (1..).zip(records) {
            replay.take(seq, record);
        }
        replay.finish()
    }

    fn staged(r: &Replayed) -> Vec<(u64, u64)> {
        r.staged.iter().map(|(b, s)| (*b, s.version)).collect()
    }

    /// First byte and sum of a block that goes home.
    fn home(r: &Replayed, block: u64) -> (Option<u8>, u32) {
        let piece = &r.redo[&(block / 8)].changes.data[&block];
        (piece.bytes.as_ref().map(|b| b[0]), piece.sum)
    }

    fn row(r: &Replayed, stripe: u64) -> Option<u8> {
        r.redo[&stripe].changes.parity.get(&(4, 0)).map(|b| b[0])
    }

    #[test]
    fn data_is_staged_at_its_newest_version() {
        let r = replay(vec![data(1, 8, 0xA1), data(2, 8, 0xA2), data(3, 9, 0xA3)]);
        assert_eq!(staged(&r), [(8, 2), (9, 3)]);
        assert_eq!((r.redo.len(), r.last_version), (0, 3));
    }

    #[test]
    fn what_goes_home_is_redone_and_staged_no_more() {
        let r = replay(vec![data(1, 8, 0xA1), data(2, 9, 0xA2), parity(1, &[(8, 1)], 0xB0)]);
        assert_eq!(staged(&r), [(9, 2)]);
        assert_eq!((home(&r, 8), row(&r, 1)), ((Some(0xA1), 101), Some(0xB0)));
        assert_eq!(r.redo[&1].start, Start::AsItIs);

        // A block written again while it was going home stays staged at its newer version.
        let r = replay(vec![data(1, 8, 0xA1), data(2, 8, 0xA2), parity(1, &[(8, 1)], 0xB0)]);
        assert_eq!(staged(&r), [(8, 2)]);
        assert_eq!(home(&r, 8), (Some(0xA1), 101), "home gets what the parity was made for");

        // Parity again: the later rows and bytes count.
        let again = vec![data(1, 8, 1), parity(1, &[(8, 1)], 2), data(2, 8, 3), parity(1, &[(8, 2)], 4)];
        let r = replay(again);
        assert_eq!((home(&r, 8), row(&r, 1)), ((Some(3), 102), Some(4)));

        // Parity of a version from before the tail: checksum and parity alone.
        let r = replay(vec![parity(1, &[(8, 1)], 0xB0)]);
        assert_eq!((home(&r, 8), row(&r, 1)), ((None, 101), Some(0xB0)));
    }

    #[test]
    fn parity_of_a_row_is_not_known_from_a_bare_record_to_the_next_with_parity() {
        let bare = |block, version| {
            let pieces = vec![Piece { block, version, crc: 9 }];
            Record::Parity(ParityRecord { stripe: 1, fresh: false, bare: true, pieces, rows: Vec::new() })
        };
        let rows = |r: &Replayed| r.redo[&1].changes.bare.iter().copied().collect::<Vec<_>>();
        let begun = vec![data(1, 8, 1), parity(1, &[(8, 1)], 2), data(2, 10, 3), bare(10, 2)];
        let r = replay(begun.clone());
        assert_eq!((rows(&r), row(&r, 1)), (vec![0], None));
        let more = vec![data(3, 9, 4), bare(9, 3), data(4, 12, 5), parity(1, &[(12, 4)], 6)];
        let r = replay(begun.into_iter().chain(more).collect());
        assert_eq!((rows(&r), row(&r, 1)), (vec![1], Some(6)));
    }

    #[test]
    fn parity_that_a_later_change_of_its_row_did_not_bring_is_not_the_rows() {
        let parity = |block, version, shards: &[u8]| {
            let row = |shard: &u8| ParityRow {
                shard: *shard,
                row_block: 0,
                bytes: Bytes::from(vec![*shard; 4096]),
            };
            let pieces = vec![Piece { block, version, crc: 9 }];
            let rows = shards.iter().map(row).collect();
            Record::Parity(ParityRecord { stripe: 1, fresh: false, bare: false, pieces, rows })
        };
        let r = replay(vec![data(1, 8, 1), parity(8, 1, &[4, 5]), data(2, 8, 2), parity(8, 2, &[5])]);
        assert_eq!(r.redo[&1].changes.parity.keys().copied().collect::<Vec<_>>(), [(5, 0)]);
    }

    #[test]
    fn a_fresh_stripe_begins_with_zeroes_whatever_came_before() {
        let before = vec![data(1, 8, 1), parity(1, &[(8, 1)], 2), zero(1, 1, 1)];
        let after = [data(2, 9, 3), parity_of(1, &[(9, 2)], 4, true)];
        let r = replay(before.into_iter().chain(after).collect());
        let redo = &r.redo[&1];
        assert_eq!((&redo.start, redo.unallocated, redo.changes.data.len()), (&Start::Zero, false, 1));
        assert_eq!((home(&r, 9), row(&r, 1)), ((Some(3), 102), Some(4)));
    }

    #[test]
    fn an_opened_stripe_voids_what_was_staged_and_remembers_what_it_was() {
        let first = vec![data(1, 8, 1), parity(1, &[(8, 1)], 2), data(2, 9, 3), open(1, 2, 1, 50)];
        let r = replay(first.into_iter().chain([data(3, 16, 4)]).collect());
        assert_eq!(staged(&r), [(9, 2), (16, 3)]);
        let opened = |r: &Replayed, stripe| match &r.redo[&stripe].start {
            Start::Opened(opened) => (**opened).clone(),
            other => panic!("{other:?}"),
        };
        let one = opened(&r, 1);
        assert_eq!((one.sums, one.before, one.was_zero), (vec![50, 51], None, false));
        assert_eq!(one.changed.data[&8].sum, 101);
        assert_eq!(r.redo[&1].changes, Changes::default());
        assert_eq!(opened(&r, 2).changed, Changes::default());

        // Opened again: what it was is what the first opening said.
        let r = replay(vec![open(1, 1, 0, 50), data(1, 8, 1), parity(1, &[(8, 1)], 2), open(1, 1, 1, 60)]);
        let again = opened(&r, 1);
        assert_eq!((again.sums, again.before), (vec![60, 61], Some(vec![50, 51])));
        assert_eq!(again.changed.data[&8].sum, 101);

        // Which blocks do not change is told stripe by stripe.
        let same = vec![false, true, true, false];
        let record =
            OpenRecord { first_stripe: 1, count: 2, crcs: vec![5; 4], same, ..OpenRecord::default() };
        let r = replay(vec![Record::Open(record)]);
        assert_eq!((opened(&r, 1).same, opened(&r, 2).same), (vec![false, true], vec![true, false]));

        // After zeroing it was zero.
        let r = replay(vec![zero(1, 1, 0), open(1, 1, 0, 50)]);
        assert!(opened(&r, 1).was_zero && !r.redo[&1].unallocated);

        // Parity after Open is redone over it.
        let r = replay(vec![open(1, 1, 0, 50), data(1, 8, 1), parity(1, &[(8, 1)], 2)]);
        assert_eq!((opened(&r, 1).sums, home(&r, 8)), (vec![50, 51], (Some(1), 101)));
    }

    #[test]
    fn a_zeroed_stripe_is_unallocated_and_nothing_older_is_staged() {
        let records =
            vec![data(1, 8, 1), parity(1, &[(8, 1)], 2), data(2, 9, 3), zero(1, 2, 2), data(3, 16, 4)];
        let r = replay(records);
        assert_eq!(staged(&r), [(16, 3)]);
        assert!(r.redo[&1].unallocated && r.redo[&2].unallocated);
        assert_eq!(r.redo[&1].changes, Changes::default());
    }
}
