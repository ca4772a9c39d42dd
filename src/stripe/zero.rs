//! Zeroing whole stripes: zero data has zero parity, so every chunk of the stripe is punched.

use super::engine::Stripes;
use super::lock::Mode;
use crate::env::join_all;
use crate::error::Result;
use crate::units::StripeIndex;

/// Most stripes zeroed under one set of locks.
const MAX_RUN: u64 = 256;

impl Stripes {
    /// Makes `count` whole stripes from `first` on read as zeroes and frees their space.
    pub async fn zero_run(&self, first: StripeIndex, count: u64) -> Result<()> {
        let mut done = 0;
        while done < count {
            let now = MAX_RUN.min(count - done);
            self.zero_locked(StripeIndex(first.0 + done), now).await?;
            done += now;
        }
        Ok(())
    }

    async fn zero_locked(&self, first: StripeIndex, count: u64) -> Result<()> {
        let _guards = self.locks.lock_run(first, count, Mode::Exclusive).await;
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
