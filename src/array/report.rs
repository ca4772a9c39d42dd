//! What an array says about itself: the value behind `palisade status`.

use super::ScrubReport;
use crate::units::{ArrayId, EventCount, JournalIndex, MemberId, Seat, Slot};
use serde::{Deserialize, Serialize};

/// How much redundancy is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArrayState {
    /// Every slot is in sync, and every member that bears the journal.
    Optimal,
    /// 1 to m slots are lost, or some but not all of the members that bear the journal; everything is
    /// readable.
    Degraded,
    /// More than m slots, or all that bear the journal, are lost; writes are refused, reads answer what
    /// can still be read.
    Failed,
}

/// State of one member. See the drawing in `array/state.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// Holds every write.
    InSync,
    /// Fails, but data would become unreadable without it: kept, tried again.
    Suspect,
    /// Being filled.
    Rebuilding,
    /// Attached, no slot.
    Spare,
    /// Failed while the array ran.
    Faulty,
    /// Not found.
    Missing,
    /// Found, but it missed writes.
    Stale,
}

/// Errors since the array was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ErrorCounts {
    /// Failed reads.
    pub read: u64,
    /// Failed writes and flushes.
    pub write: u64,
    /// Blocks whose checksum did not match.
    pub checksum: u64,
}

/// One member as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberReport {
    /// Its slot; none for a spare, and for one that bears the journal.
    pub slot: Option<Slot>,
    /// Its number among the members that bear the journal and nothing else.
    pub journal: Option<JournalIndex>,
    /// Where it is, or was; empty if never known.
    pub path: String,
    /// Its identity.
    pub uuid: MemberId,
    /// Its state.
    pub state: MemberState,
    /// Its errors since start.
    pub errors: ErrorCounts,
    /// Its size in bytes; 0 if it is not open.
    pub size_bytes: u64,
    /// Why it is in this state, for a person.
    pub reason: Option<String>,
}

impl MemberReport {
    /// What it serves; none for a spare.
    pub fn seat(&self) -> Option<Seat> {
        self.slot.map(Seat::Slot).or(self.journal.map(Seat::Journal))
    }
}

/// Kind of a background task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// Filling replacements.
    Rebuild,
    /// Verifying everything that is stored.
    Scrub,
}

/// A background task with its progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// What it does.
    pub kind: TaskKind,
    /// Slots it fills; empty for a scrub.
    pub slots: Vec<Slot>,
    /// 0 to 100.
    pub percent: f64,
    /// Bytes done and to do, counted on one member.
    pub done_bytes: u64,
    /// All of them.
    pub total_bytes: u64,
    /// Recent rate on one member.
    pub rate_bytes_per_s: u64,
    /// Time left at that rate, if it moves.
    pub eta_s: Option<u64>,
    /// Held by an admin.
    pub paused: bool,
    /// Ceiling set by an admin.
    pub max_rate_bytes_per_s: Option<u64>,
}

/// Where the volume can be reached; filled in by the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportReport {
    /// Ready to paste into an NBD client.
    pub uri: String,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// Connected clients.
    pub connections: u64,
}

/// Something wrong, and the command that mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong, one sentence.
    pub what: String,
    /// What to do, a sentence or a command to paste; `NAME` stands as the array's real name.
    pub action: Option<String>,
}

/// Everything `status` shows of one array.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name.
    pub name: String,
    /// Identity.
    pub uuid: ArrayId,
    /// Redundancy left.
    pub state: ArrayState,
    /// Everything answered is home durably: a crash now would leave nothing to replay.
    pub clean: bool,
    /// k.
    pub data: u8,
    /// m.
    pub parity: u8,
    /// Chunk in bytes.
    pub chunk_bytes: u64,
    /// Volume size in bytes.
    pub size_bytes: u64,
    /// Largest volume these members could hold, in bytes.
    pub capacity_bytes: u64,
    /// Bytes of larger members that cannot be used.
    pub wasted_bytes: u64,
    /// Current event count.
    pub event_count: EventCount,
    /// Slots in order, then those that bear the journal, each followed by its replacement if it has one;
    /// spares last.
    pub members: Vec<MemberReport>,
    /// What runs in the background.
    pub tasks: Vec<TaskReport>,
    /// What scrubs found.
    pub scrub: ScrubReport,
    /// How to reach it.
    pub exports: Vec<ExportReport>,
    /// What is wrong, most urgent first.
    pub problems: Vec<Problem>,
}
