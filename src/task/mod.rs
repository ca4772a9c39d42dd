//! Background work: filling replacements, scrubbing.
//!
//! Owns: the order of the work, its pace, its durable progress.
//! Callers may rely on: work takes the same stripe locks as requests, stops when told to, and
//! goes on after a restart from where it was last recorded.
//! Must never: change membership other than through the array.

mod pace;
mod rebuild;
mod scrub;
mod supervise;
mod throttle;

pub use supervise::supervise;
