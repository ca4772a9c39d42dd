//! Frames: one group commit, cut into shards, one for each slot.
//!
//! ```text
//!   payload    |<------------- payload_len ------------->| zeroes |
//!              |<- shard 0 ->|<- shard 1 ->|<-   ...   shard k-1 ->|   + m parity shards
//!
//!   slot i, at the same ring offset on every member:
//!   0          128               128 + shard_len        footprint
//!   |  header  |  shard i        |  zeroes              |
//! ```
//!
//! The header of each shard says all about the frame, so that any k members can do without the others.

use super::raw::{Form, Raw, seal};
use crate::error::Result;
use crate::format::areas::OFFSET_MAX;
use crate::format::checksum::crc32c;
use crate::units::ArrayId;

/// Size of a frame's header, on every member.
pub const FRAME_HEADER_BYTES: usize = 128;
/// Frames begin at multiples of this in the ring, and take multiples of it.
pub const FRAME_ALIGN_BYTES: u64 = 4096;
/// Longest payload of a frame.
pub const MAX_PAYLOAD_BYTES: usize = 4 << 20;

static FRAME: Form = Form { name: "journal frame", magic: *b"PALFRAME" };

/// What a member holds before its shard of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// The array this journal belongs to, not nil.
    pub array: ArrayId,
    /// Number of the frame, one more than that of the frame before, below 2^64 - 1.
    pub seq: u64,
    /// Random, the same in all shards of a frame: tells two frames of one number apart.
    pub nonce: u64,
    /// Nonce of the frame with the number before.
    pub prev_nonce: u64,
    /// Where the frame was written, in bytes from the start of the ring, a multiple of
    /// [`FRAME_ALIGN_BYTES`]; elsewhere it is not believed.
    pub offset: u64,
    /// Bytes of the payload, at most [`MAX_PAYLOAD_BYTES`].
    pub payload_len: u32,
    /// [`payload_crc`] of the payload.
    pub payload_crc: u32,
    /// k, at least 1.
    pub data: u8,
    /// m, at least 1; k + m at most 255.
    pub parity: u8,
    /// Which shard follows, `0 .. k + m`: also the slot it was written to.
    pub shard: u8,
    /// Bytes of the shard, exactly [`shard_len_for`] the payload.
    pub shard_len: u32,
    /// [`shard_crc`] of the shard.
    pub shard_crc: u32,
}

impl FrameHeader {
    /// The bytes of the header. Values beyond what the fields say would not be read back.
    pub fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        debug_assert!(self.check().is_ok(), "{self:?}");
        let mut out = FRAME.begin::<FRAME_HEADER_BYTES>(self.array);
        out.u64(self.seq);
        out.u64(self.nonce);
        out.u64(self.prev_nonce);
        out.u64(self.offset);
        out.u32(self.payload_len);
        out.u32(self.payload_crc);
        out.u32(self.shard_len);
        out.u32(self.shard_crc);
        out.u8(self.data);
        out.u8(self.parity);
        out.u8(self.shard);
        seal(out)
    }

    /// The header at the start of `bytes`. `Corrupt` if there is none, `Unsupported` if a newer build
    /// wrote it. Whose it is, where it is and what follows is for the caller to compare.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let raw = Raw::new(&FRAME, bytes)?;
        let mut fields = raw.fields::<FRAME_HEADER_BYTES>()?;
        let header = Self {
            array: raw.array(),
            seq: fields.u64()?,
            nonce: fields.u64()?,
            prev_nonce: fields.u64()?,
            offset: fields.u64()?,
            payload_len: fields.u32()?,
            payload_crc: fields.u32()?,
            shard_len: fields.u32()?,
            shard_crc: fields.u32()?,
            data: fields.u8()?,
            parity: fields.u8()?,
            shard: fields.u8()?,
        };
        header.check()?;
        Ok(header)
    }

    /// Whether two shards are of one frame: all but the shard's own number and checksum is equal.
    pub fn same_frame(&self, other: &Self) -> bool {
        *self == Self { shard: self.shard, shard_crc: self.shard_crc, ..*other }
    }

    /// Bytes each member stores: header and shard, rounded up to [`FRAME_ALIGN_BYTES`].
    pub fn footprint(&self) -> u64 {
        footprint(u64::from(self.shard_len))
    }

    fn check(&self) -> Result<()> {
        let bad = |what: String| Err(FRAME.corrupt(&what));
        if self.array.is_nil() {
            return bad("names no array".to_owned());
        }
        if self.seq == u64::MAX {
            return bad("has counted to the end".to_owned());
        }
        let width = u16::from(self.data) + u16::from(self.parity);
        if self.data == 0 || self.parity == 0 || width > 255 || u16::from(self.shard) >= width {
            return bad(format!("claims to be shard {} of {}+{}", self.shard, self.data, self.parity));
        }
        let payload_len = usize::try_from(self.payload_len).unwrap_or(usize::MAX);
        if payload_len > MAX_PAYLOAD_BYTES {
            return bad(format!("has {payload_len} bytes, at most {MAX_PAYLOAD_BYTES} fit"));
        }
        let shard_len = shard_len_for(payload_len, usize::from(self.data));
        if usize::try_from(self.shard_len) != Ok(shard_len) {
            return bad(format!("has a shard of {} bytes instead of {shard_len}", self.shard_len));
        }
        if self.offset > OFFSET_MAX - self.footprint() || !self.offset.is_multiple_of(FRAME_ALIGN_BYTES) {
            return bad(format!("claims an impossible offset {}", self.offset));
        }
        Ok(())
    }
}

/// Bytes of each shard of a payload cut into `data` shards: the last ones are filled up with zeroes.
pub fn shard_len_for(payload_len: usize, data: usize) -> usize {
    payload_len.div_ceil(data.max(1))
}

/// Bytes each member stores of a frame with this payload: see [`FrameHeader::footprint`].
pub fn footprint_for(payload_len: usize, data: usize) -> u64 {
    footprint(shard_len_for(payload_len, data) as u64)
}

fn footprint(shard_len: u64) -> u64 {
    (FRAME_HEADER_BYTES as u64).saturating_add(shard_len).next_multiple_of(FRAME_ALIGN_BYTES)
}

/// The checksum of a shard, zeroes that fill it up included.
pub fn shard_crc(shard: &[u8]) -> u32 {
    crc32c(shard)
}

/// The checksum of a payload, without the zeroes behind it.
pub fn payload_crc(payload: &[u8]) -> u32 {
    crc32c(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_hold_the_payload_and_no_more_than_they_must() {
        for data in 1..=254 {
            for payload_len in [0, 1, data - 1, data, data + 1, 4120, 40_000, MAX_PAYLOAD_BYTES] {
                let shard_len = shard_len_for(payload_len, data);
                assert!(shard_len * data >= payload_len, "{payload_len} bytes in {data}");
                assert!(shard_len == 0 || (shard_len - 1) * data < payload_len, "{payload_len} in {data}");
            }
        }
        assert_eq!(shard_len_for(7, 0), 7, "a shape without data shards does not divide by zero");
    }

    #[test]
    fn a_frame_takes_whole_pages_and_at_least_one() {
        assert_eq!(footprint_for(0, 4), 4096);
        assert_eq!(footprint_for(4096 - 128, 1), 4096);
        assert_eq!(footprint_for(4096 - 127, 1), 8192);
        assert_eq!(footprint_for(4 * (4096 - 128), 4), 4096);
        assert_eq!(footprint_for(4 * (4096 - 128) + 1, 4), 8192);
        assert_eq!(footprint_for(MAX_PAYLOAD_BYTES, 1), (4 << 20) + 4096);
    }
}
