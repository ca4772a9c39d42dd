//! The end of a run: everything is repaired, then every byte and every parity is looked at.

use super::io::Request;
use super::media::Media;
use super::rot::superblock_of;
use super::world::{Check, Running, World};
use palisade::array::{ArrayState, MemberRef, MemberState, RebuildControl, Report};
use palisade::env::Environment;
use palisade::member::SimDisk;
use std::collections::BTreeMap;
use std::time::Duration;

impl World {
    /// Mends everything, then checks the volume, the parity on the disks, and the volume again
    /// with as many members missing as may be.
    pub async fn finish(&mut self) -> Check {
        self.note(|| "finish".into());
        self.drain().await?;
        self.heal_all();
        // What a fault has already done may be noticed a little later, and costs a member then.
        self.harness.sleep(Duration::from_secs(5)).await;
        self.purge().await?;
        self.verify_volume("after everything was mended").await?;
        let disks = self.slot_disks()?;
        let bear = self.journal_disks();
        self.stop().await?;
        self.verify_media(&disks)?;
        self.verify_journals(&bear)?;
        self.detach_some(self.shape.parity());
        self.assemble()
            .await
            .map_err(|e| format!("does not start with m members missing: {}", e.report()))?;
        self.verify_volume("with m members missing").await?;
        self.stop().await
    }

    /// Replaces what is lost until the array is whole.
    pub async fn mend_all(&mut self) -> Check {
        let change = RebuildControl { max_rate_bytes_per_s: Some(0), paused: Some(false) };
        self.running().array.control_rebuild(change);
        for round in 0.. {
            // What the array brings back or replaces by itself needs no help.
            let mut rounds = 0;
            let settled = |r: &Report| {
                rounds += 1;
                World::is_whole(r) || (rounds > 20 && r.tasks.is_empty() && r.state == ArrayState::Degraded)
            };
            self.wait_for("rebuild to end", settled).await?;
            if World::is_whole(&self.report()) {
                return Ok(());
            }
            if round > 12 {
                return Err(format!("not whole after {round} rounds of replacing; {}", self.describe()));
            }
            let Some(seat) = self.lost_seats().first().copied() else { continue };
            self.replace(&MemberRef::from(seat)).await?;
        }
        Ok(())
    }

    /// Reads the whole volume in pieces and checks every byte.
    pub async fn verify_volume(&mut self, when: &str) -> Check {
        let running = self.running();
        let step = *self.random.pick(&[64 << 10, 256 << 10, 1 << 20]).unwrap();
        let mut at = 0;
        while at < self.volume_bytes {
            let len = step.min(self.volume_bytes - at);
            let (io, volume) = (std::rc::Rc::clone(&self.io), running.array.volume());
            let read = running.process.call(async move { io.read(&*volume, at, len).await });
            let read = palisade::env::deadline(&self.harness.env(), Duration::from_secs(60), read).await;
            match read {
                None => return Err(format!("read {at}+{len} hangs {when}; {}", self.describe())),
                Some(Some(Err(e))) if self.io.model.borrow().must_read(at, len) => {
                    return Err(format!("read {at}+{len} failed {when}: {}", e.report()));
                }
                Some(Some(Err(_))) => self.verify_blocks(at, len, when).await?,
                Some(_) => {}
            }
            self.verdict().map_err(|e| format!("{e} ({when}; {})", self.describe()))?;
            at += len;
        }
        Ok(())
    }

    /// Reads a range that failed as a whole block by block: only blocks in doubt may fail (P4).
    async fn verify_blocks(&self, offset: u64, len: u64, when: &str) -> Check {
        for at in (offset..offset + len).step_by(4096) {
            let (io, volume) = (std::rc::Rc::clone(&self.io), self.running().array.volume());
            let read = self.running().process.call(async move { io.read(&*volume, at, 4096).await });
            if let Some(Err(e)) = read.await
                && self.io.model.borrow().must_read(at, 4096)
            {
                return Err(format!(
                    "read of block at {at} failed {when}, which was not being written: {}",
                    e.report()
                ));
            }
        }
        Ok(())
    }

    /// Writes every block in doubt anew, which must work and ends the doubt.
    pub async fn rewrite_doubted(&mut self) -> Check {
        let Running { process, array } = self.running();
        let doubted = self.io.model.borrow().doubted();
        if doubted.is_empty() {
            return Ok(());
        }
        // Where rows are torn nothing stands in for what a liar drops.
        self.disarm();
        for offset in doubted {
            let request = Request::Write { offset, len: 4096, durable: false, aligned: true };
            self.io.start(&process, &array.volume(), request, Duration::ZERO);
            self.drain().await?;
            if !self.io.model.borrow().must_read(offset, 4096) {
                return Err(format!("the unreadable block at {offset} cannot be written"));
            }
        }
        self.verify_volume("after what could not be read was written").await?;
        // Blocks of a torn row that went home when there was no room left have nobody to stand in for
        // them until all of the row is home.
        let settled = |r: &Report| r.clean || r.state != ArrayState::Optimal;
        self.wait_for("what was rewritten to be home", settled).await?;
        self.arm();
        Ok(())
    }

    /// The disk in sync of every slot, with the layout its own superblock states.
    pub fn slot_disks(&self) -> Check<Vec<Media>> {
        let report = self.report();
        let mut disks = Vec::new();
        for slot in self.shape.slots() {
            let member = Self::in_sync(&report, slot).ok_or(format!("slot {slot} has nobody in sync"))?;
            let disk = self.disks.get(&member.path).ok_or(format!("there is no disk {}", member.path))?;
            let superblock = superblock_of(&disk).map_err(|e| format!("{}: {}", member.path, e.report()))?;
            if superblock.member != member.uuid || superblock.array != self.id {
                return Err(format!("{} has the superblock of another member", member.path));
            }
            disks.push(Media::new(disk, slot, &superblock));
        }
        Ok(disks)
    }

    /// The disks in sync that bear the journal.
    pub fn journal_disks(&self) -> Vec<SimDisk> {
        let members = self.report().members.into_iter();
        let bear = members.filter(|m| m.journal.is_some() && m.state == MemberState::InSync);
        bear.filter_map(|m| self.disks.get(&m.path)).collect()
    }

    /// Takes up to `most` disks that hold a slot off the machine.
    pub fn detach_some(&mut self, most: usize) {
        self.detach_some_but(most, &[]);
    }

    /// The same, without those named.
    pub fn detach_some_but(&mut self, most: usize, spared: &[String]) {
        let mut names = self.disks.names();
        names.retain(|name| !spared.contains(name));
        self.detach_only(most, names);
    }

    /// The same, of those named.
    pub fn detach_only(&mut self, most: usize, mut names: Vec<String>) {
        self.random.shuffle(&mut names);
        for name in names.into_iter().take(most) {
            if let Some(disk) = self.disks.detach(&name) {
                self.note(|| format!("{name} is taken off"));
                self.shelf.insert(name, disk);
            }
        }
    }

    /// Names of disks, permuted: members must be known by what is on them, not by their path.
    pub fn permute_names(&mut self) {
        let names = self.disks.names();
        let mut disks: Vec<SimDisk> = names.iter().filter_map(|n| self.disks.detach(n)).collect();
        self.random.shuffle(&mut disks);
        let renamed: BTreeMap<_, _> = names.into_iter().zip(disks).collect();
        for (name, disk) in &renamed {
            self.disks.attach(name, disk);
        }
    }
}
