//! Zeroing whole stripes: they become unallocated in the epoch map, and read as zeroes whatever
//! the members hold. Their space is freed.

use super::engine::Stripes;
use super::lock::Mode;
use crate::env::join_all;
use crate::error::{Error, ErrorKind, Result};
use crate::integrity::Pinned;
use crate::member::Member;
use crate::mutation::{Protection, without};
use crate::units::StripeIndex;
use std::sync::Arc;

/// Most stripes zeroed under one set of locks.
const MAX_RUN: u64 = 256;

impl Stripes {
    /// Makes `count` whole stripes from `first` on read as zeroes and frees their space.
    pub async fn zero_run(self: &Arc<Self>, first: StripeIndex, count: u64) -> Result<()> {
        let mut done = 0;
        while done < count {
            let now = MAX_RUN.min(count - done);
            self.zero_locked(StripeIndex(first.0 + done), now).await?;
            done += now;
        }
        Ok(())
    }

    async fn zero_locked(self: &Arc<Self>, first: StripeIndex, count: u64) -> Result<()> {
        let _guards = self.locks.lock_run(first, count, Mode::Exclusive).await;
        let all: Vec<StripeIndex> = (first.0..first.0 + count).map(StripeIndex).collect();
        let is_zero = |s: &StripeIndex| {
            !self.epochs.is_allocated(*s) && !self.torn.contains(*s) && !self.staging.has_any(*s)
        };
        for some in all.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
            if let Some(first) = some.first().filter(|s| !is_zero(s)) {
                self.deallocate(*first, some.len() as u64).await?;
            }
        }
        Ok(())
    }

    async fn deallocate(self: &Arc<Self>, first: StripeIndex, count: u64) -> Result<()> {
        self.writable_roster()?;
        let all = || (first.0..first.0 + count).map(StripeIndex);
        // What is staged from now on is newer than the zeroes.
        let newest = self.journal.last_version();
        let ticket = self.journal.zero(first.0, count, newest).await?;
        let pin = self.journal.hold(&ticket);
        ticket.written().await?;
        // Before the space is freed: what is there now may be what a flush made durable.
        if !without(Protection::ZeroBeforePunch) {
            self.flush().await?;
        }
        for stripe in all() {
            self.void(stripe, newest, &pin);
        }
        self.punch_run(first, count).await;
        self.kick();
        Ok(())
    }

    /// A stripe is zero but for what was staged after version `newest`.
    fn void(&self, stripe: StripeIndex, newest: u64, pin: &Pinned) {
        self.epochs.note(stripe, false, Some(pin));
        drop(self.torn.take(stripe));
        let staged = self.staging.of_stripe(stripe).into_iter().filter(|(_, s)| s.version <= newest);
        let gone: Vec<u64> = staged.filter_map(|(b, s)| self.staging.remove(b, s.version)).collect();
        self.journal.home(gone);
    }

    /// Frees the space. What is there counts no more; but a member that did not answer may still do it
    /// much later, over what was written since, and so must not count either.
    async fn punch_run(&self, first: StripeIndex, count: u64) {
        let roster = self.membership.roster();
        let len = count * self.shape.chunk_bytes();
        let punch = |member: Arc<Member>| async move {
            let done = member.punch_only(self.offset_on(&member, first, 0), len).await;
            (member, done)
        };
        for (member, done) in join_all(roster.members().cloned().map(punch)).await {
            let counts =
                |e: &Error| e.kind() != ErrorKind::Unsupported && !without(Protection::UnansweredPunch);
            if let Some(error) = done.err().filter(counts) {
                // One that cannot be spared is suspect now; the zeroes are in the journal.
                drop(self.settle(&member, error).await);
            }
        }
    }
}
