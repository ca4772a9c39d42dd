//! Any bytes as a page of the checksum area. A sector that is good must be the very bytes that
//! encoding it gives, in its place and in no other member's.
//!
//! A checksum stops a fuzzer at the door, so each input is tried three ways: as it is; with the
//! checksums of its sectors put right; and as edits to a committed page, where a sector that was
//! edited must be bad.

#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade::format::{
    PAGE_ENTRIES, PageKind, SECTOR_ENTRIES, SECTORS_PER_PAGE, Sector, crc32c, decode_page, encode_page,
};
use palisade::units::MemberId;

const PAGE: usize = 4096;
const SECTOR: usize = PAGE / SECTORS_PER_PAGE;
/// A committed page, the fourth of its area.
const VALID: &[u8; PAGE] = include_bytes!("../../../tests/golden/checksum_page.bin");

fuzz_target!(|data: &[u8]| {
    let Some((head, bytes)) = data.split_at_checked(24) else { return };
    let index = u64::from_le_bytes(head[..8].try_into().expect("eight bytes"));
    let id: [u8; 16] = head[8..].try_into().expect("sixteen bytes");
    assert_eq!(
        decode_page(PageKind::Checksums(MemberId::from_bytes(id)), index, bytes).is_ok(),
        bytes.len() == PAGE
    );
    let mut page = [0; PAGE];
    page.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    check(id, index, &page);
    for (place, sector) in page.chunks_exact_mut(SECTOR).enumerate() {
        let number = index.wrapping_mul(8).wrapping_add(place as u64).to_le_bytes();
        let crc = crc32c(&[&id[..], &[1], &number, &sector[4..]].concat());
        sector[..4].copy_from_slice(&crc.to_le_bytes());
    }
    check(id, index, &page);
    edited(data);
});

fn check(id: [u8; 16], index: u64, page: &[u8; PAGE]) {
    let kind = PageKind::Checksums(MemberId::from_bytes(id));
    let sectors = decode_page(kind, index, page).expect("a page of the right length");
    let mut generations = [0; SECTORS_PER_PAGE];
    let mut entries = [0; PAGE_ENTRIES];
    for ((sector, generation), part) in
        sectors.iter().zip(&mut generations).zip(entries.chunks_exact_mut(SECTOR_ENTRIES))
    {
        if let Sector::Good { generation: g, entries } = sector {
            *generation = *g;
            part.copy_from_slice(entries);
        }
    }
    let again = encode_page(kind, index, &generations, &entries);
    let other = PageKind::Checksums(MemberId::from_bytes(id.map(|byte| byte ^ 1)));
    let others = decode_page(other, index, page).expect("a page of the right length");
    for (place, sector) in sectors.iter().enumerate() {
        let at = place * SECTOR..(place + 1) * SECTOR;
        match sector {
            Sector::Good { .. } => {
                assert!(page[at.clone()] == again[at]);
                assert!(others[place] == Sector::Bad);
            }
            Sector::Blank => assert!(page[at].iter().all(|byte| *byte == 0)),
            Sector::Bad => assert!(page[at.clone()] != again[at]),
        }
    }
}

/// Each 3 bytes of input are an edit: offset (2) and what is changed there.
fn edited(data: &[u8]) {
    let mut page = *VALID;
    for edit in data.chunks_exact(3) {
        page[usize::from(u16::from_le_bytes([edit[0], edit[1]])) % PAGE] ^= edit[2];
    }
    let kind = PageKind::Checksums(MemberId::from_random([0x61; 16]));
    let sectors = decode_page(kind, 3, &page).expect("a page of the right length");
    for (sector, (now, then)) in sectors.iter().zip(page.chunks(SECTOR).zip(VALID.chunks(SECTOR))) {
        assert_eq!(matches!(sector, Sector::Good { .. }), now == then);
    }
}
