//! Every exit code of `palisade`, in one place.

use super::find::Found;
use crate::array::ArrayState;

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Ok,
    /// It failed.
    Error,
    /// The command line makes no sense.
    Usage,
    /// A scrub found damage that is not repaired.
    Damaged,
    /// Ctrl-C, as shells count it.
    Interrupted,
    /// The verdict of `status --exit-code`.
    Health(Health),
}

/// State of arrays as `mdadm --detail --test` reports it; the worst counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Nothing is lost.
    Optimal,
    /// Something is lost, everything is readable.
    Degraded,
    /// More is lost than parity can replace.
    Failed,
    /// Not running, or it does not answer.
    Unknown,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok | Self::Health(Health::Optimal) => 0,
            Self::Error | Self::Health(Health::Degraded) => 1,
            Self::Usage | Self::Health(Health::Failed) => 2,
            Self::Damaged => 3,
            Self::Health(Health::Unknown) => 4,
            Self::Interrupted => 130,
        }
    }
}

impl Health {
    /// The health of one array.
    pub fn of(found: &Found) -> Self {
        match found {
            Found::Running(report) => match report.state {
                ArrayState::Optimal => Self::Optimal,
                ArrayState::Degraded => Self::Degraded,
                ArrayState::Failed => Self::Failed,
            },
            Found::Stopped { .. } | Found::Silent { .. } => Self::Unknown,
        }
    }
}
