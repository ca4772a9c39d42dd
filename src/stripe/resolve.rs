//! After a crash: what became of stripes that were being written whole.
//!
//! Of each block the journal says what its checksum was to be; the tables, or the journal again,
//! say what it was before. So each block on the media is new, old, or neither; beyond that the
//! journal may hold blocks that went home after the stripe was complete ("logged"). Row by row:
//!
//! ```text
//!   k shards new or logged                      the row becomes what it was to be
//!   every data block known                      they stay as they are, parity is computed
//!   k shards old                                the row becomes what it was, with logged blocks over it
//!   otherwise                                   what is known stays; the rest is lost, and says so
//! ```
//!
//! The last row of the table takes a crash in the middle of a write and lost members at once. A lost
//! block is entered as not known, so that reading it fails until it is written again; parity of
//! the row is too, so that nobody reconstructs from it.
//!
//! Where a row becomes something else than the journal says, the journal is told: the next opening of
//! the stripe would else take what this one was to bring for what was there before.

use super::engine::{Stripes, to_usize};
use super::roster::Roster;
use super::torn::Load;
use crate::env::join_all;
use crate::error::Result;
use crate::integrity::{Pinned, UNKNOWN, ZERO, sum};
use crate::journal::{Changes, Opened};
use crate::mutation::{Protection, without};
use crate::units::{BLOCK_BYTES, StripeIndex};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is known of one block of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Known {
    /// The journal has what it is to be in the end.
    logged: bool,
    /// The media has what the whole write was to bring.
    new: bool,
    /// The media has what was there before, or that was zero.
    old: bool,
    /// The media can be read: what is old there was not written.
    there: bool,
}

/// What to do with a row.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// Take every data block as it is.
    AsItIs,
    /// These shards belong together; the others follow from them.
    Forward(Vec<usize>),
    /// These shards belong together as they were before.
    Back(Vec<usize>),
    /// Keep what is known.
    Partly,
}

/// A row's way, for `k` data shards (pure).
fn choose(k: usize, row: &[Known]) -> Way {
    // Where blocks were changed afterwards, parity that was not does not belong to them.
    let changed = row.iter().any(|s| s.logged) && !without(Protection::ParityOfItsRow);
    let of = |fits: &dyn Fn(usize, &Known) -> bool| -> Vec<usize> {
        row.iter().enumerate().filter(|(i, s)| fits(*i, s)).map(|(i, _)| i).take(k).collect()
    };
    let new = of(&|i, s| s.logged || s.new && (i < k || !changed));
    if new.len() == k {
        return Way::Forward(new);
    }
    let known = |s: &Known| s.logged || s.new || s.old && s.there;
    if row.iter().take(k).all(known) {
        return Way::AsItIs;
    }
    let old = of(&|_, s| s.old);
    if old.len() == k { Way::Back(old) } else { Way::Partly }
}

/// One shard of the stripe, block by block.
struct Column {
    media: Vec<Option<Bytes>>,
    logged: Vec<Option<Bytes>>,
    new: Vec<u32>,
    old: Vec<u32>,
}

impl Stripes {
    /// Brings an opened stripe into a state in which every block is old or new, or known to be lost.
    /// Answers its checksums, shard after shard, if the journal does not say so.
    pub(super) async fn resolve(
        self: &Arc<Self>,
        stripe: StripeIndex,
        opened: &Opened,
        changes: &Changes,
        hold: &Pinned,
    ) -> Result<Option<Vec<u32>>> {
        let roster = self.writable_roster()?;
        let columns = (0..self.shape.width()).map(|s| self.column(&roster, stripe, s, opened, changes));
        let columns: Vec<Column> = join_all(columns).await;
        let rows = to_usize(self.shape.chunk_bytes() / BLOCK_BYTES);
        let bare = self.bare_rows(changes);
        let mut shreds = Vec::new();
        let mut lost = Vec::new();
        for row in 0..rows {
            let at = row as u64 * BLOCK_BYTES;
            let bare = bare.contains(&at);
            for (shard, bytes) in self.resolve_row(stripe, row, &columns, bare)?.into_iter().enumerate() {
                match bytes {
                    Some(bytes) => shreds.push((shard, at, bytes)),
                    None => lost.push((shard, at)),
                }
            }
        }
        let told = self.told(stripe, &columns);
        let mut sums = vec![UNKNOWN; told.len()];
        for (shard, at, bytes) in &shreds {
            if let Some(entry) = sums.get_mut(shard * rows + to_usize(at / BLOCK_BYTES)) {
                *entry = sum(self.shape.slot_of(stripe, *shard), self.block_on(stripe, *at), bytes);
            }
        }
        if !self.is_in_place(&roster, stripe, &columns, &shreds) {
            let pin = Some(Arc::clone(hold));
            self.store_whole(stripe, Load { shreds, pin, ..Load::default() }).await?;
        } else {
            self.enter_columns(&roster, stripe, &columns, hold).await?;
        }
        for (shard, at) in lost.into_iter().filter(|_| !without(Protection::LostIsUnknown)) {
            self.enter_shard(&roster, stripe, shard, at, &[UNKNOWN], Some(hold)).await?;
        }
        self.epochs.note(stripe, true, Some(hold));
        Ok((sums != told).then_some(sums))
    }

    /// What the journal says that the checksums are in the end, shard after shard.
    fn told(&self, stripe: StripeIndex, columns: &[Column]) -> Vec<u32> {
        let of_shard = |(shard, column): (usize, &Column)| {
            let slot = self.shape.slot_of(stripe, shard);
            let first = self.block_on(stripe, 0);
            let entries = (first..).zip(column.new.iter().zip(&column.logged));
            let told = entries.map(|(at, (new, logged))| logged.as_ref().map_or(*new, |b| sum(slot, at, b)));
            told.collect::<Vec<u32>>()
        };
        columns.iter().enumerate().flat_map(of_shard).collect()
    }

    /// What is known of a shard: what its member holds, and what it should.
    async fn column(
        &self,
        roster: &Roster,
        stripe: StripeIndex,
        shard: usize,
        opened: &Opened,
        changes: &Changes,
    ) -> Column {
        let rows = to_usize(self.shape.chunk_bytes() / BLOCK_BYTES);
        let slot = self.shape.slot_of(stripe, shard);
        let first = self.block_on(stripe, 0);
        let member = roster.slots.get(slot.index()).and_then(|s| s.readable(stripe));
        let mut column = Column {
            media: vec![None; rows],
            logged: vec![None; rows],
            new: own(&opened.sums, shard, rows),
            old: vec![UNKNOWN; rows],
        };
        if let Some(member) = member {
            let offset = self.offset_on(member, stripe, 0);
            column.media = read_blocks(member, offset, rows).await;
            if let Ok(entries) = self.integrity.table(member).entries(first, rows).await {
                column.old = entries;
            }
            // Its page may be home already, of all that was written: what it says then is not what was
            // there before, and does not belong to what others have from before.
            for (old, _) in column.old.iter_mut().zip(&column.new).filter(|(old, new)| *old == *new) {
                *old = UNKNOWN;
            }
        }
        match &opened.before {
            _ if opened.was_zero => column.old = vec![ZERO; rows],
            Some(sums) => column.old = own(sums, shard, rows),
            None => {}
        }
        let set = |target: &mut Vec<u32>, row: usize, value: u32| {
            if let Some(entry) = target.get_mut(row) {
                *entry = value;
            }
        };
        // Parity that did not go with a change, its member being lost, is not what was there before either.
        let changed = if shard < self.shape.data() { BTreeSet::new() } else { self.rows_of(&opened.changed) };
        for row in changed {
            set(&mut column.old, row, UNKNOWN);
        }
        for (row, piece) in self.of_shard(&opened.changed, shard) {
            let value = piece.1.as_ref().map_or(piece.0, |b| sum(slot, first + row as u64, b));
            set(&mut column.old, row, value);
        }
        let same = opened.same.iter().skip(shard * rows).take(rows);
        for ((old, new), _) in column.old.iter_mut().zip(&column.new).zip(same).filter(|(_, same)| **same) {
            *old = *new;
        }
        for (row, (value, bytes)) in self.of_shard(changes, shard) {
            match (bytes, column.logged.get_mut(row)) {
                (Some(bytes), Some(logged)) => *logged = Some(bytes),
                _ => set(&mut column.new, row, value),
            }
        }
        column
    }

    /// The rows in which data was changed.
    fn rows_of(&self, changes: &Changes) -> BTreeSet<usize> {
        changes.data.keys().map(|block| to_usize(self.place_of(*block).1 / BLOCK_BYTES)).collect()
    }

    /// The changes of one shard: row, checksum (of data), bytes if the log has them.
    fn of_shard(&self, changes: &Changes, shard: usize) -> Vec<(usize, (u32, Option<Bytes>))> {
        let data = changes.data.iter().filter_map(|(block, piece)| {
            let (chunk, row) = self.place_of(*block);
            let row = to_usize(row / BLOCK_BYTES);
            (chunk == shard).then(|| (row, (piece.sum, piece.bytes.clone())))
        });
        let parity = changes.parity.iter().filter(|((s, _), _)| usize::from(*s) == shard);
        let parity = parity.map(|((_, row), bytes)| (to_usize(u64::from(*row)), (0, Some(bytes.clone()))));
        data.chain(parity).collect()
    }

    /// The blocks of a row as they are to be; none for one that is lost.
    fn resolve_row(
        &self,
        stripe: StripeIndex,
        row: usize,
        columns: &[Column],
        bare: bool,
    ) -> Result<Vec<Option<Bytes>>> {
        let k = self.shape.data();
        let at = self.block_on(stripe, row as u64 * BLOCK_BYTES);
        let known: Vec<Known> = (0..)
            .zip(columns)
            .map(|(shard, c)| c.known(row, self.shape.slot_of(stripe, shard), at))
            .collect();
        let current: Vec<Option<Bytes>> = columns
            .iter()
            .zip(&known)
            .map(|(c, known)| c.current(row, *known, self.zeroes(BLOCK_BYTES)))
            .collect();
        let way = if bare { Way::Partly } else { choose(k, &known) };
        let data = match way {
            Way::AsItIs => current.into_iter().take(k).collect(),
            Way::Forward(from) => {
                let have =
                    from.iter().filter_map(|i| Some((*i, current.get(*i)?.clone()?))).collect::<Vec<_>>();
                Some(self.restore_shards(&have, &(0..k).collect::<Vec<_>>(), BLOCK_BYTES)?)
            }
            Way::Back(from) => {
                let old = |i: &usize| Some((*i, columns.get(*i)?.before(row, self.zeroes(BLOCK_BYTES))?));
                let have: Vec<(usize, Bytes)> = from.iter().filter_map(old).collect();
                let mut data = self.restore_shards(&have, &(0..k).collect::<Vec<_>>(), BLOCK_BYTES)?;
                for (block, column) in data.iter_mut().zip(columns) {
                    if let Some(Some(logged)) = column.logged.get(row) {
                        block.clone_from(logged);
                    }
                }
                Some(data)
            }
            Way::Partly => {
                let parity = std::iter::repeat_n(None, columns.len() - k);
                return Ok(current.into_iter().take(k).chain(parity).collect());
            }
        };
        let Some(data) = data else { return Ok(vec![None; columns.len()]) };
        let mut parity: Vec<_> = (k..columns.len()).map(|_| self.buffer(BLOCK_BYTES)).collect();
        let inputs: Vec<&[u8]> = data.iter().map(|b| &b[..]).collect();
        let mut outputs: Vec<(usize, &mut [u8])> =
            parity.iter_mut().map(|b| &mut b[..]).enumerate().collect();
        self.codec.encode(&inputs, &mut outputs)?;
        Ok(data.into_iter().chain(parity.into_iter().map(|b| b.freeze())).map(Some).collect())
    }

    /// Whether the members already have all of it: nearly always so, for a crash rarely
    /// interrupts more than a few writes.
    fn is_in_place(
        &self,
        roster: &Roster,
        stripe: StripeIndex,
        columns: &[Column],
        shreds: &[(usize, u64, Bytes)],
    ) -> bool {
        let doubled = roster.slots.iter().any(|s| s.writable(stripe).count() > 1);
        let rows = self.shape.chunk_bytes() / BLOCK_BYTES;
        !doubled
            && shreds.len() as u64 == rows * columns.len() as u64
            && shreds.iter().all(|(shard, at, bytes)| {
                let Some(column) = columns.get(*shard) else { return false };
                let held = roster.slots.get(self.shape.slot_of(stripe, *shard).index());
                let held = held.is_some_and(|s| s.held(stripe));
                let row = to_usize(at / BLOCK_BYTES);
                !held || column.media.get(row).is_some_and(|m| m.as_ref() == Some(bytes))
            })
    }

    /// Enters the checksums of what the members have.
    async fn enter_columns(
        &self,
        roster: &Roster,
        stripe: StripeIndex,
        columns: &[Column],
        hold: &Pinned,
    ) -> Result<()> {
        for (shard, column) in columns.iter().enumerate() {
            let media: Vec<u8> = column.media.iter().flatten().flat_map(|b| b.iter().copied()).collect();
            let sums = self.sums(stripe, shard, 0, &media);
            self.enter_shard(roster, stripe, shard, 0, &sums, Some(hold)).await?;
        }
        Ok(())
    }
}

impl Column {
    fn known(&self, row: usize, slot: crate::units::Slot, at: u64) -> Known {
        let media = self.media.get(row).and_then(|m| m.as_ref()).map(|b| sum(slot, at, b));
        let is = |sums: &[u32]| media.is_some() && sums.get(row).copied() == media;
        Known {
            logged: self.logged.get(row).is_some_and(|b| b.is_some()),
            new: is(&self.new),
            old: is(&self.old) || self.old.get(row) == Some(&ZERO),
            there: media.is_some(),
        }
    }

    /// The best there is of a block.
    fn current(&self, row: usize, known: Known, zeroes: Bytes) -> Option<Bytes> {
        let media = || self.media.get(row).cloned().flatten();
        match known {
            Known { logged: true, .. } => self.logged.get(row).cloned().flatten(),
            Known { new: true, .. } => media(),
            Known { old: true, .. } => self.before(row, zeroes),
            _ => None,
        }
    }

    /// An old block as it was.
    fn before(&self, row: usize, zeroes: Bytes) -> Option<Bytes> {
        match self.old.get(row) {
            Some(&ZERO) => Some(zeroes),
            _ => self.media.get(row).cloned().flatten(),
        }
    }
}

fn own(sums: &[u32], shard: usize, rows: usize) -> Vec<u32> {
    let mut own: Vec<u32> = sums.iter().skip(shard * rows).take(rows).copied().collect();
    own.resize(rows, UNKNOWN);
    own
}

/// So many blocks of a member; none for one that cannot be read.
async fn read_blocks(member: &crate::member::Member, offset: u64, rows: usize) -> Vec<Option<Bytes>> {
    let block = to_usize(BLOCK_BYTES);
    if let Ok(bytes) = member.read(offset, rows * block).await {
        let bytes = bytes.freeze();
        return (0..rows).map(|i| Some(bytes.slice(i * block..(i + 1) * block))).collect();
    }
    let mut found = Vec::with_capacity(rows);
    for i in 0..rows {
        let one = member.read(offset + (i * block) as u64, block).await;
        found.push(one.ok().map(|b| b.freeze()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGGED: Known = Known { logged: true, new: false, old: false, there: true };
    const NEW: Known = Known { logged: false, new: true, old: false, there: true };
    const OLD: Known = Known { logged: false, new: false, old: true, there: true };
    const GONE: Known = Known { logged: false, new: false, old: false, there: false };
    /// Of a member that is lost; before it was zero.
    const ZERO_ONCE: Known = Known { old: true, ..GONE };

    #[test]
    fn every_row_of_the_table() {
        // 2+2: two data shards, two of parity.
        for data in [[OLD, NEW], [LOGGED, OLD], [OLD, OLD]] {
            assert_eq!(choose(2, &[data[0], data[1], GONE, GONE]), Way::AsItIs, "{data:?}");
        }
        assert_eq!(choose(2, &[NEW, NEW, NEW, OLD]), Way::Forward(vec![0, 1]));
        assert_eq!(choose(2, &[OLD, NEW, NEW, OLD]), Way::Forward(vec![1, 2]), "a device dropped a write");
        assert_eq!(choose(2, &[NEW, GONE, NEW, OLD]), Way::Forward(vec![0, 2]));
        assert_eq!(choose(2, &[GONE, GONE, NEW, NEW]), Way::Forward(vec![2, 3]));
        assert_eq!(choose(2, &[GONE, LOGGED, LOGGED, NEW]), Way::Forward(vec![1, 2]));
        assert_eq!(choose(2, &[NEW, ZERO_ONCE, NEW, NEW]), Way::Forward(vec![0, 2]));
        assert_eq!(choose(2, &[OLD, ZERO_ONCE, OLD, NEW]), Way::Back(vec![0, 1]));
        assert_eq!(choose(2, &[OLD, GONE, OLD, NEW]), Way::Back(vec![0, 2]));
        assert_eq!(choose(2, &[GONE, NEW, OLD, OLD]), Way::Back(vec![2, 3]));
        assert_eq!(choose(2, &[GONE, NEW, OLD, GONE]), Way::Partly);
        // Parity of before the change does not go with the changed block.
        assert_eq!(choose(2, &[LOGGED, GONE, NEW, GONE]), Way::Partly);
    }

    /// All 3^4 states of a row of 2+2 without logged blocks: what is chosen can be carried out, and the
    /// better way is never passed over.
    #[test]
    fn no_way_is_missed() {
        let states = [NEW, OLD, GONE];
        for code in 0..81usize {
            let row: Vec<Known> = (0..4).map(|i| states[code / 3usize.pow(i) % 3]).collect();
            let count = |wanted: Known| row.iter().filter(|s| **s == wanted).count();
            let all_data = row[..2].iter().all(|s| *s != GONE);
            let expected = match choose(2, &row) {
                Way::Forward(_) => count(NEW) >= 2,
                Way::AsItIs => all_data && count(NEW) < 2,
                Way::Back(_) => !all_data && count(NEW) < 2 && count(OLD) >= 2,
                Way::Partly => !all_data && count(NEW) < 2 && count(OLD) < 2,
            };
            assert!(expected, "{row:?}");
        }
    }
}
