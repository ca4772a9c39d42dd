//! Scripts aimed at what protects membership.

use super::io::Request;
use super::power::Place;
use super::world::{Check, Running, World};
use palisade::array::{ArrayState, MemberRef};
use palisade::env::Environment;
use palisade::format::Superblock;
use palisade::member::SimDisk;
use palisade::member::sim::Crash;
use palisade::units::BLOCK_BYTES;
use std::time::Duration;

/// Whatever is written is home, with its tables, and the journal empty.
const SETTLED_MS: u64 = 600;
/// Times that it takes until some epochs have ended. In between there is no time to record that nobody writes.
const EPOCHS: usize = 9;

impl World {
    /// An admin takes a member out; what is written meanwhile is answered, and the process killed before anybody has
    /// recorded that. That member is back then, and another missing.
    pub async fn acted_upon_before_recorded(&mut self) -> Check {
        self.all_written().await?;
        self.in_use().await?;
        let paths = self.other_disks(&[])?;
        let disks: Vec<SimDisk> = paths.iter().filter_map(|path| self.disks.get(path)).collect();
        let before = self.event(&disks[1])?;
        let Running { process, array } = self.running();
        let (member, path) = (MemberRef::Path(paths[0].clone()), &paths[0]);
        process.spawn(Box::pin(async move { drop(array.fail(&member).await) }));
        let stripe = self.any_stripe();
        self.until(Duration::from_millis(50), || !self.is_in_sync(path)).await;
        self.begin_write(self.block_of(stripe, 0, 0), 1, false);
        let io = std::rc::Rc::clone(&self.io);
        self.until(Duration::from_millis(50), || io.under_way.get() == 0).await;
        self.crash(Crash::Kill);
        // Whoever is left with it must not have it recorded either.
        for (left, gone) in [(1, 2), (2, 1)] {
            if self.event(&disks[left])? == before {
                self.disks.detach(&paths[gone]);
                break;
            }
        }
        self.start_and_look("after a member was taken out").await
    }

    /// A member refuses writes. Its loss is recorded on one other when the rest go away: it is given up. All come back
    /// after a kill but one of those that have nothing of it.
    pub async fn change_given_up(&mut self) -> Check {
        self.all_written().await?;
        self.in_use().await?;
        let paths = self.other_disks(&[])?;
        let disks: Vec<SimDisk> = paths.iter().filter_map(|path| self.disks.get(path)).collect();
        let [failing, told, rest @ ..] = &disks[..] else { return Err("there are too few disks".into()) };
        self.io.errors_allowed.set(true);
        let before = self.event(told)?;
        let since = self.disks.operations();
        failing.refuse_writes();
        let stripe = self.any_stripe();
        let block = self.block_of(stripe, 0, 0);
        self.begin_write(block, 1, false);
        let slots = Superblock::slot_offsets(told.size_bytes());
        let is_told = || slots.iter().any(|at| told.was_touched(*at..*at + 4096, since));
        self.until(Duration::from_millis(400), is_told).await;
        rest.iter().for_each(SimDisk::vanish);
        self.idle(30).await?;
        let given_up = self.event(told)? > before;
        // Whoever of the rest is left must have nothing of it.
        let kept = (2..paths.len()).find(|i| self.event(&disks[*i]).is_ok_and(|event| event == before));
        self.crash(Crash::Kill);
        self.heal_all();
        self.io.errors_allowed.set(false);
        if let Some(kept) = kept.filter(|_| given_up) {
            self.disks.detach(&paths[if kept == 2 { 3 } else { 2 }]);
        }
        self.start_and_look("after a change was given up").await
    }

    /// More members go than may, while nothing is asked; then something is written, the members come back, and the
    /// process is killed.
    pub async fn written_with_too_few(&mut self) -> Check {
        self.all_written().await?;
        self.in_use().await?;
        self.idle(SETTLED_MS).await?;
        let paths = self.other_disks(&[])?;
        self.io.errors_allowed.set(true);
        for path in &paths[..self.shape.parity() + 1] {
            self.disks.get(path).ok_or("there is no such disk")?.vanish();
        }
        for _ in 0..60 {
            if self.report().state == ArrayState::Failed {
                break;
            }
            self.idle(100).await?;
        }
        let stripe = self.any_stripe();
        let block = self.block_of(stripe, 0, 0);
        self.begin_write(block, 1, false);
        self.drain().await?;
        self.crash(Crash::Kill);
        self.heal_all();
        self.io.errors_allowed.set(false);
        self.start_and_look("after more members were away than may").await
    }

    /// Of two members one hangs while a block of its is read, and the other is lost. The page of its table, which is
    /// not home and says there that a block is zero, is forgotten; then the read goes on with what is left.
    pub async fn read_of_a_member_lost_meanwhile(&mut self) -> Check {
        let (stripe, shard) = (self.random.below(8), self.random.index(2));
        let (hangs, lost) = (self.chunk(stripe, shard)?, self.chunk(stripe, 1 - shard)?);
        // Nothing of this one can come home without an answer of who hangs: pages of tables wait.
        let of_hangs = |stripe, shard| self.chunk(stripe, shard).is_ok_and(|place| place.path == hangs.path);
        let all = (8..24).flat_map(|stripe| [(stripe, 0), (stripe, 1)]);
        let (other, idle) = all.into_iter().find(|(s, i)| of_hangs(*s, *i)).ok_or("no such stripe")?;
        self.write_blocks(self.block_of(other, 0, 0), 4, false).await?;
        self.write_blocks(self.block_of(stripe, shard, 1), 1, false).await?;
        self.idle(SETTLED_MS).await?;
        self.write_blocks(self.block_of(stripe, 0, 0), 4, false).await?;
        self.write_blocks(self.block_of(other, 1 - idle, 0), 1, false).await?;
        self.fault_on(&hangs.path, 1);
        self.faulted.insert(lost.path.clone());
        lost.disk.spoil(4096, 4096);
        let Running { process, array } = self.running();
        let read = Request::Read { offset: self.block_of(stripe, shard, 0) * 4096, len: 4096 };
        self.io.start(&process, &array.volume(), read, Duration::ZERO);
        self.drain().await
    }

    /// A member is replaced by an image of itself after one of its blocks was written and two checkpoints were made, all
    /// in one epoch; with `change` a change of members, too.
    pub async fn image_known_by_its_checkpoint(&mut self, change: bool) -> Check {
        self.all_written().await?;
        self.in_use().await?;
        let (home, block, other) = self.a_block_and_another()?;
        self.idle(SETTLED_MS).await?;
        let image = self.disks.image(&home.path).ok_or("there is no such disk")?;
        self.write_blocks(block, 1, true).await?;
        self.idle(SETTLED_MS).await?;
        self.write_blocks(other, 1, true).await?;
        self.idle(SETTLED_MS).await?;
        if change {
            let Running { process, array } = self.running();
            let name = self.new_disk();
            let candidate = self.open(&process, &name).await.map_err(|e| e.report())?;
            let added = self.command("add", async move { array.add(candidate).await }).await?;
            added.map_err(|e| e.report())?;
        }
        self.crash(Crash::Kill);
        self.put_in_place(&home.path, &image);
        self.start_and_look("with an image of a member").await
    }

    /// A block of a stripe's first member, and one of another stripe.
    fn a_block_and_another(&mut self) -> Check<(Place, u64, u64)> {
        let stripe = self.any_stripe();
        let other = (stripe + 1) % (self.volume_bytes / self.io.stripe_bytes);
        Ok((self.chunk(stripe, 0)?, self.block_of(stripe, 0, 0), self.block_of(other, 0, 0)))
    }

    fn put_in_place(&mut self, path: &str, image: &SimDisk) {
        self.disks.detach(path);
        self.disks.attach(path, image);
    }

    /// A member is replaced by an image of itself of which no checkpoint can be read, some epochs after one of its
    /// blocks was written.
    pub async fn image_known_by_its_map(&mut self) -> Check {
        self.all_written().await?;
        self.in_use().await?;
        let (home, image) = self.image_and_epochs().await?;
        let at = self.used()?.journal.start;
        self.idle(SETTLED_MS).await?;
        self.crash(Crash::Kill);
        image.scribble(at, &self.noise(8192));
        self.put_in_place(&home.path, &image);
        self.start_and_look("with an image of a member without checkpoints").await
    }

    /// An image of a member; then a block of it is written, and some epochs pass.
    async fn image_and_epochs(&mut self) -> Check<(Place, SimDisk)> {
        let (home, block, other) = self.a_block_and_another()?;
        let image = self.disks.image(&home.path).ok_or("there is no such disk")?;
        self.write_blocks(block, 1, true).await?;
        for _ in 0..EPOCHS {
            self.idle(SETTLED_MS).await?;
            self.write_blocks(other, 1, true).await?;
        }
        Ok((home, image))
    }

    /// A member is lost some epochs after one of its blocks was written, and an image of it from before comes back.
    pub async fn image_of_a_lost_member(&mut self) -> Check {
        self.all_written().await?;
        self.in_use().await?;
        let (home, image) = self.image_and_epochs().await?;
        self.lose_and_wait(&home).await?;
        self.put_in_place(&home.path, &image);
        self.wait_until_back(&home).await?;
        self.verify_volume("with an image of a lost member back").await
    }

    /// A member is gone, and the array knows it and has settled.
    pub async fn lose_and_wait(&mut self, home: &Place) -> Check {
        home.disk.vanish();
        for _ in 0..60 {
            if !self.is_in_sync(&home.path) {
                break;
            }
            self.idle(100).await?;
        }
        self.idle(2000).await
    }

    async fn wait_until_back(&self, home: &Place) -> Check {
        for _ in 0..300 {
            if self.is_in_sync(&home.path) {
                break;
            }
            self.idle(100).await?;
        }
        Ok(())
    }

    /// A checksum stays lost, as in [`Self::lose_a_checksum`], and the member that lacks it is lost. It comes back, and
    /// another one is missing.
    pub async fn returns_without_a_checksum(&mut self) -> Check {
        let (home, other, _) = self.lose_a_checksum().await?;
        self.lose_and_wait(&home).await?;
        home.disk.come_back();
        self.wait_until_back(&home).await?;
        self.stop().await?;
        self.disks.detach(&other.path);
        self.start_and_look("with another member missing").await
    }

    /// A checksum stays lost, as in [`Self::lose_a_checksum`], and the process is killed. Something is written that the
    /// page is about; then another member is missing.
    pub async fn killed_without_a_checksum(&mut self) -> Check {
        let (_, other, block) = self.lose_a_checksum().await?;
        self.crash(Crash::Kill);
        self.assemble().await.map_err(|e| format!("does not start after a kill: {}", e.report()))?;
        self.write_blocks(block, 1, true).await?;
        self.idle(2 * SETTLED_MS).await?;
        self.stop().await?;
        self.disks.detach(&other.path);
        self.start_and_look("with another member missing").await
    }

    /// A member's checksums were overwritten while nothing ran. Under a load that leaves no time for pages to go home a
    /// scrub finds everything restored; the process is killed then, and another member is missing.
    pub async fn scrubbed_and_killed(&mut self) -> Check {
        self.all_written().await?;
        let data = self.random.index(2);
        let (hurt, other) = (self.chunk(0, data)?, self.chunk(0, 2)?);
        let checksums = self.used()?.checksums;
        self.stop().await?;
        hurt.disk.scribble(checksums.start, &self.noise(4096));
        self.assemble().await.map_err(|e| format!("does not start again: {}", e.report()))?;
        self.start_scrub();
        for number in 0.. {
            self.write_blocks(number % 64, 1, false).await?;
            if self.report().scrub.last.is_some() {
                break;
            }
        }
        self.crash(Crash::Kill);
        self.disks.detach(&other.path);
        self.start_and_look("with another member missing after a scrub").await
    }

    /// A member hangs before the checksums of a new stripe go home to it. It is lost over a probe before that is given up,
    /// and a spare filled in its place. Then another member is missing.
    pub async fn filled_as_tables_go_home(&mut self) -> Check {
        self.fill(self.volume_bytes / 2).await?;
        self.start_afresh().await?;
        self.add_spare().await?;
        self.in_use().await?;
        // Members are probed every half a second.
        let pause = self.random.between(SETTLED_MS, SETTLED_MS + 500);
        self.idle(pause).await?;
        let stripe = self.volume_bytes / self.io.stripe_bytes - 1 - self.random.between(1, 8);
        let (home, other) = (self.chunk(stripe, 0)?, self.chunk(stripe, 1)?);
        self.write_blocks(self.block_of(stripe, 0, 0), self.io.stripe_bytes / BLOCK_BYTES, true).await?;
        home.disk.hang();
        self.idle(4 * SETTLED_MS).await?;
        self.wait_for("the spare to be filled", Self::is_whole).await?;
        self.crash(Crash::Kill);
        self.disks.detach(&home.path);
        self.disks.detach(&other.path);
        self.start_and_look("with another member missing than the one that was replaced").await
    }

    /// A page of a member's checksums cannot be read when it is to be changed, nor can a block of another member, so
    /// that one of the checksums stays lost. That block can be read again then. Answers where the checksum belongs,
    /// that block, and one that the page is about.
    async fn lose_a_checksum(&mut self) -> Check<(Place, Place, u64)> {
        self.all_written().await?;
        self.in_use().await?;
        let (stripe, data) = (self.random.below(8), self.random.index(2));
        let (home, other) = (self.chunk(stripe, 2)?, self.chunk(stripe, data)?);
        let on_home = |stripe: &u64| self.chunk(*stripe, 0).is_ok_and(|place| place.path == home.path);
        let written = (8..24).find(on_home).ok_or("no such stripe")?;
        for _ in 0..EPOCHS {
            self.idle(SETTLED_MS).await?;
            self.in_use().await?;
        }
        self.start_afresh().await?;
        let (page, row) = (self.used()?.checksums.start, self.random.below(2));
        home.disk.spoil(page, 4096);
        other.disk.spoil(other.range.start + row * 4096, 4096);
        let block = self.block_of(written, 0, 0);
        self.write_blocks(block, 1, true).await?;
        self.idle(2 * SETTLED_MS).await?;
        other.disk.heal();
        Ok((home, other, block))
    }
}
