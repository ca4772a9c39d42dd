//! Feature words, as ext4 has them: they tell an older build when to keep its hands off.

use crate::error::{Error, ErrorKind, Result};

/// What a member's format uses beyond version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// A build that does not know one of these may use the array as if it were not there.
    pub compat: u64,
    /// A build that does not know one of these may only read.
    pub ro_compat: u64,
    /// A build that does not know one of these must refuse the member.
    pub incompat: u64,
}

impl Features {
    /// `incompat`: the journal is in use. What it holds must be replayed before the data is read.
    pub const JOURNAL: u64 = 1;

    /// `incompat`: checksum area and epoch map are in use. What they say of a block or a stripe counts,
    /// whatever the data area holds.
    pub const CHECKSUMS: u64 = 2;

    /// `incompat`: the journal lies on members of its own, and not beside the data.
    pub const JOURNAL_MEMBERS: u64 = 4;

    /// The bits this build knows.
    pub const KNOWN: Self =
        Self { compat: 0, ro_compat: 0, incompat: Self::JOURNAL | Self::CHECKSUMS | Self::JOURNAL_MEMBERS };

    /// Whether the journal is in use.
    pub fn has_journal(&self) -> bool {
        self.incompat & Self::JOURNAL != 0
    }

    /// Whether checksum area and epoch map are in use.
    pub fn has_checksums(&self) -> bool {
        self.incompat & Self::CHECKSUMS != 0
    }

    /// Whether the journal lies on members of its own.
    pub fn has_journal_members(&self) -> bool {
        self.incompat & Self::JOURNAL_MEMBERS != 0
    }

    /// The `ro_compat` bits this build does not know: if any, the array may only be read.
    pub fn unknown_ro_compat(&self) -> u64 {
        self.ro_compat & !Self::KNOWN.ro_compat
    }

    /// Refuses `incompat` bits this build does not know.
    pub(super) fn check(&self) -> Result<()> {
        let unknown = self.incompat & !Self::KNOWN.incompat;
        if unknown == 0 {
            return Ok(());
        }
        let bits: Vec<String> =
            (0..u64::BITS).filter(|bit| unknown >> bit & 1 == 1).map(|bit| bit.to_string()).collect();
        let what = format!("needs format features this build does not know (incompat {})", bits.join(", "));
        Err(Error::new(ErrorKind::Unsupported, what).hint("use a newer palisade for this array"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_features_are_named_by_their_bits() {
        let features = Features { compat: u64::MAX, ro_compat: 1 << 7, incompat: 15 | 1 << 63 };
        let error = features.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("incompat 3, 63"), "{error}");
        assert_eq!(features.unknown_ro_compat(), 1 << 7);
        assert!(Features { compat: 1, ro_compat: 1, incompat: 7 }.check().is_ok());
    }
}
