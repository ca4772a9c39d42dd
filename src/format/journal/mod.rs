//! The journal's bytes: the checkpoint pages, the frame around a group commit and the records in
//! it. `docs/format.md` has the tables and says how replay walks.
//!
//! Owns: the form of checkpoint pages, frame headers and payloads; what a frame takes in the ring.
//! Callers may rely on: parsing is total, takes memory in proportion to its input at most and
//! copies no block; every number that parses can be counted on from (the next sequence number, the
//! end of a range) without overflow. What a value must keep to be read back is said at each
//! encoder; breaking it is a mistake of the caller, at which debug builds stop.
//! Must never: know shape or volume (whoever replays checks records against them), or decide which
//! frame follows which.

mod checkpoint;
mod frame;
mod raw;
mod record;

pub use checkpoint::{CHECKPOINT_BYTES, CHECKPOINT_PAGES, Checkpoint, Tail};
pub use frame::{
    FRAME_ALIGN_BYTES, FRAME_HEADER_BYTES, FrameHeader, MAX_PAYLOAD_BYTES, footprint_for, payload_crc,
    shard_crc, shard_len_for,
};
pub use record::{
    OpenRecord, ParityRecord, ParityRow, PayloadWriter, Piece, Record, ZERO_RECORD_LEN, data_record_len,
    open_record_len, parity_record_len, records,
};
