//! Requests that make no sense are errors and touch no byte.

use crate::codec::Codec;
use crate::error::{Error, ErrorKind};

fn kind(result: Result<(), Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn shapes_without_a_code_are_refused() {
    for (k, m) in [(0, 1), (1, 0), (0, 0), (255, 1), (1, 255), (usize::MAX, 1), (usize::MAX, usize::MAX)] {
        assert_eq!(Codec::new(k, m).unwrap_err().kind(), ErrorKind::InvalidInput, "{k}+{m}");
    }
    for (k, m) in [(254, 1), (1, 254), (128, 127)] {
        assert!(Codec::new(k, m).is_ok(), "{k}+{m}");
    }
}

#[test]
fn a_bad_encode_request_is_refused_and_writes_nothing() {
    let codec = Codec::new(2, 2).unwrap();
    let (a, short) = ([1; 8], [1; 7]);
    let (mut p, mut q) = ([9; 8], [9; 8]);
    let refusals = [
        codec.encode(&[&a], &mut [(0, &mut p)]),
        codec.encode(&[&a, &a, &a], &mut [(0, &mut p)]),
        codec.encode(&[&a, &short], &mut [(0, &mut p)]),
        codec.encode(&[&a, &a], &mut [(0, &mut p), (1, &mut q[..7])]),
        codec.encode(&[&a, &a], &mut [(2, &mut p)]),
        codec.encode(&[&a, &a], &mut [(usize::MAX, &mut p)]),
        codec.encode(&[&a, &a], &mut [(1, &mut p), (1, &mut q)]),
    ];
    for refusal in refusals {
        assert_eq!(kind(refusal), ErrorKind::InvalidInput);
    }
    assert_eq!((p, q), ([9; 8], [9; 8]));
}

#[test]
fn a_bad_reconstruct_request_is_refused_and_writes_nothing() {
    let codec = Codec::new(2, 2).unwrap();
    let (a, short) = ([1; 8], [1; 7]);
    let (mut p, mut q) = ([9; 8], [9; 8]);
    let refusals = [
        codec.reconstruct(&[(0, &a), (0, &a)], &mut [(1, &mut p)]),
        codec.reconstruct(&[(0, &a), (4, &a)], &mut [(1, &mut p)]),
        codec.reconstruct(&[(0, &a), (2, &short)], &mut [(1, &mut p)]),
        codec.reconstruct(&[(0, &a), (2, &a)], &mut [(1, &mut p[..7])]),
        codec.reconstruct(&[(0, &a), (2, &a)], &mut [(4, &mut p)]),
        codec.reconstruct(&[(0, &a), (2, &a)], &mut [(2, &mut p)]),
        codec.reconstruct(&[(0, &a), (2, &a), (3, &a)], &mut [(3, &mut p)]),
        codec.reconstruct(&[(0, &a), (2, &a)], &mut [(1, &mut p), (1, &mut q)]),
        codec.reconstruct(&[(0, &a), (usize::MAX, &a)], &mut [(1, &mut p)]),
    ];
    for refusal in refusals {
        assert_eq!(kind(refusal), ErrorKind::InvalidInput);
    }
    for present in [&[(3usize, a.as_slice())][..], &[]] {
        assert_eq!(kind(codec.reconstruct(present, &mut [(1, &mut p)])), ErrorKind::Failed);
    }
    assert_eq!((p, q), ([9; 8], [9; 8]));
}

#[test]
fn a_bad_update_request_is_refused_and_writes_nothing() {
    let codec = Codec::new(2, 2).unwrap();
    let (mut p, mut q) = ([9; 8], [9; 8]);
    let refusals = [
        codec.update(2, &[1; 8], &mut [(0, &mut p)]),
        codec.update(usize::MAX, &[1; 8], &mut [(0, &mut p)]),
        codec.update(0, &[1; 7], &mut [(0, &mut p)]),
        codec.update(0, &[1; 8], &mut [(2, &mut p)]),
        codec.update(0, &[1; 8], &mut [(0, &mut p), (0, &mut q)]),
        codec.update(0, &[1; 8], &mut [(0, &mut p), (1, &mut q[1..])]),
    ];
    for refusal in refusals {
        assert_eq!(kind(refusal), ErrorKind::InvalidInput);
    }
    assert_eq!((p, q), ([9; 8], [9; 8]));
}

#[test]
fn empty_shards_are_fine() {
    let codec = Codec::new(3, 2).unwrap();
    codec.encode(&[&[], &[], &[]], &mut [(0, &mut []), (1, &mut [])]).unwrap();
    codec.reconstruct(&[(0, &[]), (3, &[]), (4, &[])], &mut [(1, &mut [])]).unwrap();
    codec.update(1, &[], &mut [(1, &mut [])]).unwrap();
}
