//! Simulated disks: members in memory that fail, delay, hang, tear, drop, misdirect and rot.
//!
//! Owns: the media (which outlives a crash), its volatile write cache, the fault model, and the
//! backend and opener the engine gets.
//! Callers may rely on: every choice is drawn from the simulation's seed; an abandoned operation
//! may still happen, as on a real disk.
//! Must never: do something a real disk could not, except where a test asked for it.

mod backend;
mod command;
mod disk;
mod fault;
mod machine;
mod media;

#[cfg(test)]
mod tests;

pub use backend::SimBackend;
pub use disk::SimDisk;
pub use fault::{FaultCounts, FaultPlan, Trouble, WriteFate};
pub use machine::{Crash, SimDisks, SimOpener};
