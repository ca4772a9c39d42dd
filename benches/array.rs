//! What the engine itself costs: whole stripes, small writes until they are answered, and reads with
//! all members there, one lost, and two lost.
//!
//! Members lie in memory and there is no front end; so this finds what makes the engine slower, and says
//! little of what a disk will do. `tools/compare` measures the program as people use it.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot run should stop")]

mod bench_array;

use bench_array::{BLOCK, BenchArray, CHUNK, USED, criterion};
use criterion::{Criterion, Throughput};
use futures::future::try_join_all;
use palisade::env::Env;
use palisade::error::Result;
use palisade::export::{Durability, Volume};
use palisade::geometry::Shape;
use palisade::units::{Slot, StripeIndex};
use std::sync::Arc;

const WHOLE: u64 = 1 << 20;
/// Small writes at once.
const AT_ONCE: u64 = 64;

/// Bytes as a front end has them: in a buffer of the pool.
fn bytes(env: &Env, len: u64) -> bytes::Bytes {
    let mut bytes = env.buffers().take(usize::try_from(len).unwrap());
    bytes.iter_mut().zip(0_usize..).for_each(|(b, n)| *b = (n / 61).to_le_bytes()[0]);
    bytes.freeze()
}

/// Four whole stripes: read from nowhere, straight home.
fn whole_stripes(criterion: &mut Criterion, bench: &BenchArray) {
    let mut group = criterion.benchmark_group("write whole stripes");
    group.throughput(Throughput::Bytes(WHOLE));
    let data = bytes(&bench.runtime.env(), WHOLE);
    group.bench_function("1 MiB", |b| {
        b.iter_custom(|count| {
            let data = data.clone();
            bench.time(count, move |volume, turn| {
                let (at, data) = (turn * WHOLE % USED, data.clone());
                async move { volume.write(at, data, Durability::Volatile).await }
            })
        });
    });
    group.finish();
}

/// Answered when a frame of the journal has them. Always the same blocks, one in each of 64 stripes, so
/// that little has to go home.
fn small_writes(criterion: &mut Criterion, bench: &BenchArray) {
    let stripe = bench.shape.stripe_bytes();
    let data = bytes(&bench.runtime.env(), BLOCK);
    let mut group = criterion.benchmark_group("journal commit");
    for at_once in [1, AT_ONCE] {
        group.throughput(Throughput::Elements(at_once));
        let name = if at_once == 1 { "a write of 4 KiB".into() } else { format!("{at_once} at once") };
        group.bench_function(name, |b| {
            b.iter_custom(|count| {
                let data = data.clone();
                bench.time(count, move |volume, turn| {
                    let data = data.clone();
                    async move {
                        let write = |n: u64| {
                            let at = (turn + n) % AT_ONCE * stripe;
                            volume.write(at, data.clone(), Durability::Volatile)
                        };
                        try_join_all((0..at_once).map(write)).await.map(drop)
                    }
                })
            });
        });
    }
    group.finish();
    bench.settle();
}

/// Reads chunks, or their first block, that the first member holds.
fn reads(criterion: &mut Criterion, bench: &BenchArray, name: &str) {
    let mut group = criterion.benchmark_group(format!("read, {name}"));
    for (size, len) in [("4 KiB", BLOCK), ("64 KiB", CHUNK)] {
        group.throughput(Throughput::Bytes(len));
        let places: Arc<[u64]> = chunks_of(&bench.shape, Slot(0)).into();
        group.bench_function(size, |b| {
            b.iter_custom(|count| {
                let places = Arc::clone(&places);
                bench.time(count, move |volume, turn| {
                    // Not one after another: nobody reads ahead, but a cache might.
                    let place = usize::try_from(turn * 7919).unwrap() % places.len();
                    read(volume, places[place], len)
                })
            });
        });
    }
    group.finish();
}

async fn read(volume: Arc<dyn Volume>, at: u64, len: u64) -> Result<()> {
    let pieces = volume.read(at, len).await?;
    assert_eq!(pieces.iter().map(|piece| piece.len() as u64).sum::<u64>(), len);
    Ok(())
}

/// Where in the volume the data chunks of a slot lie.
fn chunks_of(shape: &Shape, slot: Slot) -> Vec<u64> {
    let stripes = (0..USED / shape.stripe_bytes()).map(StripeIndex);
    let shards = stripes.map(|stripe| (stripe.0, shape.shard_of(stripe, slot)));
    let data = shards.filter(|(_, shard)| *shard < shape.data());
    data.map(|(stripe, shard)| stripe * shape.stripe_bytes() + shard as u64 * shape.chunk_bytes()).collect()
}

fn main() {
    let mut criterion = criterion();
    let bench = BenchArray::start();
    whole_stripes(&mut criterion, &bench);
    small_writes(&mut criterion, &bench);
    reads(&mut criterion, &bench, "all members there");
    bench.lose(0);
    reads(&mut criterion, &bench, "its member lost");
    bench.lose(1);
    reads(&mut criterion, &bench, "two members lost");
    bench.stop();
    criterion.final_summary();
}
