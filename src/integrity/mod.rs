//! Is this block what was written?
//!
//! Owns: the checksum of a block (which also says where it belongs), each member's checksum table
//! and the part of it that is in memory, writing changed pages home.
//! Callers may rely on: a page of a table that does not check itself, or cannot be read, names its
//! blocks as not known, never as good; a changed page keeps the journal frame that can redo
//! the change until it is home.
//! Must never: know a stripe or parity, or decide what becomes of a member.

mod block;
mod cache;
mod home;
mod pin;
mod table;

pub use block::{UNKNOWN, ZERO, judge, seal, sum};
pub use cache::{Integrity, Unwritten};
pub use home::Home;
pub use pin::{Pin, Pinned};
pub use table::{InUse, Table};
