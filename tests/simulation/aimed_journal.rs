//! Scripts aimed at what protects the journal.

use super::power::all_changed;
use super::world::{Check, Running, World};
use palisade::array::MemberRef;
use palisade::env::Environment;
use palisade::format::{Checkpoint, Tail};
use palisade::member::SimDisk;
use palisade::member::sim::{Crash, WriteFate};
use palisade::units::{ArrayId, BLOCK_BYTES, JournalIndex, Seat, Slot};
use std::sync::Arc;
use std::time::Duration;

/// Blocks come home when nobody wrote for 200 ms.
const HOME: Duration = Duration::from_millis(600);

impl World {
    /// The same blocks again and again, each time with a flush under way that does not cover the write. As soon as
    /// a checkpoint passes over what was overwritten the power is cut, and the frame that overwrote it is lost.
    pub async fn replaced_content(&mut self) -> Check {
        let rings = self.ring_ranges()?;
        self.write_blocks(0, 64, false).await?;
        self.flush_now().await?;
        for _ in 0..14 {
            let before = self.checkpoints()?;
            self.begin_write(0, 64, false);
            self.harness.sleep(Duration::from_micros(2)).await;
            self.begin_flush();
            let io = std::rc::Rc::clone(&self.io);
            self.until(HOME, || io.under_way.get() == 0 || all_changed(&before)).await;
            if all_changed(&before) {
                break;
            }
            self.drain().await?;
            self.flush_now().await?;
        }
        self.lose_unflushed(&rings).await?;
        self.start_and_look("after a frame was lost with the checkpoint kept").await
    }

    fn begin_flush(&self) {
        let Running { process, array } = self.running();
        self.io.start(&process, &array.volume(), super::io::Request::Flush, Duration::ZERO);
    }

    /// Flushes without end while the tables come home. When the checkpoint says that nothing is needed the power is
    /// cut, and what came home since the last flush began is lost.
    pub async fn released_by_an_older_flush(&mut self) -> Check {
        let (used, since) = (self.used()?, self.disks.operations());
        let stripe = self.any_stripe();
        self.write_blocks(self.block_of(stripe, 0, 0), 1, true).await?;
        let before = self.checkpoints()?;
        let disks = self.disks.disks();
        let epochs = used.epochs.clone();
        self.until(HOME, || disks.iter().any(|d| d.was_touched(epochs.clone(), since))).await;
        for _ in 0..150 {
            if all_changed(&before) {
                break;
            }
            self.begin_flush();
            self.until(Duration::from_micros(16), || all_changed(&before)).await;
        }
        let tables = [self.on_every_disk(used.checksums), self.on_every_disk(used.epochs)].concat();
        self.lose_unflushed(&tables).await?;
        self.start_and_look("after tables were lost with the checkpoint kept").await
    }

    /// The frame that brings a block home reaches all but one member. The start writes the one shard anew and does
    /// what the frame says; then the power is cut, and that shard is lost. With another member missing too few are left.
    pub async fn mended_shards_lost(&mut self) -> Check {
        self.all_written().await?;
        let stripe = self.any_stripe();
        let block = self.block_of(stripe, 0, 0);
        let (home, parity) = (self.chunk(stripe, 0)?, self.chunk(stripe, self.shape.data())?);
        let idle = self.other_disks(&[&home.path, &parity.path])?;
        // The journal is young: its frames lie near the start.
        let ring = self.used()?.journal.start + 8192;
        let ring = ring..ring + (256 << 10);
        self.write_blocks(block, 1, false).await?;
        let slow = self.disks.get(&idle[0]).ok_or("there is no such disk")?;
        slow.hang();
        let since = self.disks.operations();
        let began = self.until(HOME, || home.disk.was_touched(ring.clone(), since)).await;
        self.idle(4).await?;
        self.crash(Crash::Kill);
        slow.heal();
        if !began {
            return self.start_and_look("after a kill").await;
        }
        self.start_until(|| home.block(0), Crash::Kill).await?;
        let lost = [(idle[0].clone(), ring), (parity.path.clone(), parity.range.clone())];
        self.lose_unflushed(&lost).await?;
        self.disks.detach(&idle[1]);
        self.start_and_look("after a shard written anew was lost").await
    }

    /// Starts, and goes down at the first operation after something changed on a disk.
    async fn start_until(&mut self, now: impl Fn() -> Vec<u8>, crash: Crash) -> Check {
        let before = now();
        let (disks, harness) = (self.disks.clone(), self.harness.clone());
        let watch = async {
            for _ in 0..20_000 {
                if now() != before {
                    disks.plan_crash(1, crash);
                    return;
                }
                harness.sleep(Duration::from_micros(4)).await;
            }
        };
        let (_, started) = futures::join!(watch, self.assemble());
        if let Err(e) = started
            && e.kind() != palisade::error::ErrorKind::ShuttingDown
        {
            return Err(format!("does not start after a kill: {}", e.report()));
        }
        Ok(())
    }

    /// While the two that bear the journal hang a new one takes a frame, and the process is killed. The new one is
    /// filled without a write; then the process is killed again.
    pub async fn frame_of_a_new_member(&mut self) -> Check {
        let index = JournalIndex(u8::try_from(self.random.below(2)).unwrap());
        let stripe = self.any_stripe();
        let block = self.block_of(stripe, 0, 0);
        self.write_blocks(block, 1, true).await?;
        self.start_afresh().await?;
        self.in_use().await?;
        self.idle(600).await?;
        let bear = self.journal_disks();
        self.replace(&MemberRef::from(Seat::Journal(index))).await?;
        bear.iter().for_each(SimDisk::hang);
        self.begin_write(block, 1, false);
        self.idle(2).await?;
        self.crash(Crash::Kill);
        self.heal_all();
        self.start_and_look("with a new member that bears the journal").await?;
        for _ in 0..600 {
            if World::is_whole(&self.report()) {
                break;
            }
            self.idle(100).await?;
        }
        self.crash(Crash::Kill);
        self.start_and_look("with a new member in sync that bears the journal").await
    }

    /// On a mirror the last frame before a kill goes over the first of the ring on one member, and on the other it is
    /// under way. Then the process is killed as soon as it has started.
    pub async fn misdirected_frame(&mut self) -> Check {
        let ring = self.used()?.journal.start + 8192;
        let (liar, other) = (self.chunk(0, 0)?.disk, self.chunk(0, 1)?.disk);
        for stripe in 0..self.random.between(1, 4) {
            self.write_blocks(self.block_of(stripe, 0, 0), 1, true).await?;
        }
        liar.next_write(WriteFate::Misdirected(ring));
        other.hang();
        self.begin_write(self.block_of(20, 0, 0), 1, false);
        self.idle(1).await?;
        self.crash(Crash::Kill);
        self.heal_all();
        self.assemble()
            .await
            .map_err(|e| format!("does not start with a frame misdirected: {}", e.report()))?;
        self.crash(Crash::Kill);
        self.start_and_look("with a frame misdirected").await
    }

    /// On a mirror a frame reaches one member, torn. After a start the next one, in its place, reaches the other alone,
    /// and the process is killed. What is found then must be found without the first member, too.
    pub async fn frame_behind_a_torn_one(&mut self) -> Check {
        let disk = |path: String| self.disks.get(&path).ok_or("there is no such disk");
        let (torn, other) = (disk(self.path_of(Slot(0))?)?, disk(self.path_of(Slot(1))?)?);
        let first = self.path_of(Slot(0))?;
        self.in_use().await?;
        self.idle(600).await?;
        let stripe = self.random.below(8);
        let block = self.block_of(stripe, 0, 0);
        // The journal is young: its frames lie near the start.
        let ring = self.used()?.journal.start + 8192;
        let begin = |disk: &SimDisk| disk.peek(ring, 64 << 10);
        let (before, others) = (begin(&torn), begin(&other));
        self.killed_with_one_hanging(&other, block).await?;
        // What a disk was asked to do when it hung it may have done or not.
        other.scribble(ring, &others);
        let after = begin(&torn);
        let sectors = (ring..).step_by(512).zip(before.chunks(512).zip(after.chunks(512)));
        let mut changed = sectors.filter(|(_, (was, is))| was != is);
        // The header is in the first.
        let (at, (was, _)) = changed.nth(1).ok_or("no frame was written")?;
        torn.scribble(at, was);
        self.assemble().await.map_err(|e| format!("does not start with a torn frame: {}", e.report()))?;
        let left = begin(&torn);
        self.killed_with_one_hanging(&torn, block).await?;
        torn.scribble(ring, &left);
        self.start_and_look("with a frame in the place of a torn one").await?;
        self.crash(Crash::Kill);
        self.disks.detach(&first);
        self.start_and_look("without the member that has the torn one").await
    }

    async fn killed_with_one_hanging(&mut self, disk: &SimDisk, block: u64) -> Check {
        disk.hang();
        self.begin_write(block, 1, false);
        self.idle(1).await?;
        self.heal_all();
        // What was written stays, so that what is changed on the disks afterwards does, too.
        self.lose_unflushed(&[]).await
    }

    /// Whole stripes are refused, as too few members can take the record that opens them; it is written in the end, and
    /// the array clean though nobody asks for anything. Then again: as soon as the members are back there is a flush,
    /// the power is cut before the record was tried again, and two members lose a checkpoint.
    pub async fn released_before_it_was_written(&mut self) -> Check {
        self.all_written().await?;
        let (paths, rings) = (self.other_disks(&[])?, self.ring_ranges()?);
        self.refused_for_a_moment(&paths[..2]).await?;
        self.becomes_clean().await?;
        self.refused_for_a_moment(&paths[..2]).await?;
        let before = self.checkpoints()?;
        for _ in 0..4000 {
            if self.flush_now().await.is_ok() {
                break;
            }
            self.idle(1).await?;
        }
        self.until(Duration::from_millis(4), || all_changed(&before)).await;
        let all = self.checkpoint_ranges()?.into_iter().filter(|(path, _)| paths[..2].contains(path));
        let lost: Vec<_> = all.chain(rings).collect();
        self.lose_unflushed(&lost).await?;
        self.io.errors_allowed.set(false);
        self.start_and_look("after the power was cut with a record still to be written").await
    }

    /// Some members are gone while whole stripes are written.
    async fn refused_for_a_moment(&mut self, gone: &[String]) -> Check {
        self.in_use().await?;
        // Frames and members are tried again in steps; this is how far apart.
        let apart = self.random.below(100);
        self.idle(600 + apart).await?;
        self.io.errors_allowed.set(true);
        gone.iter().for_each(|path| self.fault_on(path, 0));
        let stripe = self.random.below(8);
        let blocks = self.io.stripe_bytes / BLOCK_BYTES;
        self.write_blocks(self.block_of(stripe, 0, 0), 2 * blocks, false).await?;
        self.heal_all();
        Ok(())
    }

    /// Without a request in between.
    async fn becomes_clean(&mut self) -> Check {
        for _ in 0..300 {
            if World::is_whole(&self.report()) {
                return Ok(());
            }
            self.idle(100).await?;
        }
        Err(format!("is not clean in 30 s: {}", self.describe()))
    }

    /// A checkpoint of another array lies in the place of one of a member's.
    pub async fn foreign_checkpoint(&mut self) -> Check {
        let stripe = self.any_stripe();
        self.write_blocks(self.block_of(stripe, 0, 0), 1, true).await?;
        self.crash(Crash::Kill);
        let array = ArrayId::from_bytes([0x77; 16]);
        let generation = (1 << 20) + self.random.below(2);
        let tail = Tail { seq: 1 << 20, offset: 4096 * self.random.below(9), prev_nonce: 7 };
        let page = Checkpoint { array, generation, tail }.encode();
        let disks = self.disks.disks();
        let disk = self.random.pick(&disks).cloned().unwrap();
        disk.scribble(self.used()?.journal.start + Checkpoint::page_of(generation), &page);
        self.start_and_look("with a checkpoint of another array").await
    }

    /// A block comes home while the tables do: its checksums too late, its entry in the epoch map in time. When the
    /// tables are home the process is killed.
    pub async fn table_passed_over(&mut self) -> Check {
        self.all_written().await?;
        let stripe = self.any_stripe();
        let home = self.chunk(stripe, 0)?;
        let parity = self.chunk(stripe, self.shape.data())?;
        let idle = self.other_disks(&[&home.path, &parity.path])?;
        let slow = self.disks.get(&idle[0]).ok_or("there is no such disk")?;
        // Of another stripe, so that the idle disk has checksums to write.
        let other = (0..24).find(|s| *s != stripe && self.chunk(*s, 0).is_ok_and(|c| c.path == idle[0]));
        let other = other.ok_or("no stripe begins there")?;
        self.write_blocks(self.block_of(other, 0, 0), 1, true).await?;
        let (there, since) = (self.chunk(other, 0)?, self.disks.operations());
        self.until(HOME, || there.disk.was_touched(there.range.clone(), since)).await;
        self.write_blocks(self.block_of(stripe, 0, 0), 1, true).await?;
        if self.until(HOME, || home.disk.was_touched(home.range.clone(), since)).await {
            slow.set_slow(100);
            let Running { process, array } = self.running();
            let stripes = Arc::clone(array.stripes());
            let written = process.call(async move { stripes.write_tables().await });
            written.await.ok_or("the process died")?.map_err(|e| e.report())?;
            slow.set_slow(1);
        }
        self.crash(Crash::Kill);
        self.start_and_look("after a block and the tables came home at once").await
    }
}
