//! What an action answers, the same for all of them.

use crate::array::Applied;
use crate::cli::exit::Exit;
use crate::cli::out::Out;
use crate::cli::resolve::Format;
use crate::error::{Error, Result};
use crate::units::MemberId;
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
    /// The daemon that was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Where the volume is served.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<String>,
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
        Self { name: name.to_owned(), applied: None, uuid: None, pid: None, uris: Vec::new(), error: None }
    }

    /// With a member.
    pub fn member(name: &str, uuid: MemberId) -> Self {
        Self { uuid: Some(uuid), ..Self::new(name, Applied::Done) }
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
