//! Receiving replies and handing them to the requests they belong to.

use super::link::{Expect, Link};
use crate::env::Buffer;
use crate::error::{Error, ErrorKind, Result};
use crate::export::Extent;
use crate::nbd::errno::Errno;
use crate::nbd::inbox::Inbox;
use crate::nbd::wire::{
    EXTENDED_REPLY_MAGIC, Fields, Framing, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, chunk, clip, state,
};
use std::ops::Range;

/// Chunks other than data are not believed to be longer.
const MAX_CHUNK_BYTES: u64 = (1 << 20) * 16 + 64;

struct Chunk {
    key: usize,
    done: bool,
    kind: u16,
    len: u64,
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("the server broke the protocol: {what}"))
}

/// Receives replies until the connection ends.
pub(super) async fn receive(link: &Link, mut inbox: Inbox) {
    let end = loop {
        match receive_one(link, &mut inbox).await {
            Ok(true) => {}
            Ok(false) => break Error::new(ErrorKind::ShuttingDown, "the server closed the connection"),
            Err(e) => break e,
        }
    };
    link.fail(&end);
}

async fn receive_one(link: &Link, inbox: &mut Inbox) -> Result<bool> {
    if !inbox.fill(4, false).await? {
        return Ok(false);
    }
    let framing = link.info.framing();
    let magic = Fields(inbox.bytes()).u32().unwrap_or(0);
    let header_bytes = match (magic, framing) {
        (SIMPLE_REPLY_MAGIC, Framing::Simple | Framing::Structured) => 16,
        (STRUCTURED_REPLY_MAGIC, Framing::Structured) => 20,
        (EXTENDED_REPLY_MAGIC, Framing::Extended) => 32,
        _ => return Err(broken("not a reply")),
    };
    inbox.fill(header_bytes, true).await?;
    let header = Fields(inbox.bytes().get(4..header_bytes).unwrap_or(&[]));
    inbox_reply(link, inbox, header_bytes, header_of(magic, header).ok_or_else(|| broken("short header"))?)
        .await?;
    Ok(true)
}

enum Head {
    Simple { errno: u32, key: usize },
    Chunk(Chunk),
}

fn header_of(magic: u32, mut fields: Fields<'_>) -> Option<Head> {
    let key = |cookie: u64| usize::try_from(cookie).unwrap_or(usize::MAX);
    if magic == SIMPLE_REPLY_MAGIC {
        return Some(Head::Simple { errno: fields.u32()?, key: key(fields.u64()?) });
    }
    let (flags, kind) = (fields.u16()?, fields.u16()?);
    let key = key(fields.u64()?);
    let len = if magic == EXTENDED_REPLY_MAGIC {
        fields.u64()?;
        fields.u64()?
    } else {
        fields.u32()?.into()
    };
    Some(Head::Chunk(Chunk { key, done: flags & chunk::DONE != 0, kind, len }))
}

async fn inbox_reply(link: &Link, inbox: &mut Inbox, header_bytes: usize, head: Head) -> Result<()> {
    inbox.consume(header_bytes);
    let key = match &head {
        Head::Simple { key, .. } => *key,
        Head::Chunk(chunk) => chunk.key,
    };
    if !link.awaits(key) {
        return Err(broken("a reply to no request"));
    }
    match head {
        Head::Simple { errno: 0, .. } => {
            if let Some((offset, len)) = data_range(link, key) {
                if link.info.framing() != Framing::Simple {
                    return Err(broken("a simple reply to a read"));
                }
                receive_data(link, inbox, key, offset, len).await?;
            }
            finish(link, key)
        }
        Head::Simple { errno, .. } => {
            set_error(link, key, Errno(errno), "");
            finish(link, key)
        }
        Head::Chunk(chunk) => {
            receive_chunk(link, inbox, &chunk).await?;
            if chunk.done { finish(link, key) } else { Ok(()) }
        }
    }
}

async fn receive_chunk(link: &Link, inbox: &mut Inbox, chunk: &Chunk) -> Result<()> {
    match chunk.kind {
        chunk::NONE if chunk.len == 0 && chunk.done => Ok(()),
        chunk::OFFSET_DATA if chunk.len > 8 => {
            inbox.fill(8, true).await?;
            let offset = Fields(inbox.bytes()).u64().unwrap_or(0);
            inbox.consume(8);
            receive_data(link, inbox, chunk.key, offset, chunk.len - 8).await
        }
        chunk::OFFSET_HOLE if chunk.len == 12 => {
            inbox.fill(12, true).await?;
            let mut fields = Fields(inbox.bytes());
            let (offset, len) = (fields.u64().unwrap_or(0), fields.u32().unwrap_or(0));
            inbox.consume(12);
            fill_hole(link, chunk.key, offset, len.into())
        }
        kind if chunk.len <= MAX_CHUNK_BYTES && kind & chunk::ERROR_BIT != 0 => {
            let bytes = receive_bytes(link, inbox, chunk.len).await?;
            let mut fields = Fields(&bytes);
            let errno = fields.u32().ok_or_else(|| broken("a short error"))?;
            let text = fields.u16().and_then(|len| fields.bytes(len.into())).unwrap_or(&[]);
            set_error(link, chunk.key, Errno(errno), clip(&String::from_utf8_lossy(text)));
            Ok(())
        }
        chunk::BLOCK_STATUS | chunk::BLOCK_STATUS_EXT if chunk.len <= MAX_CHUNK_BYTES => {
            let bytes = receive_bytes(link, inbox, chunk.len).await?;
            let extents = parse_extents(chunk.kind, &bytes, link.info.allocation_id)
                .ok_or_else(|| broken("a malformed block status"))?;
            match link.pending.borrow_mut().get_mut(chunk.key).map(|p| &mut p.expect) {
                Some(Expect::Extents(all)) => *all = extents,
                _ => return Err(broken("block status nobody asked for")),
            }
            Ok(())
        }
        _ => Err(broken("an unknown or malformed chunk")),
    }
}

async fn receive_bytes(link: &Link, inbox: &mut Inbox, len: u64) -> Result<Buffer> {
    let len = usize::try_from(len).map_err(|_| broken("a chunk too long"))?;
    inbox.read_into(link.env.buffers().take(len), 0, len).await
}

fn parse_extents(kind: u16, bytes: &[u8], id: Option<u32>) -> Option<Vec<Extent>> {
    let mut fields = Fields(bytes);
    let wide = kind == chunk::BLOCK_STATUS_EXT;
    if fields.u32() != id {
        return None;
    }
    if wide {
        fields.u32()?;
    }
    let mut extents = Vec::new();
    while !fields.is_empty() {
        let (len_bytes, flags) = match wide {
            true => (fields.u64()?, fields.u64()?),
            false => (fields.u32()?.into(), fields.u32()?.into()),
        };
        let has = |bit: u32| flags & u64::from(bit) != 0;
        extents.push(Extent { len_bytes, hole: has(state::HOLE), zero: has(state::ZERO) });
    }
    (!extents.is_empty() && extents.iter().all(|e| e.len_bytes > 0)).then_some(extents)
}

fn data_range(link: &Link, key: usize) -> Option<(u64, u64)> {
    match link.pending.borrow().get(key)?.expect {
        Expect::Data { offset, len, .. } => Some((offset, len)),
        _ => None,
    }
}

/// Where a piece of data belongs in its request's buffer; the buffer itself.
fn claim(link: &Link, key: usize, at: u64, piece: u64) -> Result<(Buffer, Range<usize>)> {
    let mut all = link.pending.borrow_mut();
    let Some(Expect::Data { offset, len, buffer, filled }) = all.get_mut(key).map(|p| &mut p.expect) else {
        return Err(broken("data nobody asked for"));
    };
    let start = at.checked_sub(*offset).filter(|s| s.checked_add(piece).is_some_and(|end| end <= *len));
    *filled = filled.saturating_add(piece);
    let range = start.and_then(|s| Some(usize::try_from(s).ok()?..usize::try_from(s + piece).ok()?));
    match (range, buffer.take()) {
        (Some(range), Some(buffer)) if *filled <= *len => Ok((buffer, range)),
        _ => Err(broken("data outside the range that was asked for")),
    }
}

fn give_back(link: &Link, key: usize, filled: Buffer) {
    if let Some(Expect::Data { buffer, .. }) = link.pending.borrow_mut().get_mut(key).map(|p| &mut p.expect) {
        *buffer = Some(filled);
    }
}

async fn receive_data(link: &Link, inbox: &mut Inbox, key: usize, at: u64, len: u64) -> Result<()> {
    let (buffer, range) = claim(link, key, at, len)?;
    let buffer = inbox.read_into(buffer, range.start, range.end).await?;
    give_back(link, key, buffer);
    Ok(())
}

fn fill_hole(link: &Link, key: usize, at: u64, len: u64) -> Result<()> {
    let (mut buffer, range) = claim(link, key, at, len)?;
    if let Some(space) = buffer.get_mut(range) {
        space.fill(0);
    }
    give_back(link, key, buffer);
    Ok(())
}

fn set_error(link: &Link, key: usize, errno: Errno, message: &str) {
    if let Some(pending) = link.pending.borrow_mut().get_mut(key) {
        pending.error.get_or_insert((errno, message.to_owned()));
    }
}

/// Ends a reply, which must have been whole.
fn finish(link: &Link, key: usize) -> Result<()> {
    if let Some(pending) = link.pending.borrow().get(key) {
        let whole = match &pending.expect {
            Expect::Nothing => true,
            Expect::Data { len, filled, .. } => filled == len,
            Expect::Extents(extents) => !extents.is_empty(),
        };
        if !whole && pending.error.is_none() {
            return Err(broken("a reply with a part missing"));
        }
    }
    link.finish(key);
    Ok(())
}
