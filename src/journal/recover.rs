//! Reading the log back: from the checkpoint's tail along the chain of frames.
//!
//! A frame counts if k of its shards can be read whole and belong together. The first place where
//! no such frame continues the chain is the end: everything honoured lies before it, because
//! frames are honoured in order and only when every member that counts has its shard. What is read
//! was decided to have happened, so it must be found again after the next crash too, whoever is
//! lost then: shards that are missing on a member are written anew before anything else is.
//!
//! A checkpoint is acted upon only once every member that counts has it, durably. So one that is two behind
//! is not what it was: an older image of it was put back. One that is one behind may be, too, unless the log
//! can still be read from there on: then all it may lack is done again. Everybody gets the same checkpoint
//! before anything else is done, with the place where this replay begins.

use super::commit::RING_START;
use super::log::{Bearers, Journal, Place};
use super::replay::{Replay, Replayed};
use super::ring::Ring;
use crate::codec::Codec;
use crate::env::{Env, join_all};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    CHECKPOINT_BYTES, CHECKPOINT_PAGES, Checkpoint, FRAME_HEADER_BYTES, FrameHeader, Record, Tail,
    payload_crc, records, shard_crc,
};
use crate::geometry::Shape;
use crate::integrity::Pinned;
use crate::member::{Member, Persistence};
use crate::mutation::{Protection, without};
use crate::units::{ArrayId, BLOCK_BYTES, MemberId};
use bytes::Bytes;
use std::sync::Arc;

/// Read ahead on each member, in bytes.
const WINDOW: u64 = 1 << 20;

/// What reading a log back came to.
pub enum Outcome {
    /// It was read.
    Recovered(Recovered),
    /// These members are older images of themselves: it is to be read without them.
    Behind(Vec<MemberId>),
}

/// A log that was read back.
pub struct Recovered {
    /// Ready for new records.
    pub journal: Arc<Journal>,
    /// What is to be done before the array serves.
    pub replayed: Replayed,
    /// Keeps the frames read until it is dropped and a sync followed.
    pub hold: Pinned,
}

/// What is known of the array whose log is to be read.
pub struct Spec {
    /// The surroundings.
    pub env: Env,
    /// Whose log.
    pub array: ArrayId,
    /// Its shape.
    pub shape: Shape,
    /// Into how many shards its frames are cut, data and parity.
    pub code: Shape,
    /// Its stripes.
    pub stripes: u64,
    /// Where the log lies.
    pub place: Place,
    /// Where the checkpoints lie on members that bear no frames.
    pub checkpoints_offset: u64,
    /// Who bears it from now on.
    pub bearers: Arc<dyn Bearers>,
}

/// Writes the first checkpoint of an empty log to a member that is being formatted.
pub async fn format(member: &Member, array: ArrayId, place: Place) -> Result<()> {
    let page = Checkpoint { array, generation: 0, tail: Tail { seq: 1, offset: 0, prev_nonce: 0 } }.encode();
    let offset = place.offset + Checkpoint::page_of(0);
    member.write(offset, vec![Bytes::from(page.to_vec())], Persistence::Cached).await
}

/// Forgets the checkpoints of an earlier life on a member that is to take frames.
pub async fn clear(member: &Member, place: Place) -> Result<()> {
    member.zero(place.offset, CHECKPOINT_PAGES * CHECKPOINT_BYTES as u64, false).await
}

/// Reads the log of `members` (those in sync, by number of the shard they hold) back. `others` in sync have
/// checkpoints alone.
pub async fn recover(
    spec: Spec,
    members: &[(usize, Arc<Member>)],
    others: &[Arc<Member>],
) -> Result<Outcome> {
    let Checkpoints { newest, from, older, alike, behind } = checkpoints(&spec, members, others).await?;
    if !behind.is_empty() && !without(Protection::ImageByCheckpoint) {
        return Ok(Outcome::Behind(behind));
    }
    let ring_len = spec.place.len - RING_START;
    if newest.tail.offset > ring_len {
        return Err(corrupt("the journal's checkpoint points beyond the journal"));
    }
    let found = walk(&spec, members, from, ring_len).await?;
    if !passes(from, &found, newest.tail) && !without(Protection::ImageByCheckpoint) {
        return Ok(Outcome::Behind(older));
    }
    let blocks = (spec.shape.stripe_bytes() / BLOCK_BYTES, spec.shape.chunk_bytes() / BLOCK_BYTES);
    let mut replay = Replay::new(blocks.0, blocks.1);
    for frame in &found {
        for record in records(frame.payload.clone())? {
            check(&record, &spec.shape, spec.stripes)?;
            replay.take(frame.place.seq, record);
        }
    }
    let replayed = replay.finish();
    let mut ring = Ring::new(ring_len, from);
    for frame in &found {
        let staged = replayed.staged.values().filter(|s| s.seq == frame.place.seq).count() as u64;
        ring.found(frame.place, frame.len, frame.nonce, staged + 1);
    }
    let journal = Journal::with_ring(spec, ring, newest.generation, replayed.last_version)?;
    for frame in &found {
        journal.mend(frame).await?;
    }
    if !alike {
        journal.write_page(from, newest.generation).await?;
    }
    if !without(Protection::FramesFlushed) {
        // Even what all members hold may be in their caches only.
        journal.flush_everyone().await?;
    }
    let hold = journal.hold_all(found.iter().map(|f| f.place.seq).collect());
    Ok(Outcome::Recovered(Recovered { journal, replayed, hold }))
}

/// The frames of the chain from `from` on.
async fn walk(
    spec: &Spec,
    members: &[(usize, Arc<Member>)],
    from: Tail,
    ring_len: u64,
) -> Result<Vec<Found>> {
    let mut walk = Walk::new(spec, members, ring_len)?;
    let mut found: Vec<Found> = Vec::new();
    while let Some(frame) = walk.next(found.last().map_or(from, Found::next)).await {
        found.push(frame);
    }
    Ok(found)
}

/// Whether the frames from `from` on reach the place where `tail` says the next one is.
fn passes(from: Tail, found: &[Found], tail: Tail) -> bool {
    let same = |at: Tail| (at.seq, at.prev_nonce) == (tail.seq, tail.prev_nonce);
    same(from) || found.iter().any(|frame| same(frame.next()))
}

/// Refuses a record that names what the array does not have.
fn check(record: &Record, shape: &Shape, stripes: u64) -> Result<()> {
    let stripe_blocks = shape.stripe_bytes() / BLOCK_BYTES;
    let rows = shape.chunk_bytes() / BLOCK_BYTES;
    let within = |first: u64, count: u64, all: u64| first.checked_add(count).is_some_and(|end| end <= all);
    let fits = match record {
        Record::Data { block, bytes, .. } => {
            within(*block, bytes.len() as u64 / BLOCK_BYTES, stripes * stripe_blocks)
        }
        Record::Parity(parity) => {
            let shards = shape.data()..shape.width();
            parity.stripe < stripes
                && parity.pieces.iter().all(|p| p.block / stripe_blocks == parity.stripe)
                && parity.rows.iter().all(|r| shards.contains(&usize::from(r.shard)))
                && parity.rows.iter().all(|r| u64::from(r.row_block) < rows)
        }
        Record::Open(open) => {
            let blocks = open.count.checked_mul(shape.width() as u64 * rows);
            within(open.first_stripe, open.count, stripes) && blocks == Some(open.crcs.len() as u64)
        }
        Record::Zero { first_stripe, count, .. } => within(*first_stripe, *count, stripes),
    };
    if fits { Ok(()) } else { Err(corrupt("the journal names blocks that the array does not have")) }
}

impl Journal {
    /// Writes a frame's shards to the bearers that lack theirs.
    async fn mend(&self, frame: &Found) -> Result<()> {
        let bearers = self.bearers.bearers()?;
        if without(Protection::FramesMended) || bearers.iter().all(|(_, m)| frame.held_by.contains(&m.id())) {
            return Ok(());
        }
        let shards = self.shards(frame.place, frame.nonce, &frame.payload)?;
        self.spread(frame.place, &shards).await
    }
}

fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, what)
}

/// What the members' checkpoints say.
struct Checkpoints {
    /// The one of the highest generation that any member in sync holds.
    newest: Checkpoint,
    /// The oldest place from which a member that counts may lack what a replay brings.
    from: Tail,
    /// Those that say so, if it is not the newest's.
    older: Vec<MemberId>,
    /// Every member has the newest, as it is.
    alike: bool,
    /// Members that have neither the newest nor the one before it.
    behind: Vec<MemberId>,
}

/// What one member says.
pub(super) struct Own {
    pub member: MemberId,
    pub newest: Checkpoint,
    /// There can be no newer one on it.
    pub is_newest: bool,
}

async fn checkpoints(
    spec: &Spec,
    members: &[(usize, Arc<Member>)],
    others: &[Arc<Member>],
) -> Result<Checkpoints> {
    let all = members.len() + others.len();
    let own = own_checkpoints(spec, members, others).await?;
    let Some(newest) = own.iter().map(|o| o.newest).max_by_key(age) else {
        return Err(corrupt("no member holds a readable journal checkpoint")
            .hint("bring back more of the array's members and start again"));
    };
    let lag = |o: &Own| newest.generation - o.newest.generation;
    // Of a member whose pages are damaged it cannot be said that it is behind.
    let known = || own.iter().filter(|o| o.is_newest);
    let behind: Vec<MemberId> = known().filter(|o| lag(o) > 1).map(|o| o.member).collect();
    let from = known().filter(|o| lag(o) <= 1).map(|o| o.newest.tail).min_by_key(|tail| tail.seq);
    let from = from.unwrap_or(newest.tail);
    let older = known().filter(|o| o.newest.tail.seq < newest.tail.seq).map(|o| o.member).collect();
    let same = |o: &Own| o.is_newest && age(&o.newest) == age(&newest);
    let alike = own.len() == all && own.iter().all(same);
    Ok(Checkpoints { newest, from, older, alike, behind })
}

/// What those members say that have a readable page.
pub(super) async fn own_checkpoints(
    spec: &Spec,
    members: &[(usize, Arc<Member>)],
    others: &[Arc<Member>],
) -> Result<Vec<Own>> {
    let bear = members.iter().map(|(_, m)| own_checkpoint(spec.array, m, spec.place.offset));
    let others = others.iter().map(|m| own_checkpoint(spec.array, m, spec.checkpoints_offset));
    join_all(bear.chain(others)).await.into_iter().filter_map(Result::transpose).collect()
}

/// A member's newest checkpoint, and whether there can be no newer one: a page that cannot be read, or was
/// written to half, may be one.
pub(super) async fn own_checkpoint(array: ArrayId, member: &Arc<Member>, start: u64) -> Result<Option<Own>> {
    let (mut newest, mut is_newest): (Option<Checkpoint>, bool) = (None, true);
    for index in 0..CHECKPOINT_PAGES {
        let offset = start + index * CHECKPOINT_BYTES as u64;
        let Ok(page) = member.read(offset, CHECKPOINT_BYTES).await else {
            is_newest = false;
            continue;
        };
        match Checkpoint::decode(&page, array) {
            Ok(found) => newest = newest.into_iter().chain([found]).max_by_key(age),
            // A newer build's may be newer than any that can be read.
            Err(e) if e.kind() == ErrorKind::Unsupported => return Err(e.member(member.path())),
            Err(_) => is_newest &= page.iter().all(|b| *b == 0),
        }
    }
    Ok(newest.map(|newest| Own { member: member.id(), newest, is_newest }))
}

pub(super) fn age(checkpoint: &Checkpoint) -> (u64, u64) {
    (checkpoint.generation, checkpoint.tail.seq)
}

/// A frame that counts.
struct Found {
    place: Tail,
    nonce: u64,
    len: u64,
    payload: Bytes,
    /// The members whose shard is good.
    held_by: Vec<MemberId>,
}

impl Found {
    /// Where the frame after it is.
    fn next(&self) -> Tail {
        let Self { place, nonce, len, .. } = self;
        Tail { seq: place.seq + 1, offset: place.offset + len, prev_nonce: *nonce }
    }
}

/// Reads along the chain.
struct Walk<'a> {
    spec: &'a Spec,
    codec: Codec,
    ring_len: u64,
    columns: Vec<Column<'a>>,
}

/// One member's ring, with what was read ahead of it.
struct Column<'a> {
    slot: usize,
    member: &'a Arc<Member>,
    start: u64,
    bytes: Bytes,
}

impl<'a> Walk<'a> {
    fn new(spec: &'a Spec, members: &'a [(usize, Arc<Member>)], ring_len: u64) -> Result<Self> {
        let codec = Codec::new(spec.code.data(), spec.code.parity())?;
        let column = |(slot, member): &'a (usize, Arc<Member>)| Column {
            slot: *slot,
            member,
            start: 0,
            bytes: Bytes::new(),
        };
        Ok(Self { spec, codec, ring_len, columns: members.iter().map(column).collect() })
    }

    /// The frame that continues the chain, where it would be or at the start of the ring.
    async fn next(&mut self, expected: Tail) -> Option<Found> {
        let there = self.at(expected).await;
        if there.is_some() || expected.offset == 0 {
            return there;
        }
        self.at(Tail { offset: 0, ..expected }).await
    }

    async fn at(&mut self, place: Tail) -> Option<Found> {
        if place.offset + BLOCK_BYTES > self.ring_len {
            return None;
        }
        self.load(place.offset, BLOCK_BYTES).await;
        for header in self.candidates(place) {
            if place.offset + header.footprint() <= self.ring_len {
                self.load(place.offset, header.footprint()).await;
                if let Some(found) = self.decode(place, &header) {
                    return Some(found);
                }
            }
            if without(Protection::EveryFrameTried) {
                break;
            }
        }
        None
    }

    /// The frames that may continue the chain here, those that most members have first. With no more data shards
    /// than parity there can be two: one that was never whole, and one that was to take its place.
    fn candidates(&self, place: Tail) -> Vec<FrameHeader> {
        let headers: Vec<FrameHeader> = self.columns.iter().filter_map(|c| self.header(c, place)).collect();
        let mut counted: Vec<(usize, FrameHeader)> = Vec::new();
        for header in headers {
            match counted.iter_mut().find(|(_, other)| other.same_frame(&header)) {
                Some((count, _)) => *count += 1,
                None => counted.push((1, header)),
            }
        }
        // Of one with fewer than k shards nothing can be had.
        counted.retain(|(count, _)| *count >= self.spec.code.data());
        counted.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        counted.into_iter().map(|(_, header)| header).collect()
    }

    /// The header on a member, if it continues the chain here.
    fn header(&self, column: &Column<'_>, place: Tail) -> Option<FrameHeader> {
        let header = FrameHeader::decode(column.get(place.offset, FRAME_HEADER_BYTES)?).ok()?;
        let (k, m) = (self.spec.code.data(), self.spec.code.parity());
        let fits = (header.array == self.spec.array || without(Protection::JournalOwner))
            && header.seq == place.seq
            && (header.prev_nonce == place.prev_nonce || without(Protection::NonceChain))
            && (header.offset == place.offset || without(Protection::FramePlace))
            && (usize::from(header.data), usize::from(header.parity)) == (k, m)
            && (usize::from(header.shard) == column.slot || without(Protection::ShardSlot));
        fits.then_some(header)
    }

    fn decode(&self, place: Tail, header: &FrameHeader) -> Option<Found> {
        let shard_len = usize::try_from(header.shard_len).ok()?;
        let mut present: Vec<(usize, &[u8])> = Vec::new();
        let mut held_by = Vec::new();
        for column in &self.columns {
            let Some(own) = self.header(column, place).filter(|h| h.same_frame(header)) else { continue };
            let Some(shard) = column.get(place.offset + FRAME_HEADER_BYTES as u64, shard_len) else {
                continue;
            };
            if shard_crc(shard) == own.shard_crc || without(Protection::ShardChecksum) {
                present.push((column.slot, shard));
                held_by.push(column.member.id());
            }
        }
        present.sort_unstable_by_key(|(slot, _)| *slot);
        let k = self.spec.code.data();
        if present.len() < k {
            return None;
        }
        let mut payload = vec![0; shard_len * k];
        let mut missing = Vec::new();
        for (shard, part) in payload.chunks_exact_mut(shard_len).enumerate() {
            match present.iter().find(|(slot, _)| *slot == shard) {
                Some((_, bytes)) => part.copy_from_slice(bytes),
                None => missing.push((shard, part)),
            }
        }
        if !missing.is_empty() {
            self.codec.reconstruct(&present, &mut missing).ok()?;
        }
        payload.truncate(usize::try_from(header.payload_len).ok()?);
        if payload_crc(&payload) != header.payload_crc {
            return None;
        }
        let len = header.footprint();
        Some(Found { place, nonce: header.nonce, len, payload: Bytes::from(payload), held_by })
    }

    /// Makes a range of every member's ring available, as far as it can be read.
    async fn load(&mut self, offset: u64, len: u64) {
        let base = self.spec.place.offset + RING_START;
        let ahead = len.max(WINDOW).min(self.ring_len - offset);
        let reads = self.columns.iter_mut().filter(|c| c.get(offset, to_usize(len)).is_none()).map(
            |column| async move {
                let read = match column.member.read(base + offset, to_usize(ahead)).await {
                    Err(_) if ahead > len => column.member.read(base + offset, to_usize(len)).await,
                    other => other,
                };
                column.start = offset;
                column.bytes = read.map(|b| b.freeze()).unwrap_or_default();
            },
        );
        join_all(reads).await;
    }
}

impl Column<'_> {
    fn get(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(from..from.checked_add(len)?)
    }
}

fn to_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{OpenRecord, ParityRecord, ParityRow, Piece};

    /// On 2+1 with two blocks in a chunk, ten stripes.
    fn fits(record: Record) -> bool {
        check(&record, &Shape::new(2, 1, 8192).unwrap(), 10).is_ok()
    }

    #[test]
    fn data_and_parity_lie_inside_the_array() {
        let data = |block| Record::Data { version: 1, block, bytes: Bytes::from(vec![0; 8192]) };
        assert!(fits(data(38)) && !fits(data(39)));
        let parity = |stripe, block, shard, row_block| {
            let rows = vec![ParityRow { shard, row_block, bytes: Bytes::from(vec![0; 4096]) }];
            let pieces = vec![Piece { block, version: 1, crc: 0 }];
            Record::Parity(ParityRecord { stripe, fresh: false, bare: false, pieces, rows })
        };
        assert!(fits(parity(9, 39, 2, 1)));
        for (stripe, block, shard, row_block) in [(10, 40, 2, 1), (9, 35, 2, 1), (9, 39, 1, 1), (9, 39, 2, 2)]
        {
            assert!(!fits(parity(stripe, block, shard, row_block)), "{stripe} {block} {shard} {row_block}");
        }
    }

    #[test]
    fn an_open_record_has_a_checksum_of_every_block_of_its_stripes() {
        let open = |first_stripe, count, crcs| {
            let crcs = vec![0; crcs];
            fits(Record::Open(OpenRecord { first_stripe, count, crcs, ..OpenRecord::default() }))
        };
        assert!(open(0, 1, 6) && open(8, 2, 12));
        // Too few, too many, a stripe too far, a number that overflows.
        assert!(!open(0, 2, 6) && !open(0, 1, 12) && !open(9, 2, 12) && !open(0, u64::MAX, 6));
    }

    #[test]
    fn zeroed_stripes_lie_inside_the_array() {
        let zero = |first_stripe, count| fits(Record::Zero { first_stripe, count, up_to_version: 0 });
        assert!(zero(0, 10) && zero(9, 1));
        assert!(!zero(10, 1) && !zero(0, 11) && !zero(1, u64::MAX));
    }
}
