//! Scripts aimed at what protects stripes: those written whole, rows of which too much is lost, replacements.

use super::power::Place;
use super::world::{Check, Running, World};
use palisade::array::{MemberRef, RebuildControl};
use palisade::member::SimDisk;
use palisade::member::sim::{Crash, Trouble};
use palisade::units::{Slot, StripeIndex};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Blocks come home when nobody wrote for 200 ms.
const HOME: Duration = Duration::from_millis(600);
/// Stripes that a page of a checksum table is about, at 64 KiB a chunk.
const PER_PAGE: u64 = 63;
/// Pages of a table that are kept in memory, and some more.
const PAGES: u64 = 26;
/// A ceiling under which one round of filling takes two seconds.
const SLOWLY: u64 = 1 << 20;

impl World {
    /// A block of a stripe has just come home, and is not flushed there, when the stripe is written whole. The power
    /// is cut when the journal has that, before it is flushed: the block is lost at home.
    pub async fn opened_before_home_is_durable(&mut self) -> Check {
        self.all_written().await?;
        let stripe = self.any_stripe();
        let chunks = self.chunks(stripe)?;
        let before: Vec<Vec<u8>> = chunks.iter().map(|c| c.block(0)).collect();
        self.write_blocks(self.block_of(stripe, 0, 0), 1, true).await?;
        let (home, parity) = (&chunks[0], chunks.last().ok_or("there is no parity")?);
        let is_home = || home.block(0) != before[0] && parity.block(0) != before[before.len() - 1];
        self.hold_after(is_home, stripe).await?;
        self.pause(Duration::from_millis(100)).await;
        self.write_whole_and_die(stripe).await?;
        let ranges: Vec<(String, Range<u64>)> =
            chunks.iter().map(|c| (c.path.clone(), c.range.clone())).collect();
        self.lose_unflushed(&ranges).await?;
        self.start_and_look("after a stripe was opened and its home lost").await
    }

    /// On disks that hold something else two blocks are written close together, into a stripe of which another block was
    /// written before. What lies between goes home with them; the power is cut when the tables are there, and what is at
    /// home is lost.
    pub async fn zeroes_between_blocks(&mut self) -> Check {
        self.in_use().await?;
        let stripe = self.random.below(16);
        self.write_blocks(self.block_of(stripe, 1, 3), 1, true).await?;
        self.idle(1200).await?;
        let chunks = self.chunks(stripe)?;
        for chunk in &chunks {
            chunk.disk.scribble(chunk.range.start, &self.noise(12 << 10));
        }
        let page = self.used()?.checksums.start;
        let pages = || [0, 2].map(|shard: usize| chunks[shard].disk.peek(page, 4096));
        let before = pages();
        self.begin_write(self.block_of(stripe, 0, 0), 1, false);
        self.write_blocks(self.block_of(stripe, 0, 2), 1, false).await?;
        if !self.until(HOME, || pages().iter().zip(&before).all(|(now, then)| now != then)).await {
            return Err("the tables do not come home".into());
        }
        let ranges: Vec<_> = chunks.iter().map(|c| (c.path.clone(), c.range.clone())).collect();
        self.lose_unflushed(&ranges).await?;
        self.start_and_look("after the tables came home and the blocks did not").await
    }

    /// Waits until something is home, and writes elsewhere, so that what else there is to do waits: what follows must
    /// begin within 200 ms.
    async fn hold_after(&mut self, is_home: impl FnMut() -> bool, stripe: u64) -> Check {
        self.until(HOME, is_home).await;
        let other = (stripe + 1) % (self.volume_bytes / self.io.stripe_bytes);
        self.write_blocks(self.block_of(other, 0, 0), 1, false).await
    }

    /// Writes a stripe whole, until every member has the frame that opens it, and is asked to flush it.
    async fn write_whole_and_die(&mut self, stripe: u64) -> Check {
        let process = self.running().process;
        self.disks.plan_crash(self.shape.width() as u64 + 1, Crash::Kill);
        self.begin_write(self.block_of(stripe, 0, 0), self.io.stripe_bytes / 4096, false);
        self.until(HOME, || process.is_dead()).await;
        self.verdict()
    }

    /// A member is lost when a stripe is written whole, and the process is killed on the way. What the lost member had
    /// of it is read from the others: as much of the stripe as that takes must be old, or new.
    pub async fn whole_with_a_member_lost(&mut self) -> Check {
        self.all_written().await?;
        let (stripe, data) = (self.any_stripe(), self.random.index(2));
        let home = self.chunk(stripe, data)?;
        self.lose_and_wait(&home).await?;
        self.in_use().await?;
        let at = self.random.between(1, 4 * self.shape.width() as u64);
        self.disks.plan_crash(at, Crash::Kill);
        self.begin_write(self.block_of(stripe, 0, 0), self.io.stripe_bytes / 4096, false);
        self.die(Crash::Kill, HOME).await?;
        let when = "after a kill with a member lost";
        self.assemble().await.map_err(|e| format!("does not start {when}: {}", e.report()))?;
        // The checker would forgive it: a stripe may be gone if members are lost as it is written whole.
        let Running { process, array } = self.running();
        let (io, volume) = (Rc::clone(&self.io), array.volume());
        let (offset, len) = (stripe * self.io.stripe_bytes, self.io.stripe_bytes);
        if let Some(Err(e)) = process.call(async move { io.read(&*volume, offset, len).await }).await {
            return Err(format!("read {offset}+{len} failed {when}: {}", e.report()));
        }
        self.verify_volume(when).await
    }

    /// A stripe is opened and the process killed before its home is touched; it is opened again after that, and the
    /// power is cut, which the checkpoint that was made in between does not survive.
    pub async fn opened_again_after_a_crash(&mut self) -> Check {
        self.all_written().await?;
        let stripe = self.any_stripe();
        self.in_use().await?;
        self.write_whole_and_die(stripe).await?;
        self.disks.unplan_crash();
        self.went_down(Crash::Kill);
        self.assemble().await.map_err(|e| format!("does not start after a kill: {}", e.report()))?;
        let pages = self.checkpoint_ranges()?;
        self.write_whole_and_die(stripe).await?;
        self.lose_unflushed(&pages).await?;
        self.start_and_look("after a stripe was opened twice").await
    }

    /// A stripe is written whole and then a block of it, which is coming home when the process is killed; a member that
    /// holds another block is missing then. If the parity is too old for both, that block may be lost, but must not become
    /// something else.
    pub async fn parity_from_before_a_change(&mut self) -> Check {
        self.all_written().await?;
        self.in_use().await?;
        self.idle(650).await?;
        let stripe = self.any_stripe();
        self.write_blocks(self.block_of(stripe, 0, 0), self.io.stripe_bytes / 4096, true).await?;
        let (home, away) = (self.chunk(stripe, 0)?, self.chunk(stripe, 1)?);
        let since = self.disks.operations();
        self.write_blocks(self.block_of(stripe, 0, 0), 1, true).await?;
        self.until(HOME, || home.disk.was_touched(home.range.clone(), since)).await;
        self.io.model.borrow_mut().give_up(self.block_of(stripe, 1, 0));
        self.crash(Crash::Kill);
        self.disks.detach(&away.path);
        self.start_and_look("with a member missing as a block came home").await
    }

    /// A member is lost and a block of another rots: so much of a row cannot be restored. One of the two blocks is
    /// written anew, and then so much else that there is no room to keep it: the rotten one (`held`) goes home without
    /// parity, that of the lost member stays in the journal.
    pub async fn row_beyond_repair(&mut self, held: bool) -> Check {
        self.all_written().await?;
        let (stripe, row) = (self.random.below(16), self.random.below(8));
        let blocks = self.lose_of_a_row(stripe, row).await?;
        self.write_blocks(blocks[usize::from(held)], 1, true).await?;
        self.idle(300).await?;
        // So little that the journal has room for all of it, or more than it can hold at once.
        for _ in 0..self.random.pick(&[1, 6]).copied().unwrap_or(1) {
            for stripe in 16..130 {
                self.begin_write(self.block_of(stripe, 0, 0), 8, false);
            }
            self.drain().await?;
            self.idle(600).await?;
        }
        self.verify_volume("with a row beyond repair").await?;
        self.crash(Crash::Kill);
        self.start_and_look("after a kill with a row beyond repair").await
    }

    /// Starts with a member lost and a block of another rotten; answers both blocks of the row, that of the lost member
    /// first.
    async fn lose_of_a_row(&mut self, stripe: u64, row: u64) -> Check<[u64; 2]> {
        let lost = usize::from(self.random.chance(500));
        let (away, rotten) = (self.chunk(stripe, lost)?, self.chunk(stripe, 1 - lost)?);
        let blocks = [lost, 1 - lost].map(|shard| self.block_of(stripe, shard, row));
        self.stop().await?;
        drop(self.disks.detach(&away.path));
        rotten.disk.scribble(rotten.range.start + row * 4096, &self.noise(4096));
        blocks.iter().for_each(|block| self.io.model.borrow_mut().give_up(*block));
        self.assemble().await.map_err(|e| format!("does not start with a member lost: {}", e.report()))?;
        Ok(blocks)
    }

    /// A block of a lost member that cannot go home keeps the journal from being freed until much of it is used. Then it
    /// is zeroed, and another stripe, which comes with a checkpoint that frees all that. At once so much is written that
    /// the ring begins anew; then the power is cut, and the checkpoint is lost.
    pub async fn ring_reused(&mut self) -> Check {
        self.all_written().await?;
        let stripe = self.random.below(8);
        let [block, _] = self.lose_of_a_row(stripe, 0).await?;
        self.write_blocks(block, 1, true).await?;
        let again = self.block_of(2300, 0, 0);
        while self.ring_used()? < 240 {
            self.write_blocks(again, 64, false).await?;
        }
        for stripe in 100..2200 {
            if self.ring_used()? >= 600 {
                break;
            }
            self.zero_stripe(stripe).await?;
        }
        self.idle(650).await?;
        let journal = self.used()?.journal;
        let start = journal.start + 8192;
        let disk = self.disks.disks().swap_remove(0);
        let first = disk.peek(start, 4096);
        self.zero_stripe(stripe).await?;
        self.zero_stripe(2200).await?;
        for _ in 0..60 {
            self.begin_write(again, 64, false);
        }
        let io = Rc::clone(&self.io);
        self.until(HOME, || io.under_way.get() == 0 || disk.peek(start, 4096) != first).await;
        let pages = self.checkpoint_ranges()?;
        self.lose_unflushed(&pages).await?;
        self.start_and_look("after the ring was used again and the checkpoint lost").await
    }

    /// How much of the ring was ever used, in thousandths.
    fn ring_used(&self) -> Check<u64> {
        let journal = self.used()?.journal;
        let start = journal.start + 8192;
        let disk = self.disks.disks().swap_remove(0);
        let last = disk.written_pages(start..journal.end).last().copied().unwrap_or(start);
        Ok((last - start) * 1000 / (journal.end - start))
    }

    async fn zero_stripe(&mut self, stripe: u64) -> Check {
        let Running { process, array } = self.running();
        let (offset, len) = (stripe * self.io.stripe_bytes, self.io.stripe_bytes);
        let zero = super::io::Request::Zero { offset, len, no_hole: false, durable: false };
        self.io.start(&process, &array.volume(), zero, Duration::ZERO);
        self.drain().await
    }

    /// A slot is lost, and a stripe of which it had the parity is written for the first time; then the replacement is
    /// filled with that stripe, which is recorded, and the process killed while the journal still has the write.
    pub async fn filled_and_then_redone(&mut self) -> Check {
        self.fill(self.volume_bytes).await?;
        let stripe = self.random.below(200);
        self.zero_stripe(stripe).await?;
        let lost = self.shape.slot_of(StripeIndex(stripe), self.shape.data());
        let home = self.chunk(stripe, 0)?;
        let first = self.block_of(stripe, 0, 0);
        let range = self.without_slot(lost).await?;
        let old = home.block(0);
        self.write_blocks(first, 1, true).await?;
        self.hold_after(|| home.block(0) != old, stripe).await?;
        let new = self.fill_slowly(lost).await?;
        let start = range.start + stripe * self.shape.chunk_bytes();
        self.filled(&new, start, first + 64).await?;
        self.record_and_die().await?;
        self.fill_up("with a stripe filled and redone").await?;
        self.verify_volume("with a stripe filled and redone").await?;
        self.stop().await?;
        drop(self.disks.detach(&home.path));
        self.start_and_look("with a stripe filled and redone, and another member lost").await
    }

    /// A replacement is filled in two rounds. The tables are home after the first; as soon as the second is done it is
    /// recorded what was filled, and the process is killed. Filled up, the replacement is needed.
    pub async fn filled_without_checksums(&mut self) -> Check {
        self.all_written().await?;
        let lost = Slot(u8::try_from(self.random.below(3)).unwrap());
        let range = self.without_slot(lost).await?;
        let new = self.fill_slowly(lost).await?;
        // The last stripe of the second round.
        let last = range.start + 1023 * self.shape.chunk_bytes();
        let far = self.block_of(1400, 0, 0);
        self.filled(&new, last, far).await?;
        self.record_and_die().await?;
        self.fill_up("with a member half filled").await?;
        self.stop().await?;
        let paths = self.disks.names().into_iter().filter(|name| *name != new).collect();
        self.detach_only(1, paths);
        self.start_and_look("with a member filled and another lost").await
    }

    /// Starts without the member of a slot; answers where the data of the others lie.
    async fn without_slot(&mut self, slot: Slot) -> Check<Range<u64>> {
        let path = self.path_of(slot)?;
        self.stop().await?;
        drop(self.disks.detach(&path));
        self.assemble().await.map_err(|e| format!("does not start with a member lost: {}", e.report()))?;
        Ok(self.used()?.data)
    }

    /// Begins to fill a slot slowly; answers the name of the disk.
    async fn fill_slowly(&mut self, slot: Slot) -> Check<String> {
        let change = RebuildControl { max_rate_bytes_per_s: Some(SLOWLY), paused: Some(false) };
        self.running().array.control_rebuild(change);
        let name = format!("/dev/d{}", self.next_disk);
        self.replace(&MemberRef::Slot(slot)).await?;
        Ok(name)
    }

    /// Waits until a block of a replacement is filled, with a write now and then so that the journal is not empty.
    async fn filled(&mut self, name: &str, at: u64, block: u64) -> Check {
        let disk = self.disks.get(name).ok_or("there is no such disk")?;
        for number in 0..5000 {
            if number % 50 == 0 {
                self.write_blocks(block, 1, false).await?;
            }
            if disk.peek(at, 4096).iter().any(|b| *b != 0) {
                break;
            }
            self.idle(1).await?;
        }
        self.idle(2).await
    }

    /// Records how far replacements are filled, and kills the process.
    async fn record_and_die(&mut self) -> Check {
        let Running { process, array } = self.running();
        let saved = process.call(async move { Arc::clone(&array).save_progress().await });
        saved.await.ok_or("the process died")?.map_err(|e| e.report())?;
        self.crash(Crash::Kill);
        Ok(())
    }

    /// Starts and fills all there is to fill, without a request.
    async fn fill_up(&mut self, when: &str) -> Check {
        self.assemble().await.map_err(|e| format!("does not start {when}: {}", e.report()))?;
        let change = RebuildControl { max_rate_bytes_per_s: Some(0), paused: Some(false) };
        self.running().array.control_rebuild(change);
        for _ in 0..600 {
            if World::is_whole(&self.report()) {
                return self.verdict();
            }
            self.idle(100).await?;
        }
        Err(format!("is not filled {when}; {}", self.describe()))
    }

    /// A block and its checksum are at home on a member, and not in memory any more, when its flush fails and it loses
    /// both. Until that is recorded the block is read.
    pub async fn read_after_a_failed_flush(&mut self) -> Check {
        let slot = Slot(u8::try_from(self.random.below(3)).unwrap());
        let places = self.one_for_each_page(slot);
        for (stripe, _) in &places {
            self.begin_write(self.block_of(*stripe, 0, 0), self.io.stripe_bytes / 4096, false);
        }
        self.drain().await?;
        self.start_afresh().await?;
        let homes: Vec<Place> =
            places.iter().map(|(s, shard)| self.chunk(*s, *shard)).collect::<Check<_>>()?;
        let before: Vec<Vec<u8>> = homes.iter().map(|home| home.block(0)).collect();
        for (stripe, shard) in &places {
            self.begin_write(self.block_of(*stripe, *shard, 0), 1, false);
        }
        self.drain().await?;
        self.until(HOME, || homes.iter().zip(&before).all(|(home, old)| home.block(0) != *old)).await;
        let disk: &SimDisk = &homes[0].disk;
        disk.fail_flushes(Trouble::Next(1));
        if !self.until(HOME, || disk.counts().flush_errors > 0).await {
            return Err("nobody flushes what came home".into());
        }
        disk.lose_power();
        let Running { process, array } = self.running();
        let offset = self.block_of(places[0].0, places[0].1, 0) * 4096;
        for delay in [0, 60, 200, 600, 4000] {
            let read = super::io::Request::Read { offset, len: 4096 };
            self.io.start(&process, &array.volume(), read, Duration::from_micros(delay));
        }
        self.drain().await
    }

    /// For each page of a member's table a stripe of which it has data, and which.
    fn one_for_each_page(&self, slot: Slot) -> Vec<(u64, usize)> {
        let data = self.shape.data();
        let of_page = |page: u64| {
            let all = (page * PER_PAGE..(page + 1) * PER_PAGE)
                .map(|s| (s, self.shape.shard_of(StripeIndex(s), slot)));
            all.into_iter().find(|(_, shard)| *shard < data)
        };
        (0..PAGES).filter_map(of_page).collect()
    }
}
