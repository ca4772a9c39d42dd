//! One error shape for the whole crate: a small, matchable kind, the context a person needs to act
//! (which array, which member, where), what to do next, and the cause.
//!
//! `Display` prints one sentence without the cause; [`Error::report`] prints the cause chain once.

use std::fmt;

/// What went wrong, coarse enough to match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller asked for something that makes no sense (bad argument, bad configuration).
    InvalidInput,
    /// An offset or length lies outside the volume or member.
    OutOfRange,
    /// The named thing does not exist.
    NotFound,
    /// The named thing exists already, or holds data that would be overwritten.
    AlreadyExists,
    /// Somebody else holds it: a lock, a running daemon, a mount.
    Busy,
    /// The operating system or a device reported an I/O error.
    Io,
    /// No room left.
    NoSpace,
    /// Bytes on a member do not parse or do not match their checksum.
    Corrupt,
    /// A member missed writes and may not serve them.
    Stale,
    /// A member belongs to another array, or to another history of this one.
    Foreign,
    /// The volume or export is read-only.
    ReadOnly,
    /// More members are lost than parity can replace.
    Failed,
    /// The deadline passed.
    Timeout,
    /// This file, device, kernel or build cannot do that.
    Unsupported,
    /// Not allowed to.
    Permission,
    /// The peer broke the protocol.
    Protocol,
    /// The array or daemon is stopping.
    ShuttingDown,
}

/// A boxed cause.
pub type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with its context. Build it with [`Error::new`] and the chained setters.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    what: String,
    array: Option<String>,
    member: Option<String>,
    slot: Option<u8>,
    offset: Option<u64>,
    hint: Option<String>,
    source: Option<Source>,
}

impl Error {
    /// A new error: `what` is a lower-case phrase without a full stop ("cannot read superblock").
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            what: what.into(),
            array: None,
            member: None,
            slot: None,
            offset: None,
            hint: None,
            source: None,
        }))
    }

    /// An I/O error of the operating system; the kind is derived from its errno.
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let kind = match source.kind() {
            K::NotFound => ErrorKind::NotFound,
            K::PermissionDenied => ErrorKind::Permission,
            K::AlreadyExists => ErrorKind::AlreadyExists,
            K::TimedOut => ErrorKind::Timeout,
            K::StorageFull | K::QuotaExceeded => ErrorKind::NoSpace,
            K::ResourceBusy | K::AddrInUse => ErrorKind::Busy,
            K::Unsupported => ErrorKind::Unsupported,
            K::ReadOnlyFilesystem => ErrorKind::ReadOnly,
            _ => ErrorKind::Io,
        };
        Self::new(kind, what).source(source)
    }

    /// Names the array.
    #[must_use]
    pub fn array(mut self, name: impl Into<String>) -> Self {
        self.0.array = Some(name.into());
        self
    }

    /// Names the member by its path.
    #[must_use]
    pub fn member(mut self, path: impl Into<String>) -> Self {
        self.0.member = Some(path.into());
        self
    }

    /// Names the slot.
    #[must_use]
    pub fn slot(mut self, slot: crate::units::Slot) -> Self {
        self.0.slot = Some(slot.0);
        self
    }

    /// Says at which byte of the member or volume.
    #[must_use]
    pub fn at(mut self, offset_bytes: u64) -> Self {
        self.0.offset = Some(offset_bytes);
        self
    }

    /// Says what to do next: an imperative sentence or a command to paste.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Attaches the cause.
    #[must_use]
    pub fn source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds to what is said, at its end.
    #[must_use]
    pub fn and(mut self, more: &str) -> Self {
        self.0.what.push_str(more);
        self
    }

    /// The kind, for matching.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The phrase given to [`Error::new`].
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// The path of the member it is about.
    pub fn member_path(&self) -> Option<&str> {
        self.0.member.as_deref()
    }

    /// What to do next.
    pub fn next_step(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The whole story on one line: message, causes, each once.
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(e) = cause {
            let e_text = e.to_string();
            if !text.contains(&e_text) {
                text.push_str(": ");
                text.push_str(&e_text);
            }
            cause = e.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &*self.0;
        if let Some(array) = &e.array {
            write!(f, "array {array}: ")?;
        }
        match (&e.member, e.slot) {
            (Some(path), Some(slot)) => write!(f, "{path} (slot {slot}): ")?,
            (Some(path), None) => write!(f, "{path}: ")?,
            (None, Some(slot)) => write!(f, "slot {slot}: ")?,
            (None, None) => {}
        }
        f.write_str(&e.what)?;
        if let Some(offset) = e.offset {
            write!(f, " at byte {offset}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn std::error::Error + 'static))
    }
}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Self::io("I/O failed", e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Slot;

    #[test]
    fn a_message_says_what_where_and_why_once() {
        let e = Error::io("cannot write", std::io::Error::from_raw_os_error(5))
            .array("tank")
            .member("/dev/sdb")
            .slot(Slot(3))
            .at(4096);
        assert_eq!(e.to_string(), "array tank: /dev/sdb (slot 3): cannot write at byte 4096");
        assert_eq!(
            e.report(),
            "array tank: /dev/sdb (slot 3): cannot write at byte 4096: Input/output error (os error 5)"
        );
    }
}
