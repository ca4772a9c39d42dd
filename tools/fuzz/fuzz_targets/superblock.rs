//! Any bytes into the superblock parser. What parses must encode, and parse back equal.
//!
//! A checksum stops a fuzzer at the door, so each input is tried three ways: as it is; with
//! magic, version, length and checksum put right; and as a list of edits to a valid superblock.

#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade::format::{MAGIC, SUPERBLOCK_BYTES, Superblock, crc32c, pick_newest};

/// Committed superblocks, so that edits begin from something that parses.
const VALID: [&[u8]; 2] = [
    include_bytes!("../../../tests/golden/rebuilding.bin"),
    include_bytes!("../../../tests/golden/journal_member.bin"),
];

fuzz_target!(|data: &[u8]| {
    let plain = Superblock::parse(data).ok();
    let whole = check(&sealed(data.to_vec()));
    let edited = VALID.map(|valid| check(&sealed(edit(valid, data))));
    let _ = pick_newest([plain, whole].into_iter().chain(edited).flatten().map(Ok));
});

fn check(bytes: &[u8]) -> Option<Superblock> {
    let superblock = Superblock::parse(bytes).ok()?;
    let encoded = superblock.encode().expect("what parsed must encode");
    assert_eq!(encoded.len(), SUPERBLOCK_BYTES);
    assert_eq!(Superblock::parse(&encoded).expect("what encoded must parse"), superblock);
    Some(superblock)
}

/// Each 4 bytes of input are an edit: offset (2), value, and how it is applied.
fn edit(valid: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for edit in data.chunks_exact(4) {
        let offset = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % bytes.len();
        match edit[3] % 3 {
            0 => bytes[offset] = edit[2],
            1 => bytes[offset] ^= edit[2],
            _ => bytes[offset] = bytes[offset].wrapping_add(edit[2]),
        }
    }
    bytes
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(SUPERBLOCK_BYTES, 0);
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
    bytes[12..16].copy_from_slice(&(SUPERBLOCK_BYTES as u32).to_le_bytes());
    bytes[16..20].fill(0);
    let crc = crc32c(&bytes);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes
}
