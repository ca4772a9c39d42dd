//! Looking into the journal of a golden array: what is there to be replayed?

use super::golden::Golden;
use bytes::Bytes;
use palisade::format::{
    Areas, CHECKPOINT_BYTES, Checkpoint, FRAME_HEADER_BYTES, FrameHeader, Record, records,
};
use palisade::geometry::Shape;
use std::collections::BTreeSet;

/// The kinds of the records behind the newest checkpoint; members must be in the order of their slots.
pub fn kinds(golden: &Golden) -> BTreeSet<&'static str> {
    let (k, m, chunk) = golden.shape;
    let smallest = golden.members.iter().map(|m| m.size_bytes).min().unwrap();
    let areas = Areas::plan(smallest, &Shape::new(k, m, chunk).unwrap()).unwrap();
    let page = |g| golden.members[0].read(areas.journal_offset + Checkpoint::page_of(g), CHECKPOINT_BYTES);
    let found = [0, 1].iter().filter_map(|g| Checkpoint::decode(&page(*g), golden.uuid).ok());
    let newest = found.max_by_key(|c| c.generation).expect("a checkpoint");
    let ring = areas.journal_offset + 2 * CHECKPOINT_BYTES as u64;
    let (mut kinds, mut seq, mut at) = (BTreeSet::new(), newest.tail.seq, newest.tail.offset);
    while let Some((header, payload)) = frame(golden, ring, at).filter(|(header, _)| header.seq == seq) {
        kinds.extend(records(payload).unwrap().iter().map(|record| match record {
            Record::Data { .. } => "data",
            Record::Parity(_) => "parity",
            Record::Open(_) => "open",
            Record::Zero { .. } => "zero",
        }));
        seq += 1;
        at += header.footprint();
    }
    kinds
}

/// The frame at this ring offset, if all its data shards are there.
fn frame(golden: &Golden, ring: u64, at: u64) -> Option<(FrameHeader, Bytes)> {
    let mut payload = Vec::new();
    let mut first = None;
    for member in golden.members.get(..usize::from(golden.shape.0))? {
        let header = FrameHeader::decode(&member.read(ring + at, FRAME_HEADER_BYTES)).ok()?;
        let len = usize::try_from(header.shard_len).unwrap();
        payload.extend(member.read(ring + at + FRAME_HEADER_BYTES as u64, len));
        first.get_or_insert(header);
    }
    let header = first?;
    payload.truncate(usize::try_from(header.payload_len).unwrap());
    (palisade::format::payload_crc(&payload) == header.payload_crc).then(|| (header, payload.into()))
}
