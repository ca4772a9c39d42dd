//! Pages of the checksum area and of the epoch map.
//!
//! A page is eight sectors, because a device writes a sector whole or not at all: a torn page is one
//! of old and new sectors, each of which still checks itself.
//!
//! ```text
//!   0       4              8                                  512
//!   |  crc  |  generation  |  126 entries of 4 bytes          |
//! ```
//!
//! The crc also covers what is not in the sector: whose table it is and which of its sectors. So a
//! sector that was written to another place, or left there by another array, is not believed.

use super::areas::{PAGE_BYTES, PAGE_ENTRIES, PAGE_SECTOR_BYTES, SECTOR_ENTRIES, SECTORS_PER_PAGE};
use super::bytes::{Reader, Writer};
use super::checksum::crc32c;
use crate::error::{Error, ErrorKind, Result};
use crate::mutation::{Protection, without};
use crate::units::{ArrayId, MemberId};

const PAGE: usize = 4096;
/// What the crc covers begins behind it.
const CRC_END: usize = 4;
/// Identity, kind of table, number of the sector.
const SEED_BYTES: usize = 16 + 1 + 8;

const _: () = assert!(PAGE as u64 == PAGE_BYTES && PAGE == SECTORS_PER_PAGE * PAGE_SECTOR_BYTES);

/// Which table a page belongs to; part of what its sectors check, so that one that lies elsewhere is
/// not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageKind {
    /// The checksums of what this member stores.
    Checksums(MemberId),
    /// The epoch map of this array, the same on all its members.
    Epochs(ArrayId),
}

/// What a sector of a page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "nearly all are good, and eight are a page")]
pub enum Sector {
    /// 512 zero bytes: nothing was written here since the area was cleared.
    Blank,
    /// It is what was written here.
    Good {
        /// What [`encode_page`] was given.
        generation: u32,
        /// What [`encode_page`] was given.
        entries: [u32; SECTOR_ENTRIES],
    },
    /// Anything else: damaged, misdirected, or of another table.
    Bad,
}

/// The bytes of page `index` of its area: [`PAGE_ENTRIES`] entries, and a generation for each sector.
pub fn encode_page(
    kind: PageKind,
    index: u64,
    generations: &[u32; SECTORS_PER_PAGE],
    entries: &[u32],
) -> [u8; PAGE] {
    debug_assert_eq!(entries.len(), PAGE_ENTRIES, "entries of a page");
    let mut page = [0; PAGE];
    let sectors = page.chunks_exact_mut(PAGE_SECTOR_BYTES).zip(entries.chunks(SECTOR_ENTRIES));
    for (((sector, entries), generation), place) in sectors.zip(generations).zip(0..) {
        let words = std::iter::once(generation).chain(entries);
        for (field, word) in sector.chunks_exact_mut(4).skip(1).zip(words) {
            field.copy_from_slice(&word.to_le_bytes());
        }
        let crc = sector_crc(kind, number(index, place), sector).to_le_bytes();
        for (field, byte) in sector.iter_mut().zip(crc) {
            *field = byte;
        }
    }
    page
}

/// What the sectors of page `index` of its area say. `Corrupt` only if `bytes` are not 4096.
pub fn decode_page(kind: PageKind, index: u64, bytes: &[u8]) -> Result<[Sector; SECTORS_PER_PAGE]> {
    if bytes.len() != PAGE {
        let what = format!("a page has {} bytes instead of {PAGE}", bytes.len());
        return Err(Error::new(ErrorKind::Corrupt, what));
    }
    let mut sectors = [Sector::Bad; SECTORS_PER_PAGE];
    for ((sector, bytes), place) in sectors.iter_mut().zip(bytes.chunks_exact(PAGE_SECTOR_BYTES)).zip(0..) {
        *sector = decode_sector(kind, number(index, place), bytes)?;
    }
    Ok(sectors)
}

fn decode_sector(kind: PageKind, number: u64, bytes: &[u8]) -> Result<Sector> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(Sector::Blank);
    }
    let mut fields = Reader::new(bytes);
    if fields.u32()? != sector_crc(kind, number, bytes) && !without(Protection::SectorChecksum) {
        return Ok(Sector::Bad);
    }
    let generation = fields.u32()?;
    let mut entries = [0; SECTOR_ENTRIES];
    for entry in &mut entries {
        *entry = fields.u32()?;
    }
    Ok(Sector::Good { generation, entries })
}

/// Which sector of the area.
fn number(index: u64, place: u64) -> u64 {
    index.wrapping_mul(SECTORS_PER_PAGE as u64).wrapping_add(place)
}

fn sector_crc(kind: PageKind, number: u64, sector: &[u8]) -> u32 {
    let (id, code) = match kind {
        PageKind::Checksums(member) => (member.to_bytes(), 1),
        PageKind::Epochs(array) => (array.to_bytes(), 2),
    };
    let mut covered = Writer::with_capacity(SEED_BYTES + PAGE_SECTOR_BYTES);
    covered.put(if without(Protection::SectorOwner) { &[0; 16] } else { &id });
    covered.u8(code);
    covered.u64(if without(Protection::SectorPlace) { 0 } else { number });
    covered.put(sector.get(CRC_END..).unwrap_or_default());
    crc32c(&covered.finish())
}
