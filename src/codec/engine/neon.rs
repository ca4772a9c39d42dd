//! NEON: two 16-entry table lookups per 16 bytes, one for each nibble (every 64-bit ARM).
//!
//! Source: as in `avx2`.

use crate::codec::field::NIBBLES;
use std::arch::aarch64::{
    uint8x16_t, vandq_u8, vdupq_n_u8, veorq_u8, vld1q_u8, vqtbl1q_u8, vshrq_n_u8, vst1q_u8,
};
use std::arch::is_aarch64_feature_detected;

vector_engine! {
    /// Nibble lookups with NEON.
    Neon, "neon", features: "neon", detect: is_aarch64_feature_detected!("neon"),
    vector: uint8x16_t, bytes: 16, max_rows: 6,
    rows: [1 => 2, 2 => 2, 3 => 2, 4 => 2, 5 => 2, 6 => 2]
}

/// A factor's products with low and with high nibbles, or a vector's low and high nibbles.
#[derive(Clone, Copy)]
struct Halves {
    low: uint8x16_t,
    high: uint8x16_t,
}

#[inline]
#[target_feature(enable = "neon")]
fn zero() -> uint8x16_t {
    vdupq_n_u8(0)
}

#[inline]
#[target_feature(enable = "neon")]
fn load(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: 16 readable bytes; the load needs no alignment.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(bytes: &mut [u8; 16], vector: uint8x16_t) {
    // SAFETY: 16 writable bytes; the store needs no alignment.
    unsafe { vst1q_u8(bytes.as_mut_ptr(), vector) }
}

#[inline]
#[target_feature(enable = "neon")]
fn add(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
    veorq_u8(a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn factor(c: u8) -> Halves {
    let table = &NIBBLES[usize::from(c)];
    Halves { low: load(&table.low), high: load(&table.high) }
}

#[inline]
#[target_feature(enable = "neon")]
fn split(vector: uint8x16_t) -> Halves {
    Halves { low: vandq_u8(vector, vdupq_n_u8(0x0F)), high: vshrq_n_u8::<4>(vector) }
}

#[inline]
#[target_feature(enable = "neon")]
fn multiply(factor: Halves, vector: Halves) -> uint8x16_t {
    veorq_u8(vqtbl1q_u8(factor.low, vector.low), vqtbl1q_u8(factor.high, vector.high))
}
