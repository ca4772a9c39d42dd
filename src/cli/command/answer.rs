//! What an action answers, the same for all of them.

use crate::array::{Applied, RebuildControl, ScrubStarted};
use crate::cli::exit::Exit;
use crate::cli::out::Out;
use crate::cli::resolve::Format;
use crate::control::MemberBody;
use crate::error::{Error, Result};
use crate::units::{MemberId, format_rate};
use serde::Serialize;

/// `{"applied": "done"}` with what else is known.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// The array.
    pub name: String,
    /// Whether anything was done; nothing if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
    /// The member that was attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<MemberId>,
    /// It had been lost, and gets only what it missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returned: Option<bool>,
    /// The daemon that was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Where the volume is served.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<String>,
    /// Number of the scrub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrub: Option<u64>,
    /// Why it failed (only where several arrays are acted on).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Answer {
    /// For an array.
    pub fn new(name: &str, applied: Applied) -> Self {
        Self { applied: Some(applied), ..Self::empty(name) }
    }

    /// For an array where it failed.
    pub fn failed(name: &str, error: &Error) -> Self {
        Self { error: Some(error.report()), ..Self::empty(name) }
    }

    fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            applied: None,
            uuid: None,
            returned: None,
            pid: None,
            uris: Vec::new(),
            scrub: None,
            error: None,
        }
    }

    /// With a member.
    pub fn member(name: &str, attached: &MemberBody) -> Self {
        let (uuid, returned) = (Some(attached.uuid), Some(attached.returned));
        Self { uuid, returned, ..Self::new(name, Applied::Done) }
    }

    /// With a scrub.
    pub fn scrub(name: &str, started: ScrubStarted) -> Self {
        Self { scrub: Some(started.number), ..Self::new(name, started.applied) }
    }

    /// Prints it.
    pub fn print(&self, out: &Out, format: Format, text: &str) -> Result<Exit> {
        match format {
            Format::Text => out.line(text)?,
            Format::Json => out.json(self)?,
        }
        Ok(Exit::Ok)
    }
}

/// What a change to how background work runs comes to.
pub fn said_change(change: RebuildControl) -> String {
    let rate = change.max_rate_bytes_per_s.map(|rate| match rate {
        0 => "no limit".to_owned(),
        rate => format!("at most {}", format_rate(rate)),
    });
    let paused = change.paused.map(|paused| if paused { "paused" } else { "goes on" }.to_owned());
    [paused, rate].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
