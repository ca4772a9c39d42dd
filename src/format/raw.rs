//! Untrusted bytes that may be a superblock.

use super::checksum::crc32c;
use super::superblock::{CRC_OFFSET, MAGIC, SUPERBLOCK_BYTES, VERSION};
use crate::error::{Error, ErrorKind, Result};
use crate::mutation::{Protection, without};

/// Said of bytes that do not even claim to be a superblock.
pub(super) const NO_MAGIC: &str = "no palisade superblock here";

/// Bytes that are whole: magic, version and length are right and the checksum matches. What the
/// fields say is not checked yet; [`super::Superblock::parse`] does that.
#[derive(Debug, Clone, Copy)]
pub struct RawSuperblock<'a>(&'a [u8; SUPERBLOCK_BYTES]);

impl<'a> RawSuperblock<'a> {
    /// Takes the superblock at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        if !Self::claims(bytes) {
            return Err(Error::new(ErrorKind::Corrupt, NO_MAGIC));
        }
        let length = field(bytes, 12).and_then(|length| usize::try_from(length).ok());
        let Some(whole) = length.filter(|l| *l >= CRC_OFFSET + 4).and_then(|l| bytes.get(..l)) else {
            return Err(Error::new(ErrorKind::Corrupt, "superblock is cut short or its length is wrong"));
        };
        if field(bytes, CRC_OFFSET) != Some(checksum(whole)) && !without(Protection::SuperblockChecksum) {
            return Err(Error::new(ErrorKind::Corrupt, "superblock does not match its checksum"));
        }
        // Only a version whose checksum is right was really written by another build.
        let version = field(bytes, 8).unwrap_or(0);
        if version != VERSION {
            let what = format!("superblock has format version {version}, this build knows {VERSION}");
            return Err(Error::new(ErrorKind::Unsupported, what).hint("use a newer palisade for this array"));
        }
        let fixed = whole.try_into().map_err(|_| {
            let what = format!("superblock has {} bytes instead of {SUPERBLOCK_BYTES}", whole.len());
            Error::new(ErrorKind::Corrupt, what)
        })?;
        Ok(Self(fixed))
    }

    /// Whether the bytes carry the magic, valid or not: enough to know that something was here.
    pub fn claims(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC)
    }

    /// The bytes.
    pub fn bytes(&self) -> &'a [u8; SUPERBLOCK_BYTES] {
        self.0
    }
}

/// The checksum over a slot, its own field taken as zero.
pub(super) fn checksum(slot: &[u8]) -> u32 {
    let mut copy = slot.to_vec();
    if let Some(crc) = copy.get_mut(CRC_OFFSET..CRC_OFFSET + 4) {
        crc.fill(0);
    }
    crc32c(&copy)
}

fn field(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}
