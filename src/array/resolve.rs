//! From what an admin wrote to the member that is meant (pure).

use super::coordinator::State;
use super::transition as go;
use super::{MemberRef, MemberState};
use crate::error::{Error, ErrorKind, Result};
use crate::units::{MemberId, Slot};

/// The member meant. A slot means its owner, or what is being filled for it if it has none.
pub(super) fn member(state: &State, named: &MemberRef) -> Result<MemberId> {
    let m = &state.membership;
    let found = match named {
        MemberRef::Slot(slot) => {
            go::in_sync(m, *slot).or_else(|| go::faulty(m, *slot)).or_else(|| go::target(m, *slot))
        }
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

/// The slot meant, whether it has an owner or not.
pub(super) fn slot(state: &State, named: &MemberRef, width: usize) -> Result<Slot> {
    if let MemberRef::Slot(slot) = named
        && slot.index() < width
    {
        return Ok(*slot);
    }
    let id = member(state, named)?;
    go::role(&state.membership, id).and_then(crate::format::Role::slot).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, format!("{named} is a spare and has no slot to replace"))
            .hint("detach it with `palisade remove`, or let a lost slot take it")
    })
}

fn unknown(named: &MemberRef) -> Error {
    Error::new(ErrorKind::NotFound, format!("no member {named} in this array"))
        .hint("name a member by its slot, path or UUID as `palisade status` shows them")
}
