//! Every engine is the reference engine, only faster.

use super::support::{bytes, shards, slices};
use crate::codec::{Coefficients, Engine, available_engines, best_engine};
use std::sync::Arc;

const GUARD: usize = 70;

/// Inputs and outputs at odd addresses, with guard bytes around each output.
fn combine_unaligned(
    engine: &dyn Engine,
    matrix: &Coefficients,
    skew: usize,
    len: usize,
    accumulate: bool,
) -> Vec<Vec<u8>> {
    let inputs = shards(1, matrix.inputs(), len + 64);
    let mut outputs = shards(2, matrix.outputs(), len + 2 * GUARD);
    let before = outputs.clone();
    let input_slices: Vec<&[u8]> =
        inputs.iter().enumerate().map(|(i, s)| &s[(skew + i) % 64..][..len]).collect();
    let start = |r: usize| (skew + 3 * r) % GUARD;
    let mut output_slices: Vec<&mut [u8]> =
        outputs.iter_mut().enumerate().map(|(r, s)| &mut s[start(r)..][..len]).collect();
    engine.combine(matrix, &input_slices, &mut output_slices, accumulate);
    for (r, (now, then)) in outputs.iter().zip(&before).enumerate() {
        assert_eq!(now[..start(r)], then[..start(r)], "{} wrote before output {r}", engine.name());
        assert_eq!(now[start(r) + len..], then[start(r) + len..], "{} wrote after it", engine.name());
    }
    outputs.iter().enumerate().map(|(r, s)| s[start(r)..][..len].to_vec()).collect()
}

fn random_matrix(outputs: usize, inputs: usize, seed: u64) -> Coefficients {
    Coefficients::from_rows(&slices(&shards(seed, outputs, inputs)))
}

fn reference() -> Arc<dyn Engine> {
    let naive = available_engines().pop().unwrap();
    assert_eq!(naive.name(), "naive");
    naive
}

fn assert_all_agree(matrix: &Coefficients, skew: usize, len: usize, accumulate: bool) {
    let expected = combine_unaligned(&*reference(), matrix, skew, len, accumulate);
    for engine in available_engines() {
        let got = combine_unaligned(&*engine, matrix, skew, len, accumulate);
        let shape = (matrix.inputs(), matrix.outputs());
        assert!(got == expected, "{} differs: shape {shape:?}, {len} bytes, skew {skew}", engine.name());
    }
}

#[test]
fn every_engine_equals_the_reference_for_every_shape_up_to_32() {
    for inputs in 1..=32 {
        for outputs in 1..=32 {
            let number = inputs * 33 + outputs;
            let matrix = random_matrix(outputs, inputs, number as u64);
            assert_all_agree(&matrix, number % 61, 1 + number % 290, number % 2 == 0);
        }
    }
}

#[test]
fn every_engine_equals_the_reference_for_every_length_and_alignment() {
    for (outputs, inputs) in [(1, 1), (2, 4), (7, 3)] {
        let matrix = random_matrix(outputs, inputs, 5);
        for len in 0..=400 {
            assert_all_agree(&matrix, len % 64, len, len % 3 == 0);
        }
        for skew in 0..64 {
            assert_all_agree(&matrix, skew, 257, skew % 2 == 0);
        }
    }
}

#[test]
fn every_engine_equals_the_reference_across_tiles() {
    for outputs in [1, 4, 6, 7, 13] {
        let matrix = random_matrix(outputs, 5, 77);
        for len in [4095, 4096, 4097, 8192 + 63, 3 * 4096 + 129] {
            assert_all_agree(&matrix, 1, len, false);
            assert_all_agree(&matrix, 0, len, true);
        }
    }
}

#[test]
fn every_engine_multiplies_every_byte_by_every_constant() {
    let all: Vec<u8> = (0..=255).collect();
    for c in 0..=255u8 {
        let matrix = Coefficients::from_rows(&[&[c]]);
        let mut expected = vec![0; 256];
        reference().combine(&matrix, &[&all], &mut [&mut expected], false);
        for engine in available_engines() {
            let mut got = bytes(3, 256);
            engine.combine(&matrix, &[&all], &mut [&mut got], false);
            assert!(got == expected, "{} times {c}", engine.name());
        }
    }
}

#[test]
fn a_combination_of_nothing_is_zero_and_of_no_outputs_is_nothing() {
    for engine in available_engines() {
        let mut output = bytes(4, 300);
        engine.combine(&Coefficients::from_rows(&[&[]]), &[], &mut [&mut output], false);
        assert_eq!(output, [0; 300], "{}", engine.name());
        engine.combine(&Coefficients::from_rows(&[]), &[], &mut [], false);
    }
}

#[test]
fn the_best_engine_is_the_first_of_the_available_ones() {
    let available = available_engines();
    assert_eq!(best_engine().name(), available[0].name());
    let mut names: Vec<_> = available.iter().map(|e| e.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), available.len());
}
