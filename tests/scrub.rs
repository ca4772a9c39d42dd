//! Scrubbing a simulated array: what is found, what is repaired, and what cannot be.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "scrub/bench.rs"]
mod bench;

use bench::{BLOCK, Bench, CHUNK};
use palisade::array::{Applied, ArrayState, RebuildControl, ScrubStart};
use palisade::format::Sector;
use palisade::member::sim::{Trouble, WriteFate};
use palisade::observe::{Damage, VolumeRange};
use palisade::stripe::ScrubMode;
use palisade::units::{Slot, StripeIndex};
use std::time::Duration;

const CHECK: ScrubMode = ScrubMode::Check;
const REPAIR: ScrubMode = ScrubMode::Repair;

#[test]
fn every_kind_of_damage_is_named_to_the_block_and_repaired() {
    Bench::run(1, 4, 2, |mut bench| async move {
        // In rows of their own.
        bench.stop().await;
        let wrong = bench.forge(StripeIndex(9), 5, 3 * BLOCK);
        bench.start().await;
        let damaged = [
            (bench.spoil(StripeIndex(5), 1, BLOCK), Damage::Unreadable),
            (bench.scribble(StripeIndex(5), 2, 2 * BLOCK), Damage::ChecksumMismatch),
            (bench.scribble(StripeIndex(7), 4, 0), Damage::ChecksumMismatch),
            (wrong, Damage::ParityMismatch),
        ];
        let checked = bench.scrub(CHECK).await;
        let found = &checked.summary.found;
        assert_eq!((found.unreadable, found.checksum, found.parity, found.repaired), (1, 2, 1, 0));
        assert!(checked.unrepairable.is_empty(), "all of it can be restored");
        for ((place, what), finding) in damaged.iter().zip(&checked.findings) {
            assert_eq!((finding.what, finding.repaired), (*what, false));
            let expected = (place.slot, &place.path, place.offset_bytes);
            assert_eq!((finding.slot, &finding.path, finding.offset_bytes), expected);
        }
        let places: Vec<_> = checked.findings.iter().map(|f| (f.stripe.0, f.shard)).collect();
        assert_eq!(places, [(5, 1), (5, 2), (7, 4), (9, 5)]);
        let at = |shard, row| {
            Some(VolumeRange { offset_bytes: 5 * 4 * CHUNK + shard * CHUNK + row, len_bytes: BLOCK })
        };
        let volume: Vec<_> = checked.findings.iter().map(|f| f.volume).collect();
        assert_eq!(volume, [at(1, BLOCK), at(2, 2 * BLOCK), None, None]);
        assert!(bench.disk(damaged[0].0.slot).is_spoiled(), "a check changes nothing");

        let repaired = bench.scrub(REPAIR).await;
        assert_eq!((repaired.summary.found.found(), repaired.summary.found.repaired), (4, 4));
        assert!(repaired.findings.iter().all(|f| f.repaired) && repaired.summary.is_well());
        assert!(!bench.disk(damaged[0].0.slot).is_spoiled());
        let clean = bench.scrub(CHECK).await;
        assert!(clean.findings.is_empty() && clean.summary.is_well(), "{clean:?}");
        assert_eq!(clean.summary.verified_bytes, bench.stripes() * 6 * CHUNK);
        bench.holds_everything().await;
    });
}

#[test]
fn blocks_whose_checksums_rotted_are_not_known_and_restored_from_the_others() {
    Bench::run(12, 4, 2, |mut bench| async move {
        bench.stop().await;
        let (slot, blocks) = bench.rot_checksums(StripeIndex(40), 1);
        bench.start().await;
        let checked = bench.scrub(CHECK).await;
        let found = &checked.summary.found;
        // The array may have been quicker: what a table lost is restored as soon as that is seen.
        assert!(found.checksum <= blocks && found.checksum == found.found(), "{found:?}");
        assert!(checked.findings.iter().all(|f| f.slot == slot) && checked.unrepairable.is_empty());
        let repaired = bench.scrub(REPAIR).await;
        assert!(repaired.summary.found.repaired <= blocks && repaired.summary.is_well());
        assert!(bench.scrub(CHECK).await.findings.is_empty());
        bench.stop().await;
        let sectors = bench.checksums(StripeIndex(40), 1);
        assert!(sectors.iter().all(|s| matches!(s, Sector::Good { .. })), "the sector is written anew");
        bench.start().await;
        assert!(bench.scrub(CHECK).await.findings.is_empty());
        bench.holds_everything().await;
    });
}

#[test]
fn checksums_that_rot_on_a_member_while_they_are_in_memory_are_written_again() {
    Bench::run(16, 4, 2, |mut bench| async move {
        bench.wait("everything is home", |r| r.clean).await;
        let (slot, blocks) = bench.rot_checksums(StripeIndex(40), 1);
        let checked = bench.scrub(CHECK).await;
        assert_eq!((checked.summary.found.checksum, checked.summary.found.found()), (blocks, blocks));
        assert!(checked.findings.iter().all(|f| f.slot == slot && !f.repaired));
        assert_eq!(
            checked.summary.verified_bytes,
            bench.stripes() * 6 * CHUNK,
            "they are known all the same"
        );
        let repaired = bench.scrub(REPAIR).await;
        // Where one of them is written again, so are those beside it, which then are found no more.
        let found = repaired.summary.found;
        assert!((1..=blocks).contains(&found.repaired) && found.repaired == found.found(), "{found:?}");
        assert!(repaired.summary.is_well());
        assert!(bench.scrub(CHECK).await.findings.is_empty());
        bench.stop().await;
        bench.start().await;
        assert!(bench.scrub(CHECK).await.findings.is_empty());
    });
}

#[test]
fn stripes_that_were_given_back_are_not_verified() {
    Bench::run(13, 4, 2, |bench| async move {
        bench.discard(StripeIndex(10), 90).await;
        bench.scribble(StripeIndex(20), 0, 0);
        let checked = bench.scrub(CHECK).await;
        assert!(checked.findings.is_empty(), "{checked:?}");
        assert_eq!(checked.summary.verified_bytes, (bench.stripes() - 90) * 6 * CHUNK);
    });
}

#[test]
fn wrong_parity_in_a_row_that_also_lacks_a_block_is_told_from_the_rest() {
    // With three parities.
    Bench::run(2, 3, 3, |mut bench| async move {
        bench.stop().await;
        let parity = bench.forge(StripeIndex(2), 4, 0);
        bench.start().await;
        bench.spoil(StripeIndex(2), 0, 0);
        let repaired = bench.scrub(REPAIR).await;
        assert_eq!(repaired.summary.found.repaired, 2, "{repaired:?}");
        assert!(repaired.findings.iter().any(|f| f.slot == parity.slot && f.what == Damage::ParityMismatch));
        assert!(bench.scrub(CHECK).await.findings.is_empty());
        bench.holds_everything().await;
    });
}

#[test]
fn rotten_parity_does_not_keep_an_unreadable_block_of_its_row_from_being_restored() {
    Bench::run(14, 4, 2, |bench| async move {
        bench.spoil(StripeIndex(2), 0, 0);
        bench.scribble(StripeIndex(2), 4, 0);
        let scrub = bench.scrub(REPAIR).await;
        assert_eq!((scrub.summary.found.found(), scrub.summary.found.repaired), (2, 2), "{scrub:?}");
        bench.holds_everything().await;
    });
}

#[test]
fn a_data_block_that_is_old_together_with_its_checksum_is_told_by_its_parity() {
    Bench::run(15, 4, 2, |mut bench| async move {
        bench.stop().await;
        let old = bench.forge(StripeIndex(2), 1, BLOCK);
        bench.start().await;
        let scrub = bench.scrub(REPAIR).await;
        let [found] = &scrub.findings[..] else { panic!("{scrub:?}") };
        assert_eq!((found.what, found.slot, found.repaired), (Damage::ParityMismatch, old.slot, true));
        assert_eq!(found.volume.map(|v| v.offset_bytes), Some(2 * 4 * CHUNK + CHUNK + BLOCK));
        assert!(bench.scrub(CHECK).await.findings.is_empty());
        bench.holds_everything().await;
    });
}

#[test]
fn a_row_whose_shards_contradict_each_other_is_not_repaired_by_guessing() {
    Bench::run(3, 4, 2, |mut bench| async move {
        bench.stop().await;
        bench.forge(StripeIndex(2), 4, 0);
        bench.start().await;
        let data = bench.spoil(StripeIndex(2), 0, 0);
        let scrub = bench.scrub(REPAIR).await;
        assert_eq!((scrub.summary.found.found(), scrub.summary.found.repaired), (2, 0), "{scrub:?}");
        let at = VolumeRange { offset_bytes: 2 * 4 * CHUNK, len_bytes: BLOCK };
        assert_eq!((scrub.unrepairable, scrub.summary.unrepairable_bytes), (vec![at], BLOCK));
        assert!(bench.disk(data.slot).is_spoiled(), "nothing was written over it");
        let problems = bench.report().problems;
        assert!(problems.iter().any(|p| p.what.contains("cannot be restored")), "{problems:?}");
    });
}

#[test]
fn more_unreadable_blocks_of_a_row_than_parity_are_ranges_of_the_volume() {
    Bench::run(4, 4, 2, |bench| async move {
        for shard in 0..3 {
            bench.spoil(StripeIndex(1), shard, BLOCK);
            bench.spoil(StripeIndex(1), shard, 2 * BLOCK);
        }
        let scrub = bench.scrub(REPAIR).await;
        assert_eq!((scrub.summary.found.unreadable, scrub.summary.found.repaired), (6, 0));
        let range = |shard: u64| VolumeRange {
            offset_bytes: 4 * CHUNK + shard * CHUNK + BLOCK,
            len_bytes: 2 * BLOCK,
        };
        assert_eq!(scrub.unrepairable, [range(0), range(1), range(2)]);
    });
}

#[test]
fn a_repair_that_the_member_swallows_is_not_called_one() {
    Bench::run(11, 4, 2, |bench| async move {
        // Idle, so that the repair is the next write this member gets.
        bench.sleep(Duration::from_secs(5)).await;
        let place = bench.scribble(StripeIndex(3), 4, 0);
        bench.disk(place.slot).next_write(WriteFate::Dropped);
        let scrub = bench.scrub(REPAIR).await;
        assert_eq!((scrub.summary.found.found(), scrub.summary.found.repaired), (1, 0), "{scrub:?}");
        assert!(!scrub.summary.is_well() && scrub.unrepairable.is_empty());
        let problems = bench.report().problems;
        assert!(problems.iter().any(|p| p.what.contains("could not repair 1 damaged block")), "{problems:?}");
        assert_eq!(bench.scrub(REPAIR).await.summary.found.repaired, 1);
    });
}

#[test]
fn with_a_member_lost_the_rest_is_still_verified() {
    Bench::run(5, 4, 2, |bench| async move {
        bench.disk(Slot(0)).vanish();
        bench
            .wait("slot 0 is lost", |report| report.members[0].state != palisade::array::MemberState::InSync)
            .await;
        // Of stripe 6 slot 0 holds one chunk; another one cannot be read in full.
        let shard = bench.shard_not_in(StripeIndex(6), Slot(0));
        bench.spoil(StripeIndex(6), shard, 0);
        let scrub = bench.scrub(REPAIR).await;
        assert_eq!((scrub.summary.found.found(), scrub.summary.found.repaired), (1, 1), "{scrub:?}");
        assert_eq!(scrub.summary.verified_bytes, bench.stripes() * 5 * CHUNK - BLOCK);
        bench.holds_everything().await;
    });
}

#[test]
fn a_member_that_answers_no_read_is_lost_and_the_scrub_goes_on_without_it() {
    Bench::run(6, 4, 2, |bench| async move {
        bench.disk(Slot(2)).fail_reads(Trouble::Always);
        let scrub = bench.scrub(REPAIR).await;
        assert!(scrub.findings.is_empty() && scrub.summary.is_well(), "{scrub:?}");
        assert_ne!(bench.report().members[2].state, palisade::array::MemberState::InSync);
    });
}

#[test]
fn a_scrub_while_blocks_are_written_finds_nothing_wrong() {
    Bench::run(7, 4, 2, |bench| async move {
        bench.write_in_the_background();
        for mode in [CHECK, REPAIR].into_iter().cycle().take(30) {
            let scrub = bench.scrub(mode).await;
            assert!(scrub.findings.is_empty() && scrub.summary.is_well(), "{scrub:?}");
        }
    });
}

#[test]
fn a_scrub_can_be_held_slowed_down_and_cancelled_and_starting_it_twice_is_once() {
    Bench::run(8, 4, 2, |bench| async move {
        let array = bench.array();
        let slow = ScrubStart { mode: REPAIR, max_rate_bytes_per_s: Some(CHUNK) };
        let first = array.start_scrub(slow, None).unwrap();
        assert_eq!((first.number, first.applied), (1, Applied::Done));
        let again = ScrubStart { mode: REPAIR, max_rate_bytes_per_s: None };
        let second = array.start_scrub(again, None).unwrap();
        assert_eq!((second.number, second.applied), (1, Applied::Already));
        let other = ScrubStart { mode: CHECK, max_rate_bytes_per_s: None };
        assert!(array.start_scrub(other, None).is_err());
        bench.sleep(Duration::from_secs(1)).await;
        array.control_scrub(RebuildControl { max_rate_bytes_per_s: None, paused: Some(true) }).unwrap();
        bench.sleep(Duration::from_secs(60)).await;
        let held = array.scrubs().task().unwrap().next;
        bench.sleep(Duration::from_secs(60)).await;
        assert_eq!(array.scrubs().task().unwrap().next, held);
        let report = bench.report();
        assert!(report.tasks[0].paused && report.scrub.running.unwrap().paused);
        assert_eq!(array.cancel_scrub(), Applied::Done);
        assert_eq!(array.cancel_scrub(), Applied::Already);
        assert!(array.control_scrub(RebuildControl::default()).is_err());
        let last = bench.report().scrub.last.unwrap();
        assert!(last.cancelled && last.number == 1);
        assert_eq!(bench.scrub(CHECK).await.summary.number, 2);
    });
}

#[test]
fn a_rebuild_goes_first_and_the_scrub_goes_on_where_it_was() {
    Bench::run(9, 4, 2, |bench| async move {
        let array = bench.array();
        let held = ScrubStart { mode: REPAIR, max_rate_bytes_per_s: Some(CHUNK) };
        array.start_scrub(held, None).unwrap();
        bench.sleep(Duration::from_secs(1)).await;
        bench.replace(Slot(1)).await;
        bench
            .wait("the rebuild is done", |r| {
                r.members.iter().all(|m| m.state == palisade::array::MemberState::InSync)
            })
            .await;
        let at = array.scrubs().task().unwrap().next;
        assert!(at.0 > 0 && at.0 < bench.stripes(), "{at}");
        array.control_scrub(RebuildControl { max_rate_bytes_per_s: Some(0), paused: None }).unwrap();
        bench.wait("the scrub is done", |r| r.scrub.last.is_some()).await;
        let last = bench.report().scrub.last.unwrap();
        assert_eq!((last.verified_bytes, last.is_well()), (bench.stripes() * 6 * CHUNK, true));
    });
}

#[test]
fn an_interrupted_scrub_goes_on_after_a_restart_with_what_it_had_found() {
    Bench::run(10, 4, 2, |mut bench| async move {
        bench.scribble(StripeIndex(0), 4, 0);
        let late = bench.stripes() - 1;
        bench.scribble(StripeIndex(late), 5, 0);
        let slow = ScrubStart { mode: REPAIR, max_rate_bytes_per_s: Some(CHUNK) };
        bench.array().start_scrub(slow, None).unwrap();
        bench
            .wait("the first is found", |r| r.scrub.running.as_ref().is_some_and(|s| s.found.found() == 1))
            .await;
        let record = bench.stop().await;
        let text = serde_json::to_string(&record).unwrap();
        bench.start().await;
        bench.array().restore_scrub(serde_json::from_str(&text).unwrap());
        assert_eq!(bench.report().scrub.running.unwrap().found.found(), 1);
        bench.array().control_scrub(RebuildControl { max_rate_bytes_per_s: Some(0), paused: None }).unwrap();
        bench.wait("the scrub is done", |r| r.scrub.last.is_some()).await;
        let last = bench.array().scrub_record().last.unwrap();
        assert_eq!((last.summary.found.repaired, last.findings.len()), (2, 2));
        assert_eq!(last.summary.verified_bytes, bench.stripes() * 6 * CHUNK - 2 * BLOCK);
        let mut foreign = record;
        foreign.array = palisade::units::ArrayId::NIL;
        bench.array().restore_scrub(foreign);
        assert!(bench.report().scrub.running.is_none(), "the record of another array");
    });
}

#[test]
fn a_row_beyond_repair_keeps_no_replacement_from_being_filled() {
    Bench::run(21, 4, 2, |bench| async move {
        bench.wait("everything is home", |r| r.clean).await;
        let stripe = StripeIndex(20);
        let lost = bench.slot_of(stripe, 0);
        bench.fail(lost).await;
        bench.scribble(stripe, 1, BLOCK);
        bench.scribble(stripe, 2, BLOCK);
        bench.replace(lost).await;
        bench.wait("the replacement is filled", |r| r.state == ArrayState::Optimal).await;
        let scrub = bench.scrub(REPAIR).await;
        let at =
            |shard: u64| VolumeRange { offset_bytes: (20 * 4 + shard) * CHUNK + BLOCK, len_bytes: BLOCK };
        assert_eq!(scrub.unrepairable, [at(0), at(1), at(2)]);
        for shard in 0..3 {
            bench.write_again(at(shard)).await;
        }
        bench.wait("everything is home", |r| r.clean).await;
        bench.scrub(REPAIR).await;
        let clean = bench.scrub(CHECK).await;
        assert!(clean.findings.is_empty() && clean.unrepairable.is_empty(), "{clean:?}");
        bench.holds_everything().await;
    });
}
