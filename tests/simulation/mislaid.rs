//! Pieces of a member that lie in another place, or are changed, when the machine starts: sectors of tables,
//! blocks with their checksums, frames, superblocks (P5).

use super::io::Request;
use super::rot::Used;
use super::world::{Check, Running, World};
use palisade::array::MemberRef;
use palisade::env::Environment;
use palisade::format::{SECTOR_ENTRIES, Superblock};
use palisade::member::SimDisk;
use palisade::units::BLOCK_BYTES;
use std::time::Duration;

const SECTOR: u64 = 512;
/// The fields of a superblock and the first of its entries; those that say how new it is, and clean.
const FIELDS: std::ops::Range<u64> = 0..2048;
const MEMBERSHIP: std::ops::Range<u64> = 256..312;

impl World {
    /// Some pieces of one member are mislaid while the machine is down.
    pub async fn mislaid(&mut self) -> Check {
        self.write_here_and_there().await?;
        let healthy = self.healthy();
        let Some(victim) = self.random.pick(&healthy).cloned() else { return Ok(()) };
        if self.random.chance(700) {
            self.stop().await?;
        } else {
            let crash = self.any_crash();
            self.crash(crash);
        }
        let disk = self.disks.get(&victim.path).ok_or("there is no such disk")?;
        let kind = self.random.below(5);
        for _ in 0..self.random.between(1, 3) {
            self.mislay(&disk, kind)?;
        }
        self.assemble().await.map_err(|e| format!("does not start, one mislaid: {}", e.report()))?;
        self.verify_volume("with pieces mislaid").await?;
        self.rewrite_doubted().await?;
        // What nobody read is as it was: another takes its place.
        self.try_replace(&MemberRef::Id(victim.uuid)).await
    }

    /// Some stripes whole, some in part, some not at all; all of it at home in the end.
    async fn write_here_and_there(&mut self) -> Check {
        let Running { process, array } = self.running();
        let stripe = self.io.stripe_bytes;
        let all = self.volume_bytes / stripe;
        let first = self.random.below(all) * stripe;
        let len = (self.random.between(1, all) * stripe).min(self.volume_bytes - first);
        let write = |offset, len| Request::Write { offset, len, durable: false, aligned: true };
        self.io.start(&process, &array.volume(), write(first, len), Duration::ZERO);
        for _ in 0..self.random.below(12) {
            let offset = self.random.below(self.volume_bytes / BLOCK_BYTES) * BLOCK_BYTES;
            self.io.start(&process, &array.volume(), write(offset, BLOCK_BYTES), Duration::ZERO);
        }
        self.drain().await?;
        let time = self.random.pick(&[0, 1500, 3000]).copied().unwrap();
        self.harness.sleep(Duration::from_millis(time)).await;
        self.verdict()
    }

    fn mislay(&mut self, disk: &SimDisk, kind: u64) -> Check {
        let Used { data, checksums, epochs, journal } = self.used()?;
        let others = self.disks.disks();
        let other = self.random.pick(&others).cloned().unwrap();
        self.stats.rotten += 1;
        match kind {
            // A sector of a table in the place of another.
            0 => {
                let table = if self.random.chance(700) { checksums } else { epochs };
                let sector = |world: &mut Self| {
                    table.start + world.random.below((table.end - table.start) / SECTOR) * SECTOR
                };
                let (from, to) = (sector(self), sector(self));
                self.note(|| format!("the sector at {from} is at {to}, too"));
                disk.scribble(to, &disk.peek(from, 512));
            }
            // A bit of one copy of the superblock.
            1 => {
                let copies = Superblock::slot_offsets(disk.size_bytes());
                let fields = if self.random.chance(500) { FIELDS } else { MEMBERSHIP };
                let field = fields.start + self.random.below(fields.end - fields.start);
                let at = copies[self.random.index(copies.len())] + field;
                self.note(|| format!("a bit of a superblock flips at {at}"));
                let byte = disk.peek(at, 1)[0] ^ (1 << self.random.below(8));
                disk.scribble(at, &[byte]);
            }
            // Blocks with their checksums, of another member in the same place.
            2 => self.move_blocks(&other, disk, None),
            // The same of another place of the same member.
            3 => {
                let groups = (data.end - data.start) / BLOCK_BYTES / SECTOR_ENTRIES as u64 + 1;
                let to = self.random.below(groups);
                self.move_blocks(disk, disk, Some(to));
            }
            // A page of the journal.
            _ => {
                let pages = other.written_pages(journal.clone());
                let places = disk.written_pages(journal);
                let (page, place) = (self.random.pick(&pages).copied(), self.random.pick(&places).copied());
                if let (Some(page), Some(place)) = (page, place) {
                    self.note(|| format!("the page of the journal at {page} is at {place}, too"));
                    disk.scribble(place, &other.peek(page, 4096));
                }
            }
        }
        Ok(())
    }

    /// Copies the blocks of one sector of checksums with that, to the place of another or the same.
    fn move_blocks(&mut self, from: &SimDisk, to: &SimDisk, group: Option<u64>) {
        let Ok(Used { data, checksums, .. }) = self.used() else { return };
        let per_sector = SECTOR_ENTRIES as u64;
        let groups = ((data.end - data.start) / BLOCK_BYTES).div_ceil(per_sector);
        let source = self.random.below(groups);
        let target = group.map_or(source, |group| group.min(groups - 1));
        self.note(|| format!("blocks of sector {source} are in the place of those of {target}"));
        to.scribble(checksums.start + target * SECTOR, &from.peek(checksums.start + source * SECTOR, 512));
        for block in 0..per_sector {
            let [source, target] =
                [source, target].map(|g| data.start + (g * per_sector + block) * BLOCK_BYTES);
            if source.max(target) < data.end {
                to.scribble(target, &from.peek(source, 4096));
            }
        }
    }
}
