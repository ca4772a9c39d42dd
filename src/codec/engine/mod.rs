//! The engines: one way per CPU level to compute the same linear combinations.
//!
//! Owns: the [`Engine`] trait, a readable reference (`naive`), a fast one for any CPU (`portable`)
//! and one per instruction set of x86-64 and 64-bit ARM, plus the choice between them.
//! Callers may rely on: every engine computes exactly what `naive` does; an engine can only be had
//! on a CPU that runs it (detected at run time, so one binary serves all CPUs).
//! Must never: touch a byte outside the slices given, or know shards, losses or codes.

mod choose;
mod contract;
mod naive;
mod portable;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[macro_use]
mod kernel;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod gfni_avx2;
#[cfg(target_arch = "x86_64")]
mod gfni_avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod ssse3;

pub use choose::{available_engines, best_engine};
pub use contract::Engine;
