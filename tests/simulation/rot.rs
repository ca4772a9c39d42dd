//! Members that lie: what they hold rots, and what they are told to write they drop, tear or put
//! elsewhere, all answered with success (P5).
//!
//! The budget is kept member by member: so many may be *evil* that they and the lost ones together
//! are at most m. Then no stripe row, journal frame or table sector has more than m bad shards,
//! whatever the evil ones do and for how long. An evil member stays evil until it holds no slot any
//! more: what rots on it unseen may be found only much later.
//!
//! ```text
//!   in sync --turns evil--> in sync, evil --lost, or replaced--> of no account
//!                  (takes a place of the budget until a replacement holds its slot)
//! ```
//!
//! Superblocks of evil members rot too; the array may then throw such a member out.

use super::io::Request;
use super::world::{Check, Running, World};
use palisade::array::{MemberRef, MemberReport, MemberState};
use palisade::env::Environment;
use palisade::format::{Areas, PAGE_ENTRIES, Role, SUPERBLOCK_BYTES, Superblock, pick_newest};
use palisade::member::SimDisk;
use palisade::member::sim::FaultPlan;
use palisade::units::{BLOCK_BYTES, StripeIndex};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

const SECTOR: u64 = 512;
const PAGE: u64 = 4096;

/// The parts of an area in use.
pub struct Used {
    pub data: Range<u64>,
    pub checksums: Range<u64>,
    pub epochs: Range<u64>,
    pub journal: Range<u64>,
}

/// Where things lie on the disks.
struct Places {
    areas: Areas,
    /// The journal, on disks that bear nothing else.
    own: Option<Range<u64>>,
}

/// Whether a disk bears the journal and nothing else, as far as it can tell.
pub fn bears_journal(disk: &SimDisk) -> bool {
    let own_role = |s: Superblock| s.membership.entry(s.member).map(|e| e.role);
    superblock_of(disk).ok().and_then(own_role).is_some_and(|role| matches!(role, Role::Journal(..)))
}

/// The newest superblock on a disk.
pub fn superblock_of(disk: &SimDisk) -> Result<Superblock, palisade::error::Error> {
    let copies = Superblock::slot_offsets(disk.size_bytes());
    pick_newest(copies.into_iter().map(|offset| Superblock::parse(&disk.peek(offset, SUPERBLOCK_BYTES))))
}

impl World {
    /// One step of trouble with evil members.
    pub async fn rot(&mut self) -> Check {
        while self.budget() > 0 && self.random.chance(600) {
            self.turn_one_evil();
        }
        self.arm();
        match self.random.below(10) {
            0..4 => self.rot_under_load().await,
            4..7 => self.rot_under_a_reader().await,
            7..9 => {
                self.drain().await?;
                self.heal_all();
                self.stop().await?;
                self.assemble().await.map_err(|e| format!("does not start again: {}", e.report()))?;
                self.verify_volume("after a restart").await
            }
            _ => self.purge().await,
        }
    }

    pub fn turn_one_evil(&mut self) {
        let healthy = self.healthy();
        let good: Vec<&MemberReport> = healthy.iter().filter(|m| !self.evil.contains(&m.path)).collect();
        if let Some(path) = self.random.pick(&good).map(|m| m.path.clone()) {
            self.note(|| format!("{path} turns evil"));
            self.evil.insert(path);
        }
    }

    /// Lets the evil members lie; any other fault they had ends.
    pub fn arm(&mut self) {
        let Ok(Places { areas, own }) = self.places() else { return };
        let journal = areas.journal_offset..areas.journal_offset + areas.journal_len;
        // Not about writes to the tables: a page that was never updated is whole, in its place and old,
        // and nothing but the other members could tell (docs/format.md says so). Tables do rot.
        for disk in self.evil.iter().filter_map(|path| self.disks.get(path)) {
            let lies_in = match &own {
                Some(own) if bears_journal(&disk) => vec![own.clone()],
                _ => vec![areas.data_offset..areas.tail_offset, journal.clone()],
            };
            disk.set_plan(FaultPlan {
                torn_write: 15_000,
                dropped_write: 15_000,
                misdirected_write: 15_000,
                bit_rot: 5_000,
                lies_in,
                ..FaultPlan::default()
            });
        }
    }

    /// Lets nobody lie for a while.
    pub fn disarm(&mut self) {
        for disk in self.evil.iter().filter_map(|path| self.disks.get(path)) {
            disk.set_plan(FaultPlan::default());
        }
    }

    fn places(&self) -> Check<Places> {
        let readable = self.disks.disks().iter().find_map(|disk| superblock_of(disk).ok());
        let found = readable.ok_or_else(|| "no disk has a superblock".to_owned())?;
        let own = found.journal.map(|j| j.offset..j.offset + j.len);
        Ok(Places { areas: found.areas, own })
    }

    pub fn used(&self) -> Check<Used> {
        let areas = self.places()?.areas;
        let stripes = self.shape.stripes_for(self.volume_bytes);
        let data_len = stripes * self.shape.chunk_bytes();
        let table = |start: u64, entries: u64| start..start + entries.div_ceil(PAGE_ENTRIES as u64) * PAGE;
        Ok(Used {
            data: areas.data_offset..areas.data_offset + data_len,
            checksums: table(areas.checksum_offset, data_len / BLOCK_BYTES),
            epochs: table(areas.epoch_offset, stripes),
            journal: areas.journal_offset..areas.journal_offset + areas.journal_len,
        })
    }

    async fn rot_under_load(&mut self) -> Check {
        self.start_burst(8);
        let evil: Vec<String> = self.evil.iter().cloned().collect();
        for _ in 0..self.random.between(1, 30) {
            if let Some(disk) = self.random.pick(&evil).and_then(|path| self.disks.get(path)) {
                self.rot_somewhere(&disk)?;
            }
            if self.random.chance(300) {
                self.pause(Duration::from_millis(2)).await;
            }
        }
        self.drain().await?;
        if self.random.chance(300) {
            self.verify_volume("while members rot").await?;
        }
        Ok(())
    }

    /// Bytes change anywhere on a disk.
    fn rot_somewhere(&mut self, disk: &SimDisk) -> Check {
        let used = self.used()?;
        let own = self.places()?.own;
        let area = match self.random.below(100) {
            0..98 if own.is_some() && bears_journal(disk) => own.unwrap_or(used.journal),
            0..50 => used.data,
            50..68 => used.checksums,
            68..80 => used.epochs,
            80..98 if own.is_none() => used.journal,
            80..98 => used.data,
            _ => {
                let copies = Superblock::slot_offsets(disk.size_bytes());
                let at = copies[self.random.index(copies.len())];
                self.scramble(disk, at..at + SUPERBLOCK_BYTES as u64);
                return Ok(());
            }
        };
        self.scramble(disk, area);
        Ok(())
    }

    /// Changes a bit, some bytes, a sector or a page of a range, for the most part where something
    /// was written; sectors and pages may become what lies at another place of the range.
    pub fn scramble(&mut self, disk: &SimDisk, range: Range<u64>) {
        let written = disk.written_pages(range.clone());
        let anywhere = range.start + self.random.below((range.end - range.start) / PAGE) * PAGE;
        let known = if self.random.chance(900) { self.random.pick(&written).copied() } else { None };
        let (page, other) = (known.unwrap_or(anywhere), self.random.pick(&written).copied());
        let other = other.unwrap_or(anywhere);
        let [sector, from] = [page, other].map(|p| p + self.random.below(PAGE / SECTOR) * SECTOR);
        let (at, bytes) = match self.random.below(6) {
            0 => {
                let at = page + self.random.below(PAGE);
                (at, vec![disk.peek(at, 1)[0] ^ (1 << self.random.below(8))])
            }
            1 => {
                let len = 1 + self.random.index(64);
                (page + self.random.below(PAGE - 64), self.noise(len))
            }
            2 => (sector, self.noise(512)),
            3 => (sector, vec![0; 512]),
            4 => (sector, disk.peek(from, 512)),
            _ => (page, disk.peek(other, 4096)),
        };
        let number = bytes.len();
        self.note(|| format!("{number} bytes rot at {at}"));
        disk.scribble(at, &bytes);
        self.stats.rotten += 1;
    }

    pub fn noise(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.random.fill(&mut bytes);
        bytes
    }

    /// A block that was just written rots at home: it is read right, counted, and made good.
    async fn rot_under_a_reader(&mut self) -> Check {
        let report = self.report();
        let evil = report.members.into_iter().filter(|m| self.evil.contains(&m.path));
        let evil: Vec<MemberReport> = evil.filter(|m| m.state == MemberState::InSync).collect();
        let Some(member) = self.random.pick(&evil).cloned() else { return Ok(()) };
        let (Some(slot), Some(disk)) = (member.slot, self.disks.get(&member.path)) else { return Ok(()) };
        let stripe = StripeIndex(self.random.below(self.shape.stripes_for(self.volume_bytes)));
        let shard = self.shape.shard_of(stripe, slot);
        let row = self.random.below(self.shape.chunk_bytes() / BLOCK_BYTES) * BLOCK_BYTES;
        let offset = stripe.0 * self.shape.stripe_bytes() + shard as u64 * self.shape.chunk_bytes() + row;
        if shard >= self.shape.data() || offset + BLOCK_BYTES > self.volume_bytes {
            return Ok(());
        }
        // For once it writes what it is told.
        disk.set_plan(FaultPlan::default());
        let Running { process, array } = self.running();
        let write = Request::Write { offset, len: BLOCK_BYTES, durable: true, aligned: true };
        self.io.start(&process, &array.volume(), write, Duration::ZERO);
        self.drain().await?;
        for _ in 0..50 {
            self.harness.sleep(Duration::from_millis(200)).await;
            if self.report().clean {
                break;
            }
        }
        let before = self.in_sync_on(&member);
        let (true, Some(before)) = (self.report().clean, before) else { return Ok(()) };
        let at = self.places()?.areas.data_offset + self.shape.chunk_offset(stripe) + row;
        let good = disk.peek(at, 4096);
        self.scramble(&disk, at..at + BLOCK_BYTES);
        let rotten = disk.peek(at, 4096);
        if rotten == good {
            return Ok(());
        }
        let (io, volume) = (Rc::clone(&self.io), array.volume());
        let read = process.call(async move { io.read(&*volume, offset, BLOCK_BYTES).await }).await;
        if let Some(Err(e)) = read {
            return Err(format!("read of the block at {offset} failed, which rots on one: {}", e.report()));
        }
        self.verdict()?;
        self.verify_repair(&member, before, (&disk, at, &rotten)).await
    }

    /// The report of a member, if it is still in sync.
    fn in_sync_on(&self, member: &MemberReport) -> Option<MemberReport> {
        let now = self.report().members.into_iter().find(|m| m.uuid == member.uuid)?;
        (now.state == MemberState::InSync).then_some(now)
    }

    async fn verify_repair(
        &mut self,
        member: &MemberReport,
        before: MemberReport,
        (disk, at, rotten): (&SimDisk, u64, &[u8]),
    ) -> Check {
        for _ in 0..50 {
            let Some(now) = self.in_sync_on(member) else { return Ok(()) };
            let counted = now.errors.checksum > before.errors.checksum;
            if counted && disk.peek(at, rotten.len()) != rotten {
                return Ok(());
            }
            self.harness.sleep(Duration::from_millis(200)).await;
        }
        let now = self.in_sync_on(member).map(|m| m.errors.checksum);
        Err(format!(
            "{} at {at} rots and was read: it had {} bad checksums, now {now:?}, and the block is {}",
            member.path,
            before.errors.checksum,
            if disk.peek(at, rotten.len()) == rotten { "not repaired" } else { "repaired" }
        ))
    }

    /// Replaces every evil member, lying to the last; then the whole budget is there again.
    pub async fn purge(&mut self) -> Check {
        for _ in 0..12 {
            self.mend_all().await?;
            let report = self.report();
            let evil = report.members.into_iter().filter(|m| m.state == MemberState::InSync);
            let Some(member) = evil.into_iter().find(|m| self.evil.contains(&m.path)) else {
                self.evil.clear();
                return Ok(());
            };
            let replaced = self.replace(&MemberRef::Id(member.uuid)).await;
            if let (Err(e), true) = (replaced, self.in_sync_on(&member).is_some()) {
                return Err(e);
            }
        }
        Err(format!("evil members stay; {}", self.describe()))
    }
}
