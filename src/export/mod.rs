//! What a front end sees of an array: a volume of bytes.
//!
//! Owns: the `Volume` trait and what wraps a volume into another one.
//! Callers may rely on: a volume checks every range against its size.
//! Must never: know a wire protocol; front ends never see a member or a stripe.

mod memory;
mod read_only;
mod volume;

pub use memory::MemoryVolume;
pub use read_only::ReadOnly;
pub use volume::{Durability, Extent, Volume, VolumeInfo, ZeroOptions};
