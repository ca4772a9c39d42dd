//! The states that are kept: how each is made, and what it must come to when it is started.

use super::content::SECTOR;
use super::golden::{Golden, Outcome};
use super::journal::kinds;
use super::rig::{CHUNK, Rig, STRIPES, Step, member_bytes};
use palisade::array::{Candidate, MemberRef, RebuildControl};
use palisade::format::Areas;
use palisade::member::Opener;
use palisade::member::sim::Crash;
use palisade::units::Slot;
use std::ops::Range;
use std::time::Duration;

/// Stripes that hold data: in several sectors and both pages of either table.
const FILLED: [Range<u64>; 4] = [0..6, 122..128, 601..603, 1005..1011];
const ALL: [&str; 3] = ["d0", "d1", "d2"];

/// Makes a state of an array of so many data and parity members.
type Make = fn((u8, u8)) -> Golden;

/// The name of its file, and how it is made.
pub type State = (String, Box<dyn Fn() -> Golden>);

/// Every state.
pub fn all() -> Vec<State> {
    let of_both: [(&str, Make); 7] = [
        ("fresh", fresh),
        ("clean", clean),
        ("killed", |shape| crashed(shape, Crash::Kill)),
        ("degraded", degraded),
        ("rebuilding", rebuilding),
        ("rotten", rotten),
        ("discarded", discarded),
    ];
    let of_one: [(&str, (u8, u8), Make); 4] = [
        ("power-cut", (2, 1), |shape| crashed(shape, Crash::PowerCut)),
        ("returned", (2, 1), returned),
        ("spare", (2, 1), spare),
        ("apart", (1, 2), apart),
    ];
    let both = [(2, 1), (1, 2)].map(|shape| of_both.map(|(name, make)| (name, shape, make)));
    both.into_iter().flatten().chain(of_one).map(state).collect()
}

fn state((name, shape, make): (&str, (u8, u8), Make)) -> State {
    (format!("{name}-{}+{}", shape.0, shape.1), Box::new(move || make(shape)))
}

fn starts(state: &str, rows: &[&str]) -> Outcome {
    Outcome::Starts { state: state.into(), rows: rows.iter().map(ToString::to_string).collect() }
}

fn optimal() -> Outcome {
    starts("optimal", &["0 d0 in-sync", "1 d1 in-sync", "2 d2 in-sync"])
}

fn fresh(shape: (u8, u8)) -> Golden {
    Rig::run(shape, 0, |rig| async move { rig.golden("just made, never started", optimal(), &ALL) })
}

/// Started, with version 1 in what is filled, and all of it home.
async fn filled(rig: &mut Rig) {
    rig.start().await;
    for stripes in FILLED {
        rig.write_stripes(stripes, 1).await;
    }
    rig.settle().await;
}

fn clean(shape: (u8, u8)) -> Golden {
    Rig::run(shape, 0, |mut rig| async move {
        filled(&mut rig).await;
        // Also what was staged, in part of a block.
        rig.carry_out(Step::Write(3..21, 2)).await;
        rig.stop().await;
        rig.golden("filled and stopped in order", optimal(), &ALL)
    })
}

fn spare(shape: (u8, u8)) -> Golden {
    Rig::run(shape, 1, |mut rig| async move {
        filled(&mut rig).await;
        rig.stop().await;
        let rows = ["0 d0 in-sync", "1 d1 in-sync", "2 d2 in-sync", "spare d3 spare"];
        rig.golden("with a spare", starts("optimal", &rows), &["d0", "d1", "d2", "d3"])
    })
}

/// Crashed at an operation at which the journal holds a record of each kind: the one in the middle of
/// those, for there a part of what they tell is done.
fn crashed(shape: (u8, u8), crash: Crash) -> Golden {
    let attempts = (1..).map_while(|at| crashed_at(shape, crash, at));
    let mut with_all: Vec<Golden> = attempts.filter(|golden| kinds(golden).len() == 4).collect();
    assert!(!with_all.is_empty(), "no crash leaves records of every kind");
    with_all.remove(with_all.len() / 2)
}

/// Nothing if the work has fewer operations.
fn crashed_at(shape: (u8, u8), crash: Crash, at: u64) -> Option<Golden> {
    let died = std::cell::Cell::new(false);
    let golden = Rig::run(shape, 0, |mut rig| {
        let died = &died;
        async move {
            filled(&mut rig).await;
            rig.lossy = crash == Crash::PowerCut;
            rig.disks.plan_crash(at, crash);
            // The last ones are still being written when the first ones come home.
            let stripe = rig.shape.stripe_bytes() / SECTOR;
            let steps = [
                Step::Write(8..24, 2),
                Step::Write(28..33, 3),
                Step::Zero(122..124),
                Step::Write(124 * stripe..127 * stripe, 2),
                Step::Write(300 * stripe..302 * stripe, 2),
                Step::Write(1006 * stripe..1006 * stripe + 8, 2),
                Step::Discard(602..603),
            ];
            for step in steps {
                rig.durably(step).await;
            }
            let home = rig.sleep(Duration::from_millis(230));
            futures::join!(home, rig.carry_out(Step::Write(1007 * stripe..1009 * stripe, 4)));
            rig.carry_out(Step::Write(4 * stripe..6 * stripe, 5)).await;
            died.set(!rig.disks.unplan_crash());
            let what = match crash {
                Crash::Kill => "killed in the middle of writing",
                Crash::PowerCut => "lost power in the middle of writing",
            };
            rig.golden(what, optimal(), &ALL)
        }
    });
    died.get().then_some(golden)
}

/// With d1 lost and version 2 in some places since.
async fn lost(rig: &mut Rig) {
    filled(rig).await;
    rig.disks.get("d1").unwrap().vanish();
    rig.wait("d1 is lost", |report| report.members[1].state != palisade::array::MemberState::InSync).await;
    let stripe = rig.shape.stripe_bytes() / SECTOR;
    for step in [Step::Write(0..16, 2), Step::Discard(123..124), Step::Write(1005 * stripe..1008 * stripe, 2)]
    {
        rig.carry_out(step).await;
    }
    rig.sleep(Duration::from_millis(250)).await;
    rig.carry_out(Step::Write(32..36, 3)).await;
    rig.kill();
    rig.disks.get("d1").unwrap().come_back();
}

fn degraded(shape: (u8, u8)) -> Golden {
    Rig::run(shape, 0, |mut rig| async move {
        lost(&mut rig).await;
        let rows = ["0 d0 in-sync", "1 - missing", "2 d2 in-sync"];
        rig.golden("a member lost, killed after writes", starts("degraded", &rows), &["d0", "d2"])
    })
}

fn returned(shape: (u8, u8)) -> Golden {
    Rig::run(shape, 0, |mut rig| async move {
        lost(&mut rig).await;
        let rows = ["0 d0 in-sync", "1 d1 rebuilding", "2 d2 in-sync"];
        rig.golden("a member that missed writes is back", starts("degraded", &rows), &ALL)
    })
}

fn rebuilding(shape: (u8, u8)) -> Golden {
    Rig::run(shape, 0, |mut rig| async move {
        lost(&mut rig).await;
        rig.start_of(&["d0", "d2"]).await;
        let slowly = RebuildControl { max_rate_bytes_per_s: Some(512 << 10), paused: None };
        rig.array().control_rebuild(slowly);
        rig.disks.create("d3", member_bytes(&rig.shape));
        let opener = rig.disks.opener(rig.process());
        let new = Candidate { path: "d3".into(), backend: opener.open("d3").await.unwrap() };
        let replaced = |array: std::sync::Arc<palisade::array::Array>| async move {
            array.replace(&MemberRef::Slot(Slot(1)), new).await
        };
        rig.call(replaced).await.unwrap().unwrap();
        let some = |done: u64| done > STRIPES * CHUNK / 4;
        rig.wait("a part is filled", |r| r.tasks.first().is_some_and(|t| some(t.done_bytes))).await;
        rig.call(|array| async move { array.save_progress().await }).await.unwrap().unwrap();
        rig.durably(Step::Write(16..40, 4)).await;
        rig.power_cut();
        let rows = ["0 d0 in-sync", "1 - missing", "1 d3 rebuilding", "2 d2 in-sync"];
        let mut golden = rig.golden(
            "lost power while a new member was filled",
            starts("degraded", &rows),
            &["d0", "d2", "d3"],
        );
        golden.filled = true;
        golden
    })
}

/// A page of checksums, one of the epoch map and a block of data have rotted, each on another member.
fn rotten(shape: (u8, u8)) -> Golden {
    Rig::run(shape, 0, |mut rig| async move {
        filled(&mut rig).await;
        rig.stop().await;
        let areas = Areas::plan(member_bytes(&rig.shape), &rig.shape).unwrap();
        let rot = |name: &str, at: u64| {
            let disk = rig.disks.get(name).unwrap();
            disk.scribble(at, &[0x5a; 4096]);
        };
        rot("d1", areas.checksum_offset);
        rot("d2", areas.epoch_offset);
        rot("d0", areas.data_offset + rig.shape.chunk_offset(palisade::units::StripeIndex(1010)));
        let mut golden = rig.golden("a block and two pages of tables have rotted", optimal(), &ALL);
        golden.damaged = true;
        golden
    })
}

fn discarded(shape: (u8, u8)) -> Golden {
    Rig::run(shape, 0, |mut rig| async move {
        filled(&mut rig).await;
        let stripe = rig.shape.stripe_bytes() / SECTOR;
        let steps = [
            Step::Discard(0..4),
            Step::Discard(122..130),
            Step::Zero(601..602),
            Step::Write(2 * stripe..2 * stripe + 8, 2),
            Step::Write(125 * stripe..126 * stripe, 3),
        ];
        for step in steps {
            rig.carry_out(step).await;
        }
        rig.kill();
        rig.golden("some given back and written again, killed", optimal(), &ALL)
    })
}

/// d0 and d1 were each started alone, and written to.
fn apart(shape: (u8, u8)) -> Golden {
    Rig::run(shape, 0, |mut rig| async move {
        filled(&mut rig).await;
        rig.stop().await;
        for alone in ["d0", "d1"] {
            rig.start_of(&[alone]).await;
            rig.carry_out(Step::Write(0..8, 2)).await;
            rig.stop().await;
        }
        let outcome =
            Outcome::Refused("the members ran apart and each side has writes the other lacks".into());
        rig.golden("two members ran alone", outcome, &["d0", "d1"])
    })
}
