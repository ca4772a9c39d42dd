//! Newtypes for every index, identity and count, so that one cannot be passed for another.
//!
//! Owns: the types and their text forms. Callers may rely on: all are plain `Copy` values.
//! Must never: do I/O, or convert silently between two kinds of index.

mod duration;
mod id;
mod index;
mod size;

pub use duration::{format_duration, parse_duration};
pub use id::{ArrayId, Lineage, MemberId};
pub use index::{
    BLOCK_BYTES, BlockIndex, Epoch, EventCount, JournalIndex, JournalSeq, Seat, Slot, StripeIndex,
};
pub use size::{format_rate, format_size, parse_size};
