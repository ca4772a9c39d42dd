//! From what an admin wrote to the member that is meant (pure).

use super::coordinator::State;
use super::ledger::Identity;
use super::transition as go;
use super::{MemberRef, MemberState};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Role;
use crate::units::{MemberId, Seat};

/// The member meant. A slot means its owner, or what is being filled for it if it has none.
pub(super) fn member(state: &State, named: &MemberRef) -> Result<MemberId> {
    let m = &state.membership;
    let found = match named {
        MemberRef::Slot(slot) => {
            go::in_sync(m, *slot).or_else(|| go::faulty(m, *slot)).or_else(|| go::target(m, *slot))
        }
        MemberRef::Journal(index) => go::in_sync_journal(m, *index)
            .or_else(|| go::faulty_journal(m, *index))
            .or_else(|| go::filling_journal(m, *index)),
        MemberRef::Id(id) => m.entry(*id).map(|e| e.member),
        MemberRef::Path(path) => {
            let mut here: Vec<_> = state.known.iter().filter(|(_, k)| k.path == *path).collect();
            // One path may have held a lost member and hold its successor now.
            here.sort_by_key(|(_, k)| k.absent.as_ref().map(|(s, _)| *s == MemberState::Faulty));
            here.first().map(|(id, _)| **id)
        }
    };
    found.ok_or_else(|| unknown(named))
}

/// The seat meant, whether it has an owner or not.
pub(super) fn seat(state: &State, named: &MemberRef, identity: &Identity) -> Result<Seat> {
    let bear = identity.journal_members.map_or(0, |own| own.count);
    match named {
        MemberRef::Slot(slot) if slot.index() < identity.shape.width() => return Ok(Seat::Slot(*slot)),
        MemberRef::Journal(index) if index.0 < bear => return Ok(Seat::Journal(*index)),
        _ => {}
    }
    let id = member(state, named)?;
    go::role(&state.membership, id).and_then(Role::seat).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, format!("{named} is a spare and has no slot to replace"))
            .hint("detach it with `palisade remove`, or let a lost slot take it")
    })
}

fn unknown(named: &MemberRef) -> Error {
    Error::new(ErrorKind::NotFound, format!("no member {named} in this array"))
        .hint("name a member by its slot or journal number, path or UUID, as `palisade status` shows them")
}
