//! Untrusted bytes that may be a checkpoint page or a frame header.
//!
//! Both begin alike, and will in every version, so that a page of another array or of a newer
//! build is known for what it is: magic, version, length, crc, four bytes of zero, array.

use crate::error::{Error, ErrorKind, Result};
use crate::format::bytes::{Reader, Writer};
use crate::format::raw::checksum;
use crate::format::superblock::CRC_OFFSET;
use crate::mutation::{Protection, without};
use crate::units::ArrayId;

const VERSION: u32 = 1;
/// Bytes of what both begin with.
const HEAD_BYTES: usize = 40;

/// Which structure.
pub(super) struct Form {
    /// What messages call it.
    pub(super) name: &'static str,
    pub(super) magic: [u8; 8],
}

impl Form {
    /// A writer behind the common head of a structure that will have `N` bytes.
    pub(super) fn begin<const N: usize>(&self, array: ArrayId) -> Writer {
        let mut out = Writer::with_capacity(N);
        out.put(&self.magic);
        out.u32(VERSION);
        out.u32(u32::try_from(N).unwrap_or(0));
        out.u64(0);
        out.put(&array.to_bytes());
        out
    }

    pub(super) fn corrupt(&self, what: &str) -> Error {
        Error::new(ErrorKind::Corrupt, format!("{} {what}", self.name))
    }
}

/// Fills up with zeroes and puts the checksum in.
pub(super) fn seal<const N: usize>(mut out: Writer) -> [u8; N] {
    out.pad_to(N);
    let mut sealed = [0; N];
    for (to, from) in sealed.iter_mut().zip(out.finish()) {
        *to = from;
    }
    let crc = checksum(&sealed).to_le_bytes();
    if let Some(field) = sealed.get_mut(CRC_OFFSET..CRC_OFFSET + 4) {
        field.copy_from_slice(&crc);
    }
    sealed
}

/// Bytes that are whole: magic and length are right and the checksum matches. What the fields say
/// is not checked yet.
pub(super) struct Raw<'a> {
    form: &'static Form,
    version: u32,
    array: ArrayId,
    whole: &'a [u8],
}

impl<'a> Raw<'a> {
    /// Takes the structure at the start of `bytes`.
    pub(super) fn new(form: &'static Form, bytes: &'a [u8]) -> Result<Self> {
        if !bytes.starts_with(&form.magic) {
            return Err(Error::new(ErrorKind::Corrupt, format!("no {} here", form.name)));
        }
        let mut head = Reader::new(bytes);
        head.skip(form.magic.len())?;
        let (version, length, crc) = (head.u32()?, head.u32()?, head.u32()?);
        head.skip(4)?;
        let array = ArrayId::from_bytes(head.array()?);
        let length = usize::try_from(length).ok().filter(|length| *length >= HEAD_BYTES);
        let Some(whole) = length.and_then(|length| bytes.get(..length)) else {
            return Err(form.corrupt("is cut short or its length is wrong"));
        };
        if checksum(whole) != crc && !without(Protection::HeaderChecksum) {
            return Err(form.corrupt("does not match its checksum"));
        }
        Ok(Self { form, version, array, whole })
    }

    /// Whose it is; believed in every version.
    pub(super) fn array(&self) -> ArrayId {
        self.array
    }

    /// A reader behind the common head, if the structure is of this build's version and has `N` bytes.
    pub(super) fn fields<const N: usize>(&self) -> Result<Reader<'a>> {
        let form = self.form;
        if self.version != VERSION {
            let what = format!("{} has version {}, this build knows {VERSION}", form.name, self.version);
            return Err(Error::new(ErrorKind::Unsupported, what).hint("use a newer palisade for this array"));
        }
        if self.whole.len() != N {
            return Err(form.corrupt(&format!("has {} bytes instead of {N}", self.whole.len())));
        }
        if self.array.is_nil() {
            return Err(form.corrupt("names no array"));
        }
        let mut fields = Reader::new(self.whole);
        fields.skip(HEAD_BYTES)?;
        Ok(fields)
    }
}
