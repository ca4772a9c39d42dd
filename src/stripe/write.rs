//! Writing a range of the volume.
//!
//! Runs of whole stripes go straight home (see `full`), unless a member is lost. Everything else
//! is logged and staged: it is answered when the journal has it, and comes home later (see
//! `destage`).

use super::engine::{Stripes, part, to_usize};
use super::gather::Care;
use super::lock::Mode;
use super::roster::Roster;
use crate::env::join_all;
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::{Piece, split};
use crate::journal::{StagedBlock, Ticket};
use crate::member::Persistence;
use crate::mutation::{Protection, without};
use crate::units::{BLOCK_BYTES, StripeIndex};
use bytes::Bytes;
use futures::FutureExt;
use std::sync::Arc;

/// Most bytes in one record of data.
const MAX_RECORD: u64 = 256 << 10;

impl Stripes {
    /// Writes `data` at `offset`.
    pub async fn write(self: &Arc<Self>, offset: u64, data: Bytes, persistence: Persistence) -> Result<()> {
        let direct = self.fits_run() && self.is_whole(&*self.writable_roster()?);
        let mut parts = Vec::new();
        let mut runs: Vec<(Piece, u64)> = Vec::new();
        for piece in split(&self.shape, offset, data.len() as u64) {
            match runs.last_mut() {
                _ if !direct || !piece.is_full(&self.shape) => parts.push(piece),
                Some((first, count)) if first.stripe.0 + *count == piece.stripe.0 => *count += 1,
                _ => runs.push((piece, 1)),
            }
        }
        let bytes = |piece: &Piece, len| part(&data, piece.request_offset, len);
        let parts = parts.iter().map(|p| self.log_part(p, bytes(p, p.len)));
        let stripe = self.shape.stripe_bytes();
        let runs = runs.iter().map(|(p, n)| self.write_run(p.stripe, *n, bytes(p, n * stripe)));
        let (parts, runs) = futures::join!(join_all(parts), join_all(runs));
        parts.into_iter().chain(runs).collect::<Result<()>>()?;
        match persistence {
            Persistence::Synced if !without(Protection::FuaMembers) => self.flush_answered().await,
            _ => Ok(()),
        }
    }

    /// Whether every slot has a member: then a torn stripe can be mended by its data alone.
    pub(super) fn is_whole(&self, roster: &Roster) -> bool {
        roster.slots.iter().all(|s| s.primary.as_ref().is_some_and(|m| !m.doubted()))
            || without(Protection::DegradedInJournal)
    }

    /// Logs and stages a part of a stripe.
    async fn log_part(self: &Arc<Self>, piece: &Piece, data: Bytes) -> Result<()> {
        while !self.staging.has_room() {
            self.writable_roster()?;
            self.staging.change().await;
        }
        let (start, end) = (piece.start, piece.start + piece.len);
        let aligned = start.is_multiple_of(BLOCK_BYTES) && end.is_multiple_of(BLOCK_BYTES);
        let mode = if aligned || without(Protection::MergeAlone) { Mode::Shared } else { Mode::Exclusive };
        let _merge = self.merges.lock(piece.stripe, mode).await;
        let len = (end.next_multiple_of(BLOCK_BYTES) - start / BLOCK_BYTES * BLOCK_BYTES).min(MAX_RECORD);
        let (mut done, mut tickets) = (0, Vec::new());
        loop {
            // Between reading a block and logging it whole, it must not change at home either.
            let guard = match aligned {
                true => None,
                false => Some(self.locks.lock(piece.stripe, Mode::Exclusive).await),
            };
            let (start, data) = self.whole_blocks(piece, data.clone()).await?;
            let first = (piece.stripe.0 * self.shape.stripe_bytes() + start) / BLOCK_BYTES;
            while done < data.len() as u64 {
                let now = part(&data, done, MAX_RECORD.min(data.len() as u64 - done));
                let logged = self.log_blocks(first + done / BLOCK_BYTES, now.clone());
                let logged = if aligned { Some(logged.await) } else { logged.now_or_never() };
                let Some(ticket) = logged else { break };
                tickets.push(ticket?);
                done += now.len() as u64;
            }
            if done == data.len() as u64 {
                break;
            }
            // Room is made by those who bring stripes home: they must not wait for this one.
            drop(guard);
            self.journal.room(to_usize(len)).await;
        }
        self.kick();
        join_all(tickets.into_iter().map(Ticket::written)).await.into_iter().collect()
    }

    async fn log_blocks(&self, first: u64, data: Bytes) -> Result<Ticket> {
        let stage = |version, seq| {
            let blocks = (first..).zip(0..data.len() as u64 / BLOCK_BYTES);
            let put = |(block, i): (u64, u64)| {
                let bytes = part(&data, i * BLOCK_BYTES, BLOCK_BYTES);
                self.staging.put(block, StagedBlock { version, bytes, seq })
            };
            blocks.filter_map(put).collect()
        };
        self.journal.data(first, &data, stage).await
    }

    /// A piece as whole blocks in memory of our own: extended with what its first and last block
    /// hold now. Answers where it begins in the stripe, and the bytes.
    async fn whole_blocks(self: &Arc<Self>, piece: &Piece, data: Bytes) -> Result<(u64, Bytes)> {
        let (start, end) = (piece.start, piece.start + piece.len);
        let from = start - start % BLOCK_BYTES;
        let to = end.next_multiple_of(BLOCK_BYTES);
        let mut buffer = self.buffer(to - from);
        let block = to_usize(BLOCK_BYTES);
        if from != start || (to != end && to - from == BLOCK_BYTES) {
            let head = self.block(piece.stripe, from).await?;
            buffer[..block].copy_from_slice(&head);
        }
        if to != end && to - from > BLOCK_BYTES {
            let tail = self.block(piece.stripe, to - BLOCK_BYTES).await?;
            let at = buffer.len() - block;
            buffer[at..].copy_from_slice(&tail);
        }
        let at = to_usize(start - from);
        buffer[at..at + data.len()].copy_from_slice(&data);
        Ok((from, buffer.freeze()))
    }

    /// What a block holds now. Its stripe must be locked.
    async fn block(self: &Arc<Self>, stripe: StripeIndex, at: u64) -> Result<Bytes> {
        let number = (stripe.0 * self.shape.stripe_bytes() + at) / BLOCK_BYTES;
        if let Some((_, bytes)) = self.staging.get(number..number + 1).pop() {
            return Ok(bytes);
        }
        let roster = self.writable_roster()?;
        let chunk = to_usize(at / self.shape.chunk_bytes());
        let row = at % self.shape.chunk_bytes();
        let found =
            self.recover(&roster, stripe, row..row + BLOCK_BYTES, &[chunk], &[], Care::Locked).await?;
        found.into_iter().next().ok_or_else(|| Error::new(ErrorKind::Io, "no block was read"))
    }
}
