//! Filling replacements: runs of stripes, read and written in large merged I/O, under their locks.
//! Unallocated stripes need nothing, nor do those that did not change while a member that was taken
//! back was away, if it knows all of them.
//!
//! A row of which too much is damaged must not keep all others from being redundant again: what it lacks is
//! not known on the replacement, as it is not known on those it would be restored from. If one of them can be
//! read after all, a read or a scrub restores it.

use super::engine::{Store, Stripes, to_usize};
use super::gather::{Care, Want};
use super::lock::Mode;
use super::roster::{Roster, Target};
use crate::env::join_all;
use crate::error::{Error, ErrorKind, Result};
use crate::integrity::{UNKNOWN, ZERO};
use crate::member::Persistence;
use crate::mutation::{Protection, without};
use crate::units::{BLOCK_BYTES, Slot, StripeIndex};
use bytes::Bytes;
use std::sync::Arc;

/// What became of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RunOutcome {
    /// Bytes written to the members that were filled or corrected.
    pub written_bytes: u64,
    /// Stripes that could not be restored, because too much of them is unreadable.
    pub blocked: Vec<StripeIndex>,
    /// Blocks of replacements that were given up.
    pub given_up: u64,
}

/// A chunk for a replacement.
struct Fill<'a> {
    stripe: StripeIndex,
    slot: Slot,
    target: &'a Target,
}

impl Stripes {
    /// Fills every replacement with its chunks of `count` stripes from `first` on. A slot whose
    /// old member still answers is copied; otherwise its chunk is reconstructed. With `give_up` blocks
    /// that cannot be restored do not hold up the rest.
    pub async fn rebuild_run(self: &Arc<Self>, first: StripeIndex, count: u64, give_up: bool) -> RunOutcome {
        let locked = if without(Protection::RebuildLock) { 0 } else { count };
        let _guards = self.locks.lock_run(first, locked, Mode::Exclusive).await;
        let mut outcome = RunOutcome::default();
        for stripe in (first.0..first.0 + count).map(StripeIndex) {
            if self.mend(stripe).await.is_err() {
                outcome.blocked.push(stripe);
            }
        }
        if !outcome.blocked.is_empty() {
            return outcome;
        }
        let roster = self.membership.roster();
        let fills = self.leave_idle(fills(self, &roster, first, count)).await;
        let chunks = self.chunks_for(&roster, &fills, first, count).await;
        let mut done = Vec::with_capacity(fills.len());
        for (fill, chunk) in fills.into_iter().zip(chunks) {
            match chunk {
                Ok(bytes) => done.push((fill, bytes)),
                Err(_) if give_up => match self.fill_rows(&fill).await {
                    Ok(given_up) => outcome.given_up += given_up,
                    Err(_) => outcome.blocked.push(fill.stripe),
                },
                Err(_) if outcome.blocked.last() == Some(&fill.stripe) => {}
                Err(_) => outcome.blocked.push(fill.stripe),
            }
        }
        done.sort_by_key(|(fill, _)| (fill.slot, fill.stripe));
        let same_run = |a: &(Fill<'_>, Bytes), b: &(Fill<'_>, Bytes)| {
            a.0.slot == b.0.slot && a.0.stripe.0 + 1 == b.0.stripe.0 && is_zero(&a.1) == is_zero(&b.1)
        };
        let runs = done.chunk_by(same_run).map(|run| self.fill_run(run));
        for written in join_all(runs).await {
            outcome.written_bytes += written;
        }
        outcome
    }

    /// Marks those of `count` stripes from `first` on filled that need no filling.
    pub async fn skip_run(&self, first: StripeIndex, count: u64) {
        let mut any_idle = false;
        // What this reads of the tables nobody waits for under the locks then.
        for fill in &fills(self, &self.membership.roster(), first, count) {
            any_idle |= self.needs_nothing(fill).await;
        }
        if any_idle {
            let _guards = self.locks.lock_run(first, count, Mode::Exclusive).await;
            let roster = self.membership.roster();
            self.leave_idle(fills(self, &roster, first, count)).await;
        }
    }

    /// Marks what needs no filling as filled; answers the rest, without what is for members lost meanwhile.
    async fn leave_idle<'a>(&self, fills: Vec<Fill<'a>>) -> Vec<Fill<'a>> {
        let mut rest = Vec::with_capacity(fills.len());
        // One after the other: each would ask a member that hangs for the same page.
        for fill in fills {
            if self.needs_nothing(&fill).await {
                fill.target.rebuilt.insert(fill.stripe);
            } else if self.is_target(&fill) {
                rest.push(fill);
            }
        }
        rest
    }

    fn is_target(&self, fill: &Fill<'_>) -> bool {
        self.membership.roster().has(fill.slot, &fill.target.member)
    }

    /// Whether a replacement has all of a stripe, as far as the epoch map knows, and knows what it has:
    /// checksums that could not be read before it was lost are gone from its table.
    async fn needs_nothing(&self, fill: &Fill<'_>) -> bool {
        let stamp = self.epochs.stamp(fill.stripe);
        if self.torn.contains(fill.stripe) || stamp.allocated && stamp.epoch >= fill.target.lacks_from {
            return false;
        }
        if !stamp.allocated || without(Protection::UnknownFilled) {
            return true;
        }
        let member = &fill.target.member;
        let blocks = to_usize(self.shape.chunk_bytes() / BLOCK_BYTES);
        match self.integrity.table(member).entries(self.block_on(fill.stripe, 0), blocks).await {
            // Of one that was lost meanwhile the table may have been read anew.
            Ok(entries) => !entries.contains(&UNKNOWN) && self.is_target(fill),
            Err(e) => {
                // Who hangs is lost here already, lest it is waited for once more.
                if e.kind() == ErrorKind::Timeout {
                    self.membership.read_failed(member.id(), e).await;
                }
                false
            }
        }
    }

    /// The chunk for each fill, in order.
    async fn chunks_for(
        self: &Arc<Self>,
        roster: &Roster,
        fills: &[Fill<'_>],
        first: StripeIndex,
        count: u64,
    ) -> Vec<Result<Bytes>> {
        let chunk = 0..self.shape.chunk_bytes();
        let mut wants = Vec::new();
        let mut plans = Vec::new();
        for s in first.0..first.0 + count {
            let stripe = StripeIndex(s);
            let wanted: Vec<usize> = fills
                .iter()
                .filter(|f| f.stripe == stripe)
                .map(|f| self.shape.shard_of(stripe, f.slot))
                .collect();
            if wanted.is_empty() {
                continue;
            }
            let readable = self.readable(roster, stripe, &[]);
            let direct = wanted.iter().all(|w| readable[*w]);
            let reads = if direct { wanted.clone() } else { self.sources(&readable, &wanted) };
            let from = wants.len();
            wants.extend(reads.iter().map(|s| Want { stripe, shard: *s, rows: chunk.clone() }));
            plans.push((stripe, wanted, from..wants.len()));
        }
        let got = self.gather(roster, &wants, Care::Locked).await;
        let mut chunks = Vec::with_capacity(fills.len());
        for (stripe, wanted, reads) in plans {
            let have: Vec<(usize, Bytes)> =
                reads.clone().filter_map(|i| Some((wants[i].shard, got[i].as_ref().ok()?.clone()))).collect();
            let made = match have.len() == reads.len() && (!have.is_empty()) {
                true => self.restore_shards(&have, &wanted, chunk.end),
                // What failed may be out by now: under the old roster it would be waited for anew.
                false => {
                    self.recover(&self.membership.roster(), stripe, chunk.clone(), &wanted, &[], Care::Locked)
                        .await
                }
            };
            match made {
                Ok(bytes) => chunks.extend(bytes.into_iter().map(Ok)),
                Err(e) => chunks.extend(wanted.iter().map(|_| Err(Error::new(e.kind(), e.what())))),
            }
        }
        chunks
    }

    /// Fills what can be restored of a chunk, block by block; answers how many were given up.
    async fn fill_rows(self: &Arc<Self>, fill: &Fill<'_>) -> Result<u64> {
        let member = &fill.target.member;
        let shard = [self.shape.shard_of(fill.stripe, fill.slot)];
        let mut given_up = 0;
        for row in (0..self.shape.chunk_bytes()).step_by(to_usize(BLOCK_BYTES)) {
            let (roster, block) = (self.writable_roster()?, self.block_on(fill.stripe, row));
            let rows = row..row + BLOCK_BYTES;
            match self.recover(&roster, fill.stripe, rows, &shard, &[], Care::Locked).await {
                Ok(pieces) => {
                    let sums: Vec<u32> =
                        pieces.iter().flat_map(|b| self.sums_in(fill.slot, block, b)).collect();
                    let sums = vec![sums.into()];
                    let offset = self.offset_on(member, fill.stripe, row);
                    self.store(vec![Store { member: Arc::clone(member), offset, pieces, sums }], None)
                        .await?;
                }
                // Members are there, and what they have of it is damaged.
                Err(e) if e.kind() == ErrorKind::Io => {
                    self.enter(member, block, &[UNKNOWN], None).await?;
                    given_up += 1;
                }
                Err(e) => return Err(e),
            }
        }
        fill.target.rebuilt.insert(fill.stripe);
        Ok(given_up)
    }

    /// Writes chunks that lie side by side to one replacement, and marks them filled.
    async fn fill_run(&self, run: &[(Fill<'_>, Bytes)]) -> u64 {
        let Some((head, bytes)) = run.first() else { return 0 };
        let member = &head.target.member;
        let offset = self.offset_on(member, head.stripe, 0);
        let len = run.len() as u64 * self.shape.chunk_bytes();
        let first = self.block_on(head.stripe, 0);
        let table = self.integrity.table(member);
        let written = match is_zero(bytes) {
            // What is on the media does not matter then.
            true => table.enter(first, &vec![ZERO; to_usize(len / BLOCK_BYTES)], None).await,
            false => {
                let pieces = run.iter().map(|(_, b)| b.clone()).collect();
                let sums = (first..).step_by(to_usize(self.shape.chunk_bytes() / BLOCK_BYTES)).zip(run);
                let sums: Vec<u32> = sums.flat_map(|(at, (f, b))| self.sums_in(f.slot, at, b)).collect();
                match member.write(offset, pieces, Persistence::Cached).await {
                    Ok(()) => table.enter(first, &sums, None).await,
                    failed => failed,
                }
            }
        };
        match written {
            Ok(()) => {
                run.iter().for_each(|(fill, _)| fill.target.rebuilt.insert(fill.stripe));
                len
            }
            // The coordinator drops the replacement (or keeps it, and the chunks stay unfilled).
            Err(error) => {
                drop(self.settle(member, error).await);
                0
            }
        }
    }
}

/// The chunks of a run of stripes that replacements still lack, in stripe order.
fn fills<'a>(stripes: &Stripes, roster: &'a Roster, first: StripeIndex, count: u64) -> Vec<Fill<'a>> {
    let mut fills = Vec::new();
    for s in first.0..first.0 + count {
        let stripe = StripeIndex(s);
        for (slot, view) in stripes.shape().slots().zip(&roster.slots) {
            if let Some(target) = view.target.as_ref().filter(|t| !t.rebuilt.contains(stripe)) {
                fills.push(Fill { stripe, slot, target });
            }
        }
    }
    fills
}

/// Whether all bytes are zero: such chunks need no space.
fn is_zero(bytes: &[u8]) -> bool {
    let (head, words, tail) = bytemuck::pod_align_to::<u8, u64>(bytes);
    head.iter().chain(tail).all(|b| *b == 0) && words.iter().all(|w| *w == 0)
}
