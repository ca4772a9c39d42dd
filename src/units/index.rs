//! Indices and counters.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The unit of checksums and of atomic update, in bytes.
pub const BLOCK_BYTES: u64 = 4096;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Place of a member in the geometry, `0 .. k + m`.
    Slot,
    u8
);
number!(
    /// Place of a member that bears the journal and nothing else, from 0.
    JournalIndex,
    u8
);
number!(
    /// Number of a stripe, from the start of the volume.
    StripeIndex,
    u64
);
number!(
    /// Number of a 4 KiB block, from the start of the volume.
    BlockIndex,
    u64
);
number!(
    /// Raised durably at each change of membership.
    EventCount,
    u64
);
number!(
    /// A point in time in the epoch map.
    Epoch,
    u32
);
number!(
    /// Number of a journal frame.
    JournalSeq,
    u64
);

/// What a member serves: a slot of the geometry, or a copy of the journal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seat {
    /// Chunks of stripes.
    Slot(Slot),
    /// The journal.
    Journal(JournalIndex),
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => write!(f, "slot {slot}"),
            Self::Journal(index) => write!(f, "journal-{index}"),
        }
    }
}

impl JournalIndex {
    /// The number as an index into tables.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl Slot {
    /// The slot as an index into per-slot tables.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl Epoch {
    /// The last one: an entry of the epoch map has 31 bits for it.
    pub const MAX: Self = Self(u32::MAX >> 1);
}

impl Epoch {
    /// The next epoch.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl EventCount {
    /// The next event.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}
