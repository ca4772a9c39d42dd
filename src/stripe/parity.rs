//! The new parity of rows in which some blocks are overwritten.
//!
//! What many rows need of old data and parity is read together: neighbours become one read, and the
//! members work side by side. Where some of it cannot be had, another way to the same parity is
//! sought for those rows alone.

use super::engine::Stripes;
use super::gather::{Care, Want};
use super::plan::{Plan, Question, choose};
use super::roster::Roster;
use super::rows::Segment;
use super::torn::Shreds;
use crate::codec::xor_into;
use crate::error::{Error, ErrorKind, Result};
use crate::mutation::{Protection, without};
use crate::units::StripeIndex;
use bytes::Bytes;
use std::sync::Arc;

/// Rows of a stripe that are to be overwritten.
pub(super) struct Work {
    /// Which of its asker's things it belongs to.
    pub index: usize,
    pub stripe: StripeIndex,
    pub segment: Segment,
    /// The new bytes, one piece for each of the segment's chunks.
    pub new: Vec<Bytes>,
}

/// What is known of the shards that a plan reads.
struct Attempt {
    plan: Plan,
    old: Vec<(usize, Bytes)>,
    /// Shards that cannot be used.
    bad: Vec<usize>,
    /// Why, if it may be otherwise later.
    failed: Option<Error>,
}

impl Attempt {
    fn take(&mut self, shard: usize, got: Result<Bytes>) {
        match got {
            Ok(bytes) => self.old.push((shard, bytes)),
            Err(e) => {
                self.bad.push(shard);
                if e.kind() != ErrorKind::Corrupt {
                    self.failed.get_or_insert(e);
                }
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.plan != Plan::Impossible && self.old.len() == self.plan.reads().len()
    }
}

impl Stripes {
    /// The new content of the live parity shards of each; none where too much is lost.
    pub(super) async fn parity_of_all(
        self: &Arc<Self>,
        works: Vec<Work>,
    ) -> Vec<(Work, Result<Option<Shreds>>)> {
        let roster = match self.writable_roster() {
            Ok(roster) => roster,
            Err(e) => {
                let refused = |work| (work, Err(Error::new(e.kind(), e.report())));
                return works.into_iter().map(refused).collect();
            }
        };
        let begin = |work: &Work| Attempt {
            plan: self.plan(&roster, work, &[]),
            old: Vec::new(),
            bad: Vec::new(),
            failed: None,
        };
        let mut attempts: Vec<Attempt> = works.iter().map(begin).collect();
        let pairs = || works.iter().zip(&attempts);
        let wants: Vec<Want> = pairs().flat_map(|(work, attempt)| wants(work, &attempt.plan)).collect();
        let mut got = self.gather(&roster, &wants, Care::Locked).await.into_iter();
        for attempt in &mut attempts {
            for shard in attempt.plan.reads().to_vec() {
                attempt.take(shard, got.next().unwrap_or_else(|| Err(missing())));
            }
        }
        let mut made = Vec::with_capacity(works.len());
        for (work, attempt) in works.into_iter().zip(attempts) {
            let parity = match attempt.is_complete() {
                true => self.finish(&roster, &work, &attempt).map(Some),
                false => self.another_way(&work, attempt).await,
            };
            made.push((work, parity));
        }
        made
    }

    /// Tries without the shards that turned out to be bad.
    async fn another_way(self: &Arc<Self>, work: &Work, mut attempt: Attempt) -> Result<Option<Shreds>> {
        loop {
            let roster = self.writable_roster()?;
            attempt.plan = self.plan(&roster, work, &attempt.bad);
            attempt.old.clear();
            if attempt.plan == Plan::Impossible {
                // What cannot be read now may be read later; what is damaged never can.
                return attempt.failed.map_or(Ok(None), Err);
            }
            let wants = wants(work, &attempt.plan);
            let got = self.gather(&roster, &wants, Care::Locked).await;
            for (want, got) in wants.iter().zip(got) {
                attempt.take(want.shard, got);
            }
            if attempt.is_complete() {
                return self.finish(&roster, work, &attempt).map(Some);
            }
        }
    }

    fn finish(&self, roster: &Roster, work: &Work, attempt: &Attempt) -> Result<Shreds> {
        let live = self.live_parity(roster, work.stripe);
        let parity = self.new_parity(work, attempt, &live)?;
        Ok(parity.into_iter().map(|(shard, bytes)| (shard, work.segment.rows.start, bytes)).collect())
    }

    fn plan(&self, roster: &Roster, work: &Work, bad: &[usize]) -> Plan {
        let readable = self.readable(roster, work.stripe, bad);
        let writable = self.held(roster, work.stripe);
        choose(&Question {
            data: self.shape.data(),
            dirty: &work.segment.chunks,
            readable: &readable,
            writable: &writable,
        })
    }

    /// Shard numbers of the parity that has a member to go to.
    fn live_parity(&self, roster: &Roster, stripe: StripeIndex) -> Vec<usize> {
        let live = self.held(roster, stripe);
        (self.shape.data()..self.shape.width()).filter(|s| live[*s]).collect()
    }

    /// The new content of the `live` parity shards in the segment's rows.
    fn new_parity(&self, work: &Work, attempt: &Attempt, live: &[usize]) -> Result<Vec<(usize, Bytes)>> {
        let Work { segment, new, .. } = work;
        let Attempt { plan, old, .. } = attempt;
        let len = segment.rows.end - segment.rows.start;
        let k = self.shape.data();
        let old_of = |s: usize| old.iter().find(|(o, _)| *o == s).map(|(_, b)| b.clone());
        let mut made: Vec<_> = live.iter().map(|_| self.buffer(len)).collect();
        if let Plan::ReadModifyWrite(_) = plan {
            for (shard, buffer) in live.iter().zip(&mut made) {
                buffer.copy_from_slice(&old_of(*shard).ok_or_else(missing)?);
            }
            let skipped = usize::from(without(Protection::ParityDelta));
            for (chunk, new) in segment.chunks.iter().copied().zip(new).skip(skipped) {
                let old = old_of(chunk).ok_or_else(missing)?;
                let mut out: Vec<(usize, &mut [u8])> =
                    live.iter().map(|s| s - k).zip(made.iter_mut().map(|b| &mut b[..])).collect();
                self.take_up(chunk, &old, new, &mut out)?;
            }
        } else {
            let idle: Vec<usize> = (0..k).filter(|c| !segment.chunks.contains(c)).collect();
            let idle_bytes = match plan {
                Plan::Reconstruct(_) | Plan::ReconstructWrite(_) => self.restore_shards(old, &idle, len)?,
                _ => Vec::new(),
            };
            let of_chunk = |c: usize| match idle.iter().position(|i| *i == c) {
                Some(i) => idle_bytes.get(i),
                None => segment.chunks.iter().position(|d| *d == c).and_then(|i| new.get(i)),
            };
            if !live.is_empty() {
                let data: Vec<&[u8]> =
                    (0..k).map(|c| of_chunk(c).map(|b| &b[..])).collect::<Option<_>>().ok_or_else(missing)?;
                let mut out: Vec<(usize, &mut [u8])> =
                    live.iter().map(|s| s - k).zip(made.iter_mut().map(|b| &mut b[..])).collect();
                self.codec.encode(&data, &mut out)?;
            }
        }
        Ok(live.iter().copied().zip(made.into_iter().map(|b| b.freeze())).collect())
    }

    /// Makes old parity take up the change of a data chunk.
    pub(super) fn take_up(
        &self,
        chunk: usize,
        old: &Bytes,
        new: &Bytes,
        parity: &mut [(usize, &mut [u8])],
    ) -> Result<()> {
        let mut delta = self.buffer(old.len() as u64);
        delta.copy_from_slice(old);
        xor_into(&mut delta, new);
        self.codec.update(chunk, &delta, parity)
    }
}

fn wants(work: &Work, plan: &Plan) -> Vec<Want> {
    let want = |s: &usize| Want { stripe: work.stripe, shard: *s, rows: work.segment.rows.clone() };
    plan.reads().iter().map(want).collect()
}

pub(super) fn missing() -> Error {
    Error::new(ErrorKind::Io, "a shard that was read is not at hand")
}
