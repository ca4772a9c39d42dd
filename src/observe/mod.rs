//! Facts going out: what happened, as values; no rendering, no clock.
//!
//! Owns: the events every layer reports, what a scrub finds, and the observer they go to.
//! Callers may rely on: reporting never blocks and never fails.
//! Must never: decide anything.

mod event;
mod finding;

pub use event::{Event, Observer, Silent};
pub use finding::{Damage, Finding, VolumeRange};
