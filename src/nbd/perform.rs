//! Carrying a valid command to the volume.

use super::errno::Errno;
use super::reply::Answer;
use super::request::Command;
use crate::error::{Error, ErrorKind, Result};
use crate::export::{Extent, Volume};
use bytes::Bytes;

/// Carries out a command. Never fails: an error is an answer.
pub(super) async fn perform(volume: &dyn Volume, command: Command, payload: Bytes) -> Answer {
    let fast = matches!(command, Command::Zero { options, .. } if options.fast_only);
    attempt(volume, command, payload).await.unwrap_or_else(|e| {
        // ENOTSUP is reserved for "not fast" (the document, "Error values").
        let errno = match Errno::of(e.kind()) {
            Errno::NOTSUP if !fast => Errno::INVAL,
            errno => errno,
        };
        Answer::Error(errno, e.report())
    })
}

async fn attempt(volume: &dyn Volume, command: Command, payload: Bytes) -> Result<Answer> {
    match command {
        Command::Read { len: 0, .. } => return Ok(Answer::Data(Vec::new(), 0)),
        Command::Read { offset, len } => {
            let pieces = volume.read(offset, len).await?;
            let total: u64 = pieces.iter().map(|p| p.len() as u64).sum();
            if total != len {
                let what = format!("the volume read {total} bytes instead of {len}");
                return Err(Error::new(ErrorKind::Io, what).at(offset));
            }
            return Ok(Answer::Data(pieces, len));
        }
        Command::Write { .. } if payload.is_empty() => {}
        Command::Write { offset, durability } => volume.write(offset, payload, durability).await?,
        Command::Flush => volume.flush().await?,
        Command::Trim { len: 0, .. } | Command::Zero { len: 0, .. } => {}
        Command::Trim { offset, len, durability } => volume.discard(offset, len, durability).await?,
        Command::Zero { offset, len, options } => volume.write_zeroes(offset, len, options).await?,
        // A hint; there is nothing between the volume and the wire to warm up.
        Command::Cache => {}
        Command::Status { offset, len, one } => {
            let extents = volume.status(offset, len).await?;
            return Ok(Answer::Extents(trim_extents(extents, len, one)));
        }
        Command::StatusInPayload { .. } => {
            return Err(Error::new(ErrorKind::InvalidInput, "block status without its payload"));
        }
    }
    Ok(Answer::Done)
}

/// At least one extent, none empty, none beyond the range; only the first if `one`.
fn trim_extents(extents: Vec<Extent>, len: u64, one: bool) -> Vec<Extent> {
    let mut left = len;
    let mut kept = Vec::with_capacity(if one { 1 } else { extents.len() });
    for mut extent in extents {
        extent.len_bytes = extent.len_bytes.min(left);
        if extent.len_bytes == 0 || (one && !kept.is_empty()) {
            break;
        }
        left -= extent.len_bytes;
        kept.push(extent);
    }
    if kept.is_empty() {
        kept.push(Extent { len_bytes: len, hole: false, zero: false });
    }
    kept
}
