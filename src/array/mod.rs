//! Membership and assembly: which members make the array, who is in sync, what changes that.
//!
//! Owns: creation, assembly, the coordinator (the only writer of superblocks), spares, the report, and
//! what is known of scrubs.
//! Callers may rely on: a membership change is durable on the survivors before anything that
//! depends on it is answered.
//! Must never: touch the bytes of a stripe.

mod activity;
mod assemble;
mod coordinator;
mod create;
mod decide;
mod discard;
mod facade;
mod health;
mod journal_seats;
mod ledger;
mod loss;
mod progress;
mod report;
mod request;
mod resolve;
mod returning;
mod scrub;
mod scrub_report;
mod transition;
mod view;
mod volume;
mod waits;

pub use facade::Array;
pub use progress::{Orders, Progress, TaskSwitch};
pub use report::{
    ArrayState, ErrorCounts, ExportReport, MemberReport, MemberState, Problem, Report, TaskKind, TaskReport,
};
pub use request::{
    Applied, AssembleOptions, Candidate, CreateSpec, Devices, Discard, MemberRef, RebuildControl, ScrubStart,
    ScrubStarted,
};
pub use scrub::{ScrubTask, Scrubs};
pub use scrub_report::{ScrubCounts, ScrubDetails, ScrubRecord, ScrubReport, ScrubSummary};
pub use waits::{Judgement, Waits};
