//! Bringing blocks home that lie close together: one read and one write for each member.
//!
//! What lies between them is read and written back as it was, because an operation on a member costs as
//! much as some blocks do:
//!
//! ```text
//!           D0   D1   D2   D3    P    Q
//!   row 0   #    .    .    o     #    #      #  written, logged if it is parity
//!   row 1   o    .    .    #     #    #      o  written as it was
//!   row 2   o    .    .    o     o    o      .  not touched
//!   row 3   #    .    .    o     #    #
//! ```
//!
//! Parity comes from all data, or from the old data and parity, whichever are fewer shards. If one of
//! those cannot be had, the rows go home one by one (see `parity`).

use super::engine::{Stripes, part, to_usize};
use super::gather::{Care, Want};
use super::parity::missing;
use super::roster::Roster;
use super::rows::Segment;
use super::torn::Shreds;
use crate::error::Result;
use crate::journal::StagedBlock;
use crate::mutation::{Protection, without};
use crate::units::{BLOCK_BYTES, StripeIndex};
use bytes::Bytes;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// So many blocks more cost what an operation on a member does.
const OPERATION_BLOCKS: u64 = 4;

/// Rows of a stripe that go home together, and the data chunks that are overwritten somewhere in them.
pub(super) struct Stretch {
    /// Which of its asker's things it belongs to.
    pub index: usize,
    pub stripe: StripeIndex,
    pub rows: Range<u64>,
    pub chunks: Vec<usize>,
    /// The same, row by row.
    pub segments: Vec<Segment>,
}

/// What is to be written of a stretch.
#[derive(Default)]
pub(super) struct Filled {
    /// Parity of rows that change.
    pub parity: Shreds,
    /// What stays as it was.
    pub rest: Shreds,
}

/// Of the segments of a stripe, ascending: those so close to each other that what is between them is
/// better written, too (pure).
pub(super) fn stretches(
    index: usize,
    stripe: StripeIndex,
    segments: Vec<Segment>,
    (k, m): (usize, usize),
) -> (Vec<Stretch>, Vec<Segment>) {
    let (mut together, mut alone) = (Vec::new(), Vec::new());
    let near = |a: &Segment, b: &Segment| b.rows.start - a.rows.end <= OPERATION_BLOCKS * BLOCK_BYTES;
    for some in segments.chunk_by(near) {
        let rows = match (some.first(), some.last()) {
            (Some(first), Some(last)) => first.rows.start..last.rows.end,
            _ => continue,
        };
        let mut chunks: Vec<usize> = some.iter().flat_map(|s| s.chunks.iter().copied()).collect();
        chunks.sort_unstable();
        chunks.dedup();
        let cost = |operations: usize, rows: &Range<u64>| {
            operations as u64 * (OPERATION_BLOCKS + (rows.end - rows.start) / BLOCK_BYTES)
        };
        let single = |s: &Segment| {
            let written = s.chunks.len() + m;
            cost(written.min(k - s.chunks.len()) + written, &s.rows)
        };
        let written = chunks.len() + m;
        let whole = cost(written.min(k) + written, &rows);
        match some.len() > 1 && whole <= some.iter().map(single).sum() {
            true => together.push(Stretch { index, stripe, rows, chunks, segments: some.to_vec() }),
            false => alone.extend_from_slice(some),
        }
    }
    (together, alone)
}

/// The most bytes that so many blocks of a stripe have in memory on their way home.
pub(super) fn most_bytes(blocks: u64, width: usize, chunk_bytes: u64) -> u64 {
    let rows = blocks.saturating_mul(OPERATION_BLOCKS + 1).saturating_mul(BLOCK_BYTES);
    rows.min(chunk_bytes) * width as u64
}

/// The staged blocks of a stripe, by chunk and row.
type New<'a> = HashMap<(usize, u64), &'a Bytes>;

/// The old content of shards in the rows of a stretch.
struct Old<'a> {
    rows: &'a Range<u64>,
    shards: Vec<(usize, Bytes)>,
}

impl Old<'_> {
    fn part(&self, shard: usize, rows: &Range<u64>) -> Result<Bytes> {
        let found = self.shards.iter().find(|(s, _)| *s == shard);
        let within = |bytes: &Bytes| part(bytes, rows.start - self.rows.start, rows.end - rows.start);
        found.map(|(_, bytes)| within(bytes)).ok_or_else(missing)
    }
}

impl Stripes {
    /// Reads what is needed of stretches and makes what is to be written; none where something cannot
    /// be had. `staged`: by the index of a stretch.
    pub(super) async fn fill_all(
        self: &Arc<Self>,
        stretches: &[Stretch],
        staged: &[&[(u64, StagedBlock)]],
    ) -> Vec<Option<Filled>> {
        let Ok(roster) = self.writable_roster() else { return stretches.iter().map(|_| None).collect() };
        let sources: Vec<Vec<usize>> = stretches.iter().map(|s| self.sources_of(&roster, s)).collect();
        let want = |stretch: &Stretch, shard: &usize| Want {
            stripe: stretch.stripe,
            shard: *shard,
            rows: stretch.rows.clone(),
        };
        let wants =
            stretches.iter().zip(&sources).flat_map(|(s, shards)| shards.iter().map(move |i| want(s, i)));
        let wants: Vec<Want> = wants.collect();
        let mut got = self.gather(&roster, &wants, Care::Locked).await.into_iter();
        let mut made = Vec::with_capacity(stretches.len());
        for (stretch, shards) in stretches.iter().zip(&sources) {
            let own: Vec<Result<Bytes>> = got.by_ref().take(shards.len()).collect();
            let own = shards.iter().copied().zip(own).map(|(shard, bytes)| Ok((shard, bytes?)));
            let old = own.collect::<Result<Vec<_>>>().ok().filter(|old| !old.is_empty());
            let staged = staged.get(stretch.index).copied().unwrap_or_default();
            let fill = |shards| self.fill(&roster, stretch, &Old { rows: &stretch.rows, shards }, staged);
            made.push(old.and_then(|shards| fill(shards).ok()));
        }
        made
    }

    /// The shards to read: all data, or what is overwritten and its parity. None if some cannot be read.
    fn sources_of(&self, roster: &Roster, stretch: &Stretch) -> Vec<usize> {
        let (readable, held) =
            (self.readable(roster, stretch.stripe, &[]), self.held(roster, stretch.stripe));
        let k = self.shape.data();
        let live = (k..self.shape.width()).filter(|s| held[*s]);
        let data: Vec<usize> = (0..k).collect();
        let old: Vec<usize> = stretch.chunks.iter().copied().chain(live).collect();
        let mut ways = [data, old];
        ways.sort_by_key(Vec::len);
        ways.into_iter().find(|way| way.iter().all(|s| readable[*s])).unwrap_or_default()
    }

    fn fill(
        &self,
        roster: &Roster,
        stretch: &Stretch,
        old: &Old<'_>,
        staged: &[(u64, StagedBlock)],
    ) -> Result<Filled> {
        let held = self.held(roster, stretch.stripe);
        let live: Vec<usize> = (self.shape.data()..self.shape.width()).filter(|s| held[*s]).collect();
        let new: New<'_> = staged.iter().map(|(block, s)| (self.place_of(*block), &s.bytes)).collect();
        let changes = |row: u64| stretch.chunks.iter().any(|chunk| new.contains_key(&(*chunk, row)));
        let mut filled = Filled::default();
        for chunk in &stretch.chunks {
            for rows in runs(&stretch.rows, |row| !new.contains_key(&(*chunk, row))) {
                filled.rest.push((*chunk, rows.start, old.part(*chunk, &rows)?));
            }
        }
        for (shard, bytes) in live.iter().zip(self.stretch_parity(&live, stretch, old, &new)?) {
            let of = |rows: Range<u64>| {
                (*shard, rows.start, part(&bytes, rows.start - stretch.rows.start, rows.end - rows.start))
            };
            filled.parity.extend(runs(&stretch.rows, changes).into_iter().map(of));
            filled.rest.extend(runs(&stretch.rows, |row| !changes(row)).into_iter().map(of));
        }
        Ok(filled)
    }

    /// The `live` parity in all rows of a stretch.
    fn stretch_parity(
        &self,
        live: &[usize],
        stretch: &Stretch,
        old: &Old<'_>,
        new: &New<'_>,
    ) -> Result<Vec<Bytes>> {
        let k = self.shape.data();
        let all_data = old.shards.iter().filter(|(shard, _)| *shard < k).count() == k;
        let mut made: Vec<_> =
            live.iter().map(|_| self.buffer(stretch.rows.end - stretch.rows.start)).collect();
        if !all_data {
            for (shard, buffer) in live.iter().zip(&mut made) {
                buffer.copy_from_slice(&old.part(*shard, &stretch.rows)?);
            }
        }
        let block = to_usize(BLOCK_BYTES);
        let mut outputs: Vec<_> = made.iter_mut().map(|buffer| buffer.chunks_exact_mut(block)).collect();
        for row in stretch.rows.clone().step_by(block) {
            let rows = row..row + BLOCK_BYTES;
            let mut out: Vec<(usize, &mut [u8])> =
                live.iter().zip(&mut outputs).filter_map(|(s, rest)| Some((s - k, rest.next()?))).collect();
            if all_data {
                let now = |chunk: usize| match new.get(&(chunk, row)) {
                    Some(bytes) => Ok(Bytes::clone(bytes)),
                    None => old.part(chunk, &rows),
                };
                let data = (0..k).map(now).collect::<Result<Vec<Bytes>>>()?;
                let inputs: Vec<&[u8]> = data.iter().map(|b| &b[..]).collect();
                self.codec.encode(&inputs, &mut out)?;
                continue;
            }
            let changed = stretch.chunks.iter().filter_map(|c| Some((*c, *new.get(&(*c, row))?)));
            for (chunk, bytes) in changed.skip(usize::from(without(Protection::ParityDelta))) {
                self.take_up(chunk, &old.part(chunk, &rows)?, bytes, &mut out)?;
            }
        }
        Ok(made.into_iter().map(|b| b.freeze()).collect())
    }
}

/// The runs of rows of which something is so.
fn runs(rows: &Range<u64>, is: impl Fn(u64) -> bool) -> Vec<Range<u64>> {
    let mut found: Vec<Range<u64>> = Vec::new();
    for row in rows.clone().step_by(to_usize(BLOCK_BYTES)).filter(|row| is(*row)) {
        match found.last_mut() {
            Some(run) if run.end == row => run.end += BLOCK_BYTES,
            _ => found.push(row..row + BLOCK_BYTES),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows and chunks that go together.
    type Together = (Range<u64>, Vec<usize>);

    fn found(rows: &[(u64, &[usize])]) -> (Vec<Together>, usize) {
        let segment = |(row, chunks): &(u64, &[usize])| Segment {
            rows: row * BLOCK_BYTES..(row + 1) * BLOCK_BYTES,
            chunks: chunks.to_vec(),
        };
        let segments = rows.iter().map(segment).collect();
        let (together, alone) = stretches(0, StripeIndex(0), segments, (4, 2));
        let rows = |s: Stretch| (s.rows.start / BLOCK_BYTES..s.rows.end / BLOCK_BYTES, s.chunks);
        (together.into_iter().map(rows).collect(), alone.len())
    }

    #[test]
    fn blocks_close_together_go_home_together() {
        assert_eq!(found(&[(0, &[1]), (3, &[1])]), (vec![(0..4, vec![1])], 0));
        assert_eq!(found(&[(0, &[1]), (9, &[1])]), (vec![], 2));
        let spread = [(0, &[0][..]), (2, &[3]), (10, &[0]), (11, &[1, 2]), (13, &[3])];
        assert_eq!(found(&spread), (vec![(0..3, vec![0, 3]), (10..14, vec![0, 1, 2, 3])], 0));
    }

    #[test]
    fn a_run_of_the_same_chunks_stays_what_it_is() {
        assert_eq!(found(&[(5, &[2])]), (vec![], 1));
    }

    #[test]
    fn runs_are_as_long_as_may_be() {
        let b = BLOCK_BYTES;
        let odd = runs(&(0..6 * b), |row| row != 2 * b && row != 3 * b);
        assert_eq!(odd, [0..2 * b, 4 * b..6 * b]);
        assert!(runs(&(0..b), |_| false).is_empty());
    }

    #[test]
    fn what_blocks_take_of_memory_is_bounded_by_the_stripe() {
        assert_eq!(most_bytes(1, 6, 64 << 10), 6 * 20480);
        assert_eq!(most_bytes(64, 6, 64 << 10), 6 * 65536);
    }
}
