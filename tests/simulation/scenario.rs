//! What a seed is about.

use palisade::env::sim::Prng;
use std::fmt;
use std::str::FromStr;

/// Which kinds of trouble a run makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Requests only.
    Calm,
    /// Members fail and are replaced.
    Degraded,
    /// The process is killed and the power fails, on an array that is otherwise healthy.
    Crash,
    /// Both at once.
    CrashDegraded,
    /// Stops and starts with members permuted, renamed, missing and stale.
    Restart,
    /// More members lost than parity can replace, for a while.
    Beyond,
    /// The same, and a crash while they come back.
    BeyondCrash,
    /// Members lie and rot, at most as many as parity can replace; crashes and losses besides.
    Rot,
    /// Crash upon crash, before what the one before left is put in order.
    Storm,
    /// Members are replaced by old copies of themselves, hold pieces of each other, or come from
    /// another array.
    Impostor,
    /// Every member that bears the journal is lost for good.
    Discard,
    /// Small changes of one place, and a crash at one of their operations.
    Hammer,
    /// Changes of membership that do not come to their end.
    Upheaval,
    /// Replacements half filled, crashes, and only they are left.
    Refill,
    /// Pieces of members that lie elsewhere, or are changed, as the machine starts.
    Mislaid,
    /// Scripts, each aimed at one protection.
    Aimed,
    /// Requests, failing members, crashes and restarts.
    Mixed,
}

/// Where the journal lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalOn {
    /// On the members of the slots.
    Slots,
    /// On members of its own: so many more than m.
    Own(u8),
}

impl JournalOn {
    /// Drawn from the seed's number and from nothing else, so that a run draws what it always drew.
    pub fn of_seed(seed: u64) -> Self {
        let mut random = Prng::new(seed ^ 0x6a6f_7572_6e61_6c73);
        match random.below(4) {
            0 => Self::Own(if random.chance(700) { 1 } else { 2 }),
            _ => Self::Slots,
        }
    }
}

impl FromStr for JournalOn {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "slots" => Ok(Self::Slots),
            "own" => Ok(Self::Own(1)),
            "own+" => Ok(Self::Own(2)),
            other => {
                Err(format!("'{other}': the journal is on slots, own (m + 1 members) or own+ (one more)"))
            }
        }
    }
}

impl fmt::Display for JournalOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slots => "slots",
            Self::Own(1) => "own",
            Self::Own(_) => "own+",
        })
    }
}

impl Scenario {
    pub const ALL: [Self; 17] = [
        Self::Calm,
        Self::Degraded,
        Self::Crash,
        Self::CrashDegraded,
        Self::Restart,
        Self::Beyond,
        Self::BeyondCrash,
        Self::Rot,
        Self::Storm,
        Self::Impostor,
        Self::Discard,
        Self::Hammer,
        Self::Upheaval,
        Self::Refill,
        Self::Mislaid,
        Self::Aimed,
        Self::Mixed,
    ];

    /// The scenario a seed runs if none is asked for.
    pub fn of_seed(random: &mut Prng) -> Self {
        let weighted = [
            Self::Calm,
            Self::Degraded,
            Self::Degraded,
            Self::Degraded,
            Self::Crash,
            Self::Crash,
            Self::CrashDegraded,
            Self::Restart,
            Self::Restart,
            Self::Beyond,
            Self::Mixed,
            Self::Mixed,
        ];
        *random.pick(&weighted).unwrap()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Degraded => "degraded",
            Self::Crash => "crash",
            Self::CrashDegraded => "crash-degraded",
            Self::Restart => "restart",
            Self::Beyond => "beyond",
            Self::BeyondCrash => "beyond-crash",
            Self::Rot => "rot",
            Self::Storm => "storm",
            Self::Impostor => "impostor",
            Self::Discard => "discard",
            Self::Hammer => "hammer",
            Self::Upheaval => "upheaval",
            Self::Refill => "refill",
            Self::Mislaid => "mislaid",
            Self::Aimed => "aimed",
            Self::Mixed => "mixed",
        }
    }

    /// Whether a run is about moments, not masses: few stripes, small ones, and few steps.
    pub fn is_small(self) -> bool {
        matches!(self, Self::Hammer | Self::Upheaval | Self::Refill | Self::Mislaid)
    }

    pub fn loses_members(self) -> bool {
        !matches!(self, Self::Calm | Self::Crash | Self::Discard | Self::Aimed)
    }

    pub fn crashes(self) -> bool {
        matches!(self, Self::Crash) || self.crashes_degraded()
    }

    pub fn crashes_degraded(self) -> bool {
        matches!(self, Self::CrashDegraded | Self::Rot | Self::Storm | Self::Impostor | Self::Mixed)
    }

    pub fn loses_too_many(self) -> bool {
        matches!(self, Self::Beyond | Self::BeyondCrash)
    }

    pub fn restarts(self) -> bool {
        matches!(self, Self::Restart | Self::Mixed)
    }
}

impl FromStr for Scenario {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<_> = Self::ALL.iter().map(|s| s.name()).collect();
        let found = Self::ALL.into_iter().find(|s| s.name() == text);
        found.ok_or_else(|| format!("'{text}' is no scenario; there are: {}", names.join(", ")))
    }
}
