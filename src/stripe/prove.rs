//! Checking every stripe after the journal was lost: nobody knows which rows a crash tore.
//!
//! Problem: blocks, parity and their checksums go home one after another, and what the journal had to make
//! them whole again is gone. A block may be older than the row's parity and match its checksum all the same.
//! Idea: a checksum says of a single block that somebody wrote it as it is; of parity nothing says that it
//! goes with its row but the row itself. So data is believed by its checksum, and parity by nothing.
//! How a row is judged: see [`super::proof`].
//!
//! Only where an admin insists this is done with members missing, of whose blocks no checksum is known. Then
//! a row whose shards contradict each other has no parity from then on; one that says nothing against itself
//! is left as it is, and counted.
//!
//! Nothing is written that was not proven by what stays, so that a crash on the way costs nothing: it is all
//! done again.

use super::engine::{Stripes, to_usize};
use super::lock::Mode;
use super::proof::{Block, Row};
use super::scrub::{Cell, ScrubOutcome};
use super::torn::{Load, Shreds};
use crate::error::Result;
use crate::integrity::{UNKNOWN, sum};
use crate::mutation::{Protection, without};
use crate::units::{BLOCK_BYTES, StripeIndex};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// What the check of all stripes came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Proof {
    /// Blocks of the volume that did not match their checksums and were restored.
    pub restored: u64,
    /// Blocks of the volume that cannot be read until they are written again.
    pub lost: u64,
    /// Blocks of parity that were made anew.
    pub parity: u64,
    /// Stripes of which a missing member's blocks rest on parity that nothing proves.
    pub unproven: u64,
}

impl Stripes {
    /// Checks every allocated one of `count` stripes, and makes what it changes durable. To be done before
    /// anybody is served. `told` hears how many are done, of how many.
    pub async fn prove_all(self: &Arc<Self>, count: u64, told: &dyn Fn(u64, u64)) -> Result<Proof> {
        let mut proof = Proof::default();
        let allocated = |stripes: Range<u64>| {
            stripes.map(StripeIndex).filter(|s| self.epochs.is_allocated(*s)).collect::<Vec<_>>()
        };
        let run = self.scrub_stripes();
        let runs = || (0..count).step_by(to_usize(run)).map(|first| first..(first + run).min(count));
        let total = runs().map(|stripes| allocated(stripes).len() as u64).sum();
        let mut done = 0;
        told(done, total);
        for stripes in runs() {
            let some = allocated(stripes);
            if some.is_empty() || without(Protection::StripesProven) {
                continue;
            }
            self.prove_run(&some, &mut proof).await?;
            done += some.len() as u64;
            told(done, total);
            if self.tables_are_pressed() {
                self.write_tables().await?;
            }
        }
        self.write_tables().await?;
        self.flush().await?;
        Ok(proof)
    }

    async fn prove_run(self: &Arc<Self>, stripes: &[StripeIndex], proof: &mut Proof) -> Result<()> {
        let chunk = self.shape.chunk_bytes();
        let step = self.scrub_step().min(chunk);
        for start in (0..chunk).step_by(to_usize(step)) {
            let rows = start..(start + step).min(chunk);
            // Rows that agree with all their checksums are whole.
            for stripe in self.skim(stripes, &rows, &mut ScrubOutcome::default()).await {
                self.prove_rows(stripe, &rows, proof).await?;
            }
        }
        let roster = self.writable_roster()?;
        let k = self.shape.data();
        let rests = |stripe: &&StripeIndex| {
            let readable = self.readable(&roster, **stripe, &[]);
            readable.iter().filter(|here| **here).count() <= k && !readable.iter().take(k).all(|here| *here)
        };
        proof.unproven += stripes.iter().filter(rests).count() as u64;
        Ok(())
    }

    async fn prove_rows(
        self: &Arc<Self>,
        stripe: StripeIndex,
        rows: &Range<u64>,
        proof: &mut Proof,
    ) -> Result<()> {
        let _guard = self.locks.lock(stripe, Mode::Exclusive).await;
        let (roster, shards) = self.inspect(stripe, rows).await?;
        let (first, blocks) =
            (self.block_on(stripe, rows.start), to_usize((rows.end - rows.start) / BLOCK_BYTES));
        let mut entries = Vec::with_capacity(shards.len());
        for shard in 0..shards.len() {
            let view = roster.slots.get(self.shape.slot_of(stripe, shard).index());
            entries.push(match view.and_then(|s| s.readable(stripe)) {
                Some(member) => self.integrity.table(member).entries(first, blocks).await?,
                None => Vec::new(),
            });
        }
        let (mut shreds, mut unknown): (Shreds, Vec<(usize, u64)>) = (Vec::new(), Vec::new());
        for (i, row) in (rows.start..rows.end).step_by(to_usize(BLOCK_BYTES)).enumerate() {
            let block = |(shard, cells): (usize, &Vec<Cell>)| match cells.get(i) {
                Some(Cell::Good(bytes)) => Block::Good(bytes.clone()),
                Some(Cell::Bad(_)) => {
                    let entry = entries.get(shard).and_then(|entries| entries.get(i));
                    Block::Bad(entry.copied().unwrap_or(UNKNOWN))
                }
                Some(Cell::Lost) | None => Block::Absent,
            };
            let cells: Vec<Block> = shards.iter().enumerate().map(block).collect();
            let seal = |shard, bytes: &[u8]| {
                sum(self.shape.slot_of(stripe, shard), self.block_on(stripe, row), bytes)
            };
            let restore =
                |from: &[(usize, Bytes)], wanted: &[usize]| self.restore_shards(from, wanted, BLOCK_BYTES);
            let judged =
                Row { blocks: &cells, data: self.shape.data(), seal: &seal, restore: &restore }.judge()?;
            shreds.extend(judged.write.into_iter().map(|(shard, bytes)| (shard, row, bytes)));
            unknown.extend(judged.unknown.into_iter().map(|shard| (shard, row)));
        }
        let k = self.shape.data();
        let of_data =
            |shards: &mut dyn Iterator<Item = usize>| shards.filter(|shard| *shard < k).count() as u64;
        let restored = of_data(&mut shreds.iter().map(|(shard, ..)| *shard));
        proof.restored += restored;
        proof.parity += shreds.len() as u64 - restored;
        proof.lost += of_data(&mut unknown.iter().map(|(shard, _)| *shard));
        for (shard, row) in unknown {
            self.enter_shard(&roster, stripe, shard, row, &[UNKNOWN], None).await?;
        }
        match shreds.is_empty() {
            true => Ok(()),
            false => self.store_whole(stripe, Load { shreds, ..Load::default() }).await,
        }
    }
}
