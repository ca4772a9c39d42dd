//! What the disks hold at rest, read by the format's rules and without the engine: every block is
//! what its checksum table says, and parity matches data.

use super::rot::superblock_of;
use super::world::{Check, World};
use palisade::codec::Codec;
use palisade::format::{
    Areas, CHECKPOINT_BYTES, CHECKPOINT_PAGES, Checkpoint, JournalState, PAGE_BYTES, PAGE_ENTRIES, PageKind,
    Role, SECTOR_ENTRIES, Sector, Superblock, decode_page,
};
use palisade::integrity::{UNKNOWN, ZERO, sum};
use palisade::member::SimDisk;
use palisade::units::{ArrayId, BLOCK_BYTES, MemberId, Slot, StripeIndex};

const ALLOCATED: u32 = 1 << 31;

/// The disk of a member in sync.
pub struct Media {
    disk: SimDisk,
    slot: Slot,
    array: ArrayId,
    member: MemberId,
    areas: Areas,
}

impl Media {
    /// A disk with this superblock on it.
    pub fn new(disk: SimDisk, slot: Slot, superblock: &Superblock) -> Self {
        Self { disk, slot, array: superblock.array, member: superblock.member, areas: superblock.areas }
    }

    fn entry(&self, kind: PageKind, area: u64, index: u64) -> u32 {
        let page = index / PAGE_ENTRIES as u64;
        let place = usize::try_from(index % PAGE_ENTRIES as u64).unwrap();
        let bytes = self.disk.peek(area + page * PAGE_BYTES, 4096);
        match decode_page(kind, page, &bytes).unwrap()[place / SECTOR_ENTRIES] {
            Sector::Good { entries, .. } => entries[place % SECTOR_ENTRIES],
            Sector::Blank => 0,
            Sector::Bad => UNKNOWN,
        }
    }

    fn epoch_entry(&self, stripe: StripeIndex) -> u32 {
        self.entry(PageKind::Epochs(self.array), self.areas.epoch_offset, stripe.0)
    }

    /// A block, if it is what was written.
    fn block(&self, index: u64) -> Check<Vec<u8>> {
        let entry = self.entry(PageKind::Checksums(self.member), self.areas.checksum_offset, index);
        if entry == ZERO {
            return Ok(vec![0; 4096]);
        }
        let bytes = self.disk.peek(self.areas.data_offset + index * BLOCK_BYTES, 4096);
        if entry == UNKNOWN || sum(self.slot, index, &bytes) != entry {
            return Err(format!(
                "block {index} of slot {} is not what its table says ({entry:#x})",
                self.slot
            ));
        }
        Ok(bytes)
    }
}

impl World {
    /// Every disk that bears the journal knows the same place to begin at: the end, at rest.
    pub fn verify_journals(&self, disks: &[SimDisk]) -> Check {
        if disks.len() != self.journals {
            return Err(format!("{} of {} disks bear the journal", disks.len(), self.journals));
        }
        let mut tails = Vec::new();
        for disk in disks {
            let superblock = superblock_of(disk).map_err(|e| e.report())?;
            let role = superblock.membership.entry(superblock.member).map(|e| e.role);
            let (Some(Role::Journal(_, JournalState::InSync)), Some(own)) = (role, superblock.journal) else {
                return Err(format!("a disk that bears the journal says that it is {role:?}"));
            };
            let page = |index: u64| disk.peek(own.offset + index * CHECKPOINT_BYTES as u64, CHECKPOINT_BYTES);
            let pages = (0..CHECKPOINT_PAGES).filter_map(|i| Checkpoint::decode(&page(i), self.id).ok());
            tails.push(pages.max_by_key(|c| c.generation).map(|c| (c.generation, c.tail)));
        }
        match tails.iter().all(|tail| tail.is_some() && *tail == tails[0]) {
            true => Ok(()),
            false => Err(format!("members disagree on where the journal begins: {tails:?}")),
        }
    }

    /// Looks at everything that is allocated on the disks (by slot) of an array at rest.
    pub fn verify_media(&self, disks: &[Media]) -> Check {
        let shape = self.shape;
        let codec = Codec::new(shape.data(), shape.parity()).map_err(|e| e.report())?;
        for stripe in (0..shape.stripes_for(self.volume_bytes)).map(StripeIndex) {
            let entries: Vec<u32> = disks.iter().map(|d| d.epoch_entry(stripe)).collect();
            if entries.iter().any(|e| *e != entries[0]) {
                return Err(format!("the members disagree on the epoch of stripe {stripe}: {entries:x?}"));
            }
            if entries[0] & ALLOCATED == 0 {
                continue;
            }
            for row in 0..shape.chunk_bytes() / BLOCK_BYTES {
                let index = shape.chunk_offset(stripe) / BLOCK_BYTES + row;
                let block = |shard| disks[shape.slot_of(stripe, shard).index()].block(index);
                let shards: Vec<Vec<u8>> = (0..shape.width()).map(block).collect::<Check<_>>()?;
                let (data, stored) = shards.split_at(shape.data());
                let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
                let mut parity = vec![vec![0; 4096]; shape.parity()];
                let mut wanted: Vec<(usize, &mut [u8])> =
                    parity.iter_mut().enumerate().map(|(i, p)| (i, p.as_mut_slice())).collect();
                codec.encode(&data, &mut wanted).map_err(|e| e.report())?;
                if parity != stored {
                    return Err(format!("parity of stripe {stripe} is wrong in row {row}"));
                }
            }
        }
        Ok(())
    }
}
