//! What can be asked of an array.

use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::Shape;
use crate::member::{Backend, Opener};
use crate::observe::Observer;
use crate::stripe::ScrubMode;
use crate::units::{JournalIndex, MemberId, Seat, Slot};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// An opened, locked backing device that is, or is to become, a member.
#[derive(Clone)]
pub struct Candidate {
    /// The path an admin knows it by.
    pub path: String,
    /// The device.
    pub backend: Arc<dyn Backend>,
}

/// What to create an array of.
#[derive(Clone, Default)]
pub struct Devices {
    /// The members, slots in order.
    pub members: Vec<Candidate>,
    /// Spares for them.
    pub spares: Vec<Candidate>,
    /// Members that bear the journal and nothing else, more than m of them; none if the members are to
    /// bear it.
    pub journal: Vec<Candidate>,
}

/// What to create.
#[derive(Debug, Clone)]
pub struct CreateSpec {
    /// Name of the array, 1 to 64 bytes.
    pub name: String,
    /// k, m and chunk.
    pub shape: Shape,
    /// Volume size in bytes; the whole capacity if not given.
    pub size_bytes: Option<u64>,
}

/// How to run an array.
#[derive(Clone)]
pub struct AssembleOptions {
    /// Time, timers, random.
    pub env: Env,
    /// Paths at which a member that is away may come back.
    pub unopened: Vec<String>,
    /// Finds members again.
    pub opener: Arc<dyn Opener>,
    /// Is told what happens.
    pub observer: Arc<dyn Observer>,
    /// Longest time one member operation may take before the member counts as failed.
    pub member_deadline: Duration,
    /// How often members are looked after (deleted, shrunk, returned?).
    pub probe_interval: Duration,
    /// Ceiling of rebuilds, in bytes per second of one member.
    pub max_rebuild_rate: Option<u64>,
    /// Most bytes of answered writes held in memory until they are home.
    pub staging_bytes: u64,
    /// About so much of the members' checksum tables is held in memory, in bytes.
    pub checksum_cache_bytes: u64,
    /// What to do about a journal that is lost, and a parity that may not match the data.
    pub discard: Discard,
}

/// How to go on without a journal all of whose members are gone.
#[derive(Clone, Default)]
pub struct Discard {
    /// New members to bear a journal in its place, more than m; none if the journal is there.
    pub journal: Vec<Candidate>,
    /// What of these holds recognisable data, in words: nothing is overwritten then. None if the caller was
    /// told to force.
    pub occupied: Vec<String>,
    /// Go on although members of slots are missing, and what they held can only be had from a parity that
    /// nothing proves.
    pub force: bool,
}

/// How an admin names a member: slot number, `journal-` and its number, UUID or path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum MemberRef {
    /// `3`
    Slot(Slot),
    /// `journal-0`
    Journal(JournalIndex),
    /// `2f6f...`
    Id(MemberId),
    /// `/dev/sdb`
    Path(String),
}

impl FromStr for MemberRef {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "an empty text names no member"));
        }
        if let Ok(slot) = text.parse::<u8>() {
            return Ok(Self::Slot(Slot(slot)));
        }
        if let Some(index) = text.strip_prefix("journal-").and_then(|n| n.parse().ok()) {
            return Ok(Self::Journal(JournalIndex(index)));
        }
        Ok(text.parse().map_or_else(|_| Self::Path(text.to_owned()), Self::Id))
    }
}

impl fmt::Display for MemberRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => slot.fmt(f),
            Self::Journal(index) => Seat::Journal(*index).fmt(f),
            Self::Id(id) => id.fmt(f),
            Self::Path(path) => f.write_str(path),
        }
    }
}

impl From<Seat> for MemberRef {
    fn from(seat: Seat) -> Self {
        match seat {
            Seat::Slot(slot) => Self::Slot(slot),
            Seat::Journal(index) => Self::Journal(index),
        }
    }
}

impl From<MemberRef> for String {
    fn from(m: MemberRef) -> Self {
        m.to_string()
    }
}

impl TryFrom<String> for MemberRef {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// Outcome of an idempotent admin action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Applied {
    /// It was done.
    Done,
    /// It was so already.
    Already,
}

/// What scrub to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubStart {
    /// Whether it repairs what it finds; it does, if not given.
    #[serde(default)]
    pub mode: ScrubMode,
    /// Ceiling in bytes per second of one member; 0 is none. What the daemon is configured for, if
    /// not given.
    pub max_rate_bytes_per_s: Option<u64>,
}

/// The scrub that was started, or that ran already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStarted {
    /// Its number.
    pub number: u64,
    /// `done`, or `already` if one of this kind ran.
    pub applied: Applied,
}

/// A change to how background work (rebuilding, or a scrub) runs; `None` leaves a setting alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RebuildControl {
    /// New ceiling in bytes per second; 0 removes the ceiling.
    pub max_rate_bytes_per_s: Option<u64>,
    /// Pause or resume.
    pub paused: Option<bool>,
}
