//! Parity equals that of `reed-solomon-erasure`, which users may have other tools for.

use super::support::{parity_of, shards};
use crate::codec::Codec;
use proptest::prelude::*;
use reed_solomon_erasure::galois_8::ReedSolomon;

fn parity_of_the_crate(k: usize, m: usize, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut all = data.to_vec();
    all.resize(k + m, vec![0; data[0].len()]);
    ReedSolomon::new(k, m).unwrap().encode(&mut all).unwrap();
    all.split_off(k)
}

#[test]
fn parity_equals_the_crates_for_every_shape_of_up_to_24_shards() {
    for k in 1..24 {
        for m in 1..=24 - k {
            let data = shards((k * 32 + m) as u64, k, 129);
            let codec = Codec::new(k, m).unwrap();
            assert_eq!(parity_of(&codec, m, &data), parity_of_the_crate(k, m, &data), "{k}+{m}");
        }
    }
}

#[test]
fn a_mirror_is_a_code_of_one_data_shard() {
    for m in [1, 2, 7, 254] {
        let data = shards(9, 1, 100);
        let parity = parity_of(&Codec::new(1, m).unwrap(), m, &data);
        assert_eq!(parity, vec![data[0].clone(); m]);
        assert_eq!(parity, parity_of_the_crate(1, m, &data));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn parity_equals_the_crates_for_any_shape(
        (k, n) in (2usize..=255).prop_flat_map(|n| (1..n, Just(n))),
        len in 1usize..300,
        seed: u64,
    ) {
        let m = n - k;
        let data = shards(seed, k, len);
        let codec = Codec::new(k, m).unwrap();
        prop_assert_eq!(parity_of(&codec, m, &data), parity_of_the_crate(k, m, &data));
    }
}
