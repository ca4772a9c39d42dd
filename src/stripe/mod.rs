//! The only owner of a stripe's consistency: what is read, computed and written, in which order,
//! under which lock.
//!
//! Owns: the stripe lock table, the write plan (pure), merged reads, degraded reads, writes of
//! parts and of whole stripes, zeroing, and restoring a stripe onto a replacement.
//! Callers may rely on: a write that is answered is on every member that counts; a member that
//! could not take it was marked faulty durably first. Writes must be driven to their end.
//! Must never: change membership itself (it asks through [`Membership`]) or know a front end.

mod engine;
mod full;
mod gather;
mod lock;
mod plan;
mod read;
mod recover;
mod restore;
mod roster;
mod rows;
mod status;
mod write;
mod zero;

pub use engine::Stripes;
pub use lock::{Guard, LockTable, Mode};
pub use restore::RunOutcome;
pub use roster::{Membership, RebuiltMap, Roster, RosterCell, SlotView, Target, Verdict};
