//! SSSE3: two 16-entry table lookups per 16 bytes, one for each nibble (any x86-64 since 2006).
//!
//! Source: as in `avx2`.

use crate::codec::field::NIBBLES;
use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{
    __m128i, _mm_and_si128, _mm_loadu_si128, _mm_set1_epi8, _mm_setzero_si128, _mm_shuffle_epi8,
    _mm_srli_epi64, _mm_storeu_si128, _mm_xor_si128,
};

vector_engine! {
    /// Nibble lookups with SSSE3.
    Ssse3, "ssse3", features: "ssse3", detect: is_x86_feature_detected!("ssse3"),
    vector: __m128i, bytes: 16, max_rows: 4, rows: [1 => 2, 2 => 2, 3 => 2, 4 => 2]
}

/// A factor's products with low and with high nibbles, or a vector's low and high nibbles.
#[derive(Clone, Copy)]
struct Halves {
    low: __m128i,
    high: __m128i,
}

#[inline]
#[target_feature(enable = "ssse3")]
fn zero() -> __m128i {
    _mm_setzero_si128()
}

#[inline]
#[target_feature(enable = "ssse3")]
fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 readable bytes; the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "ssse3")]
fn store(bytes: &mut [u8; 16], vector: __m128i) {
    // SAFETY: 16 writable bytes; the store needs no alignment.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), vector) }
}

#[inline]
#[target_feature(enable = "ssse3")]
fn add(a: __m128i, b: __m128i) -> __m128i {
    _mm_xor_si128(a, b)
}

#[inline]
#[target_feature(enable = "ssse3")]
fn factor(c: u8) -> Halves {
    let table = &NIBBLES[usize::from(c)];
    Halves { low: load(&table.low), high: load(&table.high) }
}

#[inline]
#[target_feature(enable = "ssse3")]
fn split(vector: __m128i) -> Halves {
    let nibble = _mm_set1_epi8(0x0F);
    Halves { low: _mm_and_si128(vector, nibble), high: _mm_and_si128(_mm_srli_epi64::<4>(vector), nibble) }
}

#[inline]
#[target_feature(enable = "ssse3")]
fn multiply(factor: Halves, vector: Halves) -> __m128i {
    _mm_xor_si128(_mm_shuffle_epi8(factor.low, vector.low), _mm_shuffle_epi8(factor.high, vector.high))
}
