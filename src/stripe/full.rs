//! Changing runs of whole stripes straight at home: nothing is read, and every member gets one
//! vectored write.
//!
//! Before home is touched the journal says durably that these stripes are open, what the checksums
//! of all their blocks will be, and which of them are that already. So after a crash every block of
//! theirs is known to be old, new, or neither (see `resolve`). That also ends what the journal holds
//! of them: whatever is staged comes home first, durably, lest a replay put it over what is written
//! now.
//!
//! Every member has exactly one chunk in every stripe, so the chunks of consecutive stripes lie
//! side by side on it, data and parity as the rotation has them.

use super::engine::{Store, Stripes, part, to_usize};
use super::lock::Mode;
use super::roster::Roster;
use super::torn::Load;
use crate::env::join_all;
use crate::error::{Error, ErrorKind, Result};
use crate::format::OpenRecord;
use crate::integrity::{Pinned, ZERO};
use crate::member::Member;
use crate::mutation::{Protection, without};
use crate::units::{BLOCK_BYTES, Slot, StripeIndex};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// Most bytes of data in one run; bounds the memory for parity and the time a lock is held.
const MAX_RUN: u64 = 4 << 20;
/// Most checksums in one record.
const MAX_SUMS: u64 = 64 << 10;

/// A run of stripes as it is to be: all it holds, ready to be written.
struct Run {
    first: StripeIndex,
    count: u64,
    data: Bytes,
    /// Stripe after stripe, m chunks each.
    parity: Bytes,
    /// Stripe after stripe, shard after shard, block after block.
    sums: Vec<u32>,
}

impl Stripes {
    /// Whether stripes of this shape may be written straight home: not if their checksums alone
    /// would fill the journal.
    pub(super) fn fits_run(&self) -> bool {
        self.sums_per_stripe() <= MAX_SUMS
    }

    fn sums_per_stripe(&self) -> u64 {
        self.shape.width() as u64 * self.shape.chunk_bytes() / BLOCK_BYTES
    }

    /// Writes `count` whole stripes from `first` on.
    pub(super) async fn write_run(
        self: &Arc<Self>,
        first: StripeIndex,
        count: u64,
        data: Bytes,
    ) -> Result<()> {
        let stripe_bytes = self.shape.stripe_bytes();
        let step = (MAX_RUN / stripe_bytes).min(MAX_SUMS / self.sums_per_stripe()).max(1);
        let mut done = 0;
        while done < count {
            let now = step.min(count - done);
            let bytes = self.aligned(part(&data, done * stripe_bytes, now * stripe_bytes));
            let first = StripeIndex(first.0 + done);
            let _guards = self.locks.lock_run(first, now, Mode::Exclusive).await;
            let run = self.make_run(first, now, bytes)?;
            let pins = self.open_run(&run).await?;
            self.write_open(&run, &pins).await?;
            done += now;
        }
        Ok(())
    }

    fn make_run(&self, first: StripeIndex, count: u64, data: Bytes) -> Result<Run> {
        let parity = self.encode_run(&data, count)?;
        let mut run = Run { first, count, data, parity, sums: Vec::new() };
        run.sums.reserve(to_usize(count * self.sums_per_stripe()));
        for stripe in 0..count {
            for shard in 0..self.shape.width() {
                let chunk = self.chunk_of(&run, stripe, shard);
                let at = StripeIndex(first.0 + stripe);
                let slot = self.shape.slot_of(at, shard);
                run.sums.extend(self.sums_in(slot, self.block_on(at, 0), &chunk));
            }
        }
        Ok(run)
    }

    /// Opens stripes in the journal, with their exclusive locks held; answers a pin for each.
    async fn open_run(self: &Arc<Self>, run: &Run) -> Result<Vec<Pinned>> {
        let all: Vec<StripeIndex> = (run.first.0..run.first.0 + run.count).map(StripeIndex).collect();
        loop {
            let staged: Vec<StripeIndex> =
                all.iter().copied().filter(|s| !self.staging.of_stripe(*s).is_empty()).collect();
            for stripe in &all {
                self.mend(*stripe).await?;
            }
            if !staged.is_empty() {
                let stuck = self.destage_locked(&staged, true).await?;
                if let Some(stripe) = stuck.first() {
                    let what = "too much of a row is lost to bring a block home that was written before";
                    return Err(Error::new(ErrorKind::Io, what).at(stripe.0 * self.shape.stripe_bytes()));
                }
            }
            if self.settling.any(all.iter().copied()) && !without(Protection::SettledBeforeOpen) {
                self.flush().await?;
            }
            // What is staged from now on is newer than what is about to be written.
            let newest = self.journal.last_version();
            let older = |s: &StripeIndex| self.staging.of_stripe(*s).iter().any(|(_, b)| b.version <= newest);
            if all.iter().any(older) {
                continue;
            }
            let per_stripe = to_usize(self.sums_per_stripe());
            let mut pins = Vec::with_capacity(all.len());
            let mut logged = Vec::new();
            if without(Protection::OpenInJournal) {
                return Ok(all.iter().map(|_| self.journal.hold_all(Vec::new())).collect());
            }
            // One record for neighbours of which all, or none, were unallocated.
            for some in all.chunk_by(|a, b| self.epochs.is_allocated(*a) == self.epochs.is_allocated(*b)) {
                let part = pins.len() * per_stripe..(pins.len() + some.len()) * per_stripe;
                let ticket = self.journal.open(&self.open_record(run, some, part, newest).await).await?;
                let pin = self.journal.hold(&ticket);
                pins.extend(some.iter().map(|_| Arc::clone(&pin)));
                logged.push(ticket.written());
            }
            join_all(logged).await.into_iter().collect::<Result<()>>()?;
            if !without(Protection::OpenFlush) {
                self.flush().await?;
            }
            return Ok(pins);
        }
    }

    /// What the journal is told of `some` stripes of a run, whose checksums are `part` of the run's.
    async fn open_record(
        &self,
        run: &Run,
        some: &[StripeIndex],
        part: Range<usize>,
        up_to_version: u64,
    ) -> OpenRecord {
        let first = some.first().copied().unwrap_or(run.first);
        let mut record =
            OpenRecord { first_stripe: first.0, count: some.len() as u64, ..OpenRecord::default() };
        record.up_to_version = up_to_version;
        record.crcs = run.sums.get(part).unwrap_or_default().to_vec();
        let fresh = !self.epochs.is_allocated(first);
        if !fresh && !without(Protection::SameInJournal) {
            record.same = self.unchanged(first, some.len(), &record.crcs).await;
        }
        record.fresh = fresh && !without(Protection::FreshInJournal);
        if without(Protection::OpenChecksums) {
            record.crcs.fill(ZERO);
        }
        record
    }

    /// Which of these checksums, those of whole stripes, the tables have already; none at all if none.
    async fn unchanged(&self, first: StripeIndex, count: usize, sums: &[u32]) -> Vec<bool> {
        let rows = to_usize(self.shape.chunk_bytes() / BLOCK_BYTES);
        let roster = self.membership.roster();
        let columns = self.shape.slots().zip(&roster.slots).map(|(slot, view)| async move {
            let member = view.primary.as_ref()?;
            let now = self.integrity.table(member).entries(self.block_on(first, 0), count * rows).await;
            match now {
                // Of one that was lost meanwhile the table may have been read anew.
                Ok(now) => Some((slot, now)).filter(|_| self.membership.roster().has(slot, member)),
                Err(e) => {
                    // Who hangs is lost here already, lest the write waits for it once more.
                    if e.kind() == ErrorKind::Timeout {
                        self.membership.read_failed(member.id(), e).await;
                    }
                    None
                }
            }
        });
        let mut same = vec![false; sums.len()];
        for (slot, now) in join_all(columns).await.into_iter().flatten() {
            for (stripe, now) in now.chunks(rows).enumerate() {
                let shard = self.shape.shard_of(StripeIndex(first.0 + stripe as u64), slot);
                let from = (stripe * self.shape.width() + shard) * rows;
                let said = same.iter_mut().zip(sums).skip(from).zip(now);
                said.for_each(|((same, sum), now)| *same = sum == now);
            }
        }
        if same.contains(&true) { same } else { Vec::new() }
    }

    /// Writes opened stripes. What too few members could take is kept.
    async fn write_open(&self, run: &Run, pins: &[Pinned]) -> Result<()> {
        let oldest = pins.iter().min_by_key(|p| p.seq());
        let done = match self.writable_roster() {
            Ok(roster) => self.store(self.run_stores(&roster, run), oldest).await,
            Err(e) => Err(e),
        };
        for (stripe, pin) in (run.first.0..).map(StripeIndex).zip(pins) {
            self.settling.insert(stripe);
            self.whole.insert(stripe);
            match &done {
                Ok(()) => self.epochs.note(stripe, true, Some(pin)),
                Err(_) => self.keep(run, stripe, pin),
            }
        }
        self.kick();
        done
    }

    fn keep(&self, run: &Run, stripe: StripeIndex, pin: &Pinned) {
        let chunk = |shard| (shard, 0, self.chunk_of(run, stripe.0 - run.first.0, shard));
        let shreds = (0..self.shape.width()).map(chunk).collect();
        self.torn.keep(stripe, Load { shreds, pin: Some(Arc::clone(pin)), ..Load::default() });
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

    /// A shard of the run's `stripe`-th stripe.
    fn chunk_of(&self, run: &Run, stripe: u64, shard: usize) -> Bytes {
        let chunk = self.shape.chunk_bytes();
        let (k, m) = (self.shape.data() as u64, self.shape.parity() as u64);
        match shard as u64 {
            shard if shard < k => part(&run.data, (stripe * k + shard) * chunk, chunk),
            shard => part(&run.parity, (stripe * m + shard - k) * chunk, chunk),
        }
    }

    fn run_stores(&self, roster: &Roster, run: &Run) -> Vec<Store> {
        let rows = to_usize(self.shape.chunk_bytes() / BLOCK_BYTES);
        let shard = |stripe: u64, slot: Slot| self.shape.shard_of(StripeIndex(run.first.0 + stripe), slot);
        let sums = |stripe: u64, slot: Slot| {
            let from = (to_usize(stripe) * self.shape.width() + shard(stripe, slot)) * rows;
            run.sums.get(from..from + rows).unwrap_or_default().to_vec()
        };
        let mut stores = Vec::new();
        for (slot, view) in self.shape.slots().zip(&roster.slots) {
            for member in view.primary.iter().chain(view.target.as_ref().map(|t| &t.member)) {
                for stripes in self.written_runs(roster, slot, member, run.first, run.count) {
                    let first = StripeIndex(run.first.0 + stripes.start);
                    stores.push(Store {
                        member: Arc::clone(member),
                        offset: self.offset_on(member, first, 0),
                        pieces: stripes.clone().map(|s| self.chunk_of(run, s, shard(s, slot))).collect(),
                        sums: vec![stripes.flat_map(|s| sums(s, slot)).collect::<Vec<u32>>().into()],
                    });
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
    ) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
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
