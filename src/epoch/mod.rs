//! The epoch map: for every stripe whether it was ever written, and in which epoch last.
//!
//! Owns: the map in memory, reading it back from the members, writing changed pages home.
//! Callers may rely on: an unallocated stripe reads as zeroes and needs no I/O; whoever was in sync
//! up to an epoch lacks at most the stripes of later ones.
//! Must never: decide what becomes of a member, or touch data.

mod load;
mod map;

pub use load::{Loaded, load};
pub use map::{EpochMap, Stamp};
