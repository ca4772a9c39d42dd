//! What scrubs found, in words.

use crate::array::{ScrubDetails, ScrubReport, ScrubSummary};
use crate::cli::out::{Paint, Tone};
use crate::observe::{Damage, Finding};
use crate::stripe::ScrubMode;
use crate::units::{format_duration, format_size};
use std::time::Duration;

/// Most lines of findings, and of ranges, for people; JSON has all that are kept.
const LINES: usize = 20;

/// The line of `status`; nothing if no scrub ever ran. `shown`: tasks are shown, a scrub that is at
/// work among them.
pub fn scrub_line(report: &ScrubReport, shown: bool) -> Option<String> {
    if let Some(running) = &report.running {
        let found = match running.found.found() {
            0 => "nothing wrong so far".to_owned(),
            _ => outcome(running),
        };
        let state = match (running.paused, shown) {
            (true, _) => "paused",
            (false, true) => "runs",
            (false, false) => "waits",
        };
        return Some(format!("{state}; {found}"));
    }
    let last = report.last.as_ref()?;
    let ago = report.ended_s_ago.map_or_else(String::new, |s| format!(", {} ago", words(s)));
    let cancelled = if last.cancelled { " before it was cancelled" } else { "" };
    Some(format!("{} in {}{cancelled}{ago}", outcome(last), took(last)))
}

/// After a scrub: what it found, line by line.
pub fn scrubbed(name: &str, scrub: &ScrubDetails, paint: Paint) -> String {
    let summary = &scrub.summary;
    let kind = match summary.mode {
        ScrubMode::Check => "check",
        ScrubMode::Repair => "scrub",
    };
    let cancelled = if summary.cancelled { ", before it was cancelled" } else { "" };
    let tone = if summary.is_well() { Tone::Good } else { Tone::Bad };
    let mut text = format!(
        "{kind} of {name}: {}; {} verified in {}{cancelled}\n",
        paint.tone(tone, &outcome(summary)),
        format_size(summary.verified_bytes),
        took(summary),
    );
    for finding in scrub.findings.iter().take(LINES) {
        text.push_str(&format!("  {}\n", line(finding)));
    }
    let more = summary.found.found().saturating_sub(scrub.findings.len().min(LINES) as u64);
    if more > 0 {
        text.push_str(&format!("  and {more} more; `palisade scrub {name} --show --json` has a thousand\n"));
    }
    if summary.unrepairable_bytes > 0 {
        let size = format_size(summary.unrepairable_bytes);
        text.push_str(&format!("cannot be restored: {size} of the volume\n"));
        for range in scrub.unrepairable.iter().take(LINES) {
            text.push_str(&format!("  {} at byte {}\n", format_size(range.len_bytes), range.offset_bytes));
        }
        if scrub.unrepairable.len() > LINES {
            text.push_str("  and more\n");
        }
    }
    text
}

fn line(finding: &Finding) -> String {
    let Finding { slot, path, offset_bytes, volume, what, repaired, .. } = finding;
    let what = match what {
        Damage::Unreadable => "cannot be read",
        Damage::ChecksumMismatch => "does not match its checksum",
        Damage::ParityMismatch if volume.is_some() => "does not match its parity",
        Damage::ParityMismatch => "is parity that does not match its data",
    };
    let volume = volume.map_or_else(String::new, |v| format!(" (volume byte {})", v.offset_bytes));
    let outcome = if *repaired { "repaired" } else { "not repaired" };
    format!("{path} (slot {slot}): the block at byte {offset_bytes}{volume} {what}; {outcome}")
}

/// `found nothing wrong`, `repaired 3 blocks`, `found 5 damaged blocks, repaired 3 of them`
fn outcome(summary: &ScrubSummary) -> String {
    let blocks = |n: u64| if n == 1 { "1 block".to_owned() } else { format!("{n} blocks") };
    let damaged = |n: u64| if n == 1 { "1 damaged block".to_owned() } else { format!("{n} damaged blocks") };
    let beyond = match summary.unrepairable_bytes {
        0 => String::new(),
        bytes => format!("; {} cannot be restored", format_size(bytes)),
    };
    let found = match (summary.found.found(), summary.found.repaired) {
        (0, _) if summary.unrepairable_bytes > 0 => "found no damaged block".to_owned(),
        (0, _) => "found nothing wrong".to_owned(),
        (found, repaired) if found == repaired => format!("repaired {}", blocks(found)),
        (found, 0) => format!("found {}", damaged(found)),
        (found, repaired) => format!("found {}, repaired {repaired} of them", damaged(found)),
    };
    found + &beyond
}

fn took(summary: &ScrubSummary) -> String {
    format_duration(Duration::from_millis(summary.took_ms))
}

/// `2 days`, in one unit: nobody minds the hours of last month.
fn words(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86400 => (seconds / 3600, "hour"),
        _ => (seconds / 86400, "day"),
    };
    if number == 1 { format!("1 {unit}") } else { format!("{number} {unit}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::ScrubCounts;
    use crate::cli::render::sample;
    use crate::observe::VolumeRange;
    use crate::units::{Slot, StripeIndex};

    fn with(found: ScrubCounts, unrepairable_bytes: u64) -> ScrubSummary {
        ScrubSummary { found, unrepairable_bytes, ended_unix_s: Some(1_000_100), ..sample::scrub(3) }
    }

    fn report(last: ScrubSummary) -> ScrubReport {
        ScrubReport { running: None, last: Some(last), ended_s_ago: Some(2 * 86400 + 7) }
    }

    #[test]
    fn the_line_of_status_says_what_became_of_the_last_scrub() {
        let line = |found, bytes| scrub_line(&report(with(found, bytes)), false).unwrap();
        let none = ScrubCounts::default();
        assert_eq!(line(none, 0), "found nothing wrong in 12s, 2 days ago");
        assert_eq!(
            line(ScrubCounts { parity: 3, repaired: 3, ..none }, 0),
            "repaired 3 blocks in 12s, 2 days ago"
        );
        let some = ScrubCounts { parity: 1, unreadable: 3, repaired: 2, ..none };
        assert_eq!(
            line(some, 8192),
            "found 4 damaged blocks, repaired 2 of them; 8K cannot be restored in 12s, 2 days ago"
        );
        assert_eq!(scrub_line(&ScrubReport::default(), false), None);
    }

    #[test]
    fn a_scrub_that_does_not_move_says_so() {
        let mut running = ScrubReport { running: Some(sample::scrub(1)), ..ScrubReport::default() };
        assert_eq!(scrub_line(&running, true).unwrap(), "runs; nothing wrong so far");
        assert_eq!(scrub_line(&running, false).unwrap(), "waits; nothing wrong so far");
        running.running.as_mut().unwrap().paused = true;
        assert_eq!(scrub_line(&running, true).unwrap(), "paused; nothing wrong so far");
    }

    #[test]
    fn every_finding_names_member_and_block() {
        let at = VolumeRange { offset_bytes: 65536, len_bytes: 4096 };
        let finding = |what, volume, repaired| Finding {
            slot: Slot(3),
            path: "/srv/d3.img".to_owned(),
            stripe: StripeIndex(17),
            shard: 1,
            offset_bytes: 1_114_112,
            volume,
            what,
            repaired,
        };
        let findings =
            vec![finding(Damage::ParityMismatch, None, true), finding(Damage::Unreadable, Some(at), false)];
        let counts = ScrubCounts { parity: 1, unreadable: 1, repaired: 1, checksum: 0 };
        let details = ScrubDetails { summary: with(counts, 4096), findings, unrepairable: vec![at] };
        assert_eq!(
            scrubbed("tank", &details, Paint::PLAIN),
            "\
scrub of tank: found 2 damaged blocks, repaired 1 of them; 4K cannot be restored; 3G verified in 12s
  /srv/d3.img (slot 3): the block at byte 1114112 is parity that does not match its data; repaired
  /srv/d3.img (slot 3): the block at byte 1114112 (volume byte 65536) cannot be read; not repaired
cannot be restored: 4K of the volume
  4K at byte 65536
"
        );
    }
}
