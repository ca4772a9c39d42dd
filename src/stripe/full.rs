//! Changing runs of whole stripes straight at home: nothing is read, and every member gets one
//! vectored write.
//!
//! Before home is touched the journal says durably that these stripes are open, so that after a
//! crash their parity is computed anew. That also ends what the journal holds of them: whatever is
//! staged comes home first, durably, lest a replay put it over what is written now.
//!
//! Every member has exactly one chunk in every stripe, so the chunks of consecutive stripes lie
//! side by side on it, data and parity as the rotation has them.

use super::engine::{Store, Stripes, part, to_usize};
use super::lock::Mode;
use super::roster::Roster;
use crate::error::Result;
use crate::member::{Member, Persistence};
use crate::units::{BLOCK_BYTES, Slot, StripeIndex};
use bytes::Bytes;
use std::sync::Arc;

/// Most bytes of data in one run; bounds the memory for parity and the time a lock is held.
const MAX_RUN: u64 = 4 << 20;

impl Stripes {
    /// Writes `count` whole stripes from `first` on.
    pub(super) async fn write_run(
        self: &Arc<Self>,
        first: StripeIndex,
        count: u64,
        data: Bytes,
    ) -> Result<()> {
        let stripe_bytes = self.shape.stripe_bytes();
        let step = (MAX_RUN / stripe_bytes).max(1);
        let mut done = 0;
        while done < count {
            let now = step.min(count - done);
            let bytes = self.aligned(part(&data, done * stripe_bytes, now * stripe_bytes));
            let from = StripeIndex(first.0 + done);
            let _guards = self.locks.lock_run(from, now, Mode::Exclusive).await;
            let parity = self.encode_run(&bytes, now)?;
            let opened = self.open_run(from, now, false, &vec![0; self.blocks_of(now)]).await?;
            let roster = self.writable_roster()?;
            let stores = self.run_stores(&roster, from, now, &bytes, &parity);
            let done_now = self.store(stores, Persistence::Cached).await;
            if done_now.is_err() {
                self.keep_run(from, now, &bytes, &parity);
            }
            self.close_run(from, now, opened);
            done_now?;
            done += now;
        }
        Ok(())
    }

    /// Blocks on all members of so many stripes.
    pub(super) fn blocks_of(&self, stripes: u64) -> usize {
        to_usize(stripes * self.shape.chunk_bytes() / BLOCK_BYTES) * self.shape.width()
    }

    /// Opens stripes in the journal, with their exclusive locks held; answers the frame. `fresh` and
    /// `crcs` are as [`crate::journal::Journal::open`] has them.
    pub(super) async fn open_run(
        self: &Arc<Self>,
        first: StripeIndex,
        count: u64,
        fresh: bool,
        crcs: &[u32],
    ) -> Result<u64> {
        let all: Vec<StripeIndex> = (first.0..first.0 + count).map(StripeIndex).collect();
        loop {
            let staged: Vec<StripeIndex> =
                all.iter().copied().filter(|s| !self.staging.of_stripe(*s).is_empty()).collect();
            for stripe in &all {
                self.mend(*stripe).await?;
            }
            if !staged.is_empty() {
                self.destage_locked(&staged).await?;
            }
            if self.settling.any(all.iter().copied()) {
                self.flush().await?;
            }
            // What is staged from now on is newer than what is about to be written.
            let newest = self.journal.last_version();
            let older = |s: &StripeIndex| self.staging.of_stripe(*s).iter().any(|(_, b)| b.version <= newest);
            if all.iter().any(older) {
                continue;
            }
            let ticket = self.journal.open(first.0, count, newest, fresh, crcs).await?;
            let seq = ticket.seq();
            let logged = match ticket.written().await {
                Ok(()) => self.flush().await,
                Err(e) => Err(e),
            };
            if let Err(e) = logged {
                self.journal.home([seq]);
                return Err(e);
            }
            return Ok(seq);
        }
    }

    /// The stripes are changed, as far as members took it: the next sync makes it durable.
    pub(super) fn close_run(&self, first: StripeIndex, count: u64, opened: u64) {
        (first.0..first.0 + count).for_each(|s| self.settling.insert(StripeIndex(s)));
        self.journal.home([opened]);
        self.kick();
    }

    /// Keeps what too few members could take.
    fn keep_run(&self, first: StripeIndex, count: u64, data: &Bytes, parity: &Bytes) {
        let chunk = self.shape.chunk_bytes();
        let (k, m) = (self.shape.data() as u64, self.shape.parity() as u64);
        for s in 0..count {
            let of_data = (0..k).map(|i| (to_usize(i), 0, part(data, (s * k + i) * chunk, chunk)));
            let of_parity = (0..m).map(|i| (to_usize(k + i), 0, part(parity, (s * m + i) * chunk, chunk)));
            self.torn.keep(StripeIndex(first.0 + s), of_data.chain(of_parity).collect());
        }
    }

    /// The parity chunks of a run, stripe after stripe, m chunks each.
    fn encode_run(&self, data: &Bytes, count: u64) -> Result<Bytes> {
        let chunk = to_usize(self.shape.chunk_bytes());
        let (k, m) = (self.shape.data(), self.shape.parity());
        let mut parity = self.buffer(count * (chunk * m) as u64);
        for (data, parity) in data.chunks_exact(chunk * k).zip(parity.chunks_exact_mut(chunk * m)) {
            let data: Vec<&[u8]> = data.chunks_exact(chunk).collect();
            let mut parity: Vec<(usize, &mut [u8])> = parity.chunks_exact_mut(chunk).enumerate().collect();
            self.codec.encode(&data, &mut parity)?;
        }
        Ok(parity.freeze())
    }

    fn run_stores(
        &self,
        roster: &Roster,
        first: StripeIndex,
        count: u64,
        data: &Bytes,
        parity: &Bytes,
    ) -> Vec<Store> {
        let chunk = self.shape.chunk_bytes();
        let (k, m) = (self.shape.data() as u64, self.shape.parity() as u64);
        let piece = |stripe: u64, slot: Slot| {
            let shard = self.shape.shard_of(StripeIndex(first.0 + stripe), slot) as u64;
            match shard < k {
                true => part(data, (stripe * k + shard) * chunk, chunk),
                false => part(parity, (stripe * m + shard - k) * chunk, chunk),
            }
        };
        let mut stores = Vec::new();
        for (slot, view) in self.shape.slots().zip(&roster.slots) {
            for member in view.primary.iter().chain(view.target.as_ref().map(|t| &t.member)) {
                for run in self.written_runs(roster, slot, member, first, count) {
                    let offset = self.offset_on(member, StripeIndex(first.0 + run.start), 0);
                    let pieces = run.map(|s| piece(s, slot)).collect();
                    stores.push(Store { member: Arc::clone(member), offset, pieces });
                }
            }
        }
        stores
    }

    /// The runs of stripes (counted from `first`) in which a member must take writes: all for a
    /// member in sync, the rebuilt ones for a replacement.
    pub(super) fn written_runs(
        &self,
        roster: &Roster,
        slot: Slot,
        member: &Arc<Member>,
        first: StripeIndex,
        count: u64,
    ) -> Vec<std::ops::Range<u64>> {
        let mut runs: Vec<std::ops::Range<u64>> = Vec::new();
        let Some(view) = roster.slots.get(slot.index()) else { return runs };
        for s in 0..count {
            let stripe = StripeIndex(first.0 + s);
            if view.writable(stripe).any(|m| Arc::ptr_eq(m, member)) {
                match runs.last_mut() {
                    Some(run) if run.end == s => run.end = s + 1,
                    _ => runs.push(s..s + 1),
                }
            }
        }
        runs
    }
}
