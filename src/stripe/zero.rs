//! Zeroing whole stripes: zero data has zero parity, so every chunk of the stripe is punched.

use super::engine::{Stripes, to_usize};
use super::lock::Mode;
use crate::env::join_all;
use crate::error::Result;
use crate::units::StripeIndex;
use std::sync::Arc;

/// Most stripes zeroed under one set of locks.
const MAX_RUN: u64 = 256;
/// Most blocks, lest the record of their checksums outgrow a frame; a single stripe never does.
const MAX_BLOCKS: usize = 1 << 18;

impl Stripes {
    /// Makes `count` whole stripes from `first` on read as zeroes and frees their space.
    pub async fn zero_run(self: &Arc<Self>, first: StripeIndex, count: u64) -> Result<()> {
        let most = MAX_RUN.min((MAX_BLOCKS / self.blocks_of(1)) as u64).max(1);
        let mut done = 0;
        while done < count {
            let now = most.min(count - done);
            self.zero_locked(StripeIndex(first.0 + done), now).await?;
            done += now;
        }
        Ok(())
    }

    async fn zero_locked(self: &Arc<Self>, first: StripeIndex, count: u64) -> Result<()> {
        let _guards = self.locks.lock_run(first, count, Mode::Exclusive).await;
        let opened = self.open_run(first, count, false, &vec![0; self.blocks_of(count)]).await?;
        let done = self.punch_run(first, count).await;
        if done.is_err() {
            self.keep_zeroes(first, count);
        }
        self.close_run(first, count, opened);
        done
    }

    /// Keeps what too few members could take.
    fn keep_zeroes(&self, first: StripeIndex, count: u64) {
        let chunk = self.env.buffers().take_zeroed(to_usize(self.shape.chunk_bytes())).freeze();
        for s in first.0..first.0 + count {
            let all = (0..self.shape.width()).map(|shard| (shard, 0, chunk.clone()));
            self.torn.keep(StripeIndex(s), all.collect());
        }
    }

    async fn punch_run(&self, first: StripeIndex, count: u64) -> Result<()> {
        let roster = self.writable_roster()?;
        let mut work = Vec::new();
        for (slot, view) in self.shape.slots().zip(&roster.slots) {
            for member in view.primary.iter().chain(view.target.as_ref().map(|t| &t.member)) {
                for run in self.written_runs(&roster, slot, member, first, count) {
                    let offset = self.offset_on(member, StripeIndex(first.0 + run.start), 0);
                    let len = (run.end - run.start) * self.shape.chunk_bytes();
                    work.push(async move { (member, member.zero(offset, len, true).await) });
                }
            }
        }
        let mut outcome = Ok(());
        for (member, done) in join_all(work).await {
            if let Err(error) = done {
                outcome = self.settle(member, error).await.and(outcome);
            }
        }
        outcome
    }
}
