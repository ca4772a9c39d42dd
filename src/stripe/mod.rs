//! The only owner of a stripe's consistency: what is read, computed and written, in which order,
//! under which lock.
//!
//! Owns: the stripe lock table, the write plan (pure), merged reads, degraded reads, staging and
//! destaging of small writes, whole stripes, zeroing, restoring a stripe onto a replacement,
//! verifying and repairing a stripe, and doing again what the journal holds.
//! Callers may rely on: a write that is answered is in the journal or at home on every member that
//! counts; a member that could not take it was marked faulty durably first; no crash together with
//! lost members changes a block that was not being written.
//! Must never: change membership itself (it asks through [`Membership`]) or know a front end.

mod bearers;
mod destage;
mod drain;
mod engine;
mod full;
mod gather;
mod lock;
mod parity;
mod plan;
mod proof;
mod prove;
mod read;
mod recover;
mod redo;
mod resolve;
mod restore;
mod roster;
mod rows;
mod scrub;
mod staging;
mod status;
mod stretch;
mod tables;
mod torn;
mod write;
mod zero;

pub use bearers::RosterBearers;
pub use engine::{Parts, Stripes};
pub use lock::{Guard, LockTable, Mode};
pub use prove::Proof;
pub use restore::RunOutcome;
pub use roster::{JournalView, Membership, RebuiltMap, Roster, RosterCell, SlotView, Target, Verdict};
pub use scrub::{ScrubMode, ScrubOutcome};
