//! The fault model: what can go wrong with a disk, on command or at random.

use std::ops::Range;
use std::time::Duration;

/// Rates of random faults, each in events per million operations of its kind. All off by default.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    /// A read fails once; the next try works.
    pub transient_read_error: u64,
    /// A page that is read turns unreadable until it is written (latent sector error).
    pub latent_sector: u64,
    /// A write fails; none, some or all of it may be on the disk.
    pub write_error: u64,
    /// A flush fails; what it should have made durable never will be by a later one.
    pub flush_error: u64,
    /// An operation takes `hang_time`.
    pub hang: u64,
    /// A punch takes so much longer.
    pub hang_punch: u64,
    /// How long a hanging operation takes.
    pub hang_time: Duration,
    /// An operation takes fifty times as long as usual.
    pub slow: u64,
    /// A write is answered although only some of its sectors were written.
    pub torn_write: u64,
    /// A write is answered although nothing was written.
    pub dropped_write: u64,
    /// A write is answered although it went to another place.
    pub misdirected_write: u64,
    /// A read finds a bit flipped on the media.
    pub bit_rot: u64,
    /// The byte ranges in which operations must begin for the last four to strike; the whole disk
    /// if there are none. A misdirected write may end up anywhere, half of the time in one of them.
    pub lies_in: Vec<Range<u64>>,
}

impl FaultPlan {
    /// Whether an operation that begins at `offset_bytes` may be answered with a lie.
    pub(super) fn lies_at(&self, offset_bytes: u64) -> bool {
        self.lies_in.is_empty() || self.lies_in.iter().any(|range| range.contains(&offset_bytes))
    }
}

/// How a kind of operation behaves on command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trouble {
    /// As it should.
    #[default]
    Off,
    /// The next so many fail.
    Next(u32),
    /// All fail.
    Always,
}

impl Trouble {
    /// Whether the operation at hand fails; counts it.
    pub(super) fn strikes(&mut self) -> bool {
        match *self {
            Self::Off | Self::Next(0) => false,
            Self::Next(n) => {
                *self = if n == 1 { Self::Off } else { Self::Next(n - 1) };
                true
            }
            Self::Always => true,
        }
    }
}

/// How a write that is answered with success goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteFate {
    /// Only some sectors are written.
    Torn,
    /// Nothing is written.
    Dropped,
    /// It is written to this offset instead.
    Misdirected(u64),
}

/// What happened to a disk so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultCounts {
    /// Reads that failed.
    pub read_errors: u64,
    /// Writes and punches that failed.
    pub write_errors: u64,
    /// Flushes that failed.
    pub flush_errors: u64,
    /// Operations that hung or were slow.
    pub delays: u64,
    /// Writes torn, dropped or misdirected, and bits flipped.
    pub lies: u64,
}

impl FaultCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.read_errors + self.write_errors + self.flush_errors + self.delays + self.lies
    }
}

/// Faults commanded, as opposed to drawn.
#[derive(Debug, Default)]
pub(super) struct Commanded {
    pub reads: Trouble,
    pub writes: Trouble,
    pub flushes: Trouble,
    pub hanging: bool,
    /// Writes and punches fail, and nothing of them is done.
    pub refusing: bool,
    pub slow_factor: Option<u32>,
    pub next_writes: std::collections::VecDeque<WriteFate>,
}
