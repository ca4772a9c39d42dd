//! What a device holds already, so that nothing is formatted by mistake.
//!
//! Only the first and the last MiB are read: everything people keep on devices leaves its mark in
//! one of them. Not finding anything is no proof that a device is empty.

mod special;
mod table;

use super::Backend;
use crate::env::{Buffer, Env};
use crate::error::Result;
use crate::units::ArrayId;
use std::fmt;
use table::{Place, Signature, TABLE};

/// How much is read at either end; what formats a device clears as much, or other tools go on
/// seeing what was there.
pub const EDGE_BYTES: u64 = 1 << 20;

/// Something recognised on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What, with its article: "an ext4 file system".
    pub what: String,
    /// Where its mark lies.
    pub offset_bytes: u64,
    /// Which palisade array it belongs to, if that can be read.
    pub array: Option<(ArrayId, String)>,
}

impl Found {
    fn at(offset_bytes: u64, what: &str) -> Self {
        Self { what: what.to_owned(), offset_bytes, array: None }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Looks for everything it knows, palisade first; each thing is named once.
pub async fn detect(backend: &dyn Backend, env: &Env) -> Result<Vec<Found>> {
    let edges = Edges::read(backend, env).await?;
    let mut found: Vec<Found> = special::palisade(&edges).into_iter().collect();
    let plain = TABLE.iter().filter_map(|signature| edges.find(signature));
    for thing in plain.chain(special::ext(&edges)).chain(special::zfs(&edges)) {
        if !found.iter().any(|known| known.what == thing.what) {
            found.push(thing);
        }
    }
    let explained = !found.is_empty();
    found.extend(special::boot_sector(&edges, explained));
    Ok(found)
}

/// The first and last bytes of a device.
struct Edges {
    size_bytes: u64,
    windows: Vec<(u64, Buffer)>,
}

impl Edges {
    async fn read(backend: &dyn Backend, env: &Env) -> Result<Self> {
        let size_bytes = backend.size_bytes();
        // A small device is read whole, so that nothing straddles two windows.
        let head = if size_bytes <= 2 * EDGE_BYTES { size_bytes } else { EDGE_BYTES };
        let tail = (size_bytes - head).min(EDGE_BYTES);
        let mut windows = Vec::new();
        for (at, len) in [(0, head), (size_bytes - tail, tail)] {
            if len == 0 {
                continue;
            }
            let len = usize::try_from(len).unwrap_or(0);
            let (result, buffer) = backend.read(at, env.buffers().take(len)).await;
            result?;
            windows.push((at, buffer));
        }
        Ok(Self { size_bytes, windows })
    }

    /// The bytes at an offset, if they lie in what was read.
    fn bytes(&self, at: u64, len: usize) -> Option<&[u8]> {
        self.windows.iter().find_map(|(start, window)| {
            let from = usize::try_from(at.checked_sub(*start)?).ok()?;
            window.get(from..from.checked_add(len)?)
        })
    }

    fn u32(&self, at: u64) -> Option<u32> {
        self.bytes(at, 4)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn find(&self, signature: &Signature) -> Option<Found> {
        let at = match signature.place {
            Place::Start(at) => at,
            Place::End { align, back } => (self.size_bytes - self.size_bytes % align).checked_sub(back)?,
        };
        let matches = |(offset, magic): &(u64, &[u8])| self.bytes(at + offset, magic.len()) == Some(*magic);
        signature.magics.iter().all(matches).then(|| Found::at(at, signature.what))
    }
}
