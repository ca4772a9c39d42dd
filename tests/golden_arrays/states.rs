//! The states that are kept: how each is made, and what it must come to when it is started.

use super::content::SECTOR;
use super::golden::{Golden, Image, Outcome};
use super::journal::{kinds, says_what_stays};
use super::rig::{CHUNK, Of, Rig, STRIPES, Step, member_bytes};
use palisade::array::{Candidate, MemberRef, MemberState, RebuildControl, Report};
use palisade::format::Areas;
use palisade::geometry::Shape;
use palisade::member::sim::Crash;
use palisade::member::{Opener, SimDisk};
use palisade::units::Slot;
use std::cell::Cell;
use std::ops::Range;
use std::time::Duration;

/// Stripes that hold data: in several sectors and both pages of either table.
const FILLED: [Range<u64>; 4] = [0..6, 122..128, 601..603, 1005..1011];
const ALL: [&str; 3] = ["d0", "d1", "d2"];
const ROWS: [&str; 3] = ["0 d0 in-sync", "1 d1 in-sync", "2 d2 in-sync"];
/// Those that bear the journal, where any do; how many there are depends on the shape.
const JOURNAL: [&str; 3] = ["j0", "j1", "j2"];
const JOURNAL_ROWS: [&str; 3] = ["journal-0 j0 in-sync", "journal-1 j1 in-sync", "journal-2 j2 in-sync"];

/// Makes a state of an array of so many data and parity members.
type Make = fn((u8, u8)) -> Golden;

/// The name of its file, and how it is made.
pub type State = (String, Box<dyn Fn() -> Golden>);

/// Every state.
pub fn all() -> Vec<State> {
    let of_both: [(&str, Make); 9] = [
        ("fresh", fresh),
        ("clean", clean),
        ("killed", |shape| crashed(shape.into(), Crash::Kill)),
        ("degraded", |shape| degraded(shape.into())),
        ("rebuilding", rebuilding),
        ("rotten", rotten),
        ("discarded", discarded),
        ("journal-killed", |shape| crashed(with_journal(shape), Crash::Kill)),
        ("journal-degraded", |shape| degraded(with_journal(shape))),
    ];
    let of_one: [(&str, (u8, u8), Make); 7] = [
        ("power-cut", (2, 1), |shape| crashed(shape.into(), Crash::PowerCut)),
        ("journal-power-cut", (2, 1), |shape| crashed(with_journal(shape), Crash::PowerCut)),
        ("overwritten", (2, 1), overwritten),
        ("overwritten-lost", (2, 1), overwritten_and_lost),
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

/// With as many journal members as there must be.
fn with_journal(shape: (u8, u8)) -> Of {
    Of { journal: usize::from(shape.1) + 1, ..shape.into() }
}

fn starts(state: &str, rows: &[&str]) -> Outcome {
    Outcome::Starts { state: state.into(), rows: rows.iter().map(ToString::to_string).collect() }
}

fn optimal() -> Outcome {
    starts("optimal", &ROWS)
}

fn fresh(shape: (u8, u8)) -> Golden {
    Rig::run(shape, |rig| async move { rig.golden("just made, never started", optimal(), &ALL) })
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
    Rig::run(shape, |mut rig| async move {
        filled(&mut rig).await;
        // Also what was staged, in part of a block.
        rig.carry_out(Step::Write(3..21, 2)).await;
        rig.stop().await;
        rig.golden("filled and stopped in order", optimal(), &ALL)
    })
}

fn spare(shape: (u8, u8)) -> Golden {
    Rig::run(Of { spares: 1, ..shape.into() }, |mut rig| async move {
        filled(&mut rig).await;
        rig.stop().await;
        let rows = ["0 d0 in-sync", "1 d1 in-sync", "2 d2 in-sync", "spare d3 spare"];
        rig.golden("with a spare", starts("optimal", &rows), &["d0", "d1", "d2", "d3"])
    })
}

/// Crashed at an operation at which the journal holds a record of each kind: the one in the middle of
/// those, for there a part of what they tell is done.
fn crashed(of: Of, crash: Crash) -> Golden {
    let attempts = (1..).map_while(|at| crashed_at(of, crash, at));
    middle(attempts.filter(|golden| kinds(golden).len() == 4).collect())
}

#[track_caller]
fn middle(mut attempts: Vec<Golden>) -> Golden {
    assert!(!attempts.is_empty(), "no crash leaves what is wanted");
    attempts.swap_remove(attempts.len() / 2)
}

/// Nothing if the work has fewer operations.
fn crashed_at(of: Of, crash: Crash, at: u64) -> Option<Golden> {
    let died = Cell::new(false);
    let golden = Rig::run(of, |mut rig| {
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
            let (mut rows, mut names) = (ROWS.to_vec(), ALL.to_vec());
            rows.extend(&JOURNAL_ROWS[..of.journal]);
            names.extend(&JOURNAL[..of.journal]);
            rig.golden(what, starts("optimal", &rows), &names)
        }
    });
    died.get().then_some(golden)
}

/// Killed while whole stripes were written of which one block stays as it was, when some members had
/// their new blocks.
fn overwritten(shape: (u8, u8)) -> Golden {
    let mut attempts = overwriting(shape);
    let before = home(&attempts[0]);
    attempts.retain(|golden| {
        let same = home(golden).iter().zip(&before).filter(|(now, before)| now == before).count();
        (1..before.len()).contains(&same)
    });
    middle(attempts)
}

/// The same, before any member had them, and one is lost: what it held must be told from the others, old
/// as they are.
fn overwritten_and_lost(shape: (u8, u8)) -> Golden {
    let mut attempts = overwriting(shape);
    let before = home(&attempts[0]);
    attempts.retain(|golden| home(golden) == before);
    let mut golden = attempts.pop().unwrap();
    golden.members.pop();
    golden.what.push_str(", and lost a member");
    golden.outcome = starts("degraded", &["0 d0 in-sync", "1 d1 in-sync", "2 - missing"]);
    golden
}

/// What the members hold of the stripes that are overwritten.
fn home(golden: &Golden) -> Vec<Vec<u8>> {
    let (k, m, chunk) = golden.shape;
    let areas = |size| Areas::plan(size, &Shape::new(k, m, chunk).unwrap()).unwrap();
    let of = |image: &Image| image.read(areas(image.size_bytes).data_offset + 2 * chunk, 2 * 4096);
    golden.members.iter().map(of).collect()
}

/// Crashed at every operation of such a write at which the journal says which blocks stay.
fn overwriting(shape: (u8, u8)) -> Vec<Golden> {
    let attempts = (1..).map_while(|at| {
        let died = Cell::new(false);
        let golden = Rig::run(shape, |mut rig| {
            let died = &died;
            async move {
                filled(&mut rig).await;
                rig.disks.plan_crash(at, Crash::Kill);
                // Stripes 2 and 3; of the first d2 has the block that changes.
                rig.carry_out(Step::Among(40..56, 2)).await;
                died.set(!rig.disks.unplan_crash());
                rig.golden("killed while whole stripes were written that stay in part", optimal(), &ALL)
            }
        });
        died.get().then_some(golden)
    });
    attempts.filter(says_what_stays).collect()
}

/// With d1 lost and version 2 in some places since.
async fn lost(rig: &mut Rig) {
    filled(rig).await;
    let gone: Vec<_> = ["d1", "j0"].iter().filter_map(|name| rig.disks.get(name)).collect();
    gone.iter().for_each(SimDisk::vanish);
    let lost = |report: &Report| report.members.iter().filter(|m| m.state != MemberState::InSync).count();
    rig.wait("they are lost", |report| lost(report) == gone.len()).await;
    let stripe = rig.shape.stripe_bytes() / SECTOR;
    for step in [Step::Write(0..16, 2), Step::Discard(123..124), Step::Write(1005 * stripe..1008 * stripe, 2)]
    {
        rig.carry_out(step).await;
    }
    rig.sleep(Duration::from_millis(250)).await;
    rig.carry_out(Step::Write(32..36, 3)).await;
    rig.kill();
    gone.iter().for_each(SimDisk::come_back);
}

fn degraded(of: Of) -> Golden {
    Rig::run(of, |mut rig| async move {
        lost(&mut rig).await;
        let (mut rows, mut names) = (vec![ROWS[0], "1 - missing", ROWS[2]], vec!["d0", "d2"]);
        if of.journal == 0 {
            return rig.golden("a member lost, killed after writes", starts("degraded", &rows), &names);
        }
        rows.push("journal-0 - missing");
        rows.extend(&JOURNAL_ROWS[1..of.journal]);
        names.extend(&JOURNAL[1..of.journal]);
        let what = "a member and one with the journal lost, killed after writes";
        rig.golden(what, starts("degraded", &rows), &names)
    })
}

fn returned(shape: (u8, u8)) -> Golden {
    Rig::run(shape, |mut rig| async move {
        lost(&mut rig).await;
        let rows = ["0 d0 in-sync", "1 d1 rebuilding", "2 d2 in-sync"];
        rig.golden("a member that missed writes is back", starts("degraded", &rows), &ALL)
    })
}

fn rebuilding(shape: (u8, u8)) -> Golden {
    Rig::run(shape, |mut rig| async move {
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
    Rig::run(shape, |mut rig| async move {
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
    Rig::run(shape, |mut rig| async move {
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
    Rig::run(shape, |mut rig| async move {
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
