//! Checkpoint pages: where replay begins.

use super::frame::FRAME_ALIGN_BYTES;
use super::raw::{Form, Raw, seal};
use crate::error::{Error, ErrorKind, Result};
use crate::format::areas::OFFSET_MAX;
use crate::mutation::{Protection, without};
use crate::units::ArrayId;

/// Size of a checkpoint page.
pub const CHECKPOINT_BYTES: usize = 4096;
/// Checkpoint pages at the start of the journal area, written in turn; the ring comes behind them.
pub const CHECKPOINT_PAGES: u64 = 2;

static CHECKPOINT: Form = Form { name: "journal checkpoint", magic: *b"PALCHKPT" };

/// The frame that replay looks for first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// Its sequence number, below 2^64 - 1.
    pub seq: u64,
    /// Where it begins, in bytes from the start of the ring, a multiple of [`FRAME_ALIGN_BYTES`]; if
    /// it did not fit there, it is at the start of the ring.
    pub offset: u64,
    /// Nonce of the frame before it; of the first frame ever, what was chosen to stand for one.
    pub prev_nonce: u64,
}

/// A checkpoint page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The array this journal belongs to, not nil.
    pub array: ArrayId,
    /// Raised at each checkpoint, below 2^64 - 1; the highest one that can be read counts.
    pub generation: u64,
    /// Where replay begins.
    pub tail: Tail,
}

impl Checkpoint {
    /// Offset in bytes, from the start of the journal area, of the page that a generation goes to.
    pub fn page_of(generation: u64) -> u64 {
        generation % CHECKPOINT_PAGES * CHECKPOINT_BYTES as u64
    }

    /// The bytes of the page. Numbers beyond what the fields say would not be read back.
    pub fn encode(&self) -> [u8; CHECKPOINT_BYTES] {
        debug_assert!(self.check().is_ok(), "{self:?}");
        let mut out = CHECKPOINT.begin::<CHECKPOINT_BYTES>(self.array);
        out.u64(self.generation);
        out.u64(self.tail.seq);
        out.u64(self.tail.offset);
        out.u64(self.tail.prev_nonce);
        seal(out)
    }

    /// The page at the start of `bytes`, as a member of `array` holds it. `Corrupt` if there is none,
    /// `Foreign` if it was left by another array, `Unsupported` if a newer build wrote it.
    pub fn decode(bytes: &[u8], array: ArrayId) -> Result<Self> {
        let raw = Raw::new(&CHECKPOINT, bytes)?;
        // Before the version: what a newer build left of another array says nothing about this one.
        if raw.array() != array && !without(Protection::JournalOwner) {
            let what = format!("journal checkpoint was left by array {}", raw.array());
            return Err(Error::new(ErrorKind::Foreign, what));
        }
        let mut fields = raw.fields::<CHECKPOINT_BYTES>()?;
        let generation = fields.u64()?;
        let tail = Tail { seq: fields.u64()?, offset: fields.u64()?, prev_nonce: fields.u64()? };
        let checkpoint = Self { array, generation, tail };
        checkpoint.check()?;
        Ok(checkpoint)
    }

    fn check(&self) -> Result<()> {
        if self.array.is_nil() {
            return Err(CHECKPOINT.corrupt("names no array"));
        }
        if self.generation == u64::MAX || self.tail.seq == u64::MAX {
            return Err(CHECKPOINT.corrupt("has counted to the end"));
        }
        if self.tail.offset > OFFSET_MAX || !self.tail.offset.is_multiple_of(FRAME_ALIGN_BYTES) {
            return Err(CHECKPOINT.corrupt(&format!("begins at an impossible offset {}", self.tail.offset)));
        }
        Ok(())
    }
}
