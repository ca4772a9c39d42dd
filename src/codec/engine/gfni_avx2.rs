//! GFNI on 32-byte vectors, for CPUs that have it without AVX-512 (Alder Lake, Gracemont).

use crate::codec::field::AFFINE;
use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{
    __m256i, _mm256_gf2p8affine_epi64_epi8, _mm256_loadu_si256, _mm256_set1_epi64x, _mm256_setzero_si256,
    _mm256_storeu_si256, _mm256_xor_si256,
};

vector_engine! {
    /// GFNI with AVX2.
    GfniAvx2, "gfni-avx2", features: "gfni,avx2",
    detect: is_x86_feature_detected!("gfni") && is_x86_feature_detected!("avx2"),
    vector: __m256i, bytes: 32, max_rows: 4, rows: [1 => 4, 2 => 4, 3 => 2, 4 => 2]
}

#[inline]
#[target_feature(enable = "gfni,avx2")]
fn zero() -> __m256i {
    _mm256_setzero_si256()
}

#[inline]
#[target_feature(enable = "gfni,avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 readable bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "gfni,avx2")]
fn store(bytes: &mut [u8; 32], vector: __m256i) {
    // SAFETY: 32 writable bytes; the store needs no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
}

#[inline]
#[target_feature(enable = "gfni,avx2")]
fn add(a: __m256i, b: __m256i) -> __m256i {
    _mm256_xor_si256(a, b)
}

#[inline]
#[target_feature(enable = "gfni,avx2")]
fn factor(c: u8) -> __m256i {
    _mm256_set1_epi64x(AFFINE[usize::from(c)].cast_signed())
}

#[inline]
#[target_feature(enable = "gfni,avx2")]
fn split(vector: __m256i) -> __m256i {
    vector
}

#[inline]
#[target_feature(enable = "gfni,avx2")]
fn multiply(factor: __m256i, vector: __m256i) -> __m256i {
    _mm256_gf2p8affine_epi64_epi8::<0>(vector, factor)
}
