//! Bringing staged blocks home.
//!
//! Problem: a row in which some blocks are overwritten and others are not must never be seen half
//! changed by whoever reconstructs the others, crash or not.
//! Idea: the new parity of such rows is logged, durably, before the first block of the row is
//! touched. A crash then finds either the old row and the new blocks in the journal, or blocks and
//! parity to write again. Many stripes come home together, so that they share a flush; that flush
//! also makes durable what the batch before wrote home.
//!
//! ```text
//!   lock -> read old, compute parity -> log parity -> sync -> write home -> unstage -> unlock
//!                                                                             (next sync: release)
//! ```
//!
//! If too few members can take the home writes, what they lack is kept in memory (`torn`) and
//! written before the stripe is used again; after a crash the journal has it.
//!
//! If so much of a row is damaged that its parity cannot be made, its blocks stay staged, where the
//! journal protects them, until the lost ones are written again. Only when there is no more room for
//! that do they come home without parity.

use super::engine::{Store, Stripes, Sums, part};
use super::lock::Mode;
use super::parity::Work;
use super::roster::Roster;
use super::rows::{Segment, segments};
use super::stretch::{Stretch, most_bytes, stretches};
use super::torn::{Load, Shred, Shreds};
use crate::env::join_all;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ParityRecord, ParityRow, Piece};
use crate::integrity::{Pinned, sum};
use crate::journal::StagedBlock;
use crate::mutation::{Protection, without};
use crate::units::{BLOCK_BYTES, StripeIndex};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most bytes of parity in one record.
const MAX_LOAD: usize = 256 << 10;
/// Most blocks logged again at once: there is always room for so many.
const MOST_AGAIN: usize = 128;
/// Most pieces in one write.
const MAX_PIECES: usize = 256;

/// One stripe on its way home.
struct Parcel {
    stripe: StripeIndex,
    staged: Vec<(u64, StagedBlock)>,
    /// Shard, first byte of the rows in the chunk, new parity.
    parity: Shreds,
    /// What is written as it was.
    rest: Shreds,
    /// Nothing of the stripe was written before.
    fresh: bool,
    /// Rows of which too much is lost to make parity.
    bare: Vec<u64>,
}

/// What was made for a stripe.
#[derive(Default)]
struct Made {
    parity: Shreds,
    rest: Shreds,
    /// Where too much is lost to make parity.
    bare: Vec<Segment>,
}

/// Bytes for a chunk.
struct Strip {
    shard: usize,
    row: u64,
    bytes: Bytes,
    /// Its checksums are entered.
    is_new: bool,
}

/// What there is to bring home of a stripe.
enum Packed {
    Nothing,
    Parcel(Parcel),
    /// Only blocks in rows of which too much is lost.
    Stuck,
}

impl Stripes {
    /// Brings what is staged of these stripes (ascending) home. What cannot come home stays staged.
    pub async fn destage(self: &Arc<Self>, stripes: &[StripeIndex]) -> Result<()> {
        let mut guards = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            guards.push(self.locks.lock(*stripe, Mode::Exclusive).await);
        }
        let bare = self.is_full();
        let done = self.destage_locked(stripes, bare).await;
        let stuck = done.as_ref().map_or(&[][..], |stuck| stuck);
        for stripe in stripes.iter().filter(|s| self.staging.has_any(**s)) {
            match stuck.contains(stripe) {
                true => self.staging.park(*stripe),
                false => self.staging.put_back(*stripe),
            }
        }
        if bare {
            self.log_again(stuck).await?;
        }
        match stuck.first().filter(|_| bare) {
            Some(stripe) => Err(Error::new(ErrorKind::Io, "too much of a row is lost to bring a block home")
                .at(stripe.0 * self.shape.stripe_bytes())),
            None => done.map(drop),
        }
    }

    /// Takes what cannot come home on in the journal, which could never be freed beyond it else.
    async fn log_again(self: &Arc<Self>, stripes: &[StripeIndex]) -> Result<()> {
        let before = match self.is_hurried() {
            true => u64::MAX,
            false => self.journal.older_half(),
        };
        let staged = stripes.iter().flat_map(|stripe| self.staging.of_stripe(*stripe));
        let mut old: Vec<(u64, u64)> = staged.map(|(block, s)| (s.seq, block)).collect();
        old.retain(|(seq, _)| *seq < before);
        old.sort_unstable();
        let mut written = Vec::new();
        for (_, block) in old.into_iter().take(MOST_AGAIN) {
            let renew = |version, seq| self.staging.renew(block, version, seq);
            written.push(self.journal.again(block, renew).await?.written());
        }
        join_all(written).await.into_iter().collect()
    }

    /// As [`Self::destage`], with the stripes' exclusive locks held. Answers the stripes of which
    /// nothing can come home; `bare` says whether blocks may go without parity.
    pub(super) async fn destage_locked(
        self: &Arc<Self>,
        stripes: &[StripeIndex],
        bare: bool,
    ) -> Result<Vec<StripeIndex>> {
        let mut outcome = Ok(());
        let (mut packed, mut stuck) = (Vec::new(), Vec::new());
        for (stripe, parcel) in stripes.iter().zip(self.pack_all(stripes, bare).await) {
            match parcel {
                Ok(Packed::Parcel(parcel)) => packed.push(parcel),
                Ok(Packed::Stuck) => stuck.push(*stripe),
                Ok(Packed::Nothing) => {}
                Err(e) => outcome = Err(e),
            }
        }
        if packed.is_empty() {
            return outcome.map(|()| stuck);
        }
        let mut tickets = Vec::with_capacity(packed.len());
        let mut pins = Vec::with_capacity(packed.len());
        for parcel in &packed {
            let ticket = self.journal.parity(&self.record(parcel)).await?;
            pins.push(self.journal.hold(&ticket));
            tickets.push(ticket.written());
        }
        join_all(tickets).await.into_iter().collect::<Result<()>>()?;
        // On an error nothing at home was touched: what was logged is needed by nobody.
        if !without(Protection::WriteAheadFlush) {
            self.flush().await?;
        }
        self.deliver(packed, pins).await.and(outcome).map(|()| stuck)
    }

    /// Computes the new parity of the stripes' staged blocks; answers in the order of the stripes.
    async fn pack_all(self: &Arc<Self>, stripes: &[StripeIndex], may_be_bare: bool) -> Vec<Result<Packed>> {
        let mut loads = Vec::with_capacity(stripes.len());
        let (mut together, mut works) = (Vec::new(), Vec::new());
        for (index, stripe) in stripes.iter().enumerate() {
            let mended = self.mend(*stripe).await;
            let load = mended.map(|()| self.a_load(self.staging.of_stripe(*stripe)));
            let staged = load.as_ref().map_or(&[][..], |load| load);
            let segments = segments(staged.iter().map(|(block, _)| self.place_of(*block)));
            let code = (self.shape.data(), self.shape.parity());
            let (near, alone) = stretches(index, *stripe, segments, code);
            together.extend(near);
            works.extend(alone.into_iter().map(|s| self.work(index, *stripe, s, staged)));
            loads.push(load);
        }
        let staged: Vec<&[_]> = loads.iter().map(|load| load.as_ref().map_or(&[][..], |load| load)).collect();
        let mut made: Vec<Result<Made>> = stripes.iter().map(|_| Ok(Made::default())).collect();
        works.extend(self.make_stretches(together, &staged, &mut made).await);
        let bare = self.make_parity(works, &mut made).await;
        // Blocks in different rows may stand in each other's way: what is left is tried row by row.
        let by_row = bare.into_iter().flat_map(|(index, segment)| {
            let staged = staged.get(index).copied().unwrap_or_default();
            let stripe = stripes.get(index).copied().unwrap_or_default();
            let rows = segment.by_row().into_iter();
            rows.map(move |row| self.work(index, stripe, row, staged)).collect::<Vec<_>>()
        });
        for (index, segment) in self.make_parity(by_row.collect(), &mut made).await {
            if let Some(Ok(made)) = made.get_mut(index) {
                made.bare.push(segment);
            }
        }
        let all = stripes.iter().zip(loads).zip(made);
        all.map(|((stripe, load), made)| Ok(self.pack(*stripe, load?, made?, may_be_bare))).collect()
    }

    /// Adds what is to be written of stretches to what was made; answers what has to go row by row.
    async fn make_stretches(
        self: &Arc<Self>,
        stretches: Vec<Stretch>,
        staged: &[&[(u64, StagedBlock)]],
        made: &mut [Result<Made>],
    ) -> Vec<Work> {
        let mut left = Vec::new();
        for (stretch, filled) in stretches.iter().zip(self.fill_all(&stretches, staged).await) {
            match (filled, made.get_mut(stretch.index)) {
                (Some(filled), Some(Ok(made))) => {
                    made.parity.extend(filled.parity);
                    made.rest.extend(filled.rest);
                }
                _ => {
                    let staged = staged.get(stretch.index).copied().unwrap_or_default();
                    let segments = stretch.segments.iter().cloned();
                    left.extend(segments.map(|s| self.work(stretch.index, stretch.stripe, s, staged)));
                }
            }
        }
        left
    }

    fn work(
        &self,
        index: usize,
        stripe: StripeIndex,
        segment: Segment,
        staged: &[(u64, StagedBlock)],
    ) -> Work {
        let new = self.contents(&segment, staged);
        Work { index, stripe, segment, new }
    }

    /// Adds the new parity to what was made for the stripes; answers where too much is lost to make it.
    async fn make_parity(
        self: &Arc<Self>,
        works: Vec<Work>,
        made: &mut [Result<Made>],
    ) -> Vec<(usize, Segment)> {
        let mut bare = Vec::new();
        for (work, parity) in self.parity_of_all(works).await {
            let Some(entry) = made.get_mut(work.index) else { continue };
            match (parity, &mut *entry) {
                (Err(e), _) => *entry = Err(e),
                (Ok(Some(parity)), Ok(made)) => made.parity.extend(parity),
                (Ok(None), Ok(_)) => bare.push((work.index, work.segment)),
                (Ok(_), Err(_)) => {}
            }
        }
        bare
    }

    /// What comes home of a stripe now: first what can have parity.
    fn pack(
        &self,
        stripe: StripeIndex,
        staged: Vec<(u64, StagedBlock)>,
        Made { parity, rest, bare }: Made,
        may_be_bare: bool,
    ) -> Packed {
        if staged.is_empty() {
            return Packed::Nothing;
        }
        let is_bare = |block: u64| bare.iter().any(|s| s.rows.contains(&self.place_of(block).1));
        let fresh = !self.epochs.is_allocated(stripe);
        let (mut lone, protected): (Vec<_>, Vec<_>) = staged.into_iter().partition(|(b, _)| is_bare(*b));
        if !protected.is_empty() {
            return Packed::Parcel(Parcel {
                stripe,
                staged: protected,
                parity,
                rest,
                fresh,
                bare: Vec::new(),
            });
        }
        // Without parity a block of a lost member has no home.
        let held = self.held(&self.membership.roster(), stripe);
        lone.retain(|(block, _)| held[self.place_of(*block).0] || without(Protection::LostStaysInJournal));
        let bare = lone.iter().map(|(block, _)| self.place_of(*block).1).collect::<BTreeSet<u64>>();
        let bare = bare.into_iter().collect();
        if lone.is_empty() || !may_be_bare {
            return Packed::Stuck;
        }
        let (parity, rest) = (Vec::new(), Vec::new());
        Packed::Parcel(Parcel { stripe, staged: lone, parity, rest, fresh, bare })
    }

    /// As much of a stripe as one record of parity may hold: the first rows.
    fn a_load(&self, mut staged: Vec<(u64, StagedBlock)>) -> Vec<(u64, StagedBlock)> {
        let rows: BTreeSet<u64> = staged.iter().map(|(b, _)| self.place_of(*b).1).collect();
        if let Some(first_left) = rows.into_iter().nth(self.load_rows()) {
            staged.retain(|(b, _)| self.place_of(*b).1 < first_left);
        }
        staged
    }

    fn load_rows(&self) -> usize {
        (MAX_LOAD / super::engine::to_usize(BLOCK_BYTES) / self.shape.parity()).max(1)
    }

    /// Bytes of parity that bringing so many blocks of a stripe home may log.
    pub(super) fn parity_cost(&self, blocks: u64) -> u64 {
        blocks.min(self.load_rows() as u64) * self.shape.parity() as u64 * BLOCK_BYTES
    }

    /// Bytes that bringing so many blocks of a stripe home may have in memory.
    pub(super) fn memory_cost(&self, blocks: u64) -> u64 {
        most_bytes(blocks, self.shape.width(), self.shape.chunk_bytes())
    }

    /// Data chunk and offset in it of a block of the volume.
    pub(super) fn place_of(&self, block: u64) -> (usize, u64) {
        let at = block * BLOCK_BYTES % self.shape.stripe_bytes();
        (super::engine::to_usize(at / self.shape.chunk_bytes()), at % self.shape.chunk_bytes())
    }

    /// The new bytes of a segment, one piece for each of its chunks.
    fn contents(&self, segment: &Segment, staged: &[(u64, StagedBlock)]) -> Vec<Bytes> {
        let of_chunk = |chunk: &usize| {
            let own = staged.iter().filter(|(b, _)| {
                let (c, row) = self.place_of(*b);
                c == *chunk && segment.rows.contains(&row)
            });
            let mut blocks = own.map(|(_, s)| s.bytes.clone());
            if segment.rows.end - segment.rows.start == BLOCK_BYTES {
                return blocks.next().unwrap_or_default();
            }
            let mut buffer = self.buffer(segment.rows.end - segment.rows.start);
            for (target, bytes) in buffer.chunks_exact_mut(super::engine::to_usize(BLOCK_BYTES)).zip(blocks) {
                target.copy_from_slice(&bytes);
            }
            buffer.freeze()
        };
        segment.chunks.iter().map(of_chunk).collect()
    }

    fn record(&self, parcel: &Parcel) -> ParityRecord {
        let parity = parcel.parity.iter().filter(|_| !without(Protection::ParityInJournal));
        let rows = parity.flat_map(|(shard, row, bytes)| {
            let first = row / BLOCK_BYTES;
            let block = move |i: u64| ParityRow {
                shard: u8::try_from(*shard).unwrap_or(u8::MAX),
                row_block: u32::try_from(first + i).unwrap_or(u32::MAX),
                bytes: part(bytes, i * BLOCK_BYTES, BLOCK_BYTES),
            };
            (0..bytes.len() as u64 / BLOCK_BYTES).map(block)
        });
        let piece = |(block, s): &(u64, StagedBlock)| {
            let (chunk, row) = self.place_of(*block);
            let slot = self.shape.slot_of(parcel.stripe, chunk);
            let crc = sum(slot, self.block_on(parcel.stripe, row), &s.bytes);
            Piece { block: *block, version: s.version, crc }
        };
        let pieces = parcel.staged.iter().map(piece).collect();
        let fresh = parcel.fresh && !without(Protection::FreshInJournal);
        let bare = !parcel.bare.is_empty();
        ParityRecord { stripe: parcel.stripe.0, fresh, bare, pieces, rows: rows.collect() }
    }

    /// Writes blocks and parity of stripes home, and forgets that they were staged.
    async fn deliver(&self, parcels: Vec<Parcel>, pins: Vec<Pinned>) -> Result<()> {
        let mut loads = Vec::with_capacity(parcels.len());
        let mut delivered = Vec::with_capacity(parcels.len());
        for (Parcel { stripe, staged, parity, rest, fresh, bare }, pin) in parcels.into_iter().zip(pins) {
            let data = staged.iter().map(|(block, s)| {
                let (chunk, row) = self.place_of(*block);
                (chunk, row, s.bytes.clone())
            });
            let shreds: Shreds = data.chain(parity).collect();
            loads.push((stripe, Load { shreds, rest, fresh, bare, pin: Some(pin) }));
            delivered.push(staged);
        }
        let mut outcome = Ok(());
        for (done, staged) in self.store_all(loads).await.into_iter().zip(delivered) {
            if let Err(e) = done {
                outcome = Err(e);
                continue;
            }
            let home = staged.iter().filter_map(|(block, s)| self.staging.remove(*block, s.version));
            self.journal.home(home.collect::<Vec<u64>>());
        }
        outcome
    }

    /// The writes that bring a load to every member that must take it: one for what lies side by side.
    ///
    /// What is written as it was keeps its entry in the table. Of a block that was never written the
    /// table says zero whatever the member holds; were it the sum of zeroes, a power cut that spares the
    /// table and not the block would damage what nobody wrote.
    pub(super) fn stores(&self, roster: &Roster, stripe: StripeIndex, load: &Load) -> Vec<Store> {
        let strip = |is_new: bool| {
            move |(shard, row, bytes): &Shred| Strip {
                shard: *shard,
                row: *row,
                bytes: bytes.clone(),
                is_new,
            }
        };
        let changed = load.shreds.iter().map(strip(true));
        let rest = load.rest.iter().map(strip(without(Protection::RestKeepsEntry)));
        let mut all: Vec<Strip> = changed.chain(rest).collect();
        all.sort_by_key(|s| (s.shard, s.row));
        let mut stores = Vec::new();
        let adjoin = |a: &Strip, b: &Strip| a.shard == b.shard && a.row + a.bytes.len() as u64 == b.row;
        for run in all.chunk_by(adjoin).flat_map(|run| run.chunks(MAX_PIECES)) {
            let Some(Strip { shard, row, .. }) = run.first() else { continue };
            let entries = |some: &[Strip]| {
                let after = (some.first().filter(|s| s.is_new)?.row - row) / BLOCK_BYTES;
                let sums = some.iter().flat_map(|s| self.sums(stripe, s.shard, s.row, &s.bytes)).collect();
                Some(Sums { after, sums })
            };
            let sums: Vec<Sums> = run.chunk_by(|a, b| a.is_new == b.is_new).filter_map(entries).collect();
            let pieces: Vec<Bytes> = run.iter().map(|s| s.bytes.clone()).collect();
            let slot = self.shape.slot_of(stripe, *shard).index();
            for member in roster.slots.get(slot).into_iter().flat_map(|s| s.writable(stripe)) {
                let offset = self.offset_on(member, stripe, *row);
                let (pieces, sums) = (pieces.clone(), sums.clone());
                stores.push(Store { member: Arc::clone(member), offset, pieces, sums });
            }
        }
        stores
    }
}
