//! GFNI on 64-byte vectors: one instruction multiplies 64 bytes by a bit matrix (Ice Lake, Zen 4).

use crate::codec::field::AFFINE;
use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{
    __m512i, _mm512_gf2p8affine_epi64_epi8, _mm512_loadu_si512, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_storeu_si512, _mm512_xor_si512,
};

vector_engine! {
    /// GFNI with AVX-512.
    GfniAvx512, "gfni-avx512", features: "gfni,avx512f",
    detect: is_x86_feature_detected!("gfni") && is_x86_feature_detected!("avx512f"),
    vector: __m512i, bytes: 64, max_rows: 6, rows: [1 => 4, 2 => 4, 3 => 4, 4 => 4, 5 => 4, 6 => 4]
}

#[inline]
#[target_feature(enable = "gfni,avx512f")]
fn zero() -> __m512i {
    _mm512_setzero_si512()
}

#[inline]
#[target_feature(enable = "gfni,avx512f")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: 64 readable bytes; the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "gfni,avx512f")]
fn store(bytes: &mut [u8; 64], vector: __m512i) {
    // SAFETY: 64 writable bytes; the store needs no alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) }
}

#[inline]
#[target_feature(enable = "gfni,avx512f")]
fn add(a: __m512i, b: __m512i) -> __m512i {
    _mm512_xor_si512(a, b)
}

#[inline]
#[target_feature(enable = "gfni,avx512f")]
fn factor(c: u8) -> __m512i {
    _mm512_set1_epi64(AFFINE[usize::from(c)].cast_signed())
}

#[inline]
#[target_feature(enable = "gfni,avx512f")]
fn split(vector: __m512i) -> __m512i {
    vector
}

#[inline]
#[target_feature(enable = "gfni,avx512f")]
fn multiply(factor: __m512i, vector: __m512i) -> __m512i {
    _mm512_gf2p8affine_epi64_epi8::<0>(vector, factor)
}
