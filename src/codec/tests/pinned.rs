//! Literal parity bytes, as `reed-solomon-erasure` 6 makes them: what was written years ago must be
//! understood for ever, whatever becomes of that crate.

use super::support::parity_of;
use crate::codec::{Codec, available_engines};

/// Data shard `i` holds `17 * i + 29 * j + 1` (modulo 256) at byte `j`.
fn data(k: usize) -> Vec<Vec<u8>> {
    (0..k).map(|i| (0..8).map(|j| u8::try_from((17 * i + 29 * j + 1) % 256).unwrap()).collect()).collect()
}

#[test]
fn parity_bytes_never_change() {
    let pinned: [(usize, &[[u8; 8]]); 3] = [
        (2, &[[39, 124, 213, 58, 142, 240, 113, 238]]),
        (4, &[[5, 232, 212, 186, 131, 186, 45, 136], [14, 25, 38, 49, 226, 22, 151, 153]]),
        (
            10,
            &[
                [229, 55, 41, 121, 92, 24, 64, 71],
                [66, 252, 130, 103, 28, 166, 97, 159],
                [210, 19, 165, 177, 140, 212, 232, 204],
                [166, 163, 60, 158, 166, 219, 152, 194],
            ],
        ),
    ];
    for engine in available_engines() {
        for (k, parity) in pinned {
            let codec = Codec::with_engine(k, parity.len(), engine.clone()).unwrap();
            assert_eq!(parity_of(&codec, parity.len(), &data(k)), parity, "{codec:?}");
        }
    }
}

/// The rows every RAID-like 4+2 of this matrix has, seen through single non-zero bytes.
#[test]
fn the_coefficients_of_4_plus_2_never_change() {
    let codec = Codec::new(4, 2).unwrap();
    let unit = |i: usize| -> Vec<Vec<u8>> { (0..4).map(|d| vec![u8::from(d == i)]).collect() };
    let columns: Vec<Vec<Vec<u8>>> = (0..4).map(|i| parity_of(&codec, 2, &unit(i))).collect();
    let row = |j: usize| -> Vec<u8> { columns.iter().map(|c| c[j][0]).collect() };
    assert_eq!((row(0), row(1)), (vec![27, 28, 18, 20], vec![28, 27, 20, 18]));
}
