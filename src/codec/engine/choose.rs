//! Which engines this CPU runs.
//!
//! Asked of the CPU at run time: a build machine's instruction set must never decide what a binary
//! may execute. (That is why `reed-solomon-erasure` is only the oracle of the tests: its SIMD code
//! is compiled for Haswell and runs unasked.)

use super::contract::Engine;
use super::naive::Naive;
use super::portable::Portable;
use std::sync::Arc;

/// All engines this CPU runs, the fastest first, the reference last.
pub fn available_engines() -> Vec<Arc<dyn Engine>> {
    let mut engines = vector_engines();
    engines.push(Arc::new(Portable));
    engines.push(Arc::new(Naive));
    engines
}

/// The fastest engine this CPU runs.
pub fn best_engine() -> Arc<dyn Engine> {
    vector_engines().into_iter().next().unwrap_or_else(|| Arc::new(Portable))
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn shared<E: Engine + 'static>(engine: E) -> Arc<dyn Engine> {
    Arc::new(engine)
}

#[cfg(target_arch = "x86_64")]
fn vector_engines() -> Vec<Arc<dyn Engine>> {
    let found = [
        super::gfni_avx512::GfniAvx512::detect().map(shared),
        super::gfni_avx2::GfniAvx2::detect().map(shared),
        super::avx2::Avx2::detect().map(shared),
        super::ssse3::Ssse3::detect().map(shared),
    ];
    found.into_iter().flatten().collect()
}

#[cfg(target_arch = "aarch64")]
fn vector_engines() -> Vec<Arc<dyn Engine>> {
    super::neon::Neon::detect().map(shared).into_iter().collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn vector_engines() -> Vec<Arc<dyn Engine>> {
    Vec::new()
}
