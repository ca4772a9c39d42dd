//! Encode, decode and update of 64 KiB shards, each engine next to `reed-solomon-erasure`, and to ISA-L if it is
//! installed (Debian: `libisal2`; `ISAL=/path/to/libisal.so.2` for another one).
//!
//! Rates are of data read: `k` shards for encode and decode, the delta for update. reed-solomon-erasure in its
//! fast form (needs AVX2): `cargo bench --bench codec --features reed-solomon-erasure/simd-accel`.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot run should stop")]

mod bench_codec;

use bench_codec::IsaL;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use palisade::codec::{Codec, available_engines};
use palisade::env::{Buffer, BufferPool};
use reed_solomon_erasure::galois_8::ReedSolomon;
use std::time::Duration;

const SHARD_BYTES: usize = 64 << 10;
const SHAPES: [(usize, usize); 4] = [(4, 2), (8, 3), (10, 4), (16, 4)];

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn shards(pool: &BufferPool, count: usize) -> Vec<Buffer> {
    let fill = |i: usize| {
        let mut shard = pool.take(SHARD_BYTES);
        shard.iter_mut().enumerate().for_each(|(j, b)| *b = ((j * (2 * i + 1)) >> 3).to_le_bytes()[0]);
        shard
    };
    (0..count).map(fill).collect()
}

fn slices(shards: &[Buffer]) -> Vec<&[u8]> {
    shards.iter().map(|s| &**s).collect()
}

fn numbered(first: usize, shards: &mut [Buffer]) -> Vec<(usize, &mut [u8])> {
    shards.iter_mut().enumerate().map(|(i, s)| (first + i, &mut **s)).collect()
}

fn our_engines(group: &mut Group, operation: &str, k: usize, m: usize, pool: &BufferPool) {
    for engine in available_engines() {
        let codec = Codec::with_engine(k, m, engine).unwrap();
        let data = shards(pool, k);
        let mut parity = shards(pool, m);
        codec.encode(&slices(&data), &mut numbered(0, &mut parity)).unwrap();
        let id = BenchmarkId::new(codec.engine_name(), format!("{k}+{m}"));
        let lost = if operation == "decode m lost" { m } else { 1 };
        match operation {
            "encode" => {
                let data = slices(&data);
                let mut parity = numbered(0, &mut parity);
                group.bench_function(id, |b| b.iter(|| codec.encode(&data, &mut parity)));
            }
            "update" => {
                let mut parity = numbered(0, &mut parity);
                group.bench_function(id, |b| b.iter(|| codec.update(1, &data[0], &mut parity)));
            }
            _ => {
                let all = data.iter().chain(&parity).map(|s| &**s).enumerate();
                let present: Vec<(usize, &[u8])> = all.skip(lost).collect();
                let mut found = shards(pool, lost);
                let mut missing = numbered(0, &mut found);
                group.bench_function(id, |b| b.iter(|| codec.reconstruct(&present, &mut missing)));
            }
        }
    }
}

fn the_crate(group: &mut Group, operation: &str, k: usize, m: usize, pool: &BufferPool) {
    let code = ReedSolomon::new(k, m).unwrap();
    let mut all = shards(pool, k + m);
    let id = BenchmarkId::new("reed-solomon-erasure", format!("{k}+{m}"));
    let lost = if operation == "decode m lost" { m } else { 1 };
    match operation {
        "encode" => {
            let mut all: Vec<&mut [u8]> = all.iter_mut().map(|s| &mut **s).collect();
            group.bench_function(id, |b| b.iter(|| code.encode(&mut all)));
        }
        // It has no update; this is what one would write with its arithmetic.
        "update" => {
            let (delta, parity) = all.split_at_mut(k);
            group.bench_function(id, |b| {
                b.iter(|| {
                    for (c, p) in (2..).zip(parity.iter_mut()) {
                        reed_solomon_erasure::galois_8::mul_slice_xor(c, &delta[0], p);
                    }
                });
            });
        }
        _ => {
            let mut all: Vec<(&mut [u8], bool)> = all.iter_mut().map(|s| (&mut **s, true)).collect();
            group.bench_function(id, |b| {
                b.iter(|| {
                    all.iter_mut().take(lost).for_each(|s| s.1 = false);
                    code.reconstruct(&mut all)
                });
            });
        }
    }
}

/// The factors by which `run` makes its outputs of `inputs` shards: it is asked what it makes of a one in each.
fn factors(inputs: usize, outputs: usize, mut run: impl FnMut(&[&[u8]], &mut [&mut [u8]])) -> Vec<Vec<u8>> {
    let mut rows = vec![vec![0; inputs]; outputs];
    for input in 0..inputs {
        let ones: Vec<[u8; 1]> = (0..inputs).map(|i| [u8::from(i == input)]).collect();
        let mut made = vec![[0_u8; 1]; outputs];
        let sources: Vec<&[u8]> = ones.iter().map(|b| &b[..]).collect();
        run(&sources, &mut made.iter_mut().map(|b| &mut b[..]).collect::<Vec<_>>());
        rows.iter_mut().zip(&made).for_each(|(row, [factor])| row[input] = *factor);
    }
    rows
}

/// What ISA-L would use does what ours does, which is checked before it is timed.
fn isa_l(group: &mut Group, isa_l: IsaL, operation: &str, k: usize, m: usize, pool: &BufferPool) {
    let code = Codec::new(k, m).unwrap();
    let ours = |sources: &[&[u8]], outputs: &mut [&mut [u8]]| {
        let outputs = outputs.iter_mut().map(|o| &mut **o).enumerate();
        if operation == "encode" {
            code.encode(sources, &mut outputs.collect::<Vec<_>>()).unwrap();
        } else {
            let mut missing: Vec<_> = outputs.collect();
            let present: Vec<_> = sources.iter().copied().zip(missing.len()..).map(|(s, i)| (i, s)).collect();
            code.reconstruct(&present, &mut missing).unwrap();
        }
    };
    let outputs = if operation == "decode 1 lost" { 1 } else { m };
    let mut combination = isa_l.combination(&factors(k, outputs, ours));
    let sources = shards(pool, k);
    let sources = slices(&sources);
    let (mut expected, mut made) = (shards(pool, outputs), shards(pool, outputs));
    ours(&sources, &mut expected.iter_mut().map(|b| &mut **b).collect::<Vec<_>>());
    let mut to: Vec<&mut [u8]> = made.iter_mut().map(|b| &mut **b).collect();
    combination.run(&sources, &mut to);
    assert!(to.iter().zip(&expected).all(|(a, b)| **a == **b), "ISA-L computes something else");
    let id = BenchmarkId::new("isa-l", format!("{k}+{m}"));
    group.bench_function(id, |b| b.iter(|| combination.run(&sources, &mut to)));
}

fn main() {
    let library = IsaL::load().inspect_err(|e| eprintln!("without ISA-L: {e}")).ok();
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(150))
        .measurement_time(Duration::from_millis(500))
        .configure_from_args();
    let pool = BufferPool::new(0);
    for operation in ["encode", "decode m lost", "decode 1 lost", "update"] {
        let mut group = criterion.benchmark_group(operation);
        for (k, m) in SHAPES {
            let read = if operation == "update" { 1 } else { k };
            group.throughput(Throughput::Bytes((read * SHARD_BYTES) as u64));
            our_engines(&mut group, operation, k, m, &pool);
            the_crate(&mut group, operation, k, m, &pool);
            // It has an update, too, but of one source's tables among all: not what is timed here.
            if let Some(library) = library.filter(|_| operation != "update") {
                isa_l(&mut group, library, operation, k, m, &pool);
            }
        }
        group.finish();
    }
    criterion.final_summary();
}
