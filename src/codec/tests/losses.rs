//! Any `k` shards give back all others; a delta does what encoding anew does.

use super::support::{bytes, parity_of, slices, stripe};
use crate::codec::{Codec, available_engines, xor_into};
use proptest::prelude::*;

/// Loses these shards, reconstructs them, compares. `present` is offered in descending order.
fn assert_comes_back(codec: &Codec, stripe: &[Vec<u8>], lost: &[usize]) {
    let present: Vec<(usize, &[u8])> = stripe
        .iter()
        .enumerate()
        .rev()
        .filter(|(n, _)| !lost.contains(n))
        .map(|(n, s)| (n, s.as_slice()))
        .collect();
    let mut found = vec![vec![0xAB; stripe[0].len()]; lost.len()];
    let mut missing: Vec<(usize, &mut [u8])> =
        lost.iter().zip(&mut found).map(|(&n, b)| (n, b.as_mut_slice())).collect();
    codec.reconstruct(&present, &mut missing).unwrap();
    for (n, shard) in lost.iter().zip(&found) {
        assert!(*shard == stripe[*n], "{codec:?}: shard {n} of lost {lost:?}");
    }
}

#[test]
fn every_loss_of_up_to_m_shards_comes_back_for_small_shapes() {
    for engine in available_engines() {
        for (k, m) in [(1, 1), (1, 3), (2, 1), (2, 2), (3, 3), (4, 2), (5, 4), (8, 3)] {
            let codec = Codec::with_engine(k, m, engine.clone()).unwrap();
            let stripe = stripe(&codec, k, m, 11, 67);
            for set in 0u32..1 << (k + m) {
                let lost: Vec<usize> = (0..k + m).filter(|n| set >> n & 1 == 1).collect();
                if lost.len() <= m {
                    assert_comes_back(&codec, &stripe, &lost);
                }
            }
        }
    }
}

#[test]
fn missing_shards_may_be_asked_for_in_any_order_and_in_part() {
    let codec = Codec::new(5, 4).unwrap();
    let stripe = stripe(&codec, 5, 4, 12, 130);
    let present: Vec<(usize, &[u8])> = [8, 2, 4, 1, 7].map(|n| (n, stripe[n].as_slice())).to_vec();
    for asked in [vec![6, 0, 5], vec![3], vec![5, 3, 0, 6], vec![]] {
        let mut found = vec![vec![0; 130]; asked.len()];
        let mut missing: Vec<(usize, &mut [u8])> =
            asked.iter().zip(&mut found).map(|(&n, b)| (n, b.as_mut_slice())).collect();
        codec.reconstruct(&present, &mut missing).unwrap();
        for (n, shard) in asked.iter().zip(&found) {
            assert_eq!(*shard, stripe[*n], "shard {n} of {asked:?}");
        }
    }
}

#[test]
fn a_pattern_served_from_the_cache_gives_the_same_bytes() {
    let codec = Codec::new(6, 3).unwrap();
    for seed in 0..3 {
        let stripe = stripe(&codec, 6, 3, seed, 64);
        assert_comes_back(&codec, &stripe, &[7, 1, 4]);
        assert_comes_back(&codec, &stripe, &[1, 4]);
        assert_comes_back(&codec, &stripe, &[4, 7, 1]);
    }
}

#[test]
fn a_clone_is_the_same_code_on_another_thread() {
    let codec = Codec::new(4, 2).unwrap();
    let stripe = stripe(&codec, 4, 2, 5, 4096);
    std::thread::scope(|scope| {
        for lost in [[0, 1], [0, 5], [4, 5], [2, 3]] {
            let (codec, stripe) = (codec.clone(), &stripe);
            scope.spawn(move || assert_comes_back(&codec, stripe, &lost));
        }
    });
}

#[test]
fn listed_parity_alone_is_computed() {
    let codec = Codec::new(6, 4).unwrap();
    let stripe = stripe(&codec, 6, 4, 21, 200);
    let data = slices(&stripe[..6]);
    let (mut first, mut second) = (vec![0; 200], vec![0; 200]);
    codec.encode(&data, &mut [(3, &mut first), (1, &mut second)]).unwrap();
    assert_eq!((&first, &second), (&stripe[9], &stripe[7]));
    codec.encode(&data, &mut []).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn random_losses_come_back_for_any_shape(
        (k, n) in (2usize..=255).prop_flat_map(|n| (1..n, Just(n))),
        len in 1usize..200,
        seed: u64,
    ) {
        let m = n - k;
        let codec = Codec::new(k, m).unwrap();
        let stripe = stripe(&codec, k, m, seed, len);
        let mut order: Vec<(u8, usize)> = bytes(seed, n).into_iter().zip(0..n).collect();
        order.sort_unstable();
        let lost: Vec<usize> = order.iter().take(m.min(20)).map(|o| o.1).collect();
        assert_comes_back(&codec, &stripe, &lost);
    }

    #[test]
    fn a_delta_gives_the_parity_that_encoding_anew_gives(
        (k, n) in (2usize..=40).prop_flat_map(|n| (1..n, Just(n))),
        len in 0usize..400,
        seed: u64,
    ) {
        let m = n - k;
        let codec = Codec::new(k, m).unwrap();
        let mut stripe = stripe(&codec, k, m, seed, len);
        let changed = usize::from(bytes(seed, 1)[0]) % k;
        let mut delta = bytes(!seed, len);
        let new = delta.clone();
        xor_into(&mut delta, &stripe[changed]);
        let (data, parity) = stripe.split_at_mut(k);
        data[changed] = new;
        let expected = parity_of(&codec, m, data);

        let (some, rest) = parity.split_at_mut(m / 2);
        let list = |from: usize, shards| -> Vec<(usize, &mut [u8])> {
            let shards: &mut [Vec<u8>] = shards;
            shards.iter_mut().enumerate().map(|(j, p)| (from + j, p.as_mut_slice())).rev().collect()
        };
        codec.update(changed, &delta, &mut list(0, some)).unwrap();
        codec.update(changed, &delta, &mut list(m / 2, rest)).unwrap();
        prop_assert_eq!(parity, &expected[..]);
    }
}
