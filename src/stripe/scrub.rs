//! Verifying everything that is stored of a run of stripes, and repairing what is damaged.
//!
//! Problem: a block that nobody reads may rot, or never have been written, and be missed on the
//! day on which its row needs it. Idea: read every shard, and compare what there is twice.
//!
//! ```text
//!   skim      (shared locks)     all shards of many stripes, large reads    all agree: done
//!               |
//!               | something fails, differs, or waits to be written
//!               v
//!   examine   (exclusive lock)   one stripe: what fails is read again block by block, and every
//!                                row of blocks is judged; then written anew and read back
//! ```
//!
//! A row is judged by what of it can be read and matches its checksums; k shards restore the rest. If
//! there are more and they do not agree, a device dropped writes of a block and of its checksum, and
//! both are old. The shard without which the others (at least one more than k) agree is the wrong one:
//! there is never a second such. If there is none, parity is wrong if all data is at hand; otherwise
//! nobody can tell, and what is missing is not restored.
//!
//! Destaging changes homes under exclusive locks only, so that a shared one is enough to compare.
//! Blocks that are staged are not home yet, and nothing that a scrub looks at.

use super::engine::{Stripes, part, to_usize};
use super::gather::{Care, Want};
use super::lock::Mode;
use super::roster::{Roster, Verdict};
use super::torn::{Load, Shreds};
use crate::env::join_all;
use crate::error::{Error, ErrorKind, Result};
use crate::observe::{Damage, Finding, VolumeRange};
use crate::units::{BLOCK_BYTES, Slot, StripeIndex};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Most bytes of one member looked at under one set of locks.
const MEMBER_STEP: u64 = 1 << 20;
/// Most bytes of all members held at once.
const WHOLE_STEP: u64 = 32 << 20;

/// What a scrub does about what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScrubMode {
    /// Tells.
    Check,
    /// Tells, and writes it anew where it can be restored.
    #[default]
    Repair,
}

/// What a run of a scrub found.
#[derive(Debug, Default)]
pub struct ScrubOutcome {
    /// Bytes that were read and are as they should be, parity included.
    pub verified_bytes: u64,
    /// Damaged blocks, in address order within each stripe.
    pub findings: Vec<Finding>,
    /// What of the volume cannot be restored, ascending. May reach beyond the volume's end.
    pub unrepairable: Vec<VolumeRange>,
    /// Why not everything was seen: the run is to be repeated.
    pub failed: Option<Error>,
}

impl ScrubOutcome {
    /// What a repetition of the run would not find again.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.findings.retain(|finding| finding.repaired);
        Self { verified_bytes: 0, unrepairable: Vec::new(), ..self }
    }
}

/// A block of a row.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    /// No member holds it.
    Lost,
    /// It can be read, and matches its checksum.
    Good(Bytes),
    Bad(Damage),
}

/// Which shards of a row belong together.
#[derive(Debug, PartialEq, Eq)]
enum Belief {
    /// These (k of them) give all others; `wrong` are not what they should be.
    Clear { from: Vec<(usize, Bytes)>, wrong: Vec<usize> },
    /// Too few are left, or those that are left contradict each other and nobody can tell which are
    /// wrong; these stand out.
    Doubt(Vec<usize>),
}

/// What is damaged in a row.
#[derive(Debug, Default, PartialEq, Eq)]
struct Judged {
    /// Shard, what is wrong with it, what it should be if that can be told.
    damaged: Vec<(usize, Damage, Option<Bytes>)>,
    /// Data shards that no member holds and that cannot be restored.
    gone: Vec<usize>,
}

impl Stripes {
    /// How many stripes a run of a scrub should have.
    pub fn scrub_stripes(&self) -> u64 {
        (self.scrub_step() / self.shape.chunk_bytes()).max(1)
    }

    pub(super) fn scrub_step(&self) -> u64 {
        let step = (WHOLE_STEP / self.shape.width() as u64).clamp(BLOCK_BYTES, MEMBER_STEP);
        step - step % BLOCK_BYTES
    }

    /// Verifies what is allocated of `count` stripes from `first` on. Ends early if more members
    /// fail than parity can replace: nothing can be judged then.
    pub async fn scrub_run(
        self: &Arc<Self>,
        first: StripeIndex,
        count: u64,
        mode: ScrubMode,
    ) -> ScrubOutcome {
        let mut outcome = ScrubOutcome::default();
        outcome.failed = self.scrub_all(first, count, mode, &mut outcome).await.err();
        // What is called repaired is so after a crash, too.
        if mode == ScrubMode::Repair && !self.tables_are_home() && outcome.findings.iter().any(|f| f.repaired)
        {
            let durable = self.write_tables().await;
            outcome.failed = outcome.failed.or(durable.err());
        }
        outcome.unrepairable = VolumeRange::merge(std::mem::take(&mut outcome.unrepairable));
        outcome
    }

    async fn scrub_all(
        self: &Arc<Self>,
        first: StripeIndex,
        count: u64,
        mode: ScrubMode,
        outcome: &mut ScrubOutcome,
    ) -> Result<()> {
        let stripes = (first.0..first.0 + count).map(StripeIndex);
        let stripes: Vec<StripeIndex> = stripes.filter(|s| self.epochs.is_allocated(*s)).collect();
        let slots = self.shape.slots().map(|slot| self.examine_table(slot, first, count, mode));
        outcome.findings.extend(join_all(slots).await.into_iter().flatten());
        let chunk = self.shape.chunk_bytes();
        let step = self.scrub_step().min(chunk);
        for start in (0..chunk).step_by(to_usize(step)) {
            let rows = start..(start + step).min(chunk);
            for stripe in self.skim(&stripes, &rows, outcome).await {
                self.examine(stripe, &rows, mode, outcome).await?;
            }
        }
        Ok(())
    }

    /// Whether a member still has the checksums that are in memory: they are not read otherwise, and
    /// would be missed after a restart. They are known, so that they need only be written again.
    async fn examine_table(
        self: &Arc<Self>,
        slot: Slot,
        first: StripeIndex,
        count: u64,
        mode: ScrubMode,
    ) -> Vec<Finding> {
        let roster = self.membership.roster();
        let Some(member) = roster.slots.get(slot.index()).and_then(|s| s.primary.as_ref()) else {
            return Vec::new();
        };
        let (table, per_chunk) = (self.integrity.table(member), self.shape.chunk_bytes() / BLOCK_BYTES);
        let (block, blocks) = (self.block_on(first, 0), to_usize(count * per_chunk));
        let mut rotten = table.differing(block, blocks).await;
        rotten.retain(|block| self.epochs.is_allocated(StripeIndex(block / per_chunk)));
        if rotten.is_empty() {
            return Vec::new();
        }
        member.mismatched(rotten.len() as u64);
        let mut left = rotten.clone();
        if mode == ScrubMode::Repair {
            table.rewrite(block, blocks);
            if self.write_tables().await.is_ok() {
                left = table.differing(block, blocks).await;
            }
        }
        let finding = |block: u64| {
            let (stripe, row) = (StripeIndex(block / per_chunk), block % per_chunk * BLOCK_BYTES);
            let shard = self.shape.shard_of(stripe, slot);
            let repaired = left.binary_search(&block).is_err();
            Finding { repaired, ..self.finding(&roster, stripe, shard, row, Damage::ChecksumMismatch) }
        };
        rotten.into_iter().map(finding).collect()
    }

    /// Reads rows of stripes; answers the stripes that are not without fault.
    pub(super) async fn skim(
        self: &Arc<Self>,
        stripes: &[StripeIndex],
        rows: &Range<u64>,
        outcome: &mut ScrubOutcome,
    ) -> Vec<StripeIndex> {
        let mut guards = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            guards.push(self.locks.lock(*stripe, Mode::Shared).await);
        }
        let roster = self.membership.roster();
        let (mut wants, mut reads) = (Vec::new(), Vec::with_capacity(stripes.len()));
        for stripe in stripes {
            let from = wants.len();
            wants.extend(self.present(&roster, *stripe, rows));
            reads.push(from..wants.len());
        }
        let got = self.gather(&roster, &wants, Care::Quiet).await;
        drop(guards);
        let mut suspicious = Vec::new();
        for (stripe, reads) in stripes.iter().zip(reads) {
            let whole = |i: usize| Some((wants[i].shard, got[i].as_ref().ok()?.clone()));
            let shards: Option<Vec<(usize, Bytes)>> = reads.map(whole).collect();
            match shards {
                Some(shards) if !self.torn.contains(*stripe) && self.agree(&shards) => {
                    outcome.verified_bytes += shards.len() as u64 * (rows.end - rows.start);
                }
                _ => suspicious.push(*stripe),
            }
        }
        suspicious
    }

    /// Every shard of a stripe that a member holds.
    fn present(&self, roster: &Roster, stripe: StripeIndex, rows: &Range<u64>) -> Vec<Want> {
        let readable = self.readable(roster, stripe, &[]);
        let shards = (0..self.shape.width()).filter(|shard| readable[*shard]);
        shards.map(|shard| Want { stripe, shard, rows: rows.clone() }).collect()
    }

    /// Looks at one stripe block by block.
    async fn examine(
        self: &Arc<Self>,
        stripe: StripeIndex,
        rows: &Range<u64>,
        mode: ScrubMode,
        outcome: &mut ScrubOutcome,
    ) -> Result<()> {
        let _guard = self.locks.lock(stripe, Mode::Exclusive).await;
        self.mend(stripe).await?;
        let (roster, shards) = self.inspect(stripe, rows).await?;
        self.count_mismatches(&roster, stripe, &shards);
        let mut found: Vec<(Finding, u64, Option<Bytes>)> = Vec::new();
        for (i, row) in (rows.start..rows.end).step_by(to_usize(BLOCK_BYTES)).enumerate() {
            let cells: Vec<Cell> = shards.iter().map(|cells| cells[i].clone()).collect();
            let judged = self.judge(&cells)?;
            let good = cells.iter().filter(|c| matches!(c, Cell::Good(_))).count() as u64;
            let wrong = judged.damaged.iter().filter(|(_, what, _)| *what == Damage::ParityMismatch).count();
            outcome.verified_bytes += (good - wrong as u64) * BLOCK_BYTES;
            outcome.unrepairable.extend(judged.gone.iter().filter_map(|s| self.in_volume(stripe, *s, row)));
            for (shard, what, right) in judged.damaged {
                let finding = self.finding(&roster, stripe, shard, row, what);
                if right.is_none() {
                    outcome.unrepairable.extend(finding.volume);
                }
                found.push((finding, row, right));
            }
        }
        if mode == ScrubMode::Repair {
            self.put_right(stripe, &mut found).await?;
        }
        outcome.findings.extend(found.into_iter().map(|(finding, ..)| finding));
        Ok(())
    }

    fn count_mismatches(&self, roster: &Roster, stripe: StripeIndex, shards: &[Vec<Cell>]) {
        for (shard, cells) in shards.iter().enumerate() {
            let bad = cells.iter().filter(|c| matches!(c, Cell::Bad(Damage::ChecksumMismatch))).count();
            let view = roster.slots.get(self.shape.slot_of(stripe, shard).index());
            if bad > 0
                && let Some(member) = view.and_then(|s| s.readable(stripe))
            {
                member.mismatched(bad as u64);
            }
        }
    }

    /// By shard, then by row: the blocks of a stripe, with its exclusive lock held. A member that
    /// turns out to be lost counts as such.
    pub(super) async fn inspect(
        self: &Arc<Self>,
        stripe: StripeIndex,
        rows: &Range<u64>,
    ) -> Result<(Arc<Roster>, Vec<Vec<Cell>>)> {
        'again: loop {
            let roster = self.writable_roster()?;
            let blocks = to_usize((rows.end - rows.start) / BLOCK_BYTES);
            let mut shards = vec![vec![Cell::Lost; blocks]; self.shape.width()];
            let wants = self.present(&roster, stripe, rows);
            let got = self.gather(&roster, &wants, Care::Quiet).await;
            let mut narrow = Vec::new();
            for (want, got) in wants.iter().zip(got) {
                match got {
                    Ok(whole) => {
                        let block = |i| Cell::Good(part(&whole, i * BLOCK_BYTES, BLOCK_BYTES));
                        shards[want.shard] = (0..blocks as u64).map(block).collect();
                    }
                    Err(e) if e.kind() == ErrorKind::Failed && !self.has_members_of_now(&roster) => {
                        continue 'again;
                    }
                    Err(e) => {
                        if e.kind() != ErrorKind::Corrupt && self.is_lost(&roster, want, e).await? {
                            continue 'again;
                        }
                        narrow.extend(blocks_of(want));
                    }
                }
            }
            let got = self.gather(&roster, &narrow, Care::Quiet).await;
            for (want, got) in narrow.iter().zip(got) {
                let cell = match got {
                    Ok(bytes) => Cell::Good(bytes),
                    Err(e) if e.kind() == ErrorKind::Corrupt => Cell::Bad(Damage::ChecksumMismatch),
                    Err(e) if e.kind() == ErrorKind::Failed && !self.has_members_of_now(&roster) => {
                        continue 'again;
                    }
                    Err(e) => {
                        if e.kind() == ErrorKind::Timeout && self.is_lost(&roster, want, e).await? {
                            continue 'again;
                        }
                        Cell::Bad(Damage::Unreadable)
                    }
                };
                shards[want.shard][to_usize((want.rows.start - rows.start) / BLOCK_BYTES)] = cell;
            }
            return Ok((roster, shards));
        }
    }

    /// Reports a failed read and says whether that cost the member. Fails if members fail that cannot
    /// be spared.
    async fn is_lost(&self, roster: &Roster, want: &Want, error: Error) -> Result<bool> {
        let slot = self.shape.slot_of(want.stripe, want.shard).index();
        let Some(member) = roster.slots.get(slot).and_then(|s| s.readable(want.stripe)) else {
            return Ok(true);
        };
        let verdict = self.membership.read_failed(member.id(), error).await;
        self.writable_roster()?;
        Ok(verdict == Verdict::Kicked)
    }

    fn judge(&self, cells: &[Cell]) -> Result<Judged> {
        let (mut good, mut bad, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for (shard, cell) in cells.iter().enumerate() {
            match cell {
                Cell::Good(bytes) => good.push((shard, bytes.clone())),
                Cell::Bad(what) => bad.push((shard, *what)),
                Cell::Lost if shard < self.shape.data() => lost.push(shard),
                Cell::Lost => {}
            }
        }
        let (from, wrong) = match self.believe(&good)? {
            Belief::Clear { from, wrong } => (from, wrong),
            Belief::Doubt(odd) => {
                let odd = odd.into_iter().map(|shard| (shard, Damage::ParityMismatch));
                let damaged = bad.into_iter().chain(odd).map(|(shard, what)| (shard, what, None)).collect();
                return Ok(Judged { damaged, gone: lost });
            }
        };
        bad.extend(wrong.into_iter().map(|shard| (shard, Damage::ParityMismatch)));
        bad.sort_unstable_by_key(|(shard, _)| *shard);
        let wanted: Vec<usize> = bad.iter().map(|(shard, _)| *shard).collect();
        let right = self.restore_shards(&from, &wanted, BLOCK_BYTES)?;
        let damaged = bad.into_iter().zip(right).map(|((shard, what), right)| (shard, what, Some(right)));
        Ok(Judged { damaged: damaged.collect(), gone: Vec::new() })
    }

    /// `good`: shards of a row at hand, ascending.
    fn believe(&self, good: &[(usize, Bytes)]) -> Result<Belief> {
        let k = self.shape.data();
        if good.len() < k {
            return Ok(Belief::Doubt(Vec::new()));
        }
        let wrong = self.odd(good)?;
        if wrong.is_empty() {
            return Ok(Belief::Clear { from: good[..k].to_vec(), wrong });
        }
        for (suspect, _) in good {
            let others: Vec<(usize, Bytes)> = good.iter().filter(|(s, _)| s != suspect).cloned().collect();
            if others.len() > k && self.odd(&others)?.is_empty() {
                return Ok(Belief::Clear { from: others[..k].to_vec(), wrong: vec![*suspect] });
            }
        }
        let all_data = good[k - 1].0 < k;
        Ok(match all_data {
            true => Belief::Clear { from: good[..k].to_vec(), wrong },
            false => Belief::Doubt(wrong),
        })
    }

    /// The shards (ascending, at least k) that are not what the first k of them give.
    fn odd(&self, shards: &[(usize, Bytes)]) -> Result<Vec<usize>> {
        let (base, rest) = shards.split_at(self.shape.data().min(shards.len()));
        let numbers: Vec<usize> = rest.iter().map(|(shard, _)| *shard).collect();
        let len = shards.first().map_or(0, |(_, bytes)| bytes.len() as u64);
        let right = self.restore_shards(base, &numbers, len)?;
        Ok(rest
            .iter()
            .zip(right)
            .filter(|((_, is), right)| is != right)
            .map(|((shard, _), _)| *shard)
            .collect())
    }

    pub(super) fn agree(&self, shards: &[(usize, Bytes)]) -> bool {
        shards.len() >= self.shape.data() && self.odd(shards).is_ok_and(|odd| odd.is_empty())
    }

    fn finding(&self, roster: &Roster, stripe: StripeIndex, shard: usize, row: u64, what: Damage) -> Finding {
        let slot = self.shape.slot_of(stripe, shard);
        let member = roster.slots.get(slot.index()).and_then(|s| s.readable(stripe));
        Finding {
            slot,
            path: member.map_or_else(String::new, |m| m.path().to_owned()),
            stripe,
            shard,
            offset_bytes: member.map_or(0, |m| self.offset_on(m, stripe, row)),
            volume: self.in_volume(stripe, shard, row),
            what,
            repaired: false,
        }
    }

    /// What a block is of the volume, unless it is parity.
    fn in_volume(&self, stripe: StripeIndex, shard: usize, row: u64) -> Option<VolumeRange> {
        let at = stripe.0 * self.shape.stripe_bytes() + shard as u64 * self.shape.chunk_bytes() + row;
        (shard < self.shape.data()).then_some(VolumeRange { offset_bytes: at, len_bytes: BLOCK_BYTES })
    }

    /// Writes what was found and can be restored, and reads it back. `found`: finding, row, and what
    /// the block should be.
    async fn put_right(
        self: &Arc<Self>,
        stripe: StripeIndex,
        found: &mut [(Finding, u64, Option<Bytes>)],
    ) -> Result<()> {
        let shred = |(f, row, right): &(Finding, u64, Option<Bytes>)| Some((f.shard, *row, right.clone()?));
        let shreds: Shreds = found.iter().filter_map(shred).collect();
        if shreds.is_empty() {
            return Ok(());
        }
        self.store_whole(stripe, Load { shreds, ..Load::default() }).await?;
        let roster = self.membership.roster();
        let written = found.iter_mut().filter_map(|(f, row, right)| Some((f, *row, right.clone()?)));
        let written: Vec<(&mut Finding, u64, Bytes)> = written.collect();
        let want = |(f, row, _): &(&mut Finding, u64, Bytes)| Want {
            stripe,
            shard: f.shard,
            rows: *row..row + BLOCK_BYTES,
        };
        let wants: Vec<Want> = written.iter().map(want).collect();
        let got = self.gather(&roster, &wants, Care::Quiet).await;
        for ((finding, _, right), got) in written.into_iter().zip(got) {
            finding.repaired = got.is_ok_and(|bytes| bytes == right);
        }
        Ok(())
    }
}

/// The same rows block by block.
fn blocks_of(want: &Want) -> impl Iterator<Item = Want> + use<'_> {
    let rows = (want.rows.start..want.rows.end).step_by(to_usize(BLOCK_BYTES));
    rows.map(|row| Want { rows: row..row + BLOCK_BYTES, ..want.clone() })
}
