//! Writing replies in the framing of the session.
//!
//! A read is answered with one chunk: all of its data is here before the first byte of the reply
//! is written, so an error can still be told, and "don't fragment" holds by itself.

use super::errno::Errno;
use super::outbox::{Header, Outbox};
use super::wire::{
    ALLOCATION_ID, EXTENDED_REPLY_MAGIC, Framing, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, chunk, clip,
    state,
};
use crate::export::Extent;
use bytes::Bytes;

/// Extents in one answer; a client asks again from where they end.
const MAX_EXTENTS: usize = 1 << 13;
/// Bytes of the longest answer to a status query, but for its head.
pub(super) const MAX_STATUS_BYTES: u64 = 16 * MAX_EXTENTS as u64;

/// Which request a reply belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address {
    pub cookie: u64,
    pub offset: u64,
}

/// What came of a request.
#[derive(Debug)]
pub(super) enum Answer {
    Done,
    /// The data of a read, and its length.
    Data(Vec<Bytes>, u64),
    Extents(Vec<Extent>),
    Error(Errno, String),
}

/// Appends the whole reply.
pub(super) fn write(out: &mut Outbox, framing: Framing, to: Address, answer: Answer) {
    match answer {
        Answer::Done => match framing {
            Framing::Extended => none(out, framing, to),
            _ => simple(out, to, 0),
        },
        Answer::Data(pieces, len) => {
            match framing {
                Framing::Simple => simple(out, to, 0),
                _ if len == 0 => none(out, framing, to),
                _ => {
                    head(out, framing, to, chunk::OFFSET_DATA, 8 + len).u64(to.offset);
                }
            }
            for piece in pieces {
                out.data(piece);
            }
        }
        Answer::Extents(extents) => write_extents(out, framing, to, &extents),
        Answer::Error(errno, message) => match framing {
            Framing::Simple => simple(out, to, errno.0),
            _ => {
                let text = clip(&message).as_bytes();
                let len = u16::try_from(text.len()).unwrap_or(0);
                let header = head(out, framing, to, chunk::ERROR, 6 + u64::from(len));
                header.u32(errno.0).u16(len).bytes(text);
            }
        },
    }
}

fn simple(out: &mut Outbox, to: Address, errno: u32) {
    out.header().u32(SIMPLE_REPLY_MAGIC).u32(errno).u64(to.cookie);
}

fn none(out: &mut Outbox, framing: Framing, to: Address) {
    head(out, framing, to, chunk::NONE, 0);
}

/// The header of a reply's only chunk.
fn head(out: &mut Outbox, framing: Framing, to: Address, kind: u16, payload_len: u64) -> Header<'_> {
    if framing == Framing::Extended {
        let header = out.header().u32(EXTENDED_REPLY_MAGIC).u16(chunk::DONE).u16(kind);
        return header.u64(to.cookie).u64(to.offset).u64(payload_len);
    }
    let header = out.header().u32(STRUCTURED_REPLY_MAGIC).u16(chunk::DONE).u16(kind);
    // A payload is at most a request's maximum (32 bits) and a few bytes; see `Limits`.
    header.u64(to.cookie).u32(u32::try_from(payload_len).unwrap_or(u32::MAX))
}

fn write_extents(out: &mut Outbox, framing: Framing, to: Address, extents: &[Extent]) {
    let extents = extents.get(..MAX_EXTENTS).unwrap_or(extents);
    let count = u32::try_from(extents.len()).unwrap_or(0);
    let flags = |e: &Extent| if e.hole { state::HOLE } else { 0 } | if e.zero { state::ZERO } else { 0 };
    if framing == Framing::Extended {
        let mut header = head(out, framing, to, chunk::BLOCK_STATUS_EXT, 8 + 16 * u64::from(count));
        header = header.u32(ALLOCATION_ID).u32(count);
        for extent in extents {
            header = header.u64(extent.len_bytes).u64(flags(extent).into());
        }
        return;
    }
    let mut header = head(out, framing, to, chunk::BLOCK_STATUS, 4 + 8 * u64::from(count));
    header = header.u32(ALLOCATION_ID);
    for extent in extents {
        // Only the last extent can be this long: a compact request has 32 bits of length.
        header = header.u32(u32::try_from(extent.len_bytes).unwrap_or(u32::MAX)).u32(flags(extent));
    }
}
