//! The `threads` line of the configuration.

use serde::{Deserialize, Deserializer, de};
use std::fmt;
use std::ops::RangeInclusive;

const RANGE: RangeInclusive<usize> = 1..=64;
/// A connection stays with one thread, and clients seldom have more than a few.
const AUTO_MAX: usize = 4;

/// How many threads serve requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Threads {
    /// One for each CPU, up to four.
    #[default]
    Auto,
    /// So many.
    Count(usize),
}

impl Threads {
    /// How many that is on this machine.
    pub fn count(self) -> usize {
        match self {
            Self::Auto => for_cpus(std::thread::available_parallelism().map_or(1, usize::from)),
            Self::Count(count) => count,
        }
    }
}

fn for_cpus(cpus: usize) -> usize {
    cpus.clamp(1, AUTO_MAX)
}

/// As the file has it.
impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("\"auto\""),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

impl<'de> Deserialize<'de> for Threads {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a number of threads, or \"auto\"")]
        enum Written {
            Number(usize),
            Text(String),
        }
        match Written::deserialize(from)? {
            Written::Number(count) if RANGE.contains(&count) => Ok(Self::Count(count)),
            Written::Number(count) => {
                let (low, high) = (RANGE.start(), RANGE.end());
                Err(de::Error::custom(format!("threads: {count} is not within {low} and {high}")))
            }
            Written::Text(text) if text == "auto" => Ok(Self::Auto),
            Written::Text(text) => {
                Err(de::Error::custom(format!("threads: '{text}' is neither \"auto\" nor a number")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_as_cpus_and_not_too_many() {
        assert_eq!([1, 2, 3, 4, 8, 64].map(for_cpus), [1, 2, 3, 4, 4, 4]);
        assert!(RANGE.contains(&Threads::Auto.count()));
        assert_eq!(Threads::Count(7).count(), 7);
    }
}
