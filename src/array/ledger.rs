//! Reading and writing superblocks on members. Knows bytes and places, decides nothing.

use crate::env::{Env, join_all};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Areas, Code, Features, Layout, Membership, SUPERBLOCK_BYTES, Superblock, pick_newest};
use crate::geometry::Shape;
use crate::journal;
use crate::member::signature::EDGE_BYTES;
use crate::member::{Backend, Member, Persistence};
use crate::mutation::{Protection, without};
use crate::units::{ArrayId, MemberId};
use bytes::Bytes;
use std::sync::Arc;

/// What all members of an array have in common and never changes.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub array: ArrayId,
    pub name: String,
    pub created_unix_s: u64,
    pub shape: Shape,
    pub volume_bytes: u64,
    pub areas: Areas,
    pub features: Features,
}

impl Identity {
    /// The identity a superblock states.
    pub fn of(s: &Superblock) -> Self {
        Self {
            array: s.array,
            name: s.name.clone(),
            created_unix_s: s.created_unix_s,
            shape: s.shape,
            volume_bytes: s.volume_bytes,
            areas: s.areas,
            features: s.features,
        }
    }

    /// Where the journal lies on each member.
    pub fn journal(&self) -> journal::Place {
        journal::Place { offset: self.areas.journal_offset, len: self.areas.journal_len }
    }

    /// Stripes that the volume uses.
    pub fn stripes(&self) -> u64 {
        self.shape.stripes_for(self.volume_bytes)
    }

    /// The superblock of one member.
    pub fn superblock(
        &self,
        member: MemberId,
        member_bytes: u64,
        membership: &Membership,
        write_count: u64,
    ) -> Superblock {
        Superblock {
            array: self.array,
            member,
            name: self.name.clone(),
            created_unix_s: self.created_unix_s,
            shape: self.shape,
            layout: Layout::Rotating,
            code: Code::ReedSolomon,
            volume_bytes: self.volume_bytes,
            member_bytes,
            areas: self.areas,
            write_count,
            membership: membership.clone(),
            features: self.features,
        }
    }
}

/// The newest valid superblock of a device.
pub(super) async fn read(env: &Env, backend: &Arc<dyn Backend>) -> Result<Superblock> {
    let size = backend.size_bytes();
    let copies = Superblock::slot_offsets(size).map(|offset| async move {
        if offset + SUPERBLOCK_BYTES as u64 > size {
            return Err(Error::new(ErrorKind::NotFound, "too small to hold a superblock"));
        }
        let (read, buffer) = backend.read(offset, env.buffers().take(SUPERBLOCK_BYTES)).await;
        read.and_then(|()| Superblock::parse(&buffer))
    });
    let newest = pick_newest(join_all(copies).await.into_iter())?;
    if newest.member_bytes > size {
        let what = format!("truncated: {size} bytes are left of {}", newest.member_bytes);
        return Err(Error::new(ErrorKind::Corrupt, what));
    }
    Ok(newest)
}

/// Writes a superblock, head and tail, durably: to the slot whose loss costs nothing, so that however
/// often a write fails half-way, what the member had is still there.
pub(super) async fn write(member: &Member, superblock: &Superblock) -> Result<()> {
    let bytes = Bytes::from(superblock.encode()?);
    let size = member.size_bytes();
    let [a, b, c, d] = Superblock::slot_offsets(size).map(|at| read_copy(member, at));
    let (a, b, c, d) = futures::join!(a, b, c, d);
    let slot = Superblock::write_offsets(size, &[a, b, c, d]);
    let copies = slot.map(|at| member.write(at, vec![bytes.clone()], Persistence::Cached));
    join_all(copies).await.into_iter().collect::<Result<()>>()?;
    match without(Protection::SuperblockFlushed) {
        true => Ok(()),
        false => member.flush().await,
    }
}

async fn read_copy(member: &Member, at: u64) -> Result<Superblock> {
    Superblock::parse(&member.read(at, SUPERBLOCK_BYTES).await?)
}

/// Whether the superblock last written is still on the member.
pub(super) async fn verify(member: &Member, superblock: &Superblock) -> Result<bool> {
    let expected = superblock.encode()?;
    let [head_a, head_b, ..] = Superblock::slot_offsets(member.size_bytes());
    for head in [head_a, head_b] {
        if member.read(head, expected.len()).await?[..] == expected[..] {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Forgets what an earlier life left in the epoch map: the map of this array must be the only one.
pub(super) async fn clear(member: &Member, identity: &Identity) -> Result<()> {
    member.zero(identity.areas.epoch_offset, identity.areas.epoch_len, true).await
}

/// Makes a member of a device: clears the marks other formats left at its ends (boot sectors,
/// file systems, RAID and volume managers) and writes all copies of the superblock.
pub(super) async fn format(member: &Member, superblock: &Superblock) -> Result<()> {
    let end = superblock.member_bytes;
    member.zero(0, EDGE_BYTES.min(end), false).await?;
    member.zero(end.saturating_sub(EDGE_BYTES), EDGE_BYTES.min(end), false).await?;
    let bytes = Bytes::from(superblock.encode()?);
    for at in Superblock::slot_offsets(end) {
        member.write(at, vec![bytes.clone()], Persistence::Cached).await?;
    }
    member.flush().await
}
