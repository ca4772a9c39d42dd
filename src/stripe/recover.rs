//! Getting at rows of a stripe whose shards cannot all be read: reconstruction from any k others.
//!
//! A first attempt takes the rows as a whole. If members fail while they are read, they are set
//! aside and the rest is tried; if too few are left, each 4 KiB row is tried on its own, so that
//! bad blocks of different members in different rows do not add up.

use super::engine::{Store, Stripes, to_usize};
use super::gather::{Care, Want};
use super::lock::Mode;
use super::roster::Roster;
use crate::error::{Error, ErrorKind, Result};
use crate::member::Member;
use crate::mutation::{Protection, without};
use crate::units::{BLOCK_BYTES, StripeIndex};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

impl Stripes {
    /// The rows of the `wanted` shards, in that order. The stripe's lock must be held. `avoid`
    /// names shards not to read.
    pub(super) async fn recover(
        self: &Arc<Self>,
        roster: &Roster,
        stripe: StripeIndex,
        rows: Range<u64>,
        wanted: &[usize],
        avoid: &[usize],
        care: Care,
    ) -> Result<Vec<Bytes>> {
        let mut done = self.recover_from(roster, stripe, rows.clone(), wanted, avoid, care).await;
        let mut newest = None;
        // Somebody may have taken the place of a member of that roster meanwhile.
        while done.is_err() && !self.has_members_of_now(newest.as_deref().unwrap_or(roster)) {
            let now = newest.insert(self.membership.roster());
            done = self.recover_from(now, stripe, rows.clone(), wanted, avoid, care).await;
        }
        done
    }

    /// Whether nobody was lost, replaced or opened anew since this snapshot was taken.
    pub(super) fn has_members_of_now(&self, roster: &Roster) -> bool {
        roster.has_members_of(&self.membership.roster())
    }

    async fn recover_from(
        self: &Arc<Self>,
        roster: &Roster,
        stripe: StripeIndex,
        rows: Range<u64>,
        wanted: &[usize],
        avoid: &[usize],
        care: Care,
    ) -> Result<Vec<Bytes>> {
        if !self.epochs.is_allocated(stripe) {
            return Ok(wanted.iter().map(|_| self.zeroes(rows.end - rows.start)).collect());
        }
        match self.recover_whole(roster, stripe, rows.clone(), wanted, avoid, care).await {
            Err(e) if e.kind() == ErrorKind::Io && rows.end - rows.start > BLOCK_BYTES => {}
            other => return other,
        }
        let len = to_usize(rows.end - rows.start);
        let mut whole: Vec<_> = wanted.iter().map(|_| self.env.buffers().take(len)).collect();
        let block = to_usize(BLOCK_BYTES);
        for (i, row) in (rows.start..rows.end).step_by(block).enumerate() {
            let one = self.recover_whole(roster, stripe, row..row + BLOCK_BYTES, wanted, avoid, care).await?;
            for (target, bytes) in whole.iter_mut().zip(one) {
                target[i * block..(i + 1) * block].copy_from_slice(&bytes);
            }
        }
        Ok(whole.into_iter().map(|b| b.freeze()).collect())
    }

    /// One attempt over the rows as a whole. Fails with `Io` if members failed while being read
    /// (smaller rows may do better), with `Failed` if too few members are there at all.
    async fn recover_whole(
        self: &Arc<Self>,
        roster: &Roster,
        stripe: StripeIndex,
        rows: Range<u64>,
        wanted: &[usize],
        avoid: &[usize],
        care: Care,
    ) -> Result<Vec<Bytes>> {
        let mut bad = avoid.to_vec();
        loop {
            let readable = self.readable(roster, stripe, &bad);
            let present = self.sources(&readable, wanted);
            let direct = wanted.iter().all(|w| readable[*w]);
            if !direct && (present.len() < self.shape.data() || self.is_torn(stripe)) {
                return Err(self.too_few(stripe, bad.len() > avoid.len()));
            }
            let reads: &[usize] = if direct { wanted } else { &present };
            let wants: Vec<Want> =
                reads.iter().map(|s| Want { stripe, shard: *s, rows: rows.clone() }).collect();
            let got = self.gather(roster, &wants, care).await;
            let failed: Vec<usize> =
                reads.iter().zip(&got).filter(|(_, g)| g.is_err()).map(|(s, _)| *s).collect();
            if !failed.is_empty() {
                bad.extend(failed);
                continue;
            }
            let have: Vec<(usize, Bytes)> = reads.iter().copied().zip(got.into_iter().flatten()).collect();
            return self.restore_shards(&have, wanted, rows.end - rows.start);
        }
    }

    /// Whether the stripe's parity may not match its data.
    pub(super) fn is_torn(&self, stripe: StripeIndex) -> bool {
        self.torn.contains(stripe) && !without(Protection::TornNotUsed)
    }

    /// By shard: is there a member to read it from?
    pub(super) fn readable(&self, roster: &Roster, stripe: StripeIndex, bad: &[usize]) -> Vec<bool> {
        let readable = |shard: usize| {
            let slot = self.shape.slot_of(stripe, shard).index();
            !bad.contains(&shard) && roster.slots.get(slot).is_some_and(|s| s.readable(stripe).is_some())
        };
        (0..self.shape.width()).map(readable).collect()
    }

    /// By shard: is there a member that must take writes to it?
    pub(super) fn held(&self, roster: &Roster, stripe: StripeIndex) -> Vec<bool> {
        let held = |shard| {
            roster.slots.get(self.shape.slot_of(stripe, shard).index()).is_some_and(|s| s.held(stripe))
        };
        (0..self.shape.width()).map(held).collect()
    }

    /// Up to k readable shards, the wanted ones first, then data before parity.
    pub(super) fn sources(&self, readable: &[bool], wanted: &[usize]) -> Vec<usize> {
        let others = (0..readable.len()).filter(|s| !wanted.contains(s));
        let order = wanted.iter().copied().chain(others);
        order.filter(|s| readable[*s]).take(self.shape.data()).collect()
    }

    /// The wanted shards, from those at hand; reconstructed where they are not among them.
    pub(super) fn restore_shards(
        &self,
        have: &[(usize, Bytes)],
        wanted: &[usize],
        len: u64,
    ) -> Result<Vec<Bytes>> {
        let at_hand = |w: usize| have.iter().find(|(s, _)| *s == w).map(|(_, b)| b.clone());
        let missing: Vec<usize> = wanted.iter().copied().filter(|w| at_hand(*w).is_none()).collect();
        let mut made: Vec<_> = missing.iter().map(|_| self.buffer(len)).collect();
        if !missing.is_empty() {
            let present: Vec<(usize, &[u8])> = have.iter().map(|(s, b)| (*s, b.as_ref())).collect();
            let mut out: Vec<(usize, &mut [u8])> =
                missing.iter().copied().zip(made.iter_mut().map(|b| &mut b[..])).collect();
            self.codec.reconstruct(&present, &mut out)?;
        }
        let mut made: Vec<Bytes> = made.into_iter().map(|b| b.freeze()).collect();
        made.reverse();
        let answer = wanted.iter().filter_map(|w| at_hand(*w).or_else(|| made.pop()));
        Ok(answer.collect())
    }

    fn too_few(&self, stripe: StripeIndex, errors: bool) -> Error {
        let what = format!("fewer than {} shards of the stripe can be read", self.shape.data());
        Error::new(if errors { ErrorKind::Io } else { ErrorKind::Failed }, what)
            .at(stripe.0 * self.shape.stripe_bytes())
    }

    /// Writes back in place what a member that lives could not read, or what was `damaged`. Whether it
    /// is as it should be afterwards, or the member's no more.
    pub(super) async fn repair(self: &Arc<Self>, member: &Arc<Member>, want: &Want, damaged: bool) -> bool {
        let _guard = self.locks.lock(want.stripe, Mode::Exclusive).await;
        let Ok(roster) = self.writable_roster() else { return false };
        let slot = self.shape.slot_of(want.stripe, want.shard).index();
        let holds = |s: &super::SlotView| s.writable(want.stripe).any(|m| Arc::ptr_eq(m, member));
        if !roster.slots.get(slot).is_some_and(holds) {
            return true;
        }
        if damaged {
            // Somebody else may have been here already.
            let again = self.gather(&roster, std::slice::from_ref(want), Care::Quiet).await;
            if again.iter().all(Result::is_ok) {
                return true;
            }
        }
        // Quietly: what else is bad has been, or will be, found by whoever needs it.
        let (shard, rows) = ([want.shard], want.rows.clone());
        let recovered = self.recover(&roster, want.stripe, rows, &shard, &shard, Care::Quiet).await;
        let Ok(pieces) = recovered else { return false };
        let offset = self.offset_on(member, want.stripe, want.rows.start);
        let sums = pieces.iter().flat_map(|b| self.sums(want.stripe, want.shard, want.rows.start, b));
        let sums = vec![sums.collect::<Vec<u32>>().into()];
        let store = Store { member: Arc::clone(member), offset, pieces, sums };
        let done = self.store(vec![store], None).await.is_ok();
        if done {
            self.try_parked();
            self.membership.repaired(member.id(), offset, want.rows.end - want.rows.start);
        }
        done
    }
}
