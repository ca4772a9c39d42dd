//! Bytes on a member: what lies where, and the structures written there. `docs/format.md` is the
//! same in tables.
//!
//! Owns: the areas of a member, the superblock with its membership table, feature words, the pages
//! of checksum area and epoch map, the journal's pages, frames and records, the checksum they share.
//! Callers may rely on: parsing is total (any bytes in, a checked value or a typed error out);
//! what encodes parses back equal, and no superblock encodes that would not parse.
//! Must never: do I/O, or believe a byte its checksum does not cover.

mod areas;
mod bytes;
mod checksum;
mod features;
mod journal;
mod journal_members;
mod membership;
mod page;
mod raw;
mod superblock;

pub use areas::{
    Areas, DATA_ALIGN_BYTES, HEADER_BYTES, PAGE_BYTES, PAGE_ENTRIES, SECTOR_ENTRIES, SECTORS_PER_PAGE,
    TAIL_BYTES,
};
pub use checksum::crc32c;
pub use features::Features;
pub use journal::{
    CHECKPOINT_BYTES, CHECKPOINT_PAGES, Checkpoint, FRAME_ALIGN_BYTES, FRAME_HEADER_BYTES, FrameHeader,
    MAX_PAYLOAD_BYTES, OpenRecord, ParityRecord, ParityRow, PayloadWriter, Piece, Record, Tail,
    ZERO_RECORD_LEN, data_record_len, footprint_for, open_record_len, parity_record_len, payload_crc,
    records, shard_crc, shard_len_for,
};
pub use journal_members::JournalMembers;
pub use membership::{
    Ancestor, Entry, JournalState, MAX_ENTRIES, MAX_PREVIOUS, MAX_RANGES, Membership, Role, StripeRange,
};
pub use page::{PageKind, Sector, decode_page, encode_page};
pub use raw::RawSuperblock;
pub use superblock::{Code, Layout, MAGIC, MAX_NAME_BYTES, SUPERBLOCK_BYTES, Superblock, pick_newest};
