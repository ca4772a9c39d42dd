//! A few hundred seeds of a simulated array against a model of its volume.
//!
//! What a seed does is decided by the seed alone; a failure prints how to replay it. More seeds:
//! `cargo run --release --example simulate -- --seconds 600`.

#![allow(clippy::unwrap_used, reason = "test code")]

#[path = "simulation/mod.rs"]
mod simulation;

use palisade::mutation::{Protection, Removed};
use simulation::{
    COVERED, JournalOn, RunOptions, SHAPES, SOON, Scenario, Stats, Sweep, TRIALS, Variety, run_seed, torn_row,
};

fn run(seeds: impl Iterator<Item = u64>, scenario: Option<Scenario>) -> Stats {
    let mut total = Stats::default();
    for seed in seeds {
        let options = RunOptions { seed, scenario, ..RunOptions::default() };
        match run_seed(&options) {
            Ok(outcome) => total.add(&outcome.stats),
            Err(failure) => panic!("{failure}"),
        }
    }
    total
}

#[test]
fn random_requests_on_a_healthy_array_read_what_was_written() {
    assert!(run(0..40, Some(Scenario::Calm)).requests > 1000);
}

#[test]
fn members_fail_and_are_replaced_and_no_byte_changes() {
    let stats = run(1000..1060, Some(Scenario::Degraded));
    assert!(stats.faults > 50 && stats.replacements > 20, "{stats}");
}

#[test]
fn a_crash_of_a_healthy_array_changes_nothing_that_was_not_being_written() {
    let stats = run(2000..2060, Some(Scenario::Crash));
    assert!(stats.crashes > 50, "{stats}");
}

#[test]
fn members_lost_before_during_and_after_a_crash_take_nothing_along() {
    let stats = run(3000..3040, Some(Scenario::CrashDegraded));
    assert!(stats.crashes > 30, "{stats}");
}

#[test]
fn members_permuted_missing_and_stale_never_serve_what_they_missed() {
    let stats = run(4000..4050, Some(Scenario::Restart));
    assert!(stats.restarts > 50, "{stats}");
}

#[test]
fn with_too_many_members_lost_nothing_wrong_is_read_and_the_array_resumes() {
    let stats = run(5000..5030, Some(Scenario::Beyond));
    assert!(stats.beyond > 10, "{stats}");
}

#[test]
fn the_machine_goes_down_while_too_many_lost_members_come_back() {
    let stats = run(8000..8030, Some(Scenario::BeyondCrash));
    assert!(stats.beyond > 10 && stats.crashes > 10, "{stats}");
}

#[test]
fn members_that_lie_and_rot_are_found_out_and_made_good() {
    let stats = run(9000..9060, Some(Scenario::Rot));
    assert!(stats.rotten > 500 && stats.crashes > 30, "{stats}");
}

#[test]
fn a_crash_while_the_last_one_is_put_in_order_changes_nothing_either() {
    let stats = run(10_000..10_012, Some(Scenario::Storm));
    assert!(stats.crashes > 100, "{stats}");
}

#[test]
fn a_crash_at_some_operation_of_a_small_change_harms_nothing() {
    let stats = run(12_000..12_020, Some(Scenario::Hammer));
    assert!(stats.crashes > 100, "{stats}");
}

#[test]
fn changes_of_membership_cut_short_or_given_up_cost_no_member() {
    let stats = run(13_000..13_030, Some(Scenario::Upheaval));
    assert!(stats.crashes > 30, "{stats}");
}

#[test]
fn replacements_half_filled_in_a_crash_are_as_good_as_any_in_the_end() {
    let stats = run(14_000..14_020, Some(Scenario::Refill));
    assert!(stats.crashes > 50 && stats.replacements > 20, "{stats}");
}

#[test]
fn pieces_of_a_member_in_the_wrong_place_are_not_believed() {
    let stats = run(15_000..15_012, Some(Scenario::Mislaid));
    assert!(stats.rotten > 20, "{stats}");
}

#[test]
fn scripts_aimed_at_one_protection_each_find_nothing_with_all_of_them() {
    let stats = run(0..63, Some(Scenario::Aimed));
    assert!(stats.crashes > 63, "{stats}");
}

#[test]
fn old_copies_of_members_and_pieces_of_others_are_not_believed() {
    run(11_000..11_040, Some(Scenario::Impostor));
}

#[test]
fn an_array_that_lost_its_journal_goes_on_and_reads_nothing_wrong() {
    let stats = run(12_000..12_030, Some(Scenario::Discard));
    assert!(stats.crashes > 60, "{stats}");
}

#[test]
fn parity_that_is_older_than_its_row_is_not_believed_once_the_journal_is_gone() {
    torn_row().unwrap_or_else(|failure| panic!("{failure}"));
    let removed = Removed::new(&[Protection::StripesProven]);
    let failure = torn_row().unwrap_err();
    drop(removed);
    assert!(failure.contains("the idle block became"), "{failure}");
}

/// Some of the proofs of docs/proofs.md: those that take few runs.
#[test]
fn protections_of_the_data_are_missed_as_soon_as_they_are_taken_away() {
    let all = TRIALS.iter().chain(COVERED.iter().map(|(trial, _)| trial));
    let soon: Vec<_> = all.filter(|trial| trial.soon).collect();
    assert!(soon.len() > 15, "{} trials", soon.len());
    for trial in soon {
        assert!(trial.run(SOON).is_some(), "nobody misses {}", trial.protection.name());
    }
}

#[test]
fn each_protection_is_tried_once_alone_or_with_another() {
    for protection in Protection::ALL {
        let all = TRIALS.iter().chain(COVERED.iter().map(|(trial, _)| trial));
        let trials = all.filter(|trial| trial.protection == *protection).count();
        assert_eq!(trials, 1, "{}", protection.name());
    }
}

/// One that no line of the engine asks for would never be missed.
#[test]
fn each_protection_is_asked_for_somewhere_in_the_engine() {
    fn sources(folder: &std::path::Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => sources(&entry, text),
                false if entry.ends_with("mutation.rs") => {}
                false => text.push_str(&std::fs::read_to_string(entry).unwrap()),
            }
        }
    }
    let mut text = String::new();
    sources(std::path::Path::new("src"), &mut text);
    for protection in Protection::ALL {
        let asked = format!("without(Protection::{})", protection.name());
        assert!(text.contains(&asked), "nobody asks for {}", protection.name());
    }
}

#[test]
fn everything_at_once() {
    run(6000..6060, None);
}

/// Crashes one workload at every operation on its members.
fn sweep(shape: (u8, u8), journal: JournalOn, seed: u64) {
    let sweep = Sweep { seed, shape, journal, variety: Variety::Few, trace: false };
    let (mut crashes, mut recoveries) = (0, 0);
    sweep.run(|tried| {
        crashes += 1;
        recoveries += tried.unwrap_or_else(|failure| panic!("crash {crashes}: {failure}"));
        true
    });
    assert!(crashes > 150 && recoveries == crashes * 3, "{crashes} crashes, {recoveries} recoveries");
}

#[test]
fn a_crash_at_any_operation_harms_nothing_on_2_and_1() {
    sweep(SHAPES[0], JournalOn::Slots, 1);
}

#[test]
fn a_crash_at_any_operation_harms_nothing_on_4_and_2() {
    sweep(SHAPES[1], JournalOn::Slots, 2);
}

#[test]
fn a_crash_at_any_operation_harms_nothing_on_1_and_2() {
    sweep(SHAPES[2], JournalOn::Slots, 3);
}

#[test]
fn a_crash_at_any_operation_harms_nothing_with_the_journal_on_members_of_its_own() {
    sweep(SHAPES[0], JournalOn::Own(1), 4);
}

const TABLE_BEFORE_DATA: &str =
    "a checksum that was home before its data was taken for that of what was there before";

/// Seeds that once found a fault, with what it was; all with the journal on the slots.
const REGRESSIONS: &[(u64, Option<Scenario>, &str)] = &[
    (
        1081,
        Some(Scenario::Degraded),
        "a read that waited for one stripe did not lock another that lost a chunk",
    ),
    (
        390_012_442,
        None,
        "all who waited for a page of a member that hangs asked it again, one after the other",
    ),
    (
        391_006_071,
        None,
        "blocks that a page did not know when the process was killed stayed so until they were read",
    ),
    (1030, Some(Scenario::Degraded), "a member whose flush had failed was read until it was kicked"),
    (6030, None, "the same, in a mixed run"),
    (30165, None, "status took a lost chunk for a hole with fewer than k members to tell"),
    (10063, Some(Scenario::Degraded), "a read waited for a stripe's lock while it held a later one"),
    (10112, Some(Scenario::Degraded), "the same, against a rebuild"),
    (
        2343,
        None,
        "a member that could not be spared stayed unread after it had come back, for a flush had failed",
    ),
    (10063, Some(Scenario::CrashDegraded), "the same, between two requests"),
    (4212, Some(Scenario::Beyond), "a stripe torn beyond parity was rebuilt from"),
    (40313, Some(Scenario::CrashDegraded), "a replacement lacked the frames that were read back"),
    (
        40193,
        Some(Scenario::CrashDegraded),
        "a checkpoint passed over a frame whose successor was not durable",
    ),
    (40610, Some(Scenario::Beyond), "writes hung while each failing member was asked anew"),
    (40760, Some(Scenario::Beyond), "writes hung in a batch that could not become a frame"),
    (206_747, None, "the harness: a member failed while its removal waited, so that it could go"),
    (
        2546,
        Some(Scenario::BeyondCrash),
        "a change of membership given up half-way counted after a crash, and too few could start",
    ),
    (
        4268,
        Some(Scenario::BeyondCrash),
        "failing writes to a suspect tore all copies of its superblock, one slot after the other",
    ),
    (
        7_001_782,
        None,
        "with a member lost, a block written in a row that a crash tore was lost with the next member",
    ),
    (290, Some(Scenario::CrashDegraded), "a replacement's parity was zeroed by a record older than itself"),
    (290, Some(Scenario::BeyondCrash), "a change was recorded on the few members that were not suspect"),
    (48, Some(Scenario::Beyond), "changed checksums were forgotten when a member was opened anew"),
    (338, Some(Scenario::BeyondCrash), "parity was given up for what could not be read just then"),
    (121, Some(Scenario::Rot), "a dropped write in a stripe that had been zero was taken for zeroes"),
    (104_059, None, "a page of checksums that could not be read left its blocks without redundancy"),
    (500_284, None, "freeing space that a member did not answer came about later, over newer blocks"),
    (105_732, None, "a block of a lost member went home without parity, that is nowhere"),
    (109, Some(Scenario::Storm), "what a start made of a torn stripe was not in the journal"),
    (
        60_001_859,
        None,
        "parity that was not made anew with its row, its member being lost, was taken for the row's",
    ),
    (
        80_006_864,
        None,
        "of several members whose flush failed only the first was told of, and another stayed unread",
    ),
    (
        80_016_732,
        None,
        "a replacement's newer copy of the epoch map was taken for an older one: it had the same generation",
    ),
    (80_022_734, None, "that a member was gone was believed although it had been taken back meanwhile"),
    (
        80_022_562,
        None,
        "checksums read of a member whose flush had failed were not written anew, and were gone later",
    ),
    (
        110_046_486,
        None,
        "parity of a lost member was taken for zero, as it had been before the row was changed without it",
    ),
    (90_012_141, None, "the same, and another member was lost next"),
    (30_003_998, None, "a replacement waited for ever for blocks of rows beyond repair"),
    (635, Some(Scenario::Storm), "a checkpoint was made before the one before it was durable everywhere"),
    (153, Some(Scenario::Hammer), TABLE_BEFORE_DATA),
    (336, Some(Scenario::Hammer), TABLE_BEFORE_DATA),
    (360, Some(Scenario::Hammer), TABLE_BEFORE_DATA),
    (1350, Some(Scenario::Hammer), TABLE_BEFORE_DATA),
    (1797, Some(Scenario::Hammer), TABLE_BEFORE_DATA),
    (2482, Some(Scenario::Hammer), TABLE_BEFORE_DATA),
    (
        230_006_410,
        None,
        "a read that had begun before a member was lost read the stale page of its table, and made of it what nobody wrote",
    ),
    (
        251_016_317,
        None,
        "a record refused before its frame had a place kept that frame in the journal for ever",
    ),
    (
        240_001_038,
        None,
        "a read failed because a replacement had taken the place of the member it was reading from",
    ),
    (
        305_028_017,
        None,
        "a read was tried again for as long as a member it did not even need came and went under suspicion",
    ),
    (
        322_012_933,
        None,
        "a member was lost before its lost checksums were restored, and was in sync without them when it was back",
    ),
    (321_014_469, None, "the same, after a crash"),
    (
        110_024_024,
        None,
        "of a block that a whole write did not change nobody could say that it was old, and its row was lost",
    ),
];

/// The same with the journal on members of its own.
const REGRESSIONS_OF_JOURNAL_MEMBERS: &[(u64, &str)] = &[
    (
        350_013_725,
        "of a stripe that too few members could take an old block was read, and a new one when they were back",
    ),
    (371_012_404, "the checker's own: an array went on with a disk whose place an older image had taken"),
    (1118, "an older image of a member that bears no journal was not told from the member"),
    (20_006_284, "a frame that only a journal member being filled had came to life when that was in sync"),
];

/// With the journal where the seed has it.
const REGRESSIONS_OF_KINDS: &[(u64, Scenario, &str)] = &[
    (
        469_002_604,
        Scenario::Storm,
        "a torn frame hid the one in its place, which came to life when the torn one's member was away",
    ),
    (
        470_001_029,
        Scenario::BeyondCrash,
        "a checkpoint passed over a frame that had been refused and was still to be written",
    ),
    (
        429_100_145,
        Scenario::Degraded,
        "checksums of a replacement were forgotten as tables went home to who had been members before",
    ),
    (
        410_100_016,
        Scenario::Impostor,
        "the checker's own: a disk that is back serves nobody who had it open before",
    ),
    (410_100_378, Scenario::Impostor, "the same, with a punch that hangs"),
    (
        395_002_601,
        Scenario::Upheaval,
        "status took what is kept for members that could not take it for a hole",
    ),
    (
        395_000_552,
        Scenario::Upheaval,
        "the checker's own: what was refused is tried again a moment after the members are back",
    ),
    (
        395_000_017,
        Scenario::Impostor,
        "the checker's own: what disks of another machine were asked to do was not noted",
    ),
    (
        399_000_240,
        Scenario::Rot,
        "what a table lacked of a member that counts no more was waited for at a stop",
    ),
    (
        14_094,
        Scenario::Discard,
        "without its journal a stripe counted as allocated before its checksums were home",
    ),
    (398_001_314, Scenario::Discard, "what could not come home was not tried again when a member was filled"),
    (
        13_684,
        Scenario::Discard,
        "the checker's own: with more of a row lost than parity replaces, more may be gone afterwards",
    ),
];

#[test]
fn seeds_that_once_found_a_fault_find_it_no_more() {
    let classic =
        REGRESSIONS.iter().map(|(seed, scenario, fault)| (*seed, *scenario, Some(JournalOn::Slots), *fault));
    let own = REGRESSIONS_OF_JOURNAL_MEMBERS.iter();
    let own = own.map(|(seed, fault)| (*seed, None, Some(JournalOn::of_seed(*seed)), *fault));
    let kinds = REGRESSIONS_OF_KINDS.iter();
    let kinds = kinds.map(|(seed, scenario, fault)| (*seed, Some(*scenario), None, *fault));
    for (seed, scenario, journal, fault) in classic.chain(own).chain(kinds) {
        let options = RunOptions { seed, scenario, journal, ..RunOptions::default() };
        if let Err(failure) = run_seed(&options) {
            panic!("once: {fault}\n{failure}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run_poll_by_poll() {
    for seed in [1, 2, 3] {
        let options = RunOptions { seed, scenario: Some(Scenario::Mixed), ..RunOptions::default() };
        let [first, second] = [run_seed(&options).unwrap(), run_seed(&options).unwrap()];
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}");
        assert_eq!(first.stats.polls, second.stats.polls, "seed {seed}");
    }
}
