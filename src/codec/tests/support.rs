//! Reproducible bytes, and shards cut of them.

use crate::codec::Codec;

/// `len` bytes that depend on the seed alone (SplitMix64).
pub(super) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let words = (0..len.div_ceil(8)).flat_map(|_| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)).to_le_bytes()
    });
    words.take(len).collect()
}

/// `count` shards of `len` bytes.
pub(super) fn shards(seed: u64, count: usize, len: usize) -> Vec<Vec<u8>> {
    bytes(seed, count * len.max(1)).chunks(len.max(1)).map(|c| c[..len].to_vec()).collect()
}

pub(super) fn slices(shards: &[Vec<u8>]) -> Vec<&[u8]> {
    shards.iter().map(Vec::as_slice).collect()
}

/// All parity of these data shards, as the codec computes it.
pub(super) fn parity_of(codec: &Codec, m: usize, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut parity = vec![vec![0xEE; data[0].len()]; m];
    let mut list: Vec<(usize, &mut [u8])> =
        parity.iter_mut().enumerate().map(|(j, p)| (j, p.as_mut_slice())).collect();
    codec.encode(&slices(data), &mut list).unwrap();
    parity
}

/// Data and parity of a random stripe, all `k + m` shards.
pub(super) fn stripe(codec: &Codec, k: usize, m: usize, seed: u64, len: usize) -> Vec<Vec<u8>> {
    let mut all = shards(seed, k, len);
    let parity = parity_of(codec, m, &all);
    all.extend(parity);
    all
}
