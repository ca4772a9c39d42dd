//! AVX2: two 16-entry table lookups per 32 bytes, one for each nibble (Haswell, Zen).
//!
//! Source: J. Plank, K. Greenan, E. Miller, "Screaming Fast Galois Field Arithmetic Using Intel
//! SIMD Instructions", FAST 2013.

use crate::codec::field::NIBBLES;
use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_loadu_si256,
    _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi64, _mm256_storeu_si256,
    _mm256_xor_si256,
};

vector_engine! {
    /// Nibble lookups with AVX2.
    Avx2, "avx2", features: "avx2", detect: is_x86_feature_detected!("avx2"),
    vector: __m256i, bytes: 32, max_rows: 4, rows: [1 => 2, 2 => 2, 3 => 2, 4 => 2]
}

/// A factor's products with low and with high nibbles, or a vector's low and high nibbles.
#[derive(Clone, Copy)]
struct Halves {
    low: __m256i,
    high: __m256i,
}

#[inline]
#[target_feature(enable = "avx2")]
fn zero() -> __m256i {
    _mm256_setzero_si256()
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 readable bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(bytes: &mut [u8; 32], vector: __m256i) {
    // SAFETY: 32 writable bytes; the store needs no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_table(table: &[u8; 16]) -> __m128i {
    // SAFETY: 16 readable bytes; the load needs no alignment.
    unsafe { _mm_loadu_si128(table.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: __m256i, b: __m256i) -> __m256i {
    _mm256_xor_si256(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn factor(c: u8) -> Halves {
    let table = &NIBBLES[usize::from(c)];
    Halves {
        low: _mm256_broadcastsi128_si256(load_table(&table.low)),
        high: _mm256_broadcastsi128_si256(load_table(&table.high)),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn split(vector: __m256i) -> Halves {
    let nibble = _mm256_set1_epi8(0x0F);
    Halves {
        low: _mm256_and_si256(vector, nibble),
        high: _mm256_and_si256(_mm256_srli_epi64::<4>(vector), nibble),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn multiply(factor: Halves, vector: Halves) -> __m256i {
    let low = _mm256_shuffle_epi8(factor.low, vector.low);
    let high = _mm256_shuffle_epi8(factor.high, vector.high);
    _mm256_xor_si256(low, high)
}
