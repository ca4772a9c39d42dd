//! Reading rows of many shards at once, verified: what lies side by side on a member is one read.
//!
//! Without its stripe's lock a block may be caught between its content and its checksum. So a
//! mismatch there only says "look again, under the lock"; with the lock it is damage, which is
//! counted, reported and repaired. Unallocated stripes, and blocks that are zero by their checksum
//! table, need no I/O.

use super::engine::{Stripes, part, to_usize};
use super::roster::{Roster, Verdict};
use crate::env::join_all;
use crate::error::{Error, ErrorKind, Result};
use crate::integrity::{ZERO, judge};
use crate::member::Member;
use crate::mutation::{Protection, without};
use crate::units::{BLOCK_BYTES, Slot, StripeIndex};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// Longest merged read, in bytes.
const MAX_READ: u64 = 4 << 20;

/// Some rows of one shard of a stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Want {
    pub stripe: StripeIndex,
    pub shard: usize,
    pub rows: Range<u64>,
}

impl Want {
    fn len(&self) -> u64 {
        self.rows.end - self.rows.start
    }
}

/// Whether whoever reads holds the locks of the stripes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// What does not match may be on its way.
    Unlocked,
    /// What does not match is damaged, and repaired.
    Locked,
    /// What does not match is damaged, which is somebody else's business.
    Quiet,
}

struct Run {
    member: Arc<Member>,
    slot: Slot,
    offset: u64,
    len: u64,
    /// Indices of the wants it serves, in address order.
    wants: Vec<usize>,
}

/// What was read, and which blocks of it are not what they should be.
struct Read {
    bytes: Bytes,
    bad: Vec<usize>,
}

impl Stripes {
    /// Reads each want from the member that holds it; answers in the order of the wants. A want
    /// whose member is lost, fails or holds something else than was written is an error of its
    /// own; failures are looked into (and repaired, if the member lives) in the background.
    pub(super) async fn gather(
        self: &Arc<Self>,
        roster: &Roster,
        wants: &[Want],
        care: Care,
    ) -> Vec<Result<Bytes>> {
        let (runs, mut answers) = self.merge(roster, wants);
        let reads = runs.iter().map(|run| self.read_run(run));
        for (run, read) in runs.iter().zip(join_all(reads).await) {
            match read {
                Ok(Some(read)) => self.deal(run, wants, &read, care, &mut answers),
                Ok(None) => {}
                Err(e) if run.wants.len() == 1 || e.kind() == ErrorKind::Timeout => {
                    self.refuse(run, wants, e, care, &mut answers);
                }
                // One bad sector must not cost the neighbours: ask for each alone.
                Err(_) => self.gather_singly(run, wants, care, &mut answers).await,
            }
        }
        answers.into_iter().map(|a| a.unwrap_or_else(|| Err(lost()))).collect()
    }

    /// Reads one want of a stripe that is allocated, without its lock. `None` if it has to be read under the
    /// lock; what failed is looked into as by [`Self::gather`].
    pub(super) async fn gather_one(self: &Arc<Self>, member: &Arc<Member>, want: Want) -> Option<Bytes> {
        let slot = self.shape.slot_of(want.stripe, want.shard);
        let offset = self.offset_on(member, want.stripe, want.rows.start);
        let run = Run { member: Arc::clone(member), slot, offset, len: want.len(), wants: Vec::new() };
        match self.read_run(&run).await {
            Ok(read) => read.filter(|read| read.bad.is_empty()).map(|read| read.bytes),
            Err(error) => {
                self.look_into(run.member, vec![want], error);
                None
            }
        }
    }

    fn merge(&self, roster: &Roster, wants: &[Want]) -> (Vec<Run>, Vec<Option<Result<Bytes>>>) {
        let mut placed: Vec<(Slot, u64, usize)> = Vec::with_capacity(wants.len());
        let mut answers = Vec::with_capacity(wants.len());
        for (index, want) in wants.iter().enumerate() {
            let allocated = self.epochs.is_allocated(want.stripe);
            answers.push((!allocated).then(|| Ok(self.zeroes(want.len()))));
            if allocated {
                let slot = self.shape.slot_of(want.stripe, want.shard);
                placed.push((slot, self.shape.chunk_offset(want.stripe) + want.rows.start, index));
            }
        }
        placed.sort_unstable();
        let mut runs: Vec<Run> = Vec::new();
        for (slot, _, index) in placed {
            let want = &wants[index];
            let view = roster.slots.get(slot.index());
            let Some(member) = view.and_then(|s| s.readable(want.stripe)) else { continue };
            let offset = self.offset_on(member, want.stripe, want.rows.start);
            match runs.last_mut() {
                Some(run)
                    if Arc::ptr_eq(&run.member, member)
                        && run.offset + run.len == offset
                        && run.len + want.len() <= MAX_READ =>
                {
                    run.len += want.len();
                    run.wants.push(index);
                }
                _ => {
                    runs.push(Run {
                        member: Arc::clone(member),
                        slot,
                        offset,
                        len: want.len(),
                        wants: vec![index],
                    });
                }
            }
        }
        (runs, answers)
    }

    /// None if the member does not count any more: what was in memory of its table may be forgotten by
    /// now, and what it has on its media be older than what it has of the blocks.
    async fn read_run(&self, run: &Run) -> Result<Option<Read>> {
        let table = self.integrity.table(&run.member);
        let first = (run.offset - run.member.data_offset()) / BLOCK_BYTES;
        let count = to_usize(run.len / BLOCK_BYTES);
        let (entries, buffer) = match table.entries_at_hand(first, count) {
            Some(entries) if entries.iter().all(|e| *e == ZERO) => {
                return Ok(Some(Read { bytes: self.zeroes(run.len), bad: Vec::new() }));
            }
            Some(entries) => (Ok(entries), run.member.read(run.offset, to_usize(run.len)).await),
            None => {
                futures::join!(table.entries(first, count), run.member.read(run.offset, to_usize(run.len)))
            }
        };
        if self.integrity.has_gaps() {
            self.kick();
        }
        if !self.membership.roster().has(run.slot, &run.member) && !without(Protection::LostNotRead) {
            return Ok(None);
        }
        let (entries, mut buffer) = (entries?, buffer?);
        let bad = judge(run.slot, first, &entries, &mut buffer);
        Ok(Some(Read { bytes: buffer.freeze(), bad }))
    }

    fn deal(
        self: &Arc<Self>,
        run: &Run,
        wants: &[Want],
        read: &Read,
        care: Care,
        answers: &mut [Option<Result<Bytes>>],
    ) {
        let mut at = 0;
        let mut damaged = Vec::new();
        for index in &run.wants {
            let want = &wants[*index];
            let blocks = to_usize(at / BLOCK_BYTES)..to_usize((at + want.len()) / BLOCK_BYTES);
            let bad = read.bad.iter().filter(|b| blocks.contains(b));
            let bad = bad.map(|b| want.rows.start + (b - blocks.start) as u64 * BLOCK_BYTES);
            let before = damaged.len();
            damaged.extend(bad.map(|row| Want { rows: row..row + BLOCK_BYTES, ..want.clone() }));
            answers[*index] = Some(match damaged.len() == before {
                true => Ok(part(&read.bytes, at, want.len())),
                false => Err(mismatch().member(run.member.path())),
            });
            at += want.len();
        }
        if care == Care::Locked && !damaged.is_empty() {
            run.member.mismatched(damaged.len() as u64);
            self.look_into(Arc::clone(&run.member), damaged, mismatch());
        }
    }

    async fn gather_singly(
        self: &Arc<Self>,
        run: &Run,
        wants: &[Want],
        care: Care,
        answers: &mut [Option<Result<Bytes>>],
    ) {
        let mut offset = run.offset;
        for index in &run.wants {
            let len = wants[*index].len();
            let alone =
                Run { member: Arc::clone(&run.member), slot: run.slot, offset, len, wants: vec![*index] };
            match self.read_run(&alone).await {
                Ok(Some(read)) => self.deal(&alone, wants, &read, care, answers),
                Ok(None) => {}
                Err(e) => self.refuse(&alone, wants, e, care, answers),
            }
            offset += len;
        }
    }

    fn refuse(
        self: &Arc<Self>,
        run: &Run,
        wants: &[Want],
        error: Error,
        care: Care,
        answers: &mut [Option<Result<Bytes>>],
    ) {
        for index in &run.wants {
            answers[*index] = Some(Err(Error::new(error.kind(), error.what()).member(run.member.path())));
        }
        if care != Care::Quiet {
            let bad = run.wants.iter().map(|i| wants[*i].clone()).collect();
            self.look_into(Arc::clone(&run.member), bad, error);
        }
    }

    /// Reports a failed read in the background, and mends what was unreadable if the member lives.
    fn look_into(self: &Arc<Self>, member: Arc<Member>, bad: Vec<Want>, error: Error) {
        let this = Arc::clone(self);
        self.env.spawn(Box::pin(async move {
            let damaged = error.kind() == ErrorKind::Corrupt;
            if damaged || this.membership.read_failed(member.id(), error).await == Verdict::Kept {
                for want in bad {
                    this.repair(&member, &want, damaged).await;
                }
            }
        }));
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Failed, "the member is lost")
}

fn mismatch() -> Error {
    Error::new(ErrorKind::Corrupt, "what was read is not what was written")
}
