//! Power cuts of which a script says what they cost, and waiting for the moment that matters.
//!
//! A script names ranges of disks that are to lose what no flush made durable; everything else that was
//! written stays. That is one of the outcomes that a power cut may have, and what was flushed stays in any case:
//! which sectors may be lost the disks themselves say, asked on copies of them.

use super::world::{Check, Running, World};
use palisade::env::Environment;
use palisade::member::SimDisk;
use palisade::member::sim::Crash;
use palisade::units::{Slot, StripeIndex};
use std::ops::Range;
use std::time::Duration;

/// How often it is looked whether the moment has come: no operation of a disk is so short.
const LOOK: Duration = Duration::from_micros(4);
/// Power cuts tried on copies: one in eight loses all it may.
const TRIES: usize = 24;

/// A chunk on its member's disk.
#[derive(Clone)]
pub struct Place {
    pub path: String,
    pub disk: SimDisk,
    pub range: Range<u64>,
}

impl Place {
    /// What a reader would see of its block `row`.
    pub fn block(&self, row: u64) -> Vec<u8> {
        self.disk.peek(self.range.start + row * 4096, 4096)
    }
}

impl World {
    /// Where a shard of a stripe lies.
    pub fn chunk(&self, stripe: u64, shard: usize) -> Check<Place> {
        let stripe = StripeIndex(stripe);
        let slot = self.shape.slot_of(stripe, shard);
        let start = self.used()?.data.start + self.shape.chunk_offset(stripe);
        let path = self.path_of(slot)?;
        let disk = self.disks.get(&path).ok_or("there is no such disk")?;
        Ok(Place { path, disk, range: start..start + self.shape.chunk_bytes() })
    }

    /// The disk of the member in sync of a slot.
    pub fn path_of(&self, slot: Slot) -> Check<String> {
        let report = self.report();
        let member = Self::in_sync(&report, slot).ok_or(format!("slot {slot} has nobody in sync"))?;
        Ok(member.path.clone())
    }

    /// All chunks of a stripe, shard by shard.
    pub fn chunks(&self, stripe: u64) -> Check<Vec<Place>> {
        (0..self.shape.width()).map(|shard| self.chunk(stripe, shard)).collect()
    }

    /// Waits for a moment, not longer than so; says whether it came.
    pub async fn until(&self, patience: Duration, mut is_now: impl FnMut() -> bool) -> bool {
        let end = self.harness.now().after(patience);
        while !is_now() {
            if self.harness.now() >= end {
                return false;
            }
            self.harness.sleep(LOOK).await;
        }
        true
    }

    /// The machine goes down, or did at a planned operation, and the power is gone: of these ranges everything is
    /// lost that may be, of all else nothing.
    pub async fn lose_unflushed(&mut self, ranges: &[(String, Range<u64>)]) -> Check {
        self.disks.unplan_crash();
        if let Some(Running { process, .. }) = &self.running {
            self.disks.kill_process(process);
        }
        let mut losses = Vec::new();
        for (name, range) in ranges {
            losses.push((name, self.worst(name, range)?));
        }
        // What stays is durable from now on.
        let process = self.harness.new_process();
        for name in self.disks.names() {
            let disk = self.open(&process, &name).await.map_err(|e| e.report())?;
            disk.backend.flush().await.map_err(|e| e.report())?;
        }
        self.disks.kill_process(&process);
        for (name, sectors) in losses {
            let disk = self.disks.get(name).ok_or("there is no such disk")?;
            self.note(|| format!("{name} loses {} sectors", sectors.len()));
            sectors.iter().for_each(|(at, bytes)| disk.scribble(*at, bytes));
        }
        self.went_down(Crash::PowerCut);
        Ok(())
    }

    /// The sectors of a range that a power cut may change, as the worst of some leaves them.
    fn worst(&self, name: &str, range: &Range<u64>) -> Check<Vec<(u64, Vec<u8>)>> {
        let disk = self.disks.get(name).ok_or("there is no such disk")?;
        let pages = disk.written_pages(range.clone());
        let mut worst = Vec::new();
        for _ in 0..TRIES {
            let copy = self.disks.image(name).ok_or("there is no such disk")?;
            copy.lose_power();
            let mut changed = Vec::new();
            for page in &pages {
                let (now, then) = (disk.peek(*page, 4096), copy.peek(*page, 4096));
                let sectors = (*page..).step_by(512).zip(now.chunks(512).zip(then.chunks(512)));
                changed.extend(
                    sectors.filter(|(_, (now, then))| now != then).map(|(at, (_, t))| (at, t.to_vec())),
                );
            }
            if changed.len() > worst.len() {
                worst = changed;
            }
        }
        Ok(worst)
    }

    /// The checkpoint pages of every disk, and the ring behind them.
    pub fn checkpoint_ranges(&self) -> Check<Vec<(String, Range<u64>)>> {
        let start = self.used()?.journal.start;
        Ok(self.on_every_disk(start..start + 8192))
    }

    pub fn ring_ranges(&self) -> Check<Vec<(String, Range<u64>)>> {
        let journal = self.used()?.journal;
        Ok(self.on_every_disk(journal.start + 8192..journal.end))
    }

    /// The same range of every disk.
    pub fn on_every_disk(&self, range: Range<u64>) -> Vec<(String, Range<u64>)> {
        self.disks.names().into_iter().map(|name| (name, range.clone())).collect()
    }

    /// What the checkpoint pages of every disk hold.
    pub fn checkpoints(&self) -> Check<Vec<(SimDisk, u64, Vec<u8>)>> {
        let page = |(name, range): (String, Range<u64>)| {
            let disk = self.disks.get(&name).ok_or("there is no such disk")?;
            let bytes = disk.peek(range.start, 8192);
            Ok((disk, range.start, bytes))
        };
        self.checkpoint_ranges()?.into_iter().map(page).collect()
    }
}

/// Whether every member has another checkpoint than before.
pub fn all_changed(before: &[(SimDisk, u64, Vec<u8>)]) -> bool {
    before.iter().all(|(disk, at, bytes)| disk.peek(*at, bytes.len()) != *bytes)
}
