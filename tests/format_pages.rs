//! Pages of the checksum area and of the epoch map: what is wrong in a sector, or lies where it does
//! not belong, is seen, and the other sectors are none the worse for it.
//!
//! Golden files are as in `format_golden`: `PALISADE_WRITE_GOLDEN=1 cargo test --test format_pages`
//! writes those that are missing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use palisade::error::ErrorKind;
use palisade::format::*;
use palisade::units::{ArrayId, MemberId};
use proptest::prelude::*;
use std::path::PathBuf;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

fn member(n: u8) -> MemberId {
    MemberId::from_random([n; 16])
}

fn array(n: u8) -> ArrayId {
    ArrayId::from_random([n; 16])
}

/// Entries and generations that are all different, with those that have a meaning among them.
fn content() -> ([u32; SECTORS_PER_PAGE], Vec<u32>) {
    let mut entries: Vec<u32> = (1u32..).take(PAGE_ENTRIES).map(|n| n.wrapping_mul(0x9E37_79B9)).collect();
    entries[0] = 0;
    entries[PAGE_ENTRIES - 1] = u32::MAX;
    ([1, 2, 3, 5, 8, 13, 21, u32::MAX], entries)
}

fn page(kind: PageKind, index: u64) -> [u8; PAGE] {
    let (generations, entries) = content();
    encode_page(kind, index, &generations, &entries)
}

fn good(generations: &[u32; SECTORS_PER_PAGE], entries: &[u32]) -> Vec<Sector> {
    let parts = entries.chunks_exact(SECTOR_ENTRIES).map(|part| part.try_into().unwrap());
    let of = |(generation, entries): (&u32, _)| Sector::Good { generation: *generation, entries };
    generations.iter().zip(parts).map(of).collect()
}

fn states() -> [(&'static str, PageKind, u64); 2] {
    [
        ("checksum_page", PageKind::Checksums(member(0x61)), 3),
        ("epoch_page", PageKind::Epochs(array(0x51)), 1 << 40),
    ]
}

#[test]
fn pages_written_long_ago_open_and_would_be_written_the_same_today() {
    let (generations, entries) = content();
    for (name, kind, index) in states() {
        let today = page(kind, index);
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.bin"));
        if std::env::var_os("PALISADE_WRITE_GOLDEN").is_some() && !path.exists() {
            std::fs::write(&path, today).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(decode_page(kind, index, &bytes).unwrap()[..], good(&generations, &entries), "{name}");
        assert!(bytes == today, "{name} is encoded differently than it was");
    }
}

/// The document's words, written out a second time.
#[test]
fn fields_lie_where_the_document_says() {
    let (generations, entries) = content();
    for (code, (_, kind, index)) in (1u8..).zip(states()) {
        let id = match kind {
            PageKind::Checksums(member) => member.to_bytes(),
            PageKind::Epochs(array) => array.to_bytes(),
        };
        let bytes = page(kind, index);
        for (place, sector) in bytes.chunks_exact(SECTOR).enumerate() {
            let u32_at = |at: usize| u32::from_le_bytes(sector[at..at + 4].try_into().unwrap());
            let number = index * 8 + place as u64;
            let covered = [&id[..], &[code], &number.to_le_bytes(), &sector[4..]].concat();
            assert_eq!(u32_at(0), crc32c(&covered));
            assert_eq!(u32_at(4), generations[place]);
            for at in 0..126 {
                assert_eq!(u32_at(8 + 4 * at), entries[place * 126 + at]);
            }
        }
    }
}

#[test]
fn any_single_wrong_bit_costs_its_sector_and_no_other() {
    for (_, kind, index) in states() {
        for whole in [page(kind, index), [0; PAGE]] {
            let before = decode_page(kind, index, &whole).unwrap();
            let mut bytes = whole;
            for bit in 0..PAGE * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                let mut expected = before;
                expected[bit / 8 / SECTOR] = Sector::Bad;
                assert!(decode_page(kind, index, &bytes).unwrap() == expected, "bit {bit}");
                bytes[bit / 8] = whole[bit / 8];
            }
        }
    }
}

#[test]
fn what_was_written_for_another_place_is_bad() {
    let all_bad = [Sector::Bad; SECTORS_PER_PAGE];
    // The same bytes as identity of a member and of an array: only the kind tells them apart.
    let kinds = [
        PageKind::Checksums(MemberId::from_bytes([7; 16])),
        PageKind::Checksums(MemberId::from_bytes([8; 16])),
        PageKind::Epochs(ArrayId::from_bytes([7; 16])),
        PageKind::Epochs(ArrayId::from_bytes([8; 16])),
    ];
    let indices = [0, 1, 7, 8, 1 << 32, u64::MAX >> 3];
    for kind in kinds {
        for index in indices {
            let bytes = page(kind, index);
            for (other, at) in kinds.iter().flat_map(|k| indices.map(|i| (*k, i))) {
                let found = decode_page(other, at, &bytes).unwrap();
                match (other, at) == (kind, index) {
                    true => assert!(found.iter().all(|s| matches!(s, Sector::Good { .. }))),
                    false => assert!(found == all_bad, "{kind:?} {index} was believed as {other:?} {at}"),
                }
            }
        }
    }
}

#[test]
fn sectors_that_changed_places_are_bad() {
    for (_, kind, index) in states() {
        let whole = page(kind, index);
        for (from, to) in (0..8).flat_map(|from| (0..8).map(move |to| (from, to))).filter(|(f, t)| f != t) {
            let mut bytes = whole;
            bytes.copy_within(from * SECTOR..(from + 1) * SECTOR, to * SECTOR);
            let found = decode_page(kind, index, &bytes).unwrap();
            for (place, sector) in found.iter().enumerate() {
                assert_eq!(*sector == Sector::Bad, place == to, "{from} over {to}");
            }
        }
    }
}

#[test]
fn a_torn_page_is_one_of_old_and_new_sectors() {
    let (_, kind, index) = states()[0];
    let old = encode_page(kind, index, &[1; 8], &[10; PAGE_ENTRIES]);
    let new = encode_page(kind, index, &[2; 8], &[20; PAGE_ENTRIES]);
    for written in 0..1 << 8 {
        let mut bytes = old;
        for place in (0..8).filter(|place| written >> place & 1 == 1) {
            bytes[place * SECTOR..(place + 1) * SECTOR].copy_from_slice(&new[place * SECTOR..][..SECTOR]);
        }
        for (place, sector) in decode_page(kind, index, &bytes).unwrap().into_iter().enumerate() {
            let (generation, entry) = if written >> place & 1 == 1 { (2, 20) } else { (1, 10) };
            assert_eq!(sector, Sector::Good { generation, entries: [entry; SECTOR_ENTRIES] });
        }
    }
}

#[test]
fn a_cleared_page_is_blank_and_zeroes_that_were_written_are_not() {
    let (_, kind, index) = states()[1];
    assert_eq!(decode_page(kind, index, &[0; PAGE]).unwrap(), [Sector::Blank; 8]);
    let written = encode_page(kind, index, &[0; 8], &[0; PAGE_ENTRIES]);
    let zeroes = Sector::Good { generation: 0, entries: [0; SECTOR_ENTRIES] };
    assert_eq!(decode_page(kind, index, &written).unwrap(), [zeroes; 8]);
}

#[test]
fn only_whole_pages_are_looked_at() {
    let (_, kind, index) = states()[0];
    let bytes = page(kind, index);
    for len in (0..PAGE).step_by(SECTOR).chain([1, PAGE - 1]) {
        assert_eq!(decode_page(kind, index, &bytes[..len]).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(decode_page(kind, index, &longer).unwrap_err().kind(), ErrorKind::Corrupt);
}

fn any_kind() -> impl Strategy<Value = PageKind> {
    (any::<bool>(), any::<[u8; 16]>()).prop_map(|(checksums, id)| match checksums {
        true => PageKind::Checksums(MemberId::from_bytes(id)),
        false => PageKind::Epochs(ArrayId::from_bytes(id)),
    })
}

proptest! {
    #[test]
    fn a_page_is_read_back_as_it_was_written(
        kind in any_kind(), index in any::<u64>(), generations in any::<[u32; SECTORS_PER_PAGE]>(),
        entries in prop::collection::vec(any::<u32>(), PAGE_ENTRIES),
    ) {
        let bytes = encode_page(kind, index, &generations, &entries);
        prop_assert_eq!(decode_page(kind, index, &bytes).unwrap()[..].to_vec(), good(&generations, &entries));
    }

    #[test]
    fn random_bytes_never_panic_and_are_never_believed(
        kind in any_kind(), index in any::<u64>(), bytes in prop::collection::vec(any::<u8>(), 0..=2 * PAGE),
    ) {
        prop_assert_eq!(decode_page(kind, index, &bytes).is_ok(), bytes.len() == PAGE);
        let mut page = bytes;
        page.resize(PAGE, 0x5A);
        prop_assert!(decode_page(kind, index, &page).unwrap() == [Sector::Bad; SECTORS_PER_PAGE]);
    }

    #[test]
    fn changed_bytes_cost_the_sectors_they_are_in(
        edits in prop::collection::vec((0..PAGE, 1u8..), 1..8),
    ) {
        let (_, kind, index) = states()[0];
        let whole = page(kind, index);
        let mut bytes = whole;
        for (at, change) in edits {
            bytes[at] ^= change;
        }
        let found = decode_page(kind, index, &bytes).unwrap();
        let before = decode_page(kind, index, &whole).unwrap();
        let sectors = bytes.chunks(SECTOR).zip(whole.chunks(SECTOR));
        for ((sector, before), (now, then)) in found.iter().zip(&before).zip(sectors) {
            let expected = if now == then { *before } else { Sector::Bad };
            prop_assert!(*sector == expected);
        }
    }
}
