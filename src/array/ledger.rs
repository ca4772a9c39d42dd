//! Reading and writing superblocks on members. Knows bytes and places, decides nothing.

use super::transition as go;
use crate::env::{Env, join_all};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    Areas, Code, Entry, Features, JournalMembers, Layout, Membership, Role, SUPERBLOCK_BYTES, Superblock,
    pick_newest,
};
use crate::geometry::Shape;
use crate::journal;
use crate::member::signature::EDGE_BYTES;
use crate::member::{Backend, Member, Persistence};
use crate::mutation::{Protection, without};
use crate::units::{ArrayId, JournalIndex, MemberId, Seat};
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
    /// On a member of a slot.
    pub areas: Areas,
    /// Who bears the journal, if the members of the slots do not.
    pub journal_members: Option<JournalMembers>,
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
            journal_members: s.journal,
            features: s.features,
        }
    }

    /// Where the journal lies on each member that bears it.
    pub fn journal(&self) -> journal::Place {
        self.checkpoints(self.journal_members.map(|_| Seat::Journal(JournalIndex(0))))
    }

    /// Where the checkpoints lie on a member of that seat (a spare's is that of a slot).
    pub fn checkpoints(&self, seat: Option<Seat>) -> journal::Place {
        match (seat, &self.journal_members) {
            (Some(Seat::Journal(_)), Some(own)) => journal::Place { offset: own.offset, len: own.len },
            _ => journal::Place { offset: self.areas.journal_offset, len: self.areas.journal_len },
        }
    }

    /// How frames are cut: as a stripe, or into copies if the journal has members of its own.
    pub fn journal_code(&self) -> Result<Shape> {
        match &self.journal_members {
            Some(own) => Shape::new(1, own.count.saturating_sub(1), self.shape.chunk_bytes()),
            None => Ok(self.shape),
        }
    }

    /// Bytes that a member needs at least to take this seat; a spare needs what a slot does.
    pub fn required_bytes(&self, seat: Option<Seat>) -> u64 {
        match (seat, &self.journal_members) {
            (Some(Seat::Journal(_)), Some(own)) => own.required_bytes(),
            _ => self.areas.required_bytes(),
        }
    }

    /// The seats without a member in sync: slots, then those that bear the journal.
    pub fn lost(&self, m: &Membership) -> Vec<Seat> {
        let slots = go::lost(m, &self.shape).into_iter().map(Seat::Slot);
        slots.chain(self.lost_journals(m).into_iter().map(Seat::Journal)).collect()
    }

    /// Of the seats that bear the journal those without a member in sync.
    pub fn lost_journals(&self, m: &Membership) -> Vec<JournalIndex> {
        let all = self.journal_members.iter().flat_map(JournalMembers::indices);
        all.filter(|i| go::in_sync_journal(m, *i).is_none()).collect()
    }

    /// Whether everything can be read, and written, with the members that this table has in sync.
    pub fn suffices(&self, m: &Membership) -> bool {
        let bears = |e: &Entry| e.role.is_in_sync() && matches!(e.role, Role::Journal(..));
        let data = go::lost(m, &self.shape).len() <= self.shape.parity();
        data && (self.journal_members.is_none()
            || m.entries.iter().any(bears)
            || without(Protection::LastBearerKept))
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
            journal: self.journal_members,
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

/// Forgets what an earlier life left where this array looks: in the epoch map of a member of a slot, or
/// a spare; in the journal of one that is to bear it.
pub(super) async fn clear(member: &Member, identity: &Identity, seat: Option<Seat>) -> Result<()> {
    journal::clear(member, identity.checkpoints(seat)).await?;
    if let Some(Seat::Journal(_)) = seat {
        return Ok(());
    }
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
