//! Encode, decode and update of 64 KiB shards, each engine next to `reed-solomon-erasure`.
//!
//! Rates are of data read: `k` shards for encode and decode, the delta for update. The peer in its
//! fast form (needs AVX2): `cargo bench --bench codec --features reed-solomon-erasure/simd-accel`.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot run should stop")]

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

fn main() {
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
        }
        group.finish();
    }
    criterion.final_summary();
}
