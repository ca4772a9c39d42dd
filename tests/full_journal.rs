//! A journal that fills up while a member is lost and everything goes through it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "scrub/bench.rs"]
#[allow(dead_code, reason = "made for scrubs")]
mod bench;

use bench::{Bench, CHUNK};
use palisade::export::Durability;
use palisade::units::Slot;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Whoever waits for room in it must hold nothing that those who make room need.
#[test]
fn writes_of_parts_of_blocks_go_on_when_the_journal_is_full() {
    Bench::run(0, 4, 2, |bench| async move {
        bench.disk(Slot(0)).vanish();
        bench.wait("slot 0 is lost", |r| r.event_count.0 > 5 && !r.problems.is_empty()).await;
        let count = Rc::new(Cell::new(0u64));
        for writer in 0..12u64 {
            let (volume, count) = (bench.array().volume(), Rc::clone(&count));
            bench.process().env().spawn(Box::pin(async move {
                let mut x = writer + 1;
                loop {
                    x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let at = (x >> 33) % 4000 * 1024;
                    let bytes = vec![1; usize::try_from(1024 + (x >> 50) % 3 * CHUNK).unwrap()];
                    volume.write(at, bytes.into(), Durability::Volatile).await.unwrap();
                    count.set(count.get() + 1);
                }
            }));
        }
        for second in 0..4 {
            let before = count.get();
            bench.sleep(Duration::from_secs(1)).await;
            assert!(count.get() > before, "none of {before} writes more in second {second}");
        }
    });
}
