//! The messages of the control socket, as values: what is asked, what is answered, and how an
//! error crosses the socket without losing its kind or its hint.

use crate::array::{Applied, MemberRef, RebuildControl, Report, ScrubRecord, ScrubStart, ScrubStarted};
use crate::error::{Error, ErrorKind, Result};
use crate::units::MemberId;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::pin::Pin;

/// What can be asked of a running array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// What the array says about itself.
    Status,
    /// Mark a member faulty.
    Fail(MemberRef),
    /// Fill a new member in place of an old one.
    Replace(ReplaceBody),
    /// Attach a spare.
    Add(AddBody),
    /// Detach a member.
    Remove(MemberRef),
    /// Change how background work runs.
    Rebuild(RebuildControl),
    /// What scrubs found.
    Scrub,
    /// Verify everything that is stored.
    StartScrub(ScrubStart),
    /// Change how the scrub that runs goes on.
    ControlScrub(RebuildControl),
    /// End the scrub that runs.
    CancelScrub,
    /// Stop the array and end the daemon.
    Stop,
    /// What build answers.
    Version,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// To `Status`.
    Report(Box<Report>),
    /// To `Scrub`.
    Scrub(Box<ScrubRecord>),
    /// To `StartScrub`.
    ScrubStarted(ScrubStarted),
    /// To `Fail`, `Remove` and `CancelScrub`.
    Applied(AppliedBody),
    /// To `Replace` and `Add`.
    Member(MemberBody),
    /// To `Rebuild`, `ControlScrub` and `Stop`.
    Ok(OkBody),
    /// To `Version`.
    Version(Version),
}

/// Whoever answers requests: the daemon. The future is polled on the server's own thread.
pub trait Admin: Send + Sync + 'static {
    /// Does what is asked.
    fn handle(&self, request: Request) -> Pin<Box<dyn Future<Output = Result<Reply>> + Send>>;
}

/// Body of `POST /v1/members/fail` and `/v1/members/remove`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberRefBody {
    /// Slot number, UUID or path.
    pub member: MemberRef,
}

/// Body of `POST /v1/members/replace`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaceBody {
    /// The member to replace.
    pub old: MemberRef,
    /// Path of the new one.
    pub new: String,
    /// Overwrite recognisable data on it.
    #[serde(default)]
    pub force: bool,
}

/// Body of `POST /v1/members`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddBody {
    /// Path of the new member.
    pub path: String,
    /// Overwrite recognisable data on it.
    #[serde(default)]
    pub force: bool,
}

/// Whether an idempotent action did anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedBody {
    /// `done` or `already`.
    pub applied: Applied,
}

/// The member that was attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberBody {
    /// Its identity.
    pub uuid: MemberId,
    /// It had been lost, and is filled with what it missed only.
    pub returned: bool,
}

/// It was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OkBody {
    /// Always true.
    pub ok: bool,
}

/// Answer to `GET /v1/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Version of the daemon's build.
    pub version: String,
    /// Versions of this conversation it speaks: the `1` in `/v1/`.
    pub api: Vec<u32>,
    /// Process id of the daemon.
    pub pid: u32,
    /// How members are driven: `io_uring`, or `portable` and why.
    pub io: String,
}

/// Body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorText,
}

/// An error as it crosses the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorText {
    /// Its kind in words, as `not-found`.
    pub kind: String,
    /// What happened, causes included.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// Every kind with its name on the wire and its HTTP status.
const KINDS: [(ErrorKind, &str, u16); 17] = [
    (ErrorKind::InvalidInput, "invalid-input", 400),
    (ErrorKind::OutOfRange, "out-of-range", 400),
    (ErrorKind::NotFound, "not-found", 404),
    (ErrorKind::AlreadyExists, "already-exists", 409),
    (ErrorKind::Busy, "busy", 409),
    (ErrorKind::Io, "io", 500),
    (ErrorKind::NoSpace, "no-space", 507),
    (ErrorKind::Corrupt, "corrupt", 422),
    (ErrorKind::Stale, "stale", 409),
    (ErrorKind::Foreign, "foreign", 409),
    (ErrorKind::ReadOnly, "read-only", 409),
    (ErrorKind::Failed, "failed", 409),
    (ErrorKind::Timeout, "timeout", 504),
    (ErrorKind::Unsupported, "unsupported", 501),
    (ErrorKind::Permission, "permission", 403),
    (ErrorKind::Protocol, "protocol", 400),
    (ErrorKind::ShuttingDown, "shutting-down", 503),
];

impl ErrorText {
    /// The error as text, its causes folded into the message.
    pub fn of(error: &Error) -> Self {
        let kind = row(error.kind()).1.to_owned();
        Self { kind, message: error.report(), hint: error.next_step().map(str::to_owned) }
    }

    /// The error again, on the other side; a kind this build does not know becomes `Failed`.
    pub fn into_error(self) -> Error {
        let known = KINDS.iter().find(|(_, name, _)| *name == self.kind);
        let error = Error::new(known.map_or(ErrorKind::Failed, |k| k.0), self.message);
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// HTTP status that fits an error.
pub fn http_status(kind: ErrorKind) -> u16 {
    row(kind).2
}

fn row(kind: ErrorKind) -> (ErrorKind, &'static str, u16) {
    KINDS.iter().copied().find(|(k, ..)| *k == kind).unwrap_or((kind, "failed", 500))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_kind_and_hint_across_the_socket() {
        for (kind, ..) in KINDS {
            let sent = Error::new(kind, "cannot").member("/dev/sdb").hint("do this");
            let body = serde_json::to_string(&ErrorBody { error: ErrorText::of(&sent) }).unwrap();
            let got: ErrorBody = serde_json::from_str(&body).unwrap();
            let got = got.error.into_error();
            assert_eq!(
                (got.kind(), got.report(), got.next_step()),
                (kind, "/dev/sdb: cannot".to_owned(), Some("do this"))
            );
        }
    }
}
