//! The state that every stripe operation shares, and the steps they have in common.

use super::bearers::settle;
use super::drain::Destager;
use super::lock::LockTable;
use super::roster::{Membership, Roster};
use super::staging::Staging;
use super::torn::{Settling, Torn};
use crate::codec::Codec;
use crate::env::{Buffer, Env, join_all};
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::Shape;
use crate::journal::Journal;
use crate::member::{Member, Persistence};
use crate::units::{BLOCK_BYTES, StripeIndex};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    pub(super) staging: Staging,
    pub(super) torn: Torn,
    pub(super) settling: Settling,
    pub(super) destager: Destager,
    resync_from: AtomicU64,
}

/// A write to one member: where, what.
pub(super) struct Store {
    pub member: Arc<Member>,
    pub offset: u64,
    pub pieces: Vec<Bytes>,
}

impl Stripes {
    /// Stripes of `shape` over the members that `membership` names, with their journal, of which at
    /// most about `staging_bytes` are held in memory. Parity of stripes from `resync_from` on is
    /// not known to match; none if absent.
    pub fn new(
        env: Env,
        shape: Shape,
        membership: Arc<dyn Membership>,
        journal: Arc<Journal>,
        staging_bytes: u64,
        resync_from: Option<StripeIndex>,
    ) -> Result<Self> {
        Ok(Self {
            env,
            shape,
            codec: Codec::new(shape.data(), shape.parity())?,
            locks: LockTable::default(),
            merges: LockTable::default(),
            membership,
            journal,
            staging: Staging::new(&shape, staging_bytes),
            torn: Torn::default(),
            settling: Settling::default(),
            destager: Destager::default(),
            resync_from: AtomicU64::new(resync_from.map_or(u64::MAX, |s| s.0)),
        })
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The first stripe whose parity is not known to match its data.
    pub fn resync_from(&self) -> Option<StripeIndex> {
        let from = self.resync_from.load(Ordering::Acquire);
        (from != u64::MAX).then_some(StripeIndex(from))
    }

    /// Moves that border; `None` when all parity matches.
    pub fn set_resync_from(&self, from: Option<StripeIndex>) {
        self.resync_from.store(from.map_or(u64::MAX, |s| s.0), Ordering::Release);
    }

    /// Makes everything answered so far durable on every member that counts.
    pub async fn flush(&self) -> Result<()> {
        let mark = self.settling.mark();
        self.journal.sync().await?;
        self.settling.settled(mark);
        Ok(())
    }

    pub(super) fn parity_trusted(&self, stripe: StripeIndex) -> bool {
        stripe.0 < self.resync_from.load(Ordering::Acquire)
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

    /// Writes to members side by side. A member that could not take its write is reported, and
    /// the whole fails only if the array cannot do without it.
    pub(super) async fn store(&self, stores: Vec<Store>, persistence: Persistence) -> Result<()> {
        let writes = stores.into_iter().map(|s| async move {
            let done = s.member.write(s.offset, s.pieces, persistence).await;
            (s.member, done)
        });
        let mut outcome = Ok(());
        for (member, done) in join_all(writes).await {
            if let Err(error) = done {
                outcome = self.settle(&member, error).await.and(outcome);
            }
        }
        outcome
    }

    /// Reports a failed write; `Ok` once the member no longer counts, durably.
    pub(super) async fn settle(&self, member: &Member, error: Error) -> Result<()> {
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
