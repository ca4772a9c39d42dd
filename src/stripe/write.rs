//! Writing a range of the volume.
//!
//! Runs of whole stripes go to `full`. A part of a stripe is cut into segments (see `rows`), each
//! with a plan (see `plan`): read what it needs, compute the new parity, write data and parity
//! side by side, all under the stripe's exclusive lock.

use super::engine::{Store, Stripes, part};
use super::gather::Want;
use super::lock::Mode;
use super::plan::{Plan, Question, choose};
use super::roster::Roster;
use super::rows::{Segment, segments};
use crate::codec::xor_into;
use crate::env::join_all;
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::{Piece, split};
use crate::member::Persistence;
use crate::units::{BLOCK_BYTES, StripeIndex};
use bytes::Bytes;
use std::sync::Arc;

impl Stripes {
    /// Writes `data` at `offset`. Must be driven to its end: a write dropped half-way leaves a
    /// stripe's parity behind its data.
    pub async fn write(self: &Arc<Self>, offset: u64, data: Bytes, persistence: Persistence) -> Result<()> {
        let mut parts = Vec::new();
        let mut runs: Vec<(Piece, u64)> = Vec::new();
        for piece in split(&self.shape, offset, data.len() as u64) {
            match runs.last_mut() {
                _ if !piece.is_full(&self.shape) => parts.push(piece),
                Some((first, count)) if first.stripe.0 + *count == piece.stripe.0 => *count += 1,
                _ => runs.push((piece, 1)),
            }
        }
        let bytes = |piece: &Piece, len| part(&data, piece.request_offset, len);
        let parts = parts.iter().map(|p| self.write_part(p, bytes(p, p.len), persistence));
        let stripe = self.shape.stripe_bytes();
        let runs = runs.iter().map(|(p, n)| self.write_run(p.stripe, *n, bytes(p, n * stripe), persistence));
        let (parts, runs) = futures::join!(join_all(parts), join_all(runs));
        parts.into_iter().chain(runs).collect()
    }

    async fn write_part(
        self: &Arc<Self>,
        piece: &Piece,
        data: Bytes,
        persistence: Persistence,
    ) -> Result<()> {
        let _guard = self.locks.lock(piece.stripe, Mode::Exclusive).await;
        let (start, data) = self.whole_blocks(piece, data).await?;
        let end = start + data.len() as u64;
        let chunk = self.shape.chunk_bytes();
        let parts = segments(&self.shape, start, end).into_iter().map(|segment| {
            let of_chunk = |c: usize| {
                let from = c as u64 * chunk + segment.rows.start - start;
                part(&data, from, segment.rows.end - segment.rows.start)
            };
            let new: Vec<Bytes> = segment.chunks.clone().map(of_chunk).collect();
            self.write_segment(piece.stripe, segment, new, persistence)
        });
        join_all(parts).await.into_iter().collect()
    }

    /// Extends a piece to whole blocks with what its first and last block hold now, in aligned
    /// memory. Answers where it begins in the stripe, and the bytes.
    async fn whole_blocks(self: &Arc<Self>, piece: &Piece, data: Bytes) -> Result<(u64, Bytes)> {
        let (start, end) = (piece.start, piece.start + piece.len);
        let from = start - start % BLOCK_BYTES;
        let to = end.next_multiple_of(BLOCK_BYTES);
        if (from, to) == (start, end) {
            return Ok((start, self.aligned(data)));
        }
        let roster = self.writable_roster()?;
        let mut buffer = self.buffer(to - from);
        let block = super::engine::to_usize(BLOCK_BYTES);
        if from != start {
            let head = self.block(&roster, piece.stripe, from).await?;
            buffer[..block].copy_from_slice(&head);
        }
        if to != end && (from == start || to - from > BLOCK_BYTES) {
            let tail = self.block(&roster, piece.stripe, to - BLOCK_BYTES).await?;
            let at = buffer.len() - block;
            buffer[at..].copy_from_slice(&tail);
        }
        let at = super::engine::to_usize(start - from);
        buffer[at..at + data.len()].copy_from_slice(&data);
        Ok((from, buffer.freeze()))
    }

    async fn block(self: &Arc<Self>, roster: &Roster, stripe: StripeIndex, at: u64) -> Result<Bytes> {
        let chunk = super::engine::to_usize(at / self.shape.chunk_bytes());
        let row = at % self.shape.chunk_bytes();
        let found = self.recover(roster, stripe, row..row + BLOCK_BYTES, &[chunk], &[]).await?;
        found.into_iter().next().ok_or_else(|| Error::new(ErrorKind::Io, "no block was read"))
    }

    async fn write_segment(
        self: &Arc<Self>,
        stripe: StripeIndex,
        segment: Segment,
        new: Vec<Bytes>,
        persistence: Persistence,
    ) -> Result<()> {
        let mut bad = Vec::new();
        loop {
            let roster = self.writable_roster()?;
            let plan = self.plan(&roster, stripe, &segment, &bad);
            if plan == Plan::Impossible {
                return Err(Error::new(ErrorKind::Io, "too few members can be read for this write")
                    .at(stripe.0 * self.shape.stripe_bytes()));
            }
            let want = |s: &usize| Want { stripe, shard: *s, rows: segment.rows.clone() };
            let wants: Vec<Want> = plan.reads().iter().map(want).collect();
            let got = self.gather(&roster, &wants).await;
            let failed = wants.iter().zip(&got).filter(|(_, g)| g.is_err()).map(|(w, _)| w.shard);
            let before = bad.len();
            bad.extend(failed);
            if bad.len() > before {
                continue;
            }
            let old: Vec<(usize, Bytes)> =
                wants.iter().map(|w| w.shard).zip(got.into_iter().flatten()).collect();
            let live = self.live_parity(&roster, stripe);
            let parity = self.new_parity(&plan, &segment, &new, &old, &live)?;
            let data = segment.chunks.clone().zip(new);
            let stores = self.stores(&roster, stripe, segment.rows.start, data.chain(parity));
            return self.store(stores, persistence).await;
        }
    }

    fn plan(&self, roster: &Roster, stripe: StripeIndex, segment: &Segment, bad: &[usize]) -> Plan {
        let readable = self.readable(roster, stripe, bad);
        let writable = self.held(roster, stripe);
        choose(&Question {
            data: self.shape.data(),
            dirty: segment.chunks.clone(),
            readable: &readable,
            writable: &writable,
            parity_trusted: self.parity_trusted(stripe),
        })
    }

    /// Shard numbers of the parity that has a member to go to.
    fn live_parity(&self, roster: &Roster, stripe: StripeIndex) -> Vec<usize> {
        let live = self.held(roster, stripe);
        (self.shape.data()..self.shape.width()).filter(|s| live[*s]).collect()
    }

    /// The new content of the `live` parity shards in the segment's rows.
    fn new_parity(
        &self,
        plan: &Plan,
        segment: &Segment,
        new: &[Bytes],
        old: &[(usize, Bytes)],
        live: &[usize],
    ) -> Result<Vec<(usize, Bytes)>> {
        let len = segment.rows.end - segment.rows.start;
        let k = self.shape.data();
        let old_of = |s: usize| old.iter().find(|(o, _)| *o == s).map(|(_, b)| b.clone());
        let mut made: Vec<_> = live.iter().map(|_| self.buffer(len)).collect();
        let missing = || Error::new(ErrorKind::Io, "a shard that was read is not at hand");
        if let Plan::ReadModifyWrite(_) = plan {
            for (shard, buffer) in live.iter().zip(&mut made) {
                buffer.copy_from_slice(&old_of(*shard).ok_or_else(missing)?);
            }
            for (chunk, new) in segment.chunks.clone().zip(new) {
                let mut delta = self.buffer(len);
                delta.copy_from_slice(&old_of(chunk).ok_or_else(missing)?);
                xor_into(&mut delta, new);
                let mut out: Vec<(usize, &mut [u8])> =
                    live.iter().map(|s| s - k).zip(made.iter_mut().map(|b| &mut b[..])).collect();
                self.codec.update(chunk, &delta, &mut out)?;
            }
        } else {
            let idle: Vec<usize> = (0..k).filter(|c| !segment.chunks.contains(c)).collect();
            let idle_bytes = match plan {
                Plan::Reconstruct(_) | Plan::ReconstructWrite(_) => self.restore_shards(old, &idle, len)?,
                _ => Vec::new(),
            };
            let of_chunk = |c: usize| match idle.iter().position(|i| *i == c) {
                Some(i) => idle_bytes.get(i),
                None => new.get(c - segment.chunks.start),
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

    /// The writes that bring these shards to every member that must take them.
    pub(super) fn stores(
        &self,
        roster: &Roster,
        stripe: StripeIndex,
        row: u64,
        shards: impl Iterator<Item = (usize, Bytes)>,
    ) -> Vec<Store> {
        let mut stores = Vec::new();
        for (shard, bytes) in shards {
            let slot = self.shape.slot_of(stripe, shard).index();
            for member in roster.slots.get(slot).into_iter().flat_map(|s| s.writable(stripe)) {
                let offset = self.offset_on(member, stripe, row);
                stores.push(Store { member: Arc::clone(member), offset, pieces: vec![bytes.clone()] });
            }
        }
        stores
    }
}
