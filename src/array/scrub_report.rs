//! What is known of scrubs, as values: for `status`, for whoever asks for all of it, and for the file
//! in which it outlives a restart.

use super::Problem;
use crate::observe::{Damage, Finding, VolumeRange};
use crate::stripe::ScrubMode;
use crate::units::{ArrayId, StripeIndex};
use serde::{Deserialize, Serialize};

/// Most findings, and most ranges, that are kept of a scrub; the others are only counted.
const KEPT: usize = 1000;

/// Damaged blocks by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ScrubCounts {
    /// Blocks that a member could not read.
    pub unreadable: u64,
    /// Blocks that do not match their checksum.
    pub checksum: u64,
    /// Parity that is not that of its data.
    pub parity: u64,
    /// Of all these, how many were repaired.
    pub repaired: u64,
}

impl ScrubCounts {
    /// Damaged blocks of all kinds.
    pub fn found(&self) -> u64 {
        self.unreadable + self.checksum + self.parity
    }

    /// Damaged blocks that are as they were.
    pub fn left(&self) -> u64 {
        self.found().saturating_sub(self.repaired)
    }

    fn count(&mut self, finding: &Finding) {
        match finding.what {
            Damage::Unreadable => self.unreadable += 1,
            Damage::ChecksumMismatch => self.checksum += 1,
            Damage::ParityMismatch => self.parity += 1,
        }
        self.repaired += u64::from(finding.repaired);
    }
}

/// A scrub in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubSummary {
    /// Scrubs of an array are numbered from 1.
    pub number: u64,
    /// Whether it repairs.
    pub mode: ScrubMode,
    /// When it began, in seconds since 1970.
    pub started_unix_s: u64,
    /// When it ended, in seconds since 1970; nothing while it runs.
    pub ended_unix_s: Option<u64>,
    /// It was ended before it had seen everything.
    pub cancelled: bool,
    /// How long it was at work, in milliseconds: without what it made way for or waited for.
    pub took_ms: u64,
    /// The stripe it goes on with.
    pub next_stripe: StripeIndex,
    /// Held by an admin.
    pub paused: bool,
    /// Ceiling, in bytes per second of one member.
    pub max_rate_bytes_per_s: Option<u64>,
    /// Bytes on the members that are as they should be, parity included.
    pub verified_bytes: u64,
    /// What it found.
    pub found: ScrubCounts,
    /// How much of the volume cannot be restored, in bytes.
    pub unrepairable_bytes: u64,
}

impl ScrubSummary {
    /// Nothing was found, or all of it was repaired.
    pub fn is_well(&self) -> bool {
        self.found.left() == 0 && self.unrepairable_bytes == 0
    }
}

/// A scrub with what it found, as far as that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubDetails {
    /// In short.
    #[serde(flatten)]
    pub summary: ScrubSummary,
    /// The first thousand damaged blocks.
    pub findings: Vec<Finding>,
    /// What of the volume cannot be restored: the first thousand ranges.
    pub unrepairable: Vec<VolumeRange>,
}

impl ScrubDetails {
    /// Takes note of a damaged block; says whether it was kept.
    pub(super) fn add(&mut self, finding: Finding) -> bool {
        self.summary.found.count(&finding);
        let kept = self.findings.len() < KEPT;
        if kept {
            self.findings.push(finding);
        }
        kept
    }

    /// Takes note of a range that cannot be restored, which lies after those before it.
    pub(super) fn add_range(&mut self, range: VolumeRange) {
        self.summary.unrepairable_bytes += range.len_bytes;
        let room = self.unrepairable.len() < KEPT;
        match self.unrepairable.last_mut() {
            Some(last) if last.end_bytes() == range.offset_bytes => last.len_bytes += range.len_bytes,
            _ if room => self.unrepairable.push(range),
            _ => {}
        }
    }
}

/// Everything known of an array's scrubs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubRecord {
    /// The array.
    pub array: ArrayId,
    /// The one that runs, or is to go on.
    pub running: Option<ScrubDetails>,
    /// The last one that ended.
    pub last: Option<ScrubDetails>,
}

/// Scrubs as `status` shows them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ScrubReport {
    /// The one that runs, or waits for a rebuild to end.
    pub running: Option<ScrubSummary>,
    /// The last one that ended.
    pub last: Option<ScrubSummary>,
    /// How long ago that was, in seconds.
    pub ended_s_ago: Option<u64>,
}

impl ScrubReport {
    /// What the last scrub left to be done.
    pub(super) fn problem(&self, name: &str) -> Option<Problem> {
        let last = self.last.as_ref().filter(|last| !last.is_well())?;
        let left = last.found.left();
        let (what, action) = match (last.mode, last.unrepairable_bytes) {
            (ScrubMode::Check, 0) => (
                format!("The last scrub found {left} damaged blocks, and was not to repair them."),
                format!("palisade scrub {name} --repair --wait"),
            ),
            (ScrubMode::Repair, 0) => (
                format!(
                    "The last scrub could not repair {left} damaged blocks, which can still be restored."
                ),
                format!("palisade scrub {name} --show, and replace the members it names"),
            ),
            (_, bytes) => (
                format!("{bytes} bytes of the volume cannot be restored; the last scrub has their places."),
                format!("palisade scrub {name} --show, write these places anew, and scrub again"),
            ),
        };
        Some(Problem { what, action: Some(action) })
    }
}
