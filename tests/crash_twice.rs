//! Two crashes, one soon after the other, in the middle of writes of the same whole stripes. What the
//! first one left was decided at the start in between; the second start must know what that was.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "golden_arrays/mod.rs"]
mod arrays;

use arrays::{Rig, Step, member_bytes};
use palisade::format::Areas;
use palisade::member::sim::FaultPlan;

/// The crashes come when only some members have been written to.
async fn crash_twice(mut rig: Rig, cut: [u8; 2], staged: bool) {
    rig.start().await;
    rig.write_stripes(0..8, 1).await;
    rig.settle().await;
    rig.lossy = true;
    for (untouched, version) in cut.into_iter().zip(2..) {
        if staged {
            // It keeps the tail of the journal where it is.
            rig.carry_out(Step::Write(0..8, version)).await;
        }
        let data = Areas::plan(member_bytes(&rig.shape), &rig.shape).unwrap().data_offset;
        for (number, disk) in rig.disks.disks().iter().enumerate() {
            let rate = if untouched >> number & 1 == 1 { 1_000_000 } else { 0 };
            let lies_in = std::iter::once(data..disk.size_bytes()).collect();
            disk.set_plan(FaultPlan { dropped_write: rate, lies_in, ..FaultPlan::default() });
        }
        rig.write_stripes(3..6, version).await;
        rig.kill();
        rig.disks.disks().iter().for_each(|disk| disk.heal());
        rig.start().await;
        rig.holds_everything(&format!("{cut:?}, staged: {staged}, after version {version}")).await;
    }
}

#[test]
fn what_a_start_made_of_a_torn_stripe_is_known_after_the_next_crash() {
    for cut in (0..64).map(|code| [code % 8, code / 8]) {
        for (shape, staged) in [((2, 1), false), ((2, 1), true), ((1, 2), false), ((1, 2), true)] {
            Rig::run(shape, |rig| crash_twice(rig, cut, staged));
        }
    }
}
