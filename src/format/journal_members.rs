//! The journal on members of its own: how many there are, and where on each of them it lies.
//!
//! ```text
//!   0         64 KiB                                   end - 64 KiB   end
//!   | header  | journal                      | slack   | tail          |
//! ```
//!
//! Each holds a whole copy, so that any one tells everything that was logged. There are more of them
//! than members may be lost.

use super::areas::{HEADER_BYTES, OFFSET_MAX, PAGE_BYTES, TAIL_BYTES};
use super::bytes::{Reader, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::Shape;
use crate::units::{JournalIndex, format_size};

const MIN_BYTES: u64 = 16 << 20;
const MAX_BYTES: u64 = 1 << 30;
const STEP_BYTES: u64 = 1 << 20;

/// The members that bear the journal and nothing else; offsets and sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalMembers {
    /// How many, more than m.
    pub count: u8,
    /// Start of the journal area on each.
    pub offset: u64,
    /// Size of the journal area.
    pub len: u64,
}

impl JournalMembers {
    /// The smallest such member: 16 MiB of journal, header and tail.
    pub const MINIMUM_BYTES: u64 = HEADER_BYTES + MIN_BYTES + TAIL_BYTES;
    /// What of a larger one is not used.
    pub const MAXIMUM_BYTES: u64 = HEADER_BYTES + MAX_BYTES + TAIL_BYTES;

    /// So many, of which the smallest has `member_bytes`: all of it, in whole MiB, up to 1 GiB. Fails
    /// with `NoSpace` if that is less than [`Self::MINIMUM_BYTES`].
    pub fn plan(count: u8, member_bytes: u64) -> Result<Self> {
        if member_bytes < Self::MINIMUM_BYTES {
            let (has, needs) = (format_size(member_bytes), format_size(MIN_BYTES + STEP_BYTES));
            let what = format!("too small for a journal: has {has}, needs at least {needs}");
            return Err(Error::new(ErrorKind::NoSpace, what));
        }
        let room = member_bytes - HEADER_BYTES - TAIL_BYTES;
        let len = (room - room % STEP_BYTES).min(MAX_BYTES);
        Ok(Self { count, offset: HEADER_BYTES, len })
    }

    /// The smallest member that holds this journal and its tail: what a replacement must have.
    pub fn required_bytes(&self) -> u64 {
        self.offset + self.len + TAIL_BYTES
    }

    /// Their numbers.
    pub fn indices(&self) -> impl Iterator<Item = JournalIndex> + use<> {
        (0..self.count).map(JournalIndex)
    }

    pub(super) fn encode(journal: Option<&Self>, out: &mut Writer) {
        out.u32(journal.map_or(0, |j| u32::from(j.count)));
        out.u32(0);
        out.u64(journal.map_or(0, |j| j.offset));
        out.u64(journal.map_or(0, |j| j.len));
    }

    /// Reads the fields; of their values nothing is checked yet but that the number is a small one.
    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self> {
        let count = input.u32()?;
        let count = u8::try_from(count).map_err(|_| corrupt(&format!("{count} of them")))?;
        input.skip(4)?;
        Ok(Self { count, offset: input.u64()?, len: input.u64()? })
    }

    /// Whether these fit an array of that shape.
    pub(super) fn check(&self, shape: &Shape) -> Result<()> {
        if usize::from(self.count) <= shape.parity() {
            let what = format!("{} of them, where {} may be lost", self.count, shape.parity());
            return Err(corrupt(&what));
        }
        let in_order = self.offset >= HEADER_BYTES
            && self.offset <= OFFSET_MAX
            && (MIN_BYTES..=MAX_BYTES).contains(&self.len)
            && self.required_bytes() <= OFFSET_MAX;
        if !in_order || !self.offset.is_multiple_of(PAGE_BYTES) || !self.len.is_multiple_of(PAGE_BYTES) {
            return Err(corrupt("their areas do not fit"));
        }
        Ok(())
    }
}

fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("journal members are impossible: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_takes_what_there_is_within_its_limits() {
        let len = |bytes| JournalMembers::plan(2, bytes).map(|j| j.len);
        assert!(len(JournalMembers::MINIMUM_BYTES - 1).is_err());
        assert_eq!(len(JournalMembers::MINIMUM_BYTES).unwrap(), 16 << 20);
        assert_eq!(len(64 << 20).unwrap(), 63 << 20);
        assert_eq!(len(u64::MAX).unwrap(), 1 << 30);
        let least = JournalMembers::plan(2, JournalMembers::MINIMUM_BYTES).unwrap();
        assert_eq!(least.required_bytes(), JournalMembers::MINIMUM_BYTES);
    }

    #[test]
    fn there_are_more_of_them_than_may_be_lost_and_their_area_is_bounded() {
        let shape = Shape::new(4, 2, 4096).unwrap();
        let good = JournalMembers::plan(3, 64 << 20).unwrap();
        good.check(&shape).unwrap();
        for bad in [
            JournalMembers { count: 2, ..good },
            JournalMembers { offset: 4096, ..good },
            JournalMembers { offset: u64::MAX, ..good },
            JournalMembers { offset: HEADER_BYTES + 1, ..good },
            JournalMembers { len: MIN_BYTES - 4096, ..good },
            JournalMembers { len: u64::MAX, ..good },
            JournalMembers { len: MIN_BYTES + 1, ..good },
        ] {
            assert!(bad.check(&shape).is_err(), "{bad:?}");
        }
    }
}
