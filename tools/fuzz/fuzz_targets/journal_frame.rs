//! Any bytes as a frame header with a payload behind it, and as a checkpoint page. What parses must
//! encode, and parse back equal.
//!
//! A checksum stops a fuzzer at the door, and records are mostly blocks that mean nothing, so each
//! input is tried three ways: as it is; with magic, version, length and checksum put right; and as a
//! list of edits to a valid frame.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use palisade::format::{
    CHECKPOINT_BYTES, Checkpoint, FRAME_HEADER_BYTES, FrameHeader, MAX_PAYLOAD_BYTES, PayloadWriter, Record,
    crc32c, records,
};
use palisade::units::ArrayId;

/// A committed frame of 2+1, as its three members hold it one after another.
const VALID: &[u8] = include_bytes!("../../../tests/golden/journal_frame.bin");
const CHECKPOINT: &[u8] = include_bytes!("../../../tests/golden/journal_checkpoint.bin");

fuzz_target!(|data: &[u8]| {
    header(data);
    checkpoint(data);
    said(data);
    let (head, rest) = data.split_at(data.len().min(FRAME_HEADER_BYTES));
    header(&sealed::<FRAME_HEADER_BYTES>(b"PALFRAME", head.to_vec()));
    checkpoint(&sealed::<CHECKPOINT_BYTES>(b"PALCHKPT", data.to_vec()));
    said(rest);
    header(&sealed::<FRAME_HEADER_BYTES>(b"PALFRAME", edited(&VALID[..FRAME_HEADER_BYTES], data)));
    checkpoint(&sealed::<CHECKPOINT_BYTES>(b"PALCHKPT", edited(&CHECKPOINT[..128], data)));
    said(&edited(&valid_payload(), data));
});

fn header(bytes: &[u8]) {
    let Ok(header) = FrameHeader::decode(bytes) else { return };
    assert_eq!(FrameHeader::decode(&header.encode()).expect("what encoded must parse"), header);
    assert!(header.same_frame(&header));
    assert!(header.payload_len as usize <= MAX_PAYLOAD_BYTES);
    assert!(header.footprint() >= FRAME_HEADER_BYTES as u64 + u64::from(header.shard_len));
    let _ = (header.seq + 1, header.offset + header.footprint());
}

fn checkpoint(bytes: &[u8]) {
    let Some(array) = bytes.get(24..40).and_then(|id| id.try_into().ok()) else { return };
    let array = ArrayId::from_bytes(array);
    let Ok(page) = Checkpoint::decode(bytes, array) else { return };
    assert_eq!(Checkpoint::decode(&page.encode(), array).expect("what encoded must parse"), page);
    let _ = Checkpoint::page_of(page.generation + 1) + page.tail.offset;
}

fn said(payload: &[u8]) {
    let Ok(parsed) = records(Bytes::copy_from_slice(payload)) else { return };
    let mut out = PayloadWriter::new();
    for record in &parsed {
        match record {
            Record::Data { version, block, bytes } => out.data(*version, *block, bytes),
            Record::Parity(parity) => out.parity(parity),
            Record::Open(open) => out.open(open),
            Record::Zero { first_stripe, count, up_to_version } => {
                out.zero(*first_stripe, *count, *up_to_version);
            }
        }
    }
    assert_eq!(out.len(), payload.len());
    assert_eq!(records(out.finish().into()).expect("what was written must parse"), parsed);
}

/// The payload of the committed frame, put together of its two data shards.
fn valid_payload() -> Vec<u8> {
    let first = FrameHeader::decode(VALID).expect("the committed frame");
    let shards = VALID.chunks(VALID.len() / 3).take(2);
    let shards = shards.map(|member| &member[FRAME_HEADER_BYTES..][..first.shard_len as usize]);
    let mut payload = shards.collect::<Vec<_>>().concat();
    payload.truncate(first.payload_len as usize);
    payload
}

/// Each 4 bytes of input are an edit: offset (2), value, and how it is applied.
fn edited(valid: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for edit in data.chunks_exact(4) {
        let offset = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % bytes.len();
        match edit[3] % 4 {
            0 => bytes[offset] = edit[2],
            1 => bytes[offset] ^= edit[2],
            2 => bytes[offset] = bytes[offset].wrapping_add(edit[2]),
            _ => bytes.truncate(offset + 1),
        }
    }
    bytes
}

fn sealed<const N: usize>(magic: &[u8; 8], mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(N, 0);
    bytes[..8].copy_from_slice(magic);
    bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
    bytes[12..16].copy_from_slice(&(N as u32).to_le_bytes());
    bytes[16..20].fill(0);
    let crc = crc32c(&bytes);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes
}
