//! Pure Reed-Solomon over GF(2^8): slices in, slices out.
//!
//! Owns: the field, the code's matrix, encoding, reconstruction and parity deltas of equally long
//! shards, and one engine per CPU level (`engine/`).
//! Callers may rely on: any `k` of the `k + m` shards give back all others; parity bytes are for
//! ever those of `reed-solomon-erasure`'s `galois_8`, whatever the engine; a request that makes no
//! sense is an error and touches no byte.
//! Must never: do I/O, keep shard bytes, or know stripes, slots or members.

mod cache;
mod coder;
mod coefficients;
mod engine;
mod field;
mod matrix;
mod request;
mod xor;

#[cfg(test)]
mod tests;

pub use coder::Codec;
pub use coefficients::Coefficients;
pub use engine::{Engine, available_engines, best_engine};
pub use xor::xor_into;
