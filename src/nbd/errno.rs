//! Error numbers on the wire, and their meaning here.

use crate::error::{Error, ErrorKind};

/// An error number of the protocol; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Errno(pub u32);

impl Errno {
    pub const PERM: Self = Self(1);
    pub const IO: Self = Self(5);
    pub const NOMEM: Self = Self(12);
    pub const INVAL: Self = Self(22);
    pub const NOSPC: Self = Self(28);
    pub const OVERFLOW: Self = Self(75);
    pub const NOTSUP: Self = Self(95);
    pub const SHUTDOWN: Self = Self(108);

    /// What a client is told about an error of the volume.
    pub fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidInput | ErrorKind::OutOfRange => Self::INVAL,
            ErrorKind::NoSpace => Self::NOSPC,
            ErrorKind::ReadOnly | ErrorKind::Permission => Self::PERM,
            ErrorKind::Unsupported => Self::NOTSUP,
            ErrorKind::ShuttingDown => Self::SHUTDOWN,
            _ => Self::IO,
        }
    }

    /// What a server's error number means to a caller of the client.
    pub fn kind(self) -> ErrorKind {
        match self {
            Self::PERM => ErrorKind::ReadOnly,
            Self::INVAL | Self::OVERFLOW => ErrorKind::InvalidInput,
            Self::NOSPC => ErrorKind::NoSpace,
            Self::NOTSUP => ErrorKind::Unsupported,
            Self::SHUTDOWN => ErrorKind::ShuttingDown,
            _ => ErrorKind::Io,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::PERM => "EPERM",
            Self::IO => "EIO",
            Self::NOMEM => "ENOMEM",
            Self::INVAL => "EINVAL",
            Self::NOSPC => "ENOSPC",
            Self::OVERFLOW => "EOVERFLOW",
            Self::NOTSUP => "ENOTSUP",
            Self::SHUTDOWN => "ESHUTDOWN",
            _ => "an unknown error",
        }
    }

    /// The error a caller of the client gets.
    pub fn into_error(self, message: &str) -> Error {
        let name = self.name();
        let what = match message {
            "" => format!("the server answered {name}"),
            text => format!("the server answered {name}: {text}"),
        };
        Error::new(self.kind(), what)
    }
}
