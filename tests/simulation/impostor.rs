//! Members that are not what they were: old copies of themselves, copies of each other, pieces of
//! another member in their places, or new ones that were in an array before (P5, P6).

use super::io::{Io, Request};
use super::model::Model;
use super::rot::Used;
use super::scenario::Scenario;
use super::world::{Check, Running, World};
use palisade::array::{Devices, MemberState};
use palisade::env::Environment;
use palisade::format::{SUPERBLOCK_BYTES, Superblock};
use palisade::member::SimDisk;
use palisade::member::sim::{Crash, FaultPlan};
use std::time::Duration;

impl World {
    /// A disk to be added as a new one that holds what some disk of the array does, but for the
    /// superblocks.
    pub fn used_disk(&mut self) -> Option<SimDisk> {
        if self.scenario != Scenario::Impostor || self.random.chance(300) {
            return None;
        }
        let mut all = self.disks.copy().disks();
        if self.random.chance(500) {
            all = self.relics.pop().map_or(all, |relic| vec![relic]);
        }
        let disk = self.random.pick(&all).filter(|disk| disk.size_bytes() >= self.disk_bytes)?.clone();
        self.note(|| "the next new disk was a member once".into());
        for at in Superblock::slot_offsets(disk.size_bytes()) {
            disk.scribble(at, &vec![0; SUPERBLOCK_BYTES]);
        }
        Some(disk)
    }

    /// One step of it.
    pub async fn impostor(&mut self) -> Check {
        match self.random.below(14) {
            0..3 => self.keep_a_copy(),
            3..6 => self.start_with_a_copy().await?,
            6 => self.overwrite_a_superblock().await?,
            7 => self.mend_a_table().await?,
            8 => self.punch_late().await?,
            9 | 10 => self.rot_at_rest().await?,
            _ => {
                if self.budget() > 0 && self.evil.is_empty() {
                    self.turn_one_evil();
                }
                for _ in 0..self.random.between(1, 12) {
                    self.take_from_another()?;
                }
                self.start_burst(6);
                self.drain().await?;
                if self.random.chance(500) {
                    self.lie_in_epochs()?;
                    self.start_burst(6);
                    self.pause(Duration::from_millis(1500)).await;
                    self.drain().await?;
                    self.crash(Crash::PowerCut);
                    self.heal_all();
                    self.assemble().await.map_err(|e| format!("does not start again: {}", e.report()))?;
                }
                self.verify_volume("with pieces of other members").await?;
                self.rewrite_doubted().await?;
            }
        }
        Ok(())
    }

    /// Remembers what the members hold now.
    fn keep_a_copy(&mut self) {
        let twin = self.disks.copy();
        let in_sync = self.report().members.into_iter().filter(|m| m.state == MemberState::InSync);
        self.copies = in_sync.filter_map(|m| Some((m.path.clone(), twin.get(&m.path)?))).collect();
        self.copied_at = self.starts;
        self.note(|| "copies are kept".into());
    }

    /// Starts with an old copy of a member in its place, or a copy, old or new, beside it.
    async fn start_with_a_copy(&mut self) -> Check {
        self.drain().await?;
        self.heal_all();
        self.harness.sleep(Duration::from_secs(3)).await;
        let may_go = self.budget() > 0;
        let in_sync: Vec<String> =
            self.healthy().into_iter().map(|m| m.path).filter(|p| self.copies.contains_key(p)).collect();
        let Some(path) = self.random.pick(&in_sync).cloned() else { return Ok(()) };
        self.stop().await?;
        let present = self.disks.get(&path).ok_or("there is no such disk")?;
        let old = self.copies.remove(&path).ok_or("there is no such copy")?;
        let beside = format!("{path}-copy");
        // A start is a change of membership, too.
        let behind = self.starts > self.copied_at || self.event(&old)? + 2 <= self.event(&present)?;
        if behind && may_go && self.random.chance(500) {
            self.note(|| format!("an old copy takes the place of {path}"));
            self.disks.detach(&path);
            self.disks.attach(&path, &old);
        } else if behind {
            self.note(|| format!("an old copy lies beside {path}"));
            self.disks.attach(&beside, &old);
        }
        self.assemble().await.map_err(|e| format!("does not start with a copy: {}", e.report()))?;
        self.verify_volume("with an old copy").await?;
        self.disks.detach(&beside);
        Ok(())
    }

    /// What evil members hold changes while the machine is off.
    async fn rot_at_rest(&mut self) -> Check {
        self.drain().await?;
        self.heal_all();
        if self.budget() > 0 && self.evil.is_empty() {
            self.turn_one_evil();
        }
        self.start_burst(6);
        self.drain().await?;
        self.stop().await?;
        let evil: Vec<SimDisk> = self.evil.iter().filter_map(|path| self.disks.get(path)).collect();
        for disk in evil {
            for _ in 0..self.random.between(1, 6) {
                match self.random.chance(500) {
                    true => self.take_from_another()?,
                    false => {
                        let Used { checksums, epochs, .. } = self.used()?;
                        let table = if self.random.chance(600) { checksums } else { epochs };
                        self.scramble(&disk, table);
                    }
                }
            }
        }
        self.assemble().await.map_err(|e| format!("does not start again: {}", e.report()))?;
        self.verify_volume("after members rotted at rest").await
    }

    /// Evil members drop some of the writes to their epoch maps.
    fn lie_in_epochs(&mut self) -> Check {
        let lies_in = vec![self.used()?.epochs];
        for disk in self.evil.iter().filter_map(|path| self.disks.get(path)) {
            disk.set_plan(FaultPlan {
                dropped_write: 500_000,
                lies_in: lies_in.clone(),
                ..FaultPlan::default()
            });
        }
        Ok(())
    }

    /// Somebody writes over the superblock of a member in use: it must not stay.
    async fn overwrite_a_superblock(&mut self) -> Check {
        self.drain().await?;
        let victims = self.victims();
        let Some(victim) = self.random.pick(&victims).cloned() else { return Ok(()) };
        let Some(disk) = self.disks.get(&victim.path) else { return Ok(()) };
        self.note(|| format!("the superblock of {} is overwritten", victim.path));
        self.faulted.insert(victim.path.clone());
        for at in Superblock::slot_offsets(disk.size_bytes()) {
            disk.scribble(at, &vec![0xE5; SUPERBLOCK_BYTES]);
        }
        self.harness.sleep(Duration::from_secs(5)).await;
        // It may have been written anew in that moment, by a change of membership.
        let is_without = super::rot::superblock_of(&disk).is_err();
        match is_without && self.is_in_sync(&victim.path) {
            true => Err(format!("{} is in sync without a superblock; {}", victim.path, self.describe())),
            false => Ok(()),
        }
    }

    pub fn is_in_sync(&self, path: &str) -> bool {
        self.report().members.iter().any(|m| m.path == path && m.state == MemberState::InSync)
    }

    /// A member loses its checksums while the machine is down. As soon as the array is clean again it
    /// counts as all others do: so many of those may be lost then.
    async fn mend_a_table(&mut self) -> Check {
        // Where every member holds data, reading the volume finds it on each; else only a scrub does.
        let is_on_all = self.volume_bytes >= self.io.stripe_bytes * self.shape.width() as u64;
        if !self.evil.is_empty() || !is_on_all {
            return Ok(());
        }
        self.drain().await?;
        self.heal_all();
        self.mend_all().await?;
        let Running { process, array } = self.running();
        let all = Request::Write { offset: 0, len: self.volume_bytes, durable: false, aligned: true };
        self.io.start(&process, &array.volume(), all, Duration::ZERO);
        self.drain().await?;
        self.stop().await?;
        let checksums = self.used()?.checksums;
        let names = self.disks.names();
        let Some(name) = self.random.pick(&names).cloned() else { return Ok(()) };
        let Some(disk) = self.disks.get(&name) else { return Ok(()) };
        let pages = disk.written_pages(checksums);
        if let Some(page) = self.random.pick(&pages).copied() {
            self.note(|| format!("a page of checksums is lost at {page}"));
            let noise = self.noise(4096);
            disk.scribble(page, &noise);
        }
        self.assemble().await.map_err(|e| format!("does not start again: {}", e.report()))?;
        self.verify_volume("with a table damaged").await?;
        self.start_burst(6);
        self.drain().await?;
        self.wait_for("the array to be clean", |r| r.clean).await?;
        self.lose_all_but(&name).await
    }

    /// A punch hangs on a member, and is done long afterwards. If that member is kept, it is as good as
    /// any other: so many of those may be lost then.
    async fn punch_late(&mut self) -> Check {
        let stripe = self.io.stripe_bytes;
        if !self.evil.is_empty() || self.volume_bytes < stripe {
            return Ok(());
        }
        self.drain().await?;
        self.heal_all();
        self.mend_all().await?;
        let Running { process, array } = self.running();
        let healthy = self.healthy();
        let Some(victim) = self.random.pick(&healthy).map(|m| m.path.clone()) else { return Ok(()) };
        let Some(disk) = self.disks.get(&victim) else { return Ok(()) };
        self.faulted.insert(victim.clone());
        let offset = self.random.below(self.volume_bytes / stripe) * stripe;
        let whole = Request::Write { offset, len: stripe, durable: false, aligned: true };
        let (hang_punch, hang_time) = (400_000, Duration::from_secs(3));
        for request in [whole, Request::Discard { offset, len: stripe }, whole] {
            let lies_in = FaultPlan { hang_punch, hang_time, ..FaultPlan::default() };
            let hangs = matches!(request, Request::Discard { .. });
            disk.set_plan(if hangs { lies_in } else { FaultPlan::default() });
            self.io.start(&process, &array.volume(), request, Duration::ZERO);
            self.drain().await?;
        }
        self.harness.sleep(Duration::from_secs(6)).await;
        self.faulted.remove(&victim);
        if !self.is_in_sync(&victim) {
            return Ok(());
        }
        self.lose_all_but(&victim).await
    }

    /// Loses as many members as may be, but not this one, and reads everything.
    async fn lose_all_but(&mut self, spared: &str) -> Check {
        let mut healthy = self.healthy();
        self.random.shuffle(&mut healthy);
        healthy.retain(|m| m.path != spared);
        for victim in healthy.into_iter().take(self.budget()) {
            let Some(disk) = self.disks.get(&victim.path) else { continue };
            self.faulted.insert(victim.path);
            disk.vanish();
        }
        self.verify_volume("with all but one lost that may be").await
    }

    pub fn event(&self, disk: &SimDisk) -> Check<u64> {
        let superblock = super::rot::superblock_of(disk).map_err(|e| e.report())?;
        Ok(superblock.membership.event_count.0)
    }

    /// A page of an evil member becomes what another member has in the same place: as if a
    /// controller had mixed them up.
    fn take_from_another(&mut self) -> Check {
        let evil: Vec<String> = self.evil.iter().cloned().collect();
        let Some(disk) = self.random.pick(&evil).and_then(|path| self.disks.get(path)) else { return Ok(()) };
        let others = self.disks.disks();
        let Some(other) = self.random.pick(&others).cloned() else { return Ok(()) };
        let used = self.used()?;
        let area = match self.random.below(10) {
            0..5 => used.data,
            5..8 => used.checksums,
            _ => used.journal,
        };
        let pages = other.written_pages(area);
        if let Some(at) = self.random.pick(&pages).copied().filter(|at| at + 4096 <= disk.size_bytes()) {
            self.note(|| format!("the page at {at} is another member's"));
            disk.scribble(at, &other.peek(at, 4096));
            self.stats.rotten += 1;
        }
        Ok(())
    }

    /// Makes another array of the same disks, which hold what the one before left.
    pub async fn create_anew(&mut self) -> Check {
        for _ in 0..3 {
            self.start_burst(12);
            self.pause(Duration::from_millis(500)).await;
        }
        self.drain().await?;
        self.crash(Crash::Kill);
        self.relics = self.disks.copy().disks();
        self.io = Io::new(Model::new(self.volume_bytes), self.io.stripe_bytes, &self.disks);
        self.note(|| "another array is made of the same disks".into());
        let process = self.harness.new_process();
        let mut members = Vec::new();
        for name in self.disks.names().into_iter().take(self.shape.width()) {
            members.push(self.open(&process, &name).await.map_err(|e| e.report())?);
        }
        let devices = Devices { members, spares: Vec::new(), journal: Vec::new() };
        self.make(&process, devices).await?;
        self.assemble().await.map_err(|e| format!("an array of used disks does not start: {}", e.report()))
    }
}
