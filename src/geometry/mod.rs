//! Pure arithmetic between volume addresses and (stripe, slot, offset).
//!
//! Owns: the shape, the rotation of chunks over slots, splitting of ranges at stripe borders.
//! Callers may rely on: total functions; no overflow for volumes up to 2^63 bytes.
//! Must never: do I/O or know a member's state.

mod shape;
mod split;

pub use shape::Shape;
pub use split::{Piece, split};
