//! Journals as they were once written must replay for ever, and no byte may be wrong unseen.
//!
//! The files in `tests/golden` are never regenerated for a format version that has been released:
//! a difference means the format changed. A new one is written by
//! `PALISADE_WRITE_GOLDEN=1 cargo test --test format_journal`, which leaves existing files alone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, reason = "lengths of a few blocks")]

#[path = "format_journal/random.rs"]
mod random;

use bytes::Bytes;
use palisade::error::{ErrorKind, Result};
use palisade::format::*;
use palisade::units::ArrayId;
use std::path::PathBuf;

const BLOCK: usize = 4096;

fn array() -> ArrayId {
    ArrayId::from_random([0x51; 16])
}

fn checkpoint() -> Checkpoint {
    let tail = Tail { seq: 4711, offset: 12 << 20, prev_nonce: 0x0123_4567_89AB_CDEF };
    Checkpoint { array: array(), generation: 9, tail }
}

fn block(fill: u8) -> Bytes {
    Bytes::from(vec![fill; BLOCK])
}

/// One record of each type.
fn said() -> Vec<Record> {
    let row = ParityRow { shard: 2, row_block: 5, bytes: block(0xBB) };
    let piece = |block, version, crc| Piece { block, version, crc };
    let pieces = [piece(1221, 70, 0xC0C1_C2C3), piece(1222, 69, 0xD0D1_D2D3)];
    let crcs = (0..48).map(|n| n << 24 | 0xE1E2E3).collect();
    vec![
        Record::Data { version: 77, block: 1234, bytes: block(0xAA) },
        Record::Parity(ParityRecord {
            stripe: 38,
            fresh: true,
            bare: false,
            pieces: pieces.to_vec(),
            rows: vec![row],
        }),
        Record::Open(OpenRecord {
            first_stripe: 64,
            count: 16,
            up_to_version: 68,
            fresh: true,
            crcs,
            same: vec![],
        }),
        Record::Zero { first_stripe: 96, count: 32, up_to_version: 71 },
    ]
}

fn payload(records: &[Record]) -> Bytes {
    let mut out = PayloadWriter::new();
    for record in records {
        match record {
            Record::Data { version, block, bytes } => out.data(*version, *block, bytes),
            Record::Parity(parity) => out.parity(parity),
            Record::Open(open) => out.open(open),
            Record::Zero { first_stripe, count, up_to_version } => {
                out.zero(*first_stripe, *count, *up_to_version);
            }
        }
    }
    Bytes::from(out.finish())
}

/// The frame of 2+1 that says [`said`]: its shards, data and parity.
fn shards() -> [Vec<u8>; 3] {
    let payload = payload(&said());
    let len = shard_len_for(payload.len(), 2);
    let first = payload[..len].to_vec();
    let mut second = payload[len..].to_vec();
    second.resize(len, 0);
    let mut parity = vec![0; len];
    let codec = palisade::codec::Codec::new(2, 1).unwrap();
    codec.encode(&[&first, &second], &mut [(0, &mut parity[..])]).unwrap();
    [first, second, parity]
}

fn header(shard: u8) -> FrameHeader {
    let payload = payload(&said());
    let shards = shards();
    FrameHeader {
        array: array(),
        seq: 4711,
        nonce: 0xFEDC_BA98_7654_3210,
        prev_nonce: 0x0123_4567_89AB_CDEF,
        offset: 12 << 20,
        payload_len: payload.len() as u32,
        payload_crc: payload_crc(&payload),
        data: 2,
        parity: 1,
        shard,
        shard_len: shards[0].len() as u32,
        shard_crc: shard_crc(&shards[usize::from(shard)]),
    }
}

/// What the three members hold, one after another.
fn frame() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (shard, number) in shards().iter().zip(0..) {
        let header = header(number);
        let end = bytes.len() + header.footprint() as usize;
        bytes.extend(header.encode());
        bytes.extend(shard);
        bytes.resize(end, 0);
    }
    bytes
}

fn golden(name: &str, today: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.bin"));
    if std::env::var_os("PALISADE_WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, today).unwrap();
    }
    std::fs::read(&path).unwrap()
}

/// Changes bytes of a structure and makes its checksum right again.
fn forged(bytes: &[u8], at: usize, change: &[u8]) -> Vec<u8> {
    let mut forged = bytes.to_vec();
    forged[at..at + change.len()].copy_from_slice(change);
    forged[16..20].fill(0);
    let crc = crc32c(&forged);
    forged[16..20].copy_from_slice(&crc.to_le_bytes());
    forged
}

#[test]
fn a_checkpoint_written_long_ago_opens_and_would_be_written_the_same_today() {
    let bytes = golden("journal_checkpoint", &checkpoint().encode());
    assert_eq!(Checkpoint::decode(&bytes, array()).unwrap(), checkpoint());
    assert!(bytes == checkpoint().encode(), "it is encoded differently than it was");
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(bytes.len(), CHECKPOINT_BYTES);
    assert_eq!(&bytes[0..8], b"PALCHKPT");
    assert_eq!(u64_at(8), 4096 << 32 | 1);
    assert_eq!(bytes[24..40], array().to_bytes());
    assert_eq!(u64_at(40), 9);
    assert_eq!(u64_at(48), 4711);
    assert_eq!(u64_at(56), 12 << 20);
    assert_eq!(u64_at(64), 0x0123_4567_89AB_CDEF);
    assert!(bytes[72..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_frame_written_long_ago_opens_and_would_be_written_the_same_today() {
    let bytes = golden("journal_frame", &frame());
    assert!(bytes == frame(), "it is encoded differently than it was");
    let members: Vec<_> = bytes.chunks(bytes.len() / 3).collect();
    let mut joined = Vec::new();
    for (member, number) in members.iter().zip(0..) {
        let header = FrameHeader::decode(member).unwrap();
        assert_eq!(header, self::header(number));
        assert!(header.same_frame(&self::header(0)));
        let shard = &member[FRAME_HEADER_BYTES..][..header.shard_len as usize];
        assert_eq!(shard_crc(shard), header.shard_crc);
        assert_eq!(member.len() as u64, header.footprint());
        joined.extend(shard);
    }
    joined.truncate(header(0).payload_len as usize);
    assert_eq!(payload_crc(&joined), header(0).payload_crc);
    assert_eq!(records(joined.into()).unwrap(), said());
}

#[test]
fn fields_of_a_frame_lie_where_the_document_says() {
    let bytes = header(1).encode();
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(&bytes[0..8], b"PALFRAME");
    assert_eq!(u64_at(8), 128 << 32 | 1);
    assert_eq!(bytes[24..40], array().to_bytes());
    assert_eq!([u64_at(40), u64_at(48)], [4711, 0xFEDC_BA98_7654_3210]);
    assert_eq!([u64_at(56), u64_at(64)], [0x0123_4567_89AB_CDEF, 12 << 20]);
    assert_eq!([u32_at(72), u32_at(76)], [header(1).payload_len, header(1).payload_crc]);
    assert_eq!([u32_at(80), u32_at(84)], [header(1).shard_len, header(1).shard_crc]);
    assert_eq!(bytes[88..92], [2, 1, 1, 0]);

    let payload = payload(&said());
    let u64_at = |at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().unwrap());
    let parity = 24 + BLOCK;
    let open = parity + 24 + 2 * 24 + 8 + BLOCK;
    let zero = open + 32 + 48 * 4;
    assert_eq!(payload.len(), zero + 32);
    assert_eq!([u64_at(0), u64_at(8), u64_at(16)], [(24 + 4096) << 32 | 1, 77, 1234]);
    assert_eq!([u64_at(parity), u64_at(parity + 8)], [(80 + 4096) << 32 | 1 << 8 | 2, 38]);
    assert_eq!(u64_at(parity + 16), 1 << 32 | 2);
    assert_eq!([u64_at(parity + 24), u64_at(parity + 32)], [1221, 70]);
    assert_eq!(u64_at(parity + 40), 0xC0C1_C2C3);
    assert_eq!(u64_at(parity + 24 + 2 * 24), 5 << 32 | 2);
    assert_eq!([u64_at(open), u64_at(open + 8)], [(32 + 48 * 4) << 32 | 1 << 8 | 3, 64]);
    assert_eq!([u64_at(open + 16), u64_at(open + 24)], [16, 68]);
    assert_eq!([u64_at(open + 32), u64_at(open + 40)], [0x01E1E2E3_00E1E2E3, 0x03E1E2E3_02E1E2E3]);
    assert_eq!([u64_at(zero), u64_at(zero + 8)], [32 << 32 | 4, 96]);
    assert_eq!([u64_at(zero + 16), u64_at(zero + 24)], [32, 71]);
}

#[test]
fn a_record_of_what_stays_written_long_ago_opens_and_would_be_written_the_same_today() {
    let crcs: Vec<u32> = (0..36).map(|n| n << 24 | 0xF1F2F3).collect();
    let same = (0..36).map(|n| [1, 31, 32, 34].contains(&n)).collect();
    let record = OpenRecord { first_stripe: 7, count: 2, up_to_version: 66, fresh: false, crcs, same };
    let record = Record::Open(record);
    let today = payload(std::slice::from_ref(&record));
    let bytes = golden("journal_open_same", &today);
    assert!(bytes == today, "it is encoded differently than it was");
    assert_eq!(records(bytes.clone().into()).unwrap(), [record]);

    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let len = 32 + 36 * 4 + 2 * 4;
    assert_eq!([bytes.len() as u64, u64_at(0)], [len, len << 32 | 2 << 8 | 3]);
    assert_eq!([u64_at(8), u64_at(16), u64_at(24)], [7, 2, 66]);
    assert_eq!(u64_at(32), 0x01F1F2F3_00F1F2F3);
    assert_eq!(u64_at(32 + 36 * 4), 0x0000_0005_8000_0002);
}

#[test]
fn checkpoint_pages_are_written_in_turn() {
    assert_eq!([0, 1, 2, 3].map(Checkpoint::page_of), [0, 4096, 0, 4096]);
}

#[test]
fn any_single_wrong_byte_of_a_header_or_checkpoint_is_refused() {
    fn refused<T: std::fmt::Debug>(good: &[u8], decode: impl Fn(&[u8]) -> Result<T>) {
        let mut bytes = good.to_vec();
        for at in 0..good.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                let error = decode(&bytes).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
                bytes[at] = good[at];
            }
        }
        for len in 0..good.len() {
            assert_eq!(decode(&good[..len]).unwrap_err().kind(), ErrorKind::Corrupt, "{len} bytes");
        }
    }
    refused(&header(1).encode(), FrameHeader::decode);
    refused(&checkpoint().encode(), |bytes| Checkpoint::decode(bytes, array()));
}

#[test]
fn a_frame_header_that_makes_no_sense_is_refused_though_the_checksum_is_right() {
    let len = header(0).shard_len;
    for (at, change) in [
        (12, &[129][..]),               // another length
        (24, &[0; 16]),                 // no array
        (40, &[0xFF; 8]),               // no number after this one
        (64, &[1]),                     // not aligned
        (71, &[0x80]),                  // beyond any member
        (72, &[1, 0, 64, 0]),           // a payload longer than any
        (72, &[0xFF; 4]),               // far longer
        (72, &[0; 4]),                  // shorter than its shards say
        (80, &(len - 1).to_le_bytes()), // shards that do not hold the payload
        (80, &(len + 1).to_le_bytes()), // shards that hold more
        (80, &[0xFF; 4]),               // shards without end
        (88, &[0]),                     // no data shards
        (88, &[255]),                   // too many
        (89, &[0]),                     // no parity
        (89, &[254]),                   // too many in all
        (90, &[3]),                     // a shard that does not exist
    ] {
        let error = FrameHeader::decode(&forged(&header(0).encode(), at, change))
            .expect_err(&format!("byte {at} = {change:?} was believed"));
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

#[test]
fn a_checkpoint_that_makes_no_sense_is_refused_though_the_checksum_is_right() {
    for (at, change) in [
        (12, &[0, 8][..]), // another length
        (40, &[0xFF; 8]),  // no generation after this one
        (48, &[0xFF; 8]),  // no frame after this one
        (56, &[1]),        // not aligned
        (63, &[0x80]),     // beyond any member
    ] {
        let error = Checkpoint::decode(&forged(&checkpoint().encode(), at, change), array())
            .expect_err(&format!("byte {at} = {change:?} was believed"));
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    let nobody = forged(&checkpoint().encode(), 24, &[0; 16]);
    assert_eq!(Checkpoint::decode(&nobody, ArrayId::NIL).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn what_a_newer_build_wrote_is_unsupported_and_never_corrupt() {
    let kind = |error: palisade::error::Error| error.kind();
    let frame = forged(&header(0).encode(), 8, &[2]);
    assert_eq!(FrameHeader::decode(&frame).map_err(kind), Err(ErrorKind::Unsupported));
    let page = forged(&checkpoint().encode(), 8, &[2]);
    assert_eq!(Checkpoint::decode(&page, array()).map_err(kind), Err(ErrorKind::Unsupported));
    let mut bytes = payload(&said()).to_vec();
    bytes[0] = 5;
    assert_eq!(records(bytes.into()).map_err(kind), Err(ErrorKind::Unsupported));
}

#[test]
fn a_checkpoint_left_by_another_array_is_foreign_even_if_a_newer_build_wrote_it() {
    let other = ArrayId::from_random([0x52; 16]);
    for page in [checkpoint().encode().to_vec(), forged(&checkpoint().encode(), 8, &[2])] {
        assert_eq!(Checkpoint::decode(&page, other).unwrap_err().kind(), ErrorKind::Foreign);
    }
}

#[test]
fn shards_of_different_frames_do_not_go_together() {
    let one = header(0);
    assert!(one.same_frame(&header(2)));
    for other in [
        FrameHeader { array: ArrayId::from_random([1; 16]), ..one },
        FrameHeader { seq: 1, ..one },
        FrameHeader { nonce: 1, ..one },
        FrameHeader { prev_nonce: 1, ..one },
        FrameHeader { offset: 0, ..one },
        FrameHeader { payload_len: 1, ..one },
        FrameHeader { payload_crc: 1, ..one },
        FrameHeader { data: 1, ..one },
        FrameHeader { parity: 2, ..one },
        FrameHeader { shard_len: 1, ..one },
    ] {
        assert!(!one.same_frame(&other) && !other.same_frame(&one), "{other:?}");
    }
}

#[test]
fn records_that_make_no_sense_are_refused() {
    let corrupt = |payload: Vec<u8>, what: &str| {
        let error = records(payload.into()).expect_err(&format!("{what} was believed"));
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
    };
    let parity = 24 + BLOCK;
    let open = parity + 80 + BLOCK;
    let zero = open + 32 + 48 * 4;
    for (at, change, what) in [
        (4, &[0; 4][..], "a record of no length"),
        (4, &[23, 0], "a record shorter than its head"),
        (4, &[24, 0], "a record without data"),
        (4, &[25], "a byte more than blocks"),
        (4, &[0xFF; 4], "a record longer than the payload"),
        (8, &[0xFF; 8], "a last version"),
        (16, &[0xFF; 8], "a block beyond any volume"),
        (parity + 8, &[0xFF; 8], "a stripe beyond any volume"),
        (parity + 16, &[3], "more pieces than there are"),
        (parity + 16, &[0xFF; 8], "more than any payload holds"),
        (parity + 20, &[0], "fewer rows than there are"),
        (parity + 24, &[0xFF; 8], "a piece beyond any volume"),
        (parity + 32, &[0xFF; 8], "a piece of a last version"),
        (parity + 1, &[4], "a flag nobody knows"),
        (open + 1, &[2], "a flag of another record"),
        (open + 4, &[24], "an open record cut short"),
        (open + 4, &[32], "an open record without checksums"),
        (open + 4, &[33], "a part of a checksum"),
        (open + 4, &[32 + 47 * 4], "checksums of a part of the stripes"),
        (zero + 4, &[33], "a zero record that is longer"),
        (zero + 8, &[0xFF; 8], "zeroed stripes beyond any volume"),
        (open + 8, &[0xFF; 8], "open stripes beyond any volume"),
        (open + 16, &[0; 8], "no open stripes"),
        (open + 16, &[0xFF; 8], "more open stripes than there are"),
    ] {
        let mut bytes = payload(&said()).to_vec();
        bytes[at..at + change.len()].copy_from_slice(change);
        corrupt(bytes, what);
    }
    corrupt(vec![0; MAX_PAYLOAD_BYTES + 1], "a payload longer than any");
    // A record that says nothing makes a frame of its own.
    let nothing = Record::Zero { first_stripe: 0, count: 0, up_to_version: 0 };
    assert_eq!(records(payload(std::slice::from_ref(&nothing))).unwrap(), [nothing]);
    let whole = payload(&said());
    for len in (1..whole.len()).filter(|len| ![parity, open, zero].contains(len)) {
        assert!(records(whole.slice(..len)).is_err(), "{len} bytes");
    }
}

#[test]
fn lengths_told_up_front_are_those_written() {
    let mut out = PayloadWriter::new();
    assert!(out.is_empty());
    out.data(1, 2, &[7; 3 * BLOCK]);
    assert_eq!(out.len(), data_record_len(3));
    let before = out.len();
    let row = |shard| ParityRow { shard, row_block: 0, bytes: block(1) };
    let piece = Piece { block: 0, version: 0, crc: 0 };
    let rows = vec![row(2), row(3)];
    let record = ParityRecord { stripe: 0, fresh: false, bare: false, pieces: vec![piece; 5], rows };
    out.parity(&record);
    assert_eq!(out.len() - before, parity_record_len(5, 2));
    let before = out.len();
    let opens = |same| OpenRecord { count: 1, crcs: vec![7; 33], same, ..OpenRecord::default() };
    out.open(&opens(Vec::new()));
    assert_eq!(out.len() - before, open_record_len(33, false));
    out.open(&opens(vec![true; 33]));
    let both = open_record_len(33, false) + open_record_len(33, true);
    assert_eq!(out.len() - before, both);
    out.zero(0, 1, u64::MAX);
    assert_eq!(out.finish().len() - before, both + ZERO_RECORD_LEN);
    assert_eq!(records(Bytes::new()).unwrap(), vec![]);
}

#[test]
fn blocks_are_slices_of_the_payload() {
    let payload = payload(&said());
    let inside = payload.as_ptr_range();
    for record in records(payload.clone()).unwrap() {
        match record {
            Record::Data { bytes, .. } => assert!(inside.contains(&bytes.as_ptr())),
            Record::Parity(parity) => assert!(inside.contains(&parity.rows[0].bytes.as_ptr())),
            Record::Open(_) | Record::Zero { .. } => {}
        }
    }
}
