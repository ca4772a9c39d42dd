//! Reading rows of many shards at once: what lies side by side on a member is one read.

use super::engine::{Stripes, part, to_usize};
use super::roster::{Roster, Verdict};
use crate::env::join_all;
use crate::error::{Error, ErrorKind, Result};
use crate::member::Member;
use crate::units::StripeIndex;
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

/// What becomes of a read that fails, besides being an error of its want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failing {
    /// It is looked into in the background, and repaired if the member lives.
    Mended,
    /// Nothing: whoever asked looks into it.
    Told,
}

struct Run {
    member: Arc<Member>,
    offset: u64,
    len: u64,
    /// Indices of the wants it serves, in address order.
    wants: Vec<usize>,
}

impl Stripes {
    /// Reads each want from the member that holds it; answers in the order of the wants. A want
    /// whose member is lost or fails is an error of its own; failures are looked into (and
    /// repaired, if the member lives) in the background.
    pub(super) async fn gather(self: &Arc<Self>, roster: &Roster, wants: &[Want]) -> Vec<Result<Bytes>> {
        self.gather_as(roster, wants, Failing::Mended).await
    }

    /// As [`Self::gather`], with a say in what becomes of failures.
    pub(super) async fn gather_as(
        self: &Arc<Self>,
        roster: &Roster,
        wants: &[Want],
        failing: Failing,
    ) -> Vec<Result<Bytes>> {
        let (runs, mut answers) = self.merge(roster, wants);
        let reads =
            runs.iter().map(|run| async move { run.member.read(run.offset, to_usize(run.len)).await });
        for (run, read) in runs.iter().zip(join_all(reads).await) {
            match read {
                Ok(buffer) => self.deal(run, wants, &buffer.freeze(), &mut answers),
                Err(e) if run.wants.len() == 1 || e.kind() == ErrorKind::Timeout => {
                    self.refuse(run, wants, e, failing, &mut answers);
                }
                // One bad sector must not cost the neighbours: ask for each alone.
                Err(_) => self.gather_singly(run, wants, failing, &mut answers).await,
            }
        }
        answers.into_iter().map(|a| a.unwrap_or_else(|| Err(lost()))).collect()
    }

    fn merge(&self, roster: &Roster, wants: &[Want]) -> (Vec<Run>, Vec<Option<Result<Bytes>>>) {
        let mut placed: Vec<(usize, u64, usize)> = Vec::with_capacity(wants.len());
        let mut answers = Vec::with_capacity(wants.len());
        for (index, want) in wants.iter().enumerate() {
            let slot = self.shape.slot_of(want.stripe, want.shard).index();
            answers.push(None);
            placed.push((slot, self.shape.chunk_offset(want.stripe) + want.rows.start, index));
        }
        placed.sort_unstable();
        let mut runs: Vec<Run> = Vec::new();
        for (slot, _, index) in placed {
            let want = &wants[index];
            let Some(member) = roster.slots.get(slot).and_then(|s| s.readable(want.stripe)) else { continue };
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
                        offset,
                        len: want.len(),
                        wants: vec![index],
                    });
                }
            }
        }
        (runs, answers)
    }

    fn deal(&self, run: &Run, wants: &[Want], bytes: &Bytes, answers: &mut [Option<Result<Bytes>>]) {
        let mut at = 0;
        for index in &run.wants {
            let len = wants[*index].len();
            answers[*index] = Some(Ok(part(bytes, at, len)));
            at += len;
        }
    }

    async fn gather_singly(
        self: &Arc<Self>,
        run: &Run,
        wants: &[Want],
        failing: Failing,
        answers: &mut [Option<Result<Bytes>>],
    ) {
        let mut offset = run.offset;
        for index in &run.wants {
            let len = wants[*index].len();
            let alone = Run { member: Arc::clone(&run.member), offset, len, wants: vec![*index] };
            match run.member.read(offset, to_usize(len)).await {
                Ok(buffer) => self.deal(&alone, wants, &buffer.freeze(), answers),
                Err(e) => self.refuse(&alone, wants, e, failing, answers),
            }
            offset += len;
        }
    }

    fn refuse(
        self: &Arc<Self>,
        run: &Run,
        wants: &[Want],
        error: Error,
        failing: Failing,
        answers: &mut [Option<Result<Bytes>>],
    ) {
        for index in &run.wants {
            answers[*index] = Some(Err(Error::new(error.kind(), error.what()).member(run.member.path())));
        }
        if failing == Failing::Told {
            return;
        }
        let bad = run.wants.iter().map(|i| wants[*i].clone()).collect();
        self.look_into(Arc::clone(&run.member), bad, error);
    }

    /// Reports a failed read in the background, and mends what was unreadable if the member lives.
    fn look_into(self: &Arc<Self>, member: Arc<Member>, bad: Vec<Want>, error: Error) {
        let this = Arc::clone(self);
        self.env.spawn(Box::pin(async move {
            if this.membership.read_failed(member.id(), error).await == Verdict::Kept {
                for want in bad {
                    this.repair(&member, &want).await;
                }
            }
        }));
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Failed, "the member is lost")
}
