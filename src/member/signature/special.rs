//! Signatures that take more than comparing bytes.

use super::{Edges, Found};
use crate::error::ErrorKind;
use crate::format::{RawSuperblock, SUPERBLOCK_BYTES, Superblock, pick_newest};

const KIB: u64 = 1024;

/// palisade's own: the array is named as its newest readable copy names it.
pub(super) fn palisade(edges: &Edges) -> Option<Found> {
    let offsets = Superblock::slot_offsets(edges.size_bytes);
    let slots: Vec<_> = offsets
        .iter()
        .filter_map(|at| Some((*at, edges.bytes(*at, SUPERBLOCK_BYTES)?)))
        .filter(|(_, bytes)| RawSuperblock::claims(bytes))
        .collect();
    let first = slots.first()?.0;
    let found = match pick_newest(slots.iter().map(|(_, bytes)| Superblock::parse(bytes))) {
        Ok(newest) => Found {
            what: format!("a member of palisade array {} ({})", newest.name, newest.array),
            offset_bytes: first,
            array: Some((newest.array, newest.name)),
        },
        Err(e) if e.kind() == ErrorKind::Unsupported => {
            Found::at(first, "a member of a palisade array of a newer version")
        }
        Err(e) if e.kind() == ErrorKind::Foreign => Found::at(first, "a member of several palisade arrays"),
        Err(_) => Found::at(first, "a damaged palisade superblock"),
    };
    Some(found)
}

/// ext2, ext3 and ext4 share a magic; features tell them apart.
pub(super) fn ext(edges: &Edges) -> Option<Found> {
    const AT: u64 = KIB;
    const HAS_JOURNAL: u32 = 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    /// Every `incompat` feature that ext3 had: filetype, recover, journal device, `meta_bg`.
    const EXT3_INCOMPAT: u32 = 0x2 | 0x4 | 0x8 | 0x10;
    if edges.bytes(AT + 56, 2)? != [0x53, 0xEF] {
        return None;
    }
    let word = |offset| edges.u32(AT + offset);
    // Two bytes alone would be found in one of 65,536 devices full of noise.
    let (log_block, revision) = (word(24)?, word(76)?);
    if log_block > 6 || revision > 1 {
        return None;
    }
    let (compat, incompat) = (word(92)?, word(96)?);
    let what = if incompat & JOURNAL_DEVICE != 0 {
        "an ext4 journal"
    } else if incompat & !EXT3_INCOMPAT != 0 {
        "an ext4 file system"
    } else if compat & HAS_JOURNAL != 0 {
        "an ext3 file system"
    } else {
        "an ext2 file system"
    };
    Some(Found::at(AT, what))
}

/// ZFS: two labels at each end, each with a ring of uberblocks in its second half.
pub(super) fn zfs(edges: &Edges) -> Option<Found> {
    const LABEL: u64 = 256 * KIB;
    const MAGIC: u64 = 0x00BA_B10C;
    let end = edges.size_bytes - edges.size_bytes % LABEL;
    let labels = [0, LABEL, end.saturating_sub(2 * LABEL), end.saturating_sub(LABEL)];
    let is_uberblock = |at: &u64| {
        let magic = edges.bytes(*at, 8);
        magic == Some(&MAGIC.to_le_bytes()) || magic == Some(&MAGIC.to_be_bytes())
    };
    let uberblocks = |label| (0..128).map(move |n| label + LABEL / 2 + n * KIB);
    let at = labels.into_iter().flat_map(uberblocks).find(is_uberblock)?;
    Some(Found::at(at, "a member of a ZFS pool"))
}

/// An MBR is only told from any other boot sector by what its four entries look like. `others`
/// says that the boot sector was explained already.
pub(super) fn boot_sector(edges: &Edges, others: bool) -> Option<Found> {
    if edges.bytes(510, 2)? != [0x55, 0xAA] {
        return None;
    }
    let table = edges.bytes(446, 64)?;
    let entries = || table.chunks_exact(16);
    let status_is_sane = |entry: &[u8]| matches!(entry.first(), Some(0 | 0x80));
    // Byte 4 is the type, bytes 12 to 15 the number of sectors.
    let is_used = |entry: &[u8]| {
        entry.get(4).is_some_and(|kind| *kind != 0) && entry.get(12..).is_some_and(|n| n != [0; 4])
    };
    let protects_gpt = entries().any(|entry| entry.get(4) == Some(&0xEE));
    if entries().all(status_is_sane) && entries().any(is_used) && !protects_gpt {
        Some(Found::at(446, "an MBR partition table"))
    } else if others {
        None
    } else {
        Some(Found::at(0, "a boot sector"))
    }
}
