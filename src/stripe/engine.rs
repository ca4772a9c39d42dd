//! The state that every stripe operation shares, and the steps they have in common.

use super::bearers::settle;
use super::drain::Destager;
use super::lock::LockTable;
use super::roster::{Membership, Roster};
use super::staging::Staging;
use super::tables::Tables;
use super::torn::{Settling, Torn};
use crate::codec::Codec;
use crate::env::{Buffer, Env, join_all};
use crate::epoch::EpochMap;
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::Shape;
use crate::integrity::{Integrity, Pinned, sum};
use crate::journal::Journal;
use crate::member::{Member, Persistence};
use crate::mutation::{Protection, without};
use crate::units::{BLOCK_BYTES, MemberId, Slot, StripeIndex};
use bytes::Bytes;
use std::sync::Arc;

/// Reads, writes and restores stripes.
pub struct Stripes {
    pub(super) env: Env,
    pub(super) shape: Shape,
    pub(super) codec: Codec,
    pub(super) locks: LockTable,
    /// Held alone by who merges a part of a block with the rest, shared by who writes whole blocks.
    pub(super) merges: LockTable,
    pub(super) membership: Arc<dyn Membership>,
    pub(super) journal: Arc<Journal>,
    pub(super) integrity: Integrity,
    pub(super) epochs: Arc<EpochMap>,
    pub(super) tables: Tables,
    pub(super) staging: Staging,
    pub(super) torn: Torn,
    pub(super) settling: Settling,
    /// Stripes written whole: what was answered of them is at home only.
    pub(super) whole: Settling,
    pub(super) destager: Destager,
    zeroes: Bytes,
}

/// What the stripes of an array are made of.
pub struct Parts {
    /// The surroundings.
    pub env: Env,
    /// Shape of the array.
    pub shape: Shape,
    /// Who the members are.
    pub membership: Arc<dyn Membership>,
    /// The journal.
    pub journal: Arc<Journal>,
    /// The members' checksum tables.
    pub integrity: Integrity,
    /// The epoch map.
    pub epochs: Arc<EpochMap>,
    /// About so much is held in memory of what is not home, in bytes.
    pub staging_bytes: u64,
}

/// A write to one member: where, what, and its entries in the member's checksum table.
pub(super) struct Store {
    pub member: Arc<Member>,
    pub offset: u64,
    pub pieces: Vec<Bytes>,
    pub sums: Vec<Sums>,
}

/// Checksums of blocks that lie side by side.
#[derive(Clone)]
pub(super) struct Sums {
    /// Blocks of the write before them.
    pub after: u64,
    pub sums: Vec<u32>,
}

impl From<Vec<u32>> for Sums {
    fn from(sums: Vec<u32>) -> Self {
        Self { after: 0, sums }
    }
}

impl Stripes {
    /// Stripes of these parts.
    pub fn new(parts: Parts) -> Result<Self> {
        let Parts { env, shape, membership, journal, integrity, epochs, staging_bytes } = parts;
        Ok(Self {
            codec: Codec::new(shape.data(), shape.parity())?,
            locks: LockTable::default(),
            merges: LockTable::default(),
            membership,
            staging: Staging::new(&shape, staging_bytes, Arc::clone(&journal.staged)),
            journal,
            integrity,
            epochs,
            tables: Tables::default(),
            torn: Torn::default(),
            settling: Settling::default(),
            whole: Settling::default(),
            destager: Destager::default(),
            zeroes: env.buffers().take_zeroed(to_usize(shape.chunk_bytes())).freeze(),
            env,
            shape,
        })
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Forgets what is in memory of a member that was lost and is to be taken back.
    pub fn forget(&self, member: MemberId) {
        self.integrity.forget(member);
    }

    /// Makes everything answered so far durable on every member that counts, and what is home as well.
    pub async fn flush(&self) -> Result<()> {
        let marks = (self.settling.mark(), self.whole.mark());
        self.journal.sync().await?;
        self.settling.settled(marks.0);
        self.whole.settled(marks.1);
        Ok(())
    }

    /// Makes everything answered so far durable. If the journal has members of its own, and all of it is
    /// in the journal, those of the slots need not be flushed for that.
    pub async fn flush_answered(&self) -> Result<()> {
        match self.membership.roster().journal.is_some() && self.whole.is_empty() {
            true => self.journal.sync_log().await,
            false => self.flush().await,
        }
    }

    /// The roster, if it takes writes.
    pub(super) fn writable_roster(&self) -> Result<Arc<Roster>> {
        let roster = self.membership.roster();
        match &roster.refuse_writes {
            None => Ok(roster),
            Some(why) => Err(Error::new(ErrorKind::Failed, format!("writes are refused: {why}"))),
        }
    }

    /// Where rows of a stripe begin on a member.
    pub(super) fn offset_on(&self, member: &Member, stripe: StripeIndex, row: u64) -> u64 {
        member.data_offset() + self.shape.chunk_offset(stripe) + row
    }

    /// Number of a row's block on the members.
    pub(super) fn block_on(&self, stripe: StripeIndex, row: u64) -> u64 {
        (self.shape.chunk_offset(stripe) + row) / BLOCK_BYTES
    }

    /// The checksums of rows of a shard, block by block.
    pub(super) fn sums(&self, stripe: StripeIndex, shard: usize, row: u64, bytes: &[u8]) -> Vec<u32> {
        let (slot, first) = (self.shape.slot_of(stripe, shard), self.block_on(stripe, row));
        self.sums_in(slot, first, bytes).collect()
    }

    pub(super) fn sums_in(&self, slot: Slot, first: u64, bytes: &[u8]) -> impl Iterator<Item = u32> {
        bytes.chunks(to_usize(BLOCK_BYTES)).zip(first..).map(move |(block, at)| sum(slot, at, block))
    }

    /// Writes to members side by side, and enters the checksums. A member that could not take its
    /// write is reported, and the whole fails only if the array cannot do without it.
    pub(super) async fn store(&self, stores: Vec<Store>, pin: Option<&Pinned>) -> Result<()> {
        let stores = stores.into_iter().map(|store| (0, pin, store)).collect();
        self.store_each(stores).await.into_iter().try_for_each(|(_, done)| done)
    }

    /// As [`Self::store`], for writes that belong to several things: of each its number and outcome.
    pub(super) async fn store_each(
        &self,
        stores: Vec<(usize, Option<&Pinned>, Store)>,
    ) -> Vec<(usize, Result<()>)> {
        let writes = stores.into_iter().map(|(index, pin, s)| async move {
            let mut done = s.member.write(s.offset, s.pieces, Persistence::Cached).await;
            let first = (s.offset - s.member.data_offset()) / BLOCK_BYTES;
            for Sums { after, sums } in s.sums {
                if done.is_ok() {
                    done = self.integrity.table(&s.member).enter(first + after, &sums, pin).await;
                }
            }
            (index, s.member, done)
        });
        let mut outcomes = Vec::new();
        for (index, member, done) in join_all(writes).await {
            if let Err(error) = done {
                outcomes.push((index, self.settle(&member, error).await));
            }
        }
        outcomes
    }

    /// Enters checksums of rows of a shard on every member that holds it.
    pub(super) async fn enter_shard(
        &self,
        roster: &Roster,
        stripe: StripeIndex,
        shard: usize,
        row: u64,
        sums: &[u32],
        pin: Option<&Pinned>,
    ) -> Result<()> {
        let view = roster.slots.get(self.shape.slot_of(stripe, shard).index());
        for member in view.into_iter().flat_map(|s| s.writable(stripe)) {
            self.enter(member, self.block_on(stripe, row), sums, pin).await?;
        }
        Ok(())
    }

    /// Enters checksums for a run of blocks of a member.
    pub(super) async fn enter(
        &self,
        member: &Arc<Member>,
        first: u64,
        sums: &[u32],
        pin: Option<&Pinned>,
    ) -> Result<()> {
        match self.integrity.table(member).enter(first, sums, pin).await {
            Ok(()) => Ok(()),
            Err(e) => self.settle(member, e).await,
        }
    }

    /// Reports what failed of some writes.
    pub(super) async fn settle_all_of(&self, done: Vec<(Arc<Member>, Result<()>)>) -> Result<()> {
        let mut outcome = Ok(());
        for (member, done) in done {
            if let Err(error) = done {
                outcome = self.settle(&member, error).await.and(outcome);
            }
        }
        outcome
    }

    /// Reports a failed write; `Ok` once the member no longer counts, durably.
    pub(super) async fn settle(&self, member: &Member, error: Error) -> Result<()> {
        if without(Protection::FailedHomeWrite) {
            return Ok(());
        }
        settle(&*self.membership, member, error).await
    }

    /// `bytes` in a page-aligned buffer; not copied if it lies so already.
    pub(super) fn aligned(&self, bytes: Bytes) -> Bytes {
        if (bytes.as_ptr().addr() as u64).is_multiple_of(BLOCK_BYTES) {
            return bytes;
        }
        let mut buffer = self.buffer(bytes.len() as u64);
        buffer.copy_from_slice(&bytes);
        buffer.freeze()
    }

    /// So many zero bytes.
    pub(super) fn zeroes(&self, len: u64) -> Bytes {
        match to_usize(len) {
            len if len <= self.zeroes.len() => self.zeroes.slice(..len),
            len => self.env.buffers().take_zeroed(len).freeze(),
        }
    }

    pub(super) fn buffer(&self, len: u64) -> Buffer {
        self.env.buffers().take(to_usize(len))
    }
}

/// Lengths of things held in memory; a length that does not fit could not have been allocated.
pub(super) fn to_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// A part of shared bytes, by 64-bit offsets.
pub(super) fn part(bytes: &Bytes, start: u64, len: u64) -> Bytes {
    bytes.slice(to_usize(start)..to_usize(start + len))
}
