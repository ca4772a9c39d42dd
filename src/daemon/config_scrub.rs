//! The `[scrub]` part of the configuration.

use super::config::size;
use crate::error::{Error, ErrorKind, Result};
use crate::stripe::ScrubMode;
use crate::units::{format_duration, parse_duration};
use serde::Deserialize;
use std::time::Duration;

const EVERY_MIN: Duration = Duration::from_secs(60);
const EVERY_MAX: Duration = Duration::from_secs(3650 * 86400);

/// When and how to scrub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrubConfig {
    /// So long after the last scrub ended the next one begins; only when asked for, if not given.
    pub every: Option<Duration>,
    /// Whether one that begins by itself repairs.
    pub mode: ScrubMode,
    /// Ceiling unless one is asked for, bytes per second of one member; 0 is none.
    pub max_rate: u64,
}

/// As written, before it is checked.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawScrub {
    every: Option<String>,
    mode: Option<ScrubMode>,
    #[serde(default, deserialize_with = "size")]
    max_rate: Option<u64>,
}

impl RawScrub {
    pub fn check(self) -> Result<ScrubConfig> {
        let every = self.every.as_deref().map(every).transpose()?;
        Ok(ScrubConfig { every, mode: self.mode.unwrap_or_default(), max_rate: self.max_rate.unwrap_or(0) })
    }
}

fn every(text: &str) -> Result<Duration> {
    let refuse = |why: String| Error::new(ErrorKind::InvalidInput, format!("every: {why}"));
    let every = parse_duration(text)
        .map_err(|e| refuse(format!("{}: {}", e.what(), e.next_step().unwrap_or_default())))?;
    if (EVERY_MIN..=EVERY_MAX).contains(&every) {
        return Ok(every);
    }
    let (low, high) = (format_duration(EVERY_MIN), format_duration(EVERY_MAX));
    Err(refuse(format!("{} is not within {low} and {high}", format_duration(every))))
}
