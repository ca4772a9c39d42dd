//! Reading a range of the volume.
//!
//! Chunks that are there are read without a lock, side by side where they lie so. A stripe that
//! lacks a wanted chunk is locked (shared), so that no writer changes it between its shards; the
//! lost rows are reconstructed from k others, which are read in the same merged reads. What fails
//! on the way is recovered stripe by stripe.

use super::engine::{Stripes, part, to_usize};
use super::gather::{Care, Want};
use super::lock::{Guard, Mode};
use super::roster::Roster;
use super::rows::{chunks_of, rows_of};
use super::staging::overlay;
use crate::error::Result;
use crate::geometry::split;
use crate::mutation::{Protection, without};
use crate::units::{BLOCK_BYTES, StripeIndex};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// The wanted part of one stripe: rows of some of its data chunks, in volume order.
struct Wanted {
    stripe: StripeIndex,
    parts: Vec<(usize, Range<u64>)>,
    /// If chunks are lost: the rows to reconstruct and the shards to read for it.
    lost: Option<(Range<u64>, Vec<usize>)>,
    /// Where this stripe's reads are among all.
    reads: Range<usize>,
}

impl Stripes {
    /// Reads `len` bytes at `offset`; the pieces concatenated are the answer.
    pub async fn read(self: &Arc<Self>, offset: u64, len: u64) -> Result<Vec<Bytes>> {
        let start = offset - offset % BLOCK_BYTES;
        let end = (offset + len).next_multiple_of(BLOCK_BYTES);
        // First what is staged, then home: what goes home in between is found in both.
        let staged = self.staging.get(start / BLOCK_BYTES..end / BLOCK_BYTES);
        if staged.len() as u64 == (end - start) / BLOCK_BYTES {
            return Ok(trim(staged.into_iter().map(|(_, bytes)| bytes).collect(), offset - start, len));
        }
        if staged.is_empty()
            && let Some(want) = self.in_one_chunk(start, end - start)
            && let Some(pieces) = self.read_one(want).await
        {
            return Ok(trim(pieces?, offset - start, len));
        }
        let mut stripes = self.wanted(start, end - start);
        let (roster, guards) = self.lock_degraded(&stripes).await;
        let mut wants = Vec::new();
        for wanted in &mut stripes {
            self.plan_reads(&roster, wanted, &mut wants);
        }
        let got = self.gather(&roster, &wants, Care::Unlocked).await;
        // What too few members could take is to be seen at once, or never.
        let answer = |w: &Wanted| match self.is_torn(w.stripe) {
            true => None,
            false => self.answer(w, &wants, &got),
        };
        let answers: Vec<_> = stripes.iter().map(answer).collect();
        // Locks are taken in ascending order: none is held while the next part asks for its own.
        drop(guards);
        let mut answer = Vec::with_capacity(wants.len());
        for (wanted, pieces) in stripes.iter().zip(answers) {
            match pieces {
                Some(pieces) => answer.extend(pieces),
                None => answer.extend(self.read_with_errors(wanted, &staged).await?),
            }
        }
        if !staged.is_empty() {
            answer = overlay(answer, start, &staged);
        }
        Ok(trim(answer, offset - start, len))
    }

    fn in_one_chunk(&self, start: u64, len: u64) -> Option<Want> {
        let piece = split(&self.shape, start, len).next().filter(|piece| piece.len == len)?;
        let (shard, row) = (piece.start / self.shape.chunk_bytes(), piece.start % self.shape.chunk_bytes());
        let want = Want { stripe: piece.stripe, shard: to_usize(shard), rows: row..row + len };
        (want.rows.end <= self.shape.chunk_bytes()).then_some(want)
    }

    /// A part of one chunk needs no plan, and most reads are that. `None` if no member holds it.
    async fn read_one(self: &Arc<Self>, want: Want) -> Option<Result<Vec<Bytes>>> {
        let Want { stripe, shard, rows } = want.clone();
        let read = if self.epochs.is_allocated(stripe) {
            let roster = self.membership.roster();
            let view = roster.slots.get(self.shape.slot_of(stripe, shard).index())?;
            self.gather_one(view.readable(stripe)?, want).await
        } else {
            Some(self.zeroes(rows.end - rows.start))
        };
        // What too few members could take is to be seen at once, or never.
        if let Some(bytes) = read.filter(|_| !self.is_torn(stripe)) {
            return Some(Ok(vec![bytes]));
        }
        let wanted = Wanted { stripe, parts: vec![(shard, rows)], lost: None, reads: 0..0 };
        Some(self.read_with_errors(&wanted, &[]).await)
    }

    fn wanted(&self, start: u64, len: u64) -> Vec<Wanted> {
        let of_piece = |piece: crate::geometry::Piece| {
            let (from, to) = (piece.start, piece.start + piece.len);
            let chunks = chunks_of(&self.shape, from, to);
            let parts = chunks.map(|c| (c, rows_of(&self.shape, from, to, c))).collect();
            Wanted { stripe: piece.stripe, parts, lost: None, reads: 0..0 }
        };
        split(&self.shape, start, len).map(of_piece).collect()
    }

    /// A snapshot under which every stripe that lacks a wanted chunk is locked. While waiting for
    /// a lock another member may be lost, which makes more stripes lack one: then it starts over.
    async fn lock_degraded(&self, stripes: &[Wanted]) -> (Arc<Roster>, Vec<(StripeIndex, Guard)>) {
        let mut roster = self.membership.roster();
        if without(Protection::DegradedReadLock) {
            return (roster, Vec::new());
        }
        loop {
            let mut guards = Vec::new();
            for wanted in stripes.iter().filter(|w| !self.whole(&roster, w)) {
                guards.push((wanted.stripe, self.locks.lock(wanted.stripe, Mode::Shared).await));
            }
            if guards.is_empty() {
                return (roster, Vec::new());
            }
            roster = self.membership.roster();
            let locked = |w: &&Wanted| guards.iter().any(|(s, _)| *s == w.stripe);
            if stripes.iter().filter(|w| !self.whole(&roster, w)).all(|w| locked(&w)) {
                return (roster, guards);
            }
        }
    }

    fn whole(&self, roster: &Roster, wanted: &Wanted) -> bool {
        !self.epochs.is_allocated(wanted.stripe)
            || wanted.parts.iter().all(|(chunk, _)| {
                let slot = self.shape.slot_of(wanted.stripe, *chunk).index();
                roster.slots.get(slot).is_some_and(|s| s.readable(wanted.stripe).is_some())
            })
    }

    /// Adds the reads a stripe needs to `wants`.
    fn plan_reads(&self, roster: &Roster, wanted: &mut Wanted, wants: &mut Vec<Want>) {
        let stripe = wanted.stripe;
        let from = wants.len();
        if self.whole(roster, wanted) {
            wants.extend(wanted.parts.iter().map(|(c, rows)| Want { stripe, shard: *c, rows: rows.clone() }));
        } else {
            let readable = self.readable(roster, stripe, &[]);
            let lost = wanted.parts.iter().filter(|(c, _)| !readable[*c]).map(|(_, r)| r);
            let rows = lost.cloned().reduce(|a, b| hull(&a, &b)).unwrap_or(0..0);
            let chunks: Vec<usize> = wanted.parts.iter().map(|(c, _)| *c).collect();
            let sources = self.sources(&readable, &chunks);
            for (shard, usable) in readable.iter().enumerate() {
                let own = wanted.parts.iter().find(|(c, _)| *c == shard && *usable).map(|(_, r)| r);
                let source = sources.contains(&shard).then_some(&rows);
                let need = match (own, source) {
                    (Some(a), Some(b)) => hull(a, b),
                    (Some(r), None) | (None, Some(r)) => r.clone(),
                    (None, None) => continue,
                };
                wants.push(Want { stripe, shard, rows: need });
            }
            wanted.lost = Some((rows, sources));
        }
        wanted.reads = from..wants.len();
    }

    /// The stripe's part of the answer, or `None` if a read it needs failed.
    fn answer(&self, wanted: &Wanted, wants: &[Want], got: &[Result<Bytes>]) -> Option<Vec<Bytes>> {
        let reads = wanted.reads.clone();
        let find = |shard: usize, rows: &Range<u64>| {
            let i = reads.clone().find(|i| wants[*i].shard == shard)?;
            let bytes = got[i].as_ref().ok()?;
            Some(part(bytes, rows.start - wants[i].rows.start, rows.end - rows.start))
        };
        let Some((rows, sources)) = &wanted.lost else {
            return wanted.parts.iter().map(|(c, rows)| find(*c, rows)).collect();
        };
        let have: Vec<(usize, Bytes)> =
            sources.iter().map(|s| Some((*s, find(*s, rows)?))).collect::<Option<_>>()?;
        if have.len() < self.shape.data() {
            return None;
        }
        let is_lost = |c: usize| !reads.clone().any(|i| wants[i].shard == c);
        let lost: Vec<usize> = wanted.parts.iter().map(|(c, _)| *c).filter(|c| is_lost(*c)).collect();
        let made = self.restore_shards(&have, &lost, rows.end - rows.start).ok()?;
        let of_part = |(c, own): &(usize, Range<u64>)| match lost.iter().position(|l| l == c) {
            Some(i) => Some(part(&made[i], own.start - rows.start, own.end - own.start)),
            None => find(*c, own),
        };
        wanted.parts.iter().map(of_part).collect()
    }

    /// The slow way, chunk by chunk, when something failed on the fast one. What is staged, or still to
    /// be written to a torn stripe, need not be readable at home.
    async fn read_with_errors(
        self: &Arc<Self>,
        wanted: &Wanted,
        staged: &[(u64, Bytes)],
    ) -> Result<Vec<Bytes>> {
        let _guard = self.locks.lock(wanted.stripe, Mode::Shared).await;
        let roster = self.membership.roster();
        let mut pieces = Vec::with_capacity(wanted.parts.len());
        for (chunk, rows) in &wanted.parts {
            let base = wanted.stripe.0 * self.shape.stripe_bytes() + *chunk as u64 * self.shape.chunk_bytes();
            let is_staged = |row: u64| {
                let block = (base + row) / BLOCK_BYTES;
                staged.binary_search_by_key(&block, |(b, _)| *b).is_ok()
            };
            let (stripe, shard, care) = (wanted.stripe, [*chunk], Care::Locked);
            let whole = match self.is_torn(stripe) {
                true => None,
                false => self.recover(&roster, stripe, rows.clone(), &shard, &[], care).await.ok(),
            };
            match whole {
                Some(bytes) => pieces.extend(bytes),
                None => {
                    for row in rows.clone().step_by(to_usize(BLOCK_BYTES)) {
                        let torn = self.torn.block(stripe, *chunk, row);
                        let rows = row..row + BLOCK_BYTES;
                        pieces.extend(match torn {
                            _ if is_staged(row) => vec![self.zeroes(BLOCK_BYTES)],
                            Some(bytes) => vec![bytes],
                            None => self.recover(&roster, stripe, rows, &shard, &[], care).await?,
                        });
                    }
                }
            }
        }
        Ok(pieces)
    }
}

fn hull(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    a.start.min(b.start)..a.end.max(b.end)
}

/// Drops `head` bytes, and everything after the next `len`.
fn trim(pieces: Vec<Bytes>, head: u64, len: u64) -> Vec<Bytes> {
    let (mut skip, mut left) = (head, len);
    let mut kept = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let size = piece.len() as u64;
        let from = skip.min(size);
        let take = (size - from).min(left);
        skip -= from;
        left -= take;
        if take > 0 {
            kept.push(part(&piece, from, take));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trimming_keeps_exactly_the_asked_bytes() {
        let pieces = || vec![Bytes::from_static(b"abcd"), Bytes::from_static(b"efgh")];
        let text = |head, len| trim(pieces(), head, len).concat();
        assert_eq!(text(0, 8), b"abcdefgh");
        assert_eq!(text(3, 2), b"de");
        assert_eq!(text(5, 1), b"f");
    }
}
