//! The redo log: what was answered and is not home yet can be done again after any crash.
//!
//! Owns: frames on the journal areas of the members that bear it (all, or some that do nothing else),
//! group commit, the checkpoint, and reading all of it back after a crash.
//! Callers may rely on: a record whose ticket was honoured is on every member that counts, and
//! once `sync` returned it survives power loss with any m members; frames are honoured in order;
//! the space of a frame is used again only when nobody needs it and every member knows.
//! Must never: know a stripe's layout or write outside the journal area.

mod anew;
mod commit;
mod log;
mod recover;
mod replay;
mod ring;
mod state;

pub use anew::{begin_anew, behind};
pub use log::{Bearers, Journal, Place, Ticket};
pub use recover::{Outcome, Recovered, Spec, clear, format, recover};
pub use replay::{Changes, Opened, Redo, Replayed, StagedBlock, Start, Underway};
