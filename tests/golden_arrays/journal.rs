//! Looking into the journal of a golden array: what is there to be replayed?

use super::golden::{Golden, Image};
use bytes::Bytes;
use palisade::format::{
    CHECKPOINT_BYTES, Checkpoint, FRAME_HEADER_BYTES, FrameHeader, Record, SUPERBLOCK_BYTES, Superblock,
    pick_newest, records,
};
use std::collections::BTreeSet;

/// The kinds of the records behind the newest checkpoint. Members must be in the order of their seats,
/// and none with data of the journal be missing.
pub fn kinds(golden: &Golden) -> BTreeSet<&'static str> {
    let kind = |record: &Record| match record {
        Record::Data { .. } => "data",
        Record::Parity(_) => "parity",
        Record::Open(_) => "open",
        Record::Zero { .. } => "zero",
    };
    said(golden).iter().map(kind).collect()
}

/// Whether a record of open stripes says of some of their blocks, and not of all, that they stay as they are.
pub fn says_what_stays(golden: &Golden) -> bool {
    let some = |same: &[bool]| same.contains(&true) && same.contains(&false);
    said(golden).iter().any(|record| matches!(record, Record::Open(open) if some(&open.same)))
}

/// The records behind the newest checkpoint.
fn said(golden: &Golden) -> Vec<Record> {
    let (bearers, area) = bearers(golden);
    let page = |g| bearers[0].read(area + Checkpoint::page_of(g), CHECKPOINT_BYTES);
    let found = [0, 1].iter().filter_map(|g| Checkpoint::decode(&page(*g), golden.uuid).ok());
    let newest = found.max_by_key(|c| c.generation).expect("a checkpoint");
    let ring = area + 2 * CHECKPOINT_BYTES as u64;
    let (mut said, mut seq, mut at) = (Vec::new(), newest.tail.seq, newest.tail.offset);
    while let Some((header, payload)) = frame(bearers, ring + at).filter(|(header, _)| header.seq == seq) {
        said.extend(records(payload).unwrap());
        seq += 1;
        at += header.footprint();
    }
    said
}

/// The members with the data shards of the journal, and where it lies on them.
fn bearers(golden: &Golden) -> (&[Image], u64) {
    let superblock = |member: &Image| {
        let copies = Superblock::slot_offsets(member.size_bytes);
        pick_newest(copies.map(|at| Superblock::parse(&member.read(at, SUPERBLOCK_BYTES))).into_iter())
            .unwrap()
    };
    let Some(own) = superblock(&golden.members[0]).journal else {
        let count = usize::from(golden.shape.0);
        return (&golden.members[..count], superblock(&golden.members[0]).areas.journal_offset);
    };
    let bears = |member: &Image| {
        let Superblock { member, membership, .. } = superblock(member);
        membership.entry(member).is_some_and(|entry| entry.role.journal().is_some())
    };
    let first = golden.members.iter().position(bears).expect("a member with the journal");
    (&golden.members[first..=first], own.offset)
}

/// The frame at this offset, if all its data shards are there.
fn frame(bearers: &[Image], at: u64) -> Option<(FrameHeader, Bytes)> {
    let mut payload = Vec::new();
    let mut first = None;
    for member in bearers {
        let header = FrameHeader::decode(&member.read(at, FRAME_HEADER_BYTES)).ok()?;
        let len = usize::try_from(header.shard_len).unwrap();
        payload.extend(member.read(at + FRAME_HEADER_BYTES as u64, len));
        first.get_or_insert(header);
    }
    let header = first?;
    payload.truncate(usize::try_from(header.payload_len).unwrap());
    (palisade::format::payload_crc(&payload) == header.payload_crc).then(|| (header, payload.into()))
}
