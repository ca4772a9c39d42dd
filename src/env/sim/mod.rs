//! The simulated environment: one thread, virtual time, every choice drawn from one seed.
//!
//! Owns: the deterministic executor, its clock and timers, simulated processes, the generator.
//! Callers may rely on: the same seed and the same program give the same trace, poll by poll;
//! time passes only while nothing can run; a killed process runs no further instruction.
//! Must never: read a real clock, start a thread, or draw from anything but the seed.

mod environment;
mod executor;
mod prng;
mod shared;

#[cfg(test)]
mod tests;

pub use environment::{ProcessId, SimEnv};
pub use executor::{Simulation, Stuck};
pub use prng::Prng;
