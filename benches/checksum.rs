//! CRC32C of a block: the one in use next to the `crc32c` crate.

use criterion::{Criterion, Throughput};
use palisade::units::BLOCK_BYTES;
use std::hint::black_box;
use std::time::Duration;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let block: Vec<u8> = (0..BLOCK_BYTES).map(|i| ((i * 31) >> 3).to_le_bytes()[0]).collect();
    assert_eq!(palisade::format::crc32c(&block), crc32c::crc32c(&block));
    let mut group = criterion.benchmark_group("crc32c of a block");
    group.throughput(Throughput::Bytes(BLOCK_BYTES));
    group.bench_function("crc-fast", |b| b.iter(|| palisade::format::crc32c(black_box(&block))));
    group.bench_function("crc32c", |b| b.iter(|| crc32c::crc32c(black_box(&block))));
    group.finish();
    criterion.final_summary();
}
