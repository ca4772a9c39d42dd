//! Where everything lies on a member.
//!
//! ```text
//!   0         64 KiB      +journal    +checksums  +epochs   (1 MiB aligned)      tail_offset    end
//!   | header  | journal   | checksums | epoch map |  gap    | data: stripes x    | slack | tail |
//!   | slots   |           |           |           |         | one chunk          |       | 64 K |
//! ```
//!
//! Everything up to `tail_offset` is the same on every member of an array, planned from the
//! smallest one. The tail, a second copy of the superblock slots, is the last 64 KiB of each
//! member, wherever that is.

use super::bytes::{Reader, Writer};
use super::journal::{CHECKPOINT_BYTES, CHECKPOINT_PAGES};
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::Shape;
use crate::units::{BLOCK_BYTES, format_size};

/// Bytes at the start of a member kept for the superblock slots.
pub const HEADER_BYTES: u64 = 64 << 10;
/// Bytes at the end of a member kept for copies of the superblock slots.
pub const TAIL_BYTES: u64 = 64 << 10;
/// The data area begins at a multiple of this.
pub const DATA_ALIGN_BYTES: u64 = 1 << 20;
/// Size of a page of the checksum area and of the epoch map.
pub const PAGE_BYTES: u64 = 4096;
/// Such a page is made of sectors that check themselves: a device writes a sector whole or not.
pub(super) const PAGE_SECTOR_BYTES: usize = 512;
/// Sectors in a page.
pub const SECTORS_PER_PAGE: usize = 8;
/// Entries of 4 bytes in a sector, behind its header of 8 bytes.
pub const SECTOR_ENTRIES: usize = (PAGE_SECTOR_BYTES - 8) / 4;
/// Entries in a page.
pub const PAGE_ENTRIES: usize = SECTORS_PER_PAGE * SECTOR_ENTRIES;

/// Size of the checkpoint pages at the start of a journal area, which those have, too, who bear no journal.
pub const CHECKPOINTS_BYTES: u64 = CHECKPOINT_PAGES * CHECKPOINT_BYTES as u64;
const JOURNAL_MIN_BYTES: u64 = 16 << 20;
const JOURNAL_MAX_BYTES: u64 = 1 << 30;
/// No file offset of any system we know goes beyond this.
pub(super) const OFFSET_MAX: u64 = i64::MAX as u64;

/// Offsets and sizes of a member's areas, in bytes; all multiples of 4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Areas {
    /// Start of the journal area.
    pub journal_offset: u64,
    /// Size of the journal area; that of the checkpoint pages alone if the journal lies on members of its
    /// own.
    pub journal_len: u64,
    /// Start of the checksum area: 4 bytes per block of the data area.
    pub checksum_offset: u64,
    /// Size of the checksum area.
    pub checksum_len: u64,
    /// Start of the epoch map: 4 bytes per stripe.
    pub epoch_offset: u64,
    /// Size of the epoch map.
    pub epoch_len: u64,
    /// Start of the data area, a multiple of 1 MiB.
    pub data_offset: u64,
    /// Stripes, that is chunks in the data area.
    pub stripes: u64,
    /// End of the data area. A member's own tail begins here or later.
    pub tail_offset: u64,
}

impl Areas {
    /// The areas of an array whose smallest member has `member_bytes`: as many stripes as fit.
    pub fn plan(member_bytes: u64, shape: &Shape) -> Result<Self> {
        Self::plan_with(journal_len(member_bytes), member_bytes, shape)
    }

    /// As [`Self::plan`], for an array whose journal lies on members of its own.
    pub fn plan_without_journal(member_bytes: u64, shape: &Shape) -> Result<Self> {
        Self::plan_with(CHECKPOINTS_BYTES, member_bytes, shape)
    }

    fn plan_with(journal: u64, member_bytes: u64, shape: &Shape) -> Result<Self> {
        if member_bytes > OFFSET_MAX {
            let what = format!("a member of {member_bytes} bytes is larger than any file can be");
            return Err(Error::new(ErrorKind::InvalidInput, what));
        }
        let fits = |stripes: u64| Self::with(journal, stripes, shape).required_bytes() <= member_bytes;
        if !fits(1) {
            let least = Self::with(journal.min(JOURNAL_MIN_BYTES), 1, shape).required_bytes();
            let needs = format_size(least.next_multiple_of(1 << 20));
            let what = format!("too small: has {}, needs at least {needs}", format_size(member_bytes));
            return Err(Error::new(ErrorKind::NoSpace, what));
        }
        // `fits` is monotonic: bisect, with `low` fitting and `high` not.
        let (mut low, mut high) = (1, member_bytes / shape.chunk_bytes() + 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if fits(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(Self::with(journal, low, shape))
    }

    /// The smallest member that holds one stripe of this shape.
    pub fn minimum_bytes(shape: &Shape) -> u64 {
        Self::with(JOURNAL_MIN_BYTES, 1, shape).required_bytes()
    }

    /// As [`Self::minimum_bytes`], without a journal.
    pub fn minimum_bytes_without_journal(shape: &Shape) -> u64 {
        Self::with(CHECKPOINTS_BYTES, 1, shape).required_bytes()
    }

    /// The smallest member that holds these areas and its tail: what a replacement must have.
    pub fn required_bytes(&self) -> u64 {
        self.tail_offset + TAIL_BYTES
    }

    /// The largest volume these areas hold.
    pub fn capacity_bytes(&self, shape: &Shape) -> u64 {
        self.stripes.saturating_mul(shape.stripe_bytes())
    }

    fn with(journal_len: u64, stripes: u64, shape: &Shape) -> Self {
        let data_len = stripes * shape.chunk_bytes();
        let journal_offset = HEADER_BYTES;
        let checksum_offset = journal_offset + journal_len;
        let checksum_len = pages_len(data_len / BLOCK_BYTES);
        let epoch_offset = checksum_offset + checksum_len;
        let epoch_len = pages_len(stripes);
        let data_offset = (epoch_offset + epoch_len).next_multiple_of(DATA_ALIGN_BYTES);
        Self {
            journal_offset,
            journal_len,
            checksum_offset,
            checksum_len,
            epoch_offset,
            epoch_len,
            data_offset,
            stripes,
            tail_offset: data_offset + data_len,
        }
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        for field in self.fields() {
            out.u64(field);
        }
    }

    /// Reads the fields; nothing is checked yet.
    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            journal_offset: input.u64()?,
            journal_len: input.u64()?,
            checksum_offset: input.u64()?,
            checksum_len: input.u64()?,
            epoch_offset: input.u64()?,
            epoch_len: input.u64()?,
            data_offset: input.u64()?,
            stripes: input.u64()?,
            tail_offset: input.u64()?,
        })
    }

    /// Whether the areas are usable for this shape. A later build may plan other sizes than this
    /// one does, so what is asked is that everything fits, in order and without overlap. `with_journal`:
    /// there must be a journal area, else checkpoint pages alone.
    pub(super) fn check(&self, shape: &Shape, with_journal: bool) -> Result<()> {
        let bad = |what: &str| Err(Error::new(ErrorKind::Corrupt, format!("areas are impossible: {what}")));
        if self.fields().iter().any(|field| *field > OFFSET_MAX) {
            return bad("beyond the largest file");
        }
        let Some(data_len) = self.stripes.checked_mul(shape.chunk_bytes()).filter(|l| *l <= OFFSET_MAX)
        else {
            return bad("more stripes than bytes");
        };
        if self.stripes == 0 {
            return bad("no stripes");
        }
        let aligned = |bytes: u64| bytes.is_multiple_of(PAGE_BYTES);
        let places = [self.journal_offset, self.checksum_offset, self.epoch_offset, self.tail_offset];
        let lengths = [self.journal_len, self.checksum_len, self.epoch_len];
        if !places.into_iter().chain(lengths).all(aligned)
            || !self.data_offset.is_multiple_of(DATA_ALIGN_BYTES)
        {
            return bad("not aligned");
        }
        if self.journal_len < CHECKPOINTS_BYTES || with_journal != (self.journal_len > CHECKPOINTS_BYTES) {
            return bad("a journal area where there should be none, or none where there should be one");
        }
        if self.checksum_len < pages_len(data_len / BLOCK_BYTES) || self.epoch_len < pages_len(self.stripes) {
            return bad("an area is too small for the stripes");
        }
        // No sum overflows: each term is below 2^63.
        let in_order = HEADER_BYTES <= self.journal_offset
            && self.journal_offset + self.journal_len <= self.checksum_offset
            && self.checksum_offset + self.checksum_len <= self.epoch_offset
            && self.epoch_offset + self.epoch_len <= self.data_offset
            && self.data_offset + data_len <= self.tail_offset
            && self.tail_offset + TAIL_BYTES <= OFFSET_MAX;
        if in_order { Ok(()) } else { bad("they overlap or are out of order") }
    }

    fn fields(&self) -> [u64; 9] {
        [
            self.journal_offset,
            self.journal_len,
            self.checksum_offset,
            self.checksum_len,
            self.epoch_offset,
            self.epoch_len,
            self.data_offset,
            self.stripes,
            self.tail_offset,
        ]
    }
}

/// A 32nd of the member, in whole MiB, within its limits.
fn journal_len(member_bytes: u64) -> u64 {
    let share = member_bytes / 32;
    (share - share % (1 << 20)).clamp(JOURNAL_MIN_BYTES, JOURNAL_MAX_BYTES)
}

fn pages_len(entries: u64) -> u64 {
    entries.div_ceil(PAGE_ENTRIES as u64) * PAGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(chunk_log2: u32) -> Shape {
        Shape::new(4, 2, 1 << chunk_log2).unwrap()
    }

    proptest! {
        #[test]
        fn as_many_stripes_as_fit_and_not_one_more(
            member_bytes in 64u64 << 20..=OFFSET_MAX, small in 40u64 << 20..8 << 30, chunk in 12u32..=24,
        ) {
            for bytes in [member_bytes, small] {
                let shape = shape(chunk);
                let areas = Areas::plan(bytes, &shape).unwrap();
                areas.check(&shape, true).unwrap();
                prop_assert!(areas.required_bytes() <= bytes);
                let more = Areas::with(areas.journal_len, areas.stripes + 1, &shape);
                prop_assert!(more.required_bytes() > bytes);
            }
        }

        #[test]
        fn areas_that_overlap_are_never_accepted(which in 0usize..9, value in any::<u64>()) {
            let shape = shape(16);
            let good = Areas::plan(1 << 30, &shape).unwrap();
            let mut fields = good.fields();
            fields[which] = value;
            let mut out = Writer::with_capacity(72);
            for field in fields {
                out.u64(field);
            }
            let moved = Areas::decode(&mut Reader::new(&out.finish())).unwrap();
            if moved.check(&shape, true).is_ok() {
                prop_assert!(moved.data_offset + moved.stripes * shape.chunk_bytes() <= moved.tail_offset);
                prop_assert!(moved.journal_offset >= HEADER_BYTES);
            }
        }
    }

    #[test]
    fn the_smallest_member_holds_exactly_one_stripe() {
        for chunk in 12..=24 {
            let shape = shape(chunk);
            let least = Areas::minimum_bytes(&shape);
            assert_eq!(Areas::plan(least, &shape).unwrap().stripes, 1);
            let error = Areas::plan(least - 1, &shape).unwrap_err();
            assert!(error.to_string().contains("needs at least"), "{error}");
        }
        assert!(Areas::plan(0, &shape(16)).is_err());
        assert!(Areas::plan(u64::MAX, &shape(16)).is_err());
    }

    #[test]
    fn a_journal_elsewhere_leaves_its_space_to_the_data() {
        let shape = shape(16);
        let areas = Areas::plan_without_journal(64 << 20, &shape).unwrap();
        assert!(areas.stripes >= Areas::plan(64 << 20, &shape).unwrap().stripes + 250);
        assert!(areas.check(&shape, false).is_ok() && areas.check(&shape, true).is_err());
        assert!(Areas::plan(64 << 20, &shape).unwrap().check(&shape, false).is_err());
        let least = Areas::minimum_bytes_without_journal(&shape);
        assert_eq!(Areas::plan_without_journal(least, &shape).unwrap().stripes, 1);
        assert!(Areas::plan_without_journal(least - 1, &shape).is_err());
    }

    #[test]
    fn areas_of_a_known_member_lie_where_they_always_did() {
        let areas = Areas::plan(1 << 30, &shape(16)).unwrap();
        let expected = Areas {
            journal_offset: 0x1_0000,
            journal_len: 0x200_0000,
            checksum_offset: 0x201_0000,
            checksum_len: 0xF_C000,
            epoch_offset: 0x210_C000,
            epoch_len: 0x10000,
            data_offset: 0x220_0000,
            stripes: 15839,
            tail_offset: 0x3FFF_0000,
        };
        assert_eq!(areas, expected);
        assert_eq!(areas.capacity_bytes(&shape(16)), 15839 * 4 * 65536);
    }
}
