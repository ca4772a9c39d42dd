//! Facts going out: what happened, as values; no rendering, no clock.
//!
//! Owns: the events every layer reports and the observer they go to.
//! Callers may rely on: reporting never blocks and never fails.
//! Must never: decide anything.

mod event;

pub use event::{Event, Observer, Silent};
