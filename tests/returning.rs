//! A member of a simulated array that is taken back.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "scrub/bench.rs"]
#[allow(dead_code, reason = "made for scrubs")]
mod bench;

use bench::{BLOCK, Bench};
use palisade::array::{ArrayState, MemberState};
use palisade::observe::VolumeRange;
use palisade::units::Slot;
use std::time::Duration;

/// Of one that is taken back much is believed, and only its checksums are read for it.
#[test]
fn whoever_hangs_when_its_checksums_are_read_is_lost_again_and_holds_up_nobody_for_long() {
    Bench::run(3, 4, 2, |mut bench| async move {
        // Some epochs end.
        for _ in 0..6 {
            bench.write_again(VolumeRange { offset_bytes: 0, len_bytes: BLOCK }).await;
            bench.sleep(Duration::from_secs(2)).await;
        }
        let disk = bench.disk(Slot(1));
        disk.vanish();
        bench.wait("slot 1 is lost", |r| r.state == ArrayState::Degraded).await;
        bench.sleep(Duration::from_secs(3)).await;
        disk.come_back();
        bench
            .wait("slot 1 is taken back", |r| r.members.iter().any(|m| m.state == MemberState::Rebuilding))
            .await;
        disk.hang();
        bench.sleep(Duration::from_millis(500)).await;
        let begun = bench.now();
        bench.holds_everything().await;
        let took = bench.now().since(begun);
        assert!(took < Duration::from_secs(5), "reading it all took {took:?}");
        assert_eq!(bench.report().state, ArrayState::Degraded);
        disk.release();
        bench.stop().await;
    });
}
