//! Records: what a frame's payload says, one after another.
//!
//! Each begins with its type and its length, so that none runs into the next. Lengths are checked
//! before anything is read by them; blocks are slices of the payload, never copies.

use super::frame::MAX_PAYLOAD_BYTES;
use crate::error::{Error, ErrorKind, Result};
use crate::format::areas::OFFSET_MAX;
use crate::format::bytes::{Reader, Writer};
use crate::units::BLOCK_BYTES;
use bytes::Bytes;

/// Length in bytes of a zero record.
pub const ZERO_RECORD_LEN: usize = SPAN_BYTES;

const DATA: u8 = 1;
const PARITY: u8 = 2;
const OPEN: u8 = 3;
const ZERO: u8 = 4;
const FRESH: u8 = 1;
const BARE: u8 = 2;
const SAME: u8 = 2;
/// What a data record has before its blocks, and a parity record before its pieces.
const HEAD_BYTES: usize = 24;
/// A piece: block, version, checksum, four bytes of zero.
const PIECE_BYTES: usize = 24;
/// What an open record has before its checksums, and a zero record in all.
const SPAN_BYTES: usize = 32;
const CRC_BYTES: usize = 4;
/// Behind the checksums there may be a bit for each, in words as long as one.
const WORD_BITS: usize = 32;
/// What a row has before its block.
const ROW_HEAD_BYTES: usize = 8;
const BLOCK: usize = 4096;
/// More blocks, or stripes, than any array has.
const COUNT_MAX: u64 = OFFSET_MAX / BLOCK_BYTES;

const _: () = assert!(BLOCK as u64 == BLOCK_BYTES);

/// A staged block that goes home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Block of the volume.
    pub block: u64,
    /// Which of its contents.
    pub version: u64,
    /// What the checksum area will say of it.
    pub crc: u32,
}

/// The new parity of rows whose staged blocks are about to go home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParityRecord {
    /// The stripe.
    pub stripe: u64,
    /// The stripe was unallocated before: all its other blocks are zeroes.
    pub fresh: bool,
    /// Too much of the pieces' rows is lost to make parity: it is not known from now on.
    pub bare: bool,
    /// The staged blocks going home.
    pub pieces: Vec<Piece>,
    /// The parity that will match them.
    pub rows: Vec<ParityRow>,
}

/// A block of parity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParityRow {
    /// Which shard of the stripe, `k .. k + m`.
    pub shard: u8,
    /// Which block of the chunk.
    pub row_block: u32,
    /// The block, 4096 bytes.
    pub bytes: Bytes,
}

/// Whole stripes that are about to be written straight home.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenRecord {
    /// First stripe.
    pub first_stripe: u64,
    /// Number of stripes, at least 1.
    pub count: u64,
    /// Staged blocks of these stripes up to this version are durably home.
    pub up_to_version: u64,
    /// The stripes were unallocated before, all of them.
    pub fresh: bool,
    /// What the checksum area will say of all their blocks: stripe after stripe, shard after shard, block
    /// after block of the chunk; as many for each stripe, at least one.
    pub crcs: Vec<u32>,
    /// Of which of them it says that already: as many, or none at all if of none.
    pub same: Vec<bool>,
}

/// One thing a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Blocks written to the volume, answered once the frame is durable, and brought home later.
    Data {
        /// Unique in the array, rising, below 2^64 - 1.
        version: u64,
        /// First block of the volume.
        block: u64,
        /// One block or more, 4096 bytes each.
        bytes: Bytes,
    },
    /// Staged blocks go home, with this parity.
    Parity(ParityRecord),
    /// Whole stripes are about to be written straight home.
    Open(OpenRecord),
    /// Whole stripes become unallocated: they read as zeroes.
    Zero {
        /// First stripe.
        first_stripe: u64,
        /// Number of stripes, at least 1.
        count: u64,
        /// Staged blocks of these stripes up to this version are void.
        up_to_version: u64,
    },
}

/// Length in bytes of a data record of so many blocks.
pub fn data_record_len(blocks: usize) -> usize {
    HEAD_BYTES.saturating_add(blocks.saturating_mul(BLOCK))
}

/// Length in bytes of a parity record of so many pieces and rows.
pub fn parity_record_len(pieces: usize, rows: usize) -> usize {
    let pieces = pieces.saturating_mul(PIECE_BYTES);
    let rows = rows.saturating_mul(ROW_HEAD_BYTES + BLOCK);
    HEAD_BYTES.saturating_add(pieces).saturating_add(rows)
}

/// Length in bytes of an open record of so many checksums, which says or not which of them are the same.
pub fn open_record_len(crcs: usize, same: bool) -> usize {
    let words = crcs.saturating_add(if same { crcs.div_ceil(WORD_BITS) } else { 0 });
    SPAN_BYTES.saturating_add(words.saturating_mul(CRC_BYTES))
}

/// Collects the records of a frame, at most [`MAX_PAYLOAD_BYTES`] in all.
pub struct PayloadWriter {
    out: Writer,
}

impl PayloadWriter {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { out: Writer::with_capacity(0) }
    }

    /// Adds a [`Record::Data`]: whole blocks, at least one.
    pub fn data(&mut self, version: u64, block: u64, bytes: &[u8]) {
        debug_assert!(!bytes.is_empty() && bytes.len().is_multiple_of(BLOCK), "{} bytes", bytes.len());
        self.begin(DATA, 0, data_record_len(bytes.len() / BLOCK));
        self.out.u64(version);
        self.out.u64(block);
        self.out.put(bytes);
    }

    /// Adds a [`Record::Parity`].
    pub fn parity(&mut self, record: &ParityRecord) {
        let flags = flag(FRESH, record.fresh) | flag(BARE, record.bare);
        self.begin(PARITY, flags, parity_record_len(record.pieces.len(), record.rows.len()));
        self.out.u64(record.stripe);
        self.out.u32(narrow(record.pieces.len()));
        self.out.u32(narrow(record.rows.len()));
        for piece in &record.pieces {
            self.out.u64(piece.block);
            self.out.u64(piece.version);
            self.out.u32(piece.crc);
            self.out.u32(0);
        }
        for row in &record.rows {
            debug_assert_eq!(row.bytes.len(), BLOCK, "a row is one block");
            self.out.u8(row.shard);
            self.out.put(&[0; 3]);
            self.out.u32(row.row_block);
            self.out.put(&row.bytes);
        }
    }

    /// Adds a [`Record::Open`].
    pub fn open(&mut self, record: &OpenRecord) {
        let OpenRecord { first_stripe, count, up_to_version, fresh, crcs, same } = record;
        debug_assert!(are_of(crcs.len(), *count), "{} checksums of {count} stripes", crcs.len());
        debug_assert!(same.is_empty() || same.len() == crcs.len(), "{} of {}", same.len(), crcs.len());
        let flags = flag(FRESH, *fresh) | flag(SAME, !same.is_empty());
        self.begin(OPEN, flags, open_record_len(crcs.len(), !same.is_empty()));
        self.span(*first_stripe, *count, *up_to_version);
        for crc in crcs {
            self.out.u32(*crc);
        }
        for some in same.chunks(WORD_BITS) {
            let bits = (0..).zip(some).map(|(bit, same)| u32::from(*same) << bit);
            self.out.u32(bits.fold(0, |word, bit| word | bit));
        }
    }

    /// Adds a [`Record::Zero`].
    pub fn zero(&mut self, first_stripe: u64, count: u64, up_to_version: u64) {
        self.begin(ZERO, 0, ZERO_RECORD_LEN);
        self.span(first_stripe, count, up_to_version);
    }

    fn span(&mut self, first_stripe: u64, count: u64, up_to_version: u64) {
        self.out.u64(first_stripe);
        self.out.u64(count);
        self.out.u64(up_to_version);
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether no record was added.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The payload.
    pub fn finish(self) -> Vec<u8> {
        self.out.finish()
    }

    fn begin(&mut self, kind: u8, flags: u8, len: usize) {
        debug_assert!(len <= MAX_PAYLOAD_BYTES - self.len(), "{} and {len} bytes", self.len());
        self.out.reserve(len);
        self.out.u8(kind);
        self.out.u8(flags);
        self.out.put(&[0; 2]);
        self.out.u32(narrow(len));
    }
}

impl Default for PayloadWriter {
    fn default() -> Self {
        Self::new()
    }
}

/// A length that a payload's limit keeps far below 2^32.
fn narrow(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// The records of a payload whose checksum was right, all or none: `Unsupported` if one is of a type
/// only a newer build knows, `Corrupt` if one breaks its rules.
pub fn records(payload: Bytes) -> Result<Vec<Record>> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(corrupt(format!("{} bytes, at most {MAX_PAYLOAD_BYTES} fit", payload.len())));
    }
    let mut rest = payload;
    let mut records = Vec::new();
    while !rest.is_empty() {
        records.push(next(&mut rest)?);
    }
    Ok(records)
}

fn next(rest: &mut Bytes) -> Result<Record> {
    let mut head = Reader::new(rest);
    let kind = head.u8()?;
    head.skip(3)?;
    let len = usize::try_from(head.u32()?).unwrap_or(usize::MAX);
    let parse = match kind {
        DATA => data,
        PARITY => parity,
        OPEN => open,
        ZERO => zero,
        _ => {
            let what = format!("journal has a record of unknown type {kind}");
            return Err(Error::new(ErrorKind::Unsupported, what).hint("use a newer palisade for this array"));
        }
    };
    // Any record is longer than the type and length just read, so this goes on.
    if len < HEAD_BYTES {
        return Err(corrupt(format!("a record of {len} bytes")));
    }
    parse(take(rest, len)?)
}

fn data(mut record: Bytes) -> Result<Record> {
    let head = take(&mut record, HEAD_BYTES)?;
    let mut fields = body(&head)?;
    let (version, block) = (fields.u64()?, fields.u64()?);
    if record.is_empty() || !record.len().is_multiple_of(BLOCK) {
        return Err(corrupt(format!("{} bytes of data", record.len())));
    }
    check_range(block, (record.len() / BLOCK) as u64)?;
    check_version(version)?;
    Ok(Record::Data { version, block, bytes: record })
}

fn parity(mut record: Bytes) -> Result<Record> {
    let len = record.len();
    let head = take(&mut record, HEAD_BYTES)?;
    let flags = flags(&head, FRESH | BARE)?;
    let mut fields = body(&head)?;
    let stripe = fields.u64()?;
    let pieces = usize::try_from(fields.u32()?).unwrap_or(usize::MAX);
    let rows = usize::try_from(fields.u32()?).unwrap_or(usize::MAX);
    // Before room is made for them.
    if parity_record_len(pieces, rows) != len {
        return Err(corrupt(format!("{pieces} pieces and {rows} rows in {len} bytes")));
    }
    check_range(stripe, 1)?;
    let list = take(&mut record, pieces.saturating_mul(PIECE_BYTES))?;
    let mut list = Reader::new(&list);
    let pieces = (0..pieces).map(|_| piece(&mut list)).collect::<Result<_>>()?;
    let rows = (0..rows).map(|_| row(&mut record)).collect::<Result<_>>()?;
    let (fresh, bare) = (flags & FRESH != 0, flags & BARE != 0);
    Ok(Record::Parity(ParityRecord { stripe, fresh, bare, pieces, rows }))
}

fn piece(list: &mut Reader<'_>) -> Result<Piece> {
    let (block, version, crc) = (list.u64()?, list.u64()?, list.u32()?);
    list.skip(4)?;
    check_range(block, 1)?;
    check_version(version)?;
    Ok(Piece { block, version, crc })
}

fn row(rest: &mut Bytes) -> Result<ParityRow> {
    let head = take(rest, ROW_HEAD_BYTES)?;
    let mut fields = Reader::new(&head);
    let shard = fields.u8()?;
    fields.skip(3)?;
    Ok(ParityRow { shard, row_block: fields.u32()?, bytes: take(rest, BLOCK)? })
}

fn open(mut record: Bytes) -> Result<Record> {
    let head = take(&mut record, SPAN_BYTES)?;
    let (first_stripe, count, up_to_version) = span(&head)?;
    check_range(first_stripe, count)?;
    let flags = flags(&head, FRESH | SAME)?;
    let len = record.len() + SPAN_BYTES;
    let words = record.len() / CRC_BYTES;
    let says_same = flags & SAME != 0;
    let crcs = words - if says_same { words.div_ceil(WORD_BITS + 1) } else { 0 };
    // How many each stripe has is for whoever knows the shape.
    if open_record_len(crcs, says_same) != len || !are_of(crcs, count) {
        return Err(corrupt(format!("{len} bytes of checksums of {count} stripes")));
    }
    let mut list = Reader::new(&record);
    let crcs = (0..crcs).map(|_| list.u32()).collect::<Result<Vec<u32>>>()?;
    let mut same = Vec::new();
    while says_same && same.len() < crcs.len() {
        let word = list.u32()?;
        same.extend((0..WORD_BITS.min(crcs.len() - same.len())).map(|bit| word >> bit & 1 == 1));
    }
    let fresh = flags & FRESH != 0;
    Ok(Record::Open(OpenRecord { first_stripe, count, up_to_version, fresh, crcs, same }))
}

fn zero(record: Bytes) -> Result<Record> {
    if record.len() != ZERO_RECORD_LEN {
        return Err(corrupt(format!("a zero record of {} bytes", record.len())));
    }
    let (first_stripe, count, up_to_version) = span(&record)?;
    if count > 0 {
        check_range(first_stripe, count)?;
    }
    Ok(Record::Zero { first_stripe, count, up_to_version })
}

/// Stripes, and a version.
fn span(record: &Bytes) -> Result<(u64, u64, u64)> {
    let mut fields = body(record)?;
    Ok((fields.u64()?, fields.u64()?, fields.u64()?))
}

/// Whether so many checksums can be those of `count` stripes: as many of each, at least one.
fn are_of(crcs: usize, count: u64) -> bool {
    crcs > 0 && (crcs as u64).is_multiple_of(count)
}

/// The byte behind the type, if no flag is set but these.
fn flags(record: &Bytes, known: u8) -> Result<u8> {
    match record.get(1) {
        Some(flags) if flags & !known == 0 => Ok(*flags),
        other => Err(corrupt(format!("flags are {other:?}"))),
    }
}

fn flag(which: u8, set: bool) -> u8 {
    if set { which } else { 0 }
}

/// The fields behind type and length.
fn body(record: &Bytes) -> Result<Reader<'_>> {
    let mut fields = Reader::new(record);
    fields.skip(8)?;
    Ok(fields)
}

/// Takes so many bytes off the front.
fn take(rest: &mut Bytes, len: usize) -> Result<Bytes> {
    if len > rest.len() {
        return Err(corrupt(format!("{len} bytes where only {} are left", rest.len())));
    }
    Ok(rest.split_to(len))
}

/// Blocks or stripes that an array can have, at least one.
fn check_range(first: u64, count: u64) -> Result<()> {
    match first.checked_add(count) {
        Some(end) if count > 0 && end <= COUNT_MAX => Ok(()),
        _ => Err(corrupt(format!("{count} blocks or stripes from {first} on"))),
    }
}

/// A version after which there is another.
fn check_version(version: u64) -> Result<()> {
    if version == u64::MAX { Err(corrupt(format!("version {version}"))) } else { Ok(()) }
}

fn corrupt(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, format!("journal has an impossible record: {}", what.into()))
}
