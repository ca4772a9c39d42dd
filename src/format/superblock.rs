//! The superblock: what a member knows of itself and of its array.
//!
//! Two slots, A and B, are written in turn, so that a torn write costs the new state and never
//! the old one. Each is kept at the head and at the tail of a member; all four copies have the
//! same form and the newest valid one counts:
//!
//! ```text
//!   0      4 KiB      32 KiB     60 KiB  64 KiB         end-64K  +4 KiB     +32 KiB    +60 KiB
//!   |  -   |  slot A  |  slot B  |   -   |  ...          |   -   |  slot A  |  slot B  |  -  |
//! ```
//!
//! A slot is 28 KiB because 255 slots of a wide array, each with identity, role and rebuild
//! progress, do not fit in less; the table is in `docs/format.md`.

use super::areas::{Areas, HEADER_BYTES, OFFSET_MAX, PAGE_BYTES, TAIL_BYTES};
use super::bytes::{Reader, Writer};
use super::features::Features;
use super::journal_members::JournalMembers;
use super::membership::{ENTRY_BYTES, MAX_ENTRIES, Membership, Role};
use super::raw::{NO_MAGIC, RawSuperblock, checksum};
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::Shape;
use crate::mutation::{Protection, without};
use crate::units::{ArrayId, BLOCK_BYTES, MemberId};

/// Size of a superblock slot.
pub const SUPERBLOCK_BYTES: usize = 28 << 10;
/// The first bytes of a superblock.
pub const MAGIC: [u8; 8] = *b"PALISADE";
/// Longest name of an array, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 64;

pub(super) const VERSION: u32 = 1;
pub(super) const CRC_OFFSET: usize = 16;
const ENTRIES_OFFSET: usize = 1792;
const SLOT_A: u64 = 4 << 10;
const SLOT_B: u64 = 32 << 10;

const _: () = assert!(ENTRIES_OFFSET + MAX_ENTRIES * ENTRY_BYTES == SUPERBLOCK_BYTES);
const _: () = assert!(SLOT_A + SUPERBLOCK_BYTES as u64 == SLOT_B);
const _: () = assert!(SLOT_B + SUPERBLOCK_BYTES as u64 <= HEADER_BYTES && HEADER_BYTES == TAIL_BYTES);

/// How chunks lie on the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Shard `i` of stripe `s` in slot `(s * k + i) mod n`; see [`Shape`].
    Rotating,
}

/// How parity is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Reed-Solomon over GF(2^8) with polynomial 0x11D, systematic Vandermonde matrix.
    ReedSolomon,
}

/// A superblock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// The array this member belongs to.
    pub array: ArrayId,
    /// This member.
    pub member: MemberId,
    /// Name of the array, 1 to [`MAX_NAME_BYTES`] bytes, no control characters.
    pub name: String,
    /// When the array was created; for people only.
    pub created_unix_s: u64,
    /// k, m and chunk.
    pub shape: Shape,
    /// How chunks lie on the slots.
    pub layout: Layout,
    /// How parity is computed.
    pub code: Code,
    /// Size of the volume, a multiple of 4 KiB.
    pub volume_bytes: u64,
    /// Size of this member; its tail is the last 64 KiB of it.
    pub member_bytes: u64,
    /// Where everything lies on a member of a slot; the same on each.
    pub areas: Areas,
    /// The members that bear the journal, if those of the slots do not.
    pub journal: Option<JournalMembers>,
    /// Raised at each write of the array's superblocks.
    pub write_count: u64,
    /// Who belongs to the array.
    pub membership: Membership,
    /// What the format uses beyond version 1.
    pub features: Features,
}

impl Superblock {
    /// The bytes of a slot: exactly [`SUPERBLOCK_BYTES`]. Refuses (`InvalidInput`) what
    /// [`Self::parse`] would refuse, so that nothing unreadable is ever written.
    pub fn encode(&self) -> Result<Vec<u8>> {
        self.check().map_err(|e| {
            Error::new(ErrorKind::InvalidInput, "superblock cannot be written as it is").source(e)
        })?;
        let mut out = Writer::with_capacity(SUPERBLOCK_BYTES);
        out.put(&MAGIC);
        out.u32(VERSION);
        out.u32(u32::try_from(SUPERBLOCK_BYTES).unwrap_or(0));
        out.u64(0);
        out.u64(self.features.compat);
        out.u64(self.features.ro_compat);
        out.u64(self.features.incompat);
        out.put(&self.array.to_bytes());
        out.put(&self.member.to_bytes());
        out.u64(self.name.len() as u64);
        out.put(self.name.as_bytes());
        out.pad_to(NAME_END);
        out.u64(self.created_unix_s);
        self.encode_geometry(&mut out);
        self.areas.encode(&mut out);
        self.membership.encode_head(&mut out);
        JournalMembers::encode(self.journal.as_ref(), &mut out);
        out.pad_to(ENTRIES_OFFSET);
        self.membership.encode_entries(&mut out);
        out.pad_to(SUPERBLOCK_BYTES);
        let mut bytes = out.finish();
        let crc = checksum(&bytes).to_le_bytes();
        if let Some(field) = bytes.get_mut(CRC_OFFSET..CRC_OFFSET + 4) {
            field.copy_from_slice(&crc);
        }
        Ok(bytes)
    }

    fn encode_geometry(&self, out: &mut Writer) {
        out.u8(u8::try_from(self.shape.data()).unwrap_or(0));
        out.u8(u8::try_from(self.shape.parity()).unwrap_or(0));
        out.u8(match self.layout {
            Layout::Rotating => 1,
        });
        out.u8(match self.code {
            Code::ReedSolomon => 1,
        });
        out.u32(u32::try_from(BLOCK_BYTES).unwrap_or(0));
        out.u64(self.shape.chunk_bytes());
        out.u64(self.volume_bytes);
        out.u64(self.member_bytes);
        out.u64(self.write_count);
    }

    /// The superblock at the start of `bytes`. Any bytes in; `Corrupt` or `Unsupported` out if
    /// they are not one that this build may use.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::from_raw(&RawSuperblock::new(bytes)?)
    }

    /// Checks every field of a whole superblock.
    pub fn from_raw(raw: &RawSuperblock<'_>) -> Result<Self> {
        let mut input = Reader::new(raw.bytes());
        input.skip(FEATURES_OFFSET)?;
        let features = Features { compat: input.u64()?, ro_compat: input.u64()?, incompat: input.u64()? };
        // Before anything else: an unknown feature may change what the other fields mean.
        features.check()?;
        let array = ArrayId::from_bytes(input.array()?);
        let member = MemberId::from_bytes(input.array()?);
        let name = decode_name(input.u64()?, &input.array()?)?;
        let created_unix_s = input.u64()?;
        let (shape, layout, code) = decode_geometry(&mut input)?;
        let volume_bytes = input.u64()?;
        let member_bytes = input.u64()?;
        let write_count = input.u64()?;
        let areas = Areas::decode(&mut input)?;
        let (mut membership, entry_count) = Membership::decode_head(&mut input)?;
        let journal =
            features.has_journal_members().then(|| JournalMembers::decode(&mut input)).transpose()?;
        let mut entries = Reader::new(raw.bytes());
        entries.skip(ENTRIES_OFFSET)?;
        membership.decode_entries(entry_count, &mut entries)?;
        let superblock = Self {
            array,
            member,
            name,
            created_unix_s,
            shape,
            layout,
            code,
            volume_bytes,
            member_bytes,
            areas,
            journal,
            write_count,
            membership,
            features,
        };
        superblock.check()?;
        Ok(superblock)
    }

    /// Whether only reading is allowed: it uses `ro_compat` features this build does not know.
    pub fn must_stay_read_only(&self) -> bool {
        self.features.unknown_ro_compat() != 0
    }

    /// Where the four copies of a member lie: head A, head B, tail A, tail B.
    pub fn slot_offsets(member_bytes: u64) -> [u64; 4] {
        let tail = (member_bytes - member_bytes % PAGE_BYTES).saturating_sub(TAIL_BYTES);
        [SLOT_A, SLOT_B, tail + SLOT_A, tail + SLOT_B]
    }

    /// Where the next one is to be written, head and tail, on a member that has these copies (as
    /// [`Self::slot_offsets`] orders them): to the slot, A or B, that does not hold the newest.
    pub fn write_offsets(member_bytes: u64, copies: &[Result<Self>; 4]) -> [u64; 2] {
        let age = |copy: &Result<Self>| copy.as_ref().ok().map(Self::age);
        let [head_a, head_b, tail_a, tail_b] = copies.each_ref().map(age);
        let [at_head_a, at_head_b, at_tail_a, at_tail_b] = Self::slot_offsets(member_bytes);
        match head_a.max(tail_a) >= head_b.max(tail_b) && !without(Protection::SuperblockBeside) {
            true => [at_head_b, at_tail_b],
            false => [at_head_a, at_tail_a],
        }
    }

    /// The rules every superblock keeps, read or written.
    fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::new(ErrorKind::Corrupt, what));
        self.features.check()?;
        if self.array.is_nil() || self.member.is_nil() {
            return bad("superblock has no identity".to_owned());
        }
        if self.name.is_empty()
            || self.name.len() > MAX_NAME_BYTES
            || self.name.contains(|c: char| c.is_control())
        {
            return bad(format!("superblock has an impossible array name {:?}", self.name));
        }
        if self.features.has_journal_members() != self.journal.is_some() {
            return bad("superblock does not say where its journal is".to_owned());
        }
        self.areas.check(&self.shape, self.journal.is_none())?;
        self.journal.as_ref().map_or(Ok(()), |journal| journal.check(&self.shape))?;
        let capacity = self.areas.capacity_bytes(&self.shape).min(OFFSET_MAX);
        if !self.volume_bytes.is_multiple_of(BLOCK_BYTES) || !(1..=capacity).contains(&self.volume_bytes) {
            return bad(format!("volume of {} bytes, at most {capacity} fit", self.volume_bytes));
        }
        let needed = self.required_bytes();
        if !self.member_bytes.is_multiple_of(PAGE_BYTES)
            || !(needed..=OFFSET_MAX).contains(&self.member_bytes)
        {
            return bad(format!("member of {} bytes, at least {needed} are used", self.member_bytes));
        }
        self.membership.check(&self.shape, self.areas.stripes, self.journal.as_ref())
    }

    /// What this member must have, by its role; the least of all if the table does not list it.
    fn required_bytes(&self) -> u64 {
        let bears = self.journal.as_ref().map(JournalMembers::required_bytes);
        let holds = self.areas.required_bytes();
        match (self.membership.entry(self.member).map(|e| e.role), bears) {
            (Some(Role::Journal(..)), Some(bears)) => bears,
            (None, Some(bears)) => bears.min(holds),
            _ => holds,
        }
    }

    fn age(&self) -> (u64, u64) {
        (self.membership.event_count.0, self.write_count)
    }
}

const FEATURES_OFFSET: usize = 24;
const NAME_END: usize = 152;

fn decode_name(len: u64, field: &[u8; MAX_NAME_BYTES]) -> Result<String> {
    let bytes = usize::try_from(len).ok().and_then(|len| field.get(..len));
    let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.map(str::to_owned).ok_or_else(|| Error::new(ErrorKind::Corrupt, "array name is not readable text"))
}

fn decode_geometry(input: &mut Reader<'_>) -> Result<(Shape, Layout, Code)> {
    let unknown = |what: String| {
        Err(Error::new(ErrorKind::Unsupported, what).hint("use a newer palisade for this array"))
    };
    let (data, parity) = (input.u8()?, input.u8()?);
    let layout = match input.u8()? {
        1 => Layout::Rotating,
        other => return unknown(format!("superblock has unknown layout {other}")),
    };
    let code = match input.u8()? {
        1 => Code::ReedSolomon,
        other => return unknown(format!("superblock has unknown code {other}")),
    };
    let block = input.u32()?;
    if u64::from(block) != BLOCK_BYTES {
        return unknown(format!("superblock has blocks of {block} bytes"));
    }
    let shape = Shape::new(data, parity, input.u64()?)
        .map_err(|e| Error::new(ErrorKind::Corrupt, "superblock has an impossible shape").source(e))?;
    Ok((shape, layout, code))
}

/// The newest of a member's copies, by event count, then write count; unreadable ones are passed
/// over. Fails with
/// - `Unsupported` if a copy is whole but of a build newer than this one, whatever the others say:
///   they may be older than what that build has done since;
/// - `Foreign` if the copies belong to different arrays or members (formatting was cut short);
/// - the error of a copy if none is valid;
/// - `NotFound` if no copy even claims to be a superblock.
pub fn pick_newest(copies: impl Iterator<Item = Result<Superblock>>) -> Result<Superblock> {
    let mut newest: Option<Superblock> = None;
    let mut failure: Option<Error> = None;
    for copy in copies {
        match copy {
            Err(e) if e.kind() == ErrorKind::Unsupported => return Err(e),
            Err(e) => {
                if e.what() != NO_MAGIC && failure.is_none() {
                    failure = Some(e);
                }
            }
            Ok(other) => match &newest {
                Some(best) if (best.array, best.member) != (other.array, other.member) => {
                    let what = format!(
                        "superblock copies disagree: member of array {} and of array {}",
                        best.array, other.array
                    );
                    let error = Error::new(ErrorKind::Foreign, what);
                    return Err(
                        error.hint("formatting was interrupted: format the member again with --force")
                    );
                }
                Some(best) if best.age() >= other.age() => {}
                _ => newest = Some(other),
            },
        }
    }
    newest.ok_or_else(|| failure.unwrap_or_else(|| Error::new(ErrorKind::NotFound, NO_MAGIC)))
}
