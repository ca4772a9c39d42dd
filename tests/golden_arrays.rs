//! Arrays that were written by the first build with this format, in several states, must open forever:
//! with everything in them, whatever had happened to them.
//!
//! Their files in `tests/golden/arrays` are made by `tools/golden.rs`, which says when.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "golden_arrays/mod.rs"]
mod arrays;

use arrays::{Golden, Opened, Outcome, all, kinds, says_what_stays};
use palisade::stripe::ScrubMode;
use std::collections::BTreeSet;
use std::fs;

fn kept() -> Vec<(String, Golden)> {
    let files = fs::read_dir(Golden::folder()).unwrap().map(|file| file.unwrap().path());
    let mut paths: Vec<_> = files.collect();
    paths.sort();
    let name = |path: &std::path::Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|p| (name(p), Golden::parse(&fs::read_to_string(p).unwrap()))).collect()
}

#[track_caller]
fn holds(name: &str, golden: &Golden, opened: &Opened) -> Vec<u8> {
    let volume = opened.read();
    let complaint = golden.content.complaint(&volume);
    assert_eq!(complaint, None, "{name}");
    volume
}

/// Opens it, twice after a crash, then scrubs and stops it and opens it once more.
fn opens(name: &str, golden: &Golden) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    golden.members.iter().for_each(|member| member.unpack(folder.path()));
    let start = || Opened::start(golden, folder.path());
    let (state, rows) = match &golden.outcome {
        Outcome::Starts { state, rows } => (state.clone(), rows.clone()),
        Outcome::Refused(words) => {
            let refusal = start().err().map(|e| e.report());
            assert!(refusal.as_ref().is_some_and(|r| r.contains(words)), "{name}: {refusal:?}");
            return;
        }
    };
    let first = start().unwrap_or_else(|e| panic!("{name}: {}", e.report()));
    assert_eq!(first.status(), (state.clone(), rows.clone()), "{name}");
    for (filled, all) in first.filled() {
        assert!(
            (filled > 0) == golden.filled && filled < all,
            "{name}: {filled} of {all} stripes are filled"
        );
    }
    let volume = holds(name, golden, &first);
    first.crash();

    let again = start().unwrap_or_else(|e| panic!("{name}, again: {}", e.report()));
    assert_eq!(again.status(), (state, rows), "{name}, again");
    assert!(holds(name, golden, &again) == volume, "{name}: another start, another content");
    again.supervise();
    let scrubbed = again.scrub(ScrubMode::Repair);
    assert!(scrubbed.unrepairable.is_empty(), "{name}: {scrubbed:?}");
    assert!(golden.damaged || scrubbed.findings.is_empty(), "{name}: {scrubbed:?}");
    let scrubbed = again.scrub(ScrubMode::Check);
    assert!(scrubbed.findings.is_empty(), "{name}: {scrubbed:?}");
    assert!(holds(name, golden, &again) == volume, "{name}: a scrub changed its content");
    again.stop();

    let last = start().unwrap_or_else(|e| panic!("{name}, stopped: {}", e.report()));
    assert!(holds(name, golden, &last) == volume, "{name}: a stop changed its content");
    last.stop();
}

#[test]
fn arrays_of_the_first_build_open_with_everything_in_them() {
    for (name, golden) in kept() {
        opens(&name, &golden);
    }
}

#[test]
fn every_state_is_kept_and_no_other() {
    let made: BTreeSet<String> = all().into_iter().map(|(name, _)| name).collect();
    let kept: BTreeSet<String> = kept().into_iter().map(|(name, _)| name).collect();
    assert_eq!(made, kept);
}

#[test]
fn the_journals_of_crashed_arrays_hold_a_record_of_every_kind() {
    for (name, golden) in kept().iter().filter(|(name, _)| name.contains("killed") || name.contains("power"))
    {
        assert_eq!(kinds(golden), BTreeSet::from(["data", "open", "parity", "zero"]), "{name}");
    }
}

#[test]
fn the_journals_of_overwritten_arrays_say_which_blocks_stay() {
    let says = kept().into_iter().filter(|(name, _)| name.starts_with("overwritten"));
    let says: Vec<_> = says.map(|(name, golden)| (name, says_what_stays(&golden))).collect();
    assert!(says.len() == 2 && says.iter().all(|(_, says)| *says), "{says:?}");
}

#[test]
fn what_is_made_today_can_be_kept_and_opened_too() {
    for (name, make) in all() {
        let golden = make();
        assert!(Golden::parse(&golden.text()) == golden, "{name} does not survive its file");
        opens(&name, &golden);
    }
}
