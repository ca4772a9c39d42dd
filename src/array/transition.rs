//! The one place where a member's standing changes (pure).
//!
//! ```text
//!                 attach                 target                    complete
//!   (outside) ------------> Spare ------------------> Rebuilding ------------> InSync
//!       |                     |                        ^  |  ^                   |
//!       |    target           | lose, detach     target|  |  | take back         | lose
//!       +---------------------|------------------------+  |  +-----------+       v
//!                             |              lose, detach v              +---- Faulty
//!                             +----------------------> (outside) <---------------+
//!                                                              detach, or its slot is completed
//! ```
//!
//! A slot has at most one owner (InSync or Faulty) and at most one member Rebuilding. It is the same with
//! the seats of members that bear the journal, but that these have no spares: InSync, Faulty, Filling.
//! One that was taken back and is lost again before it is in sync is Faulty again: it may be taken back anew.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{Entry, JournalState, Membership, Role};
use crate::geometry::Shape;
use crate::units::{Epoch, EventCount, JournalIndex, MemberId, Seat, Slot};

/// A change of membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The member missed a write or is gone.
    Lose(MemberId),
    /// A spare or a new member is to be filled for a slot.
    Target(Slot, MemberId),
    /// A member that was lost is to be filled with what it lacks: nothing that changed before this
    /// epoch.
    TakeBack(MemberId, Epoch),
    /// The slot's replacement holds everything and takes the slot over.
    Complete(Slot),
    /// A new spare.
    Attach(MemberId),
    /// A spare, a replacement being filled or a faulty member leaves.
    Detach(MemberId),
    /// A new member is to bear the journal, and takes frames from now on.
    TargetJournal(JournalIndex, MemberId),
    /// That member needs no frame it lacks, and takes the seat over.
    CompleteJournal(JournalIndex),
}

/// Makes one change; refuses what the drawing lacks.
pub(super) fn apply(m: &mut Membership, change: Change) -> Result<()> {
    match change {
        Change::Lose(id) => lose(m, id),
        Change::Target(slot, id) => {
            if target(m, slot).is_some() || !matches!(role(m, id), None | Some(Role::Spare)) {
                return Err(refused("target", id));
            }
            m.entries.retain(|e| e.member != id);
            m.entries.push(entry(id, Role::Rebuilding(slot)));
            Ok(())
        }
        Change::TakeBack(id, lost_epoch) => match role(m, id) {
            Some(Role::Faulty(slot)) if target(m, slot).is_none() => {
                set(m, Entry { lost_epoch, ..entry(id, Role::Rebuilding(slot)) });
                Ok(())
            }
            Some(Role::Journal(index, JournalState::Faulty)) if filling_journal(m, index).is_none() => {
                set(m, entry(id, Role::Journal(index, JournalState::Filling)));
                Ok(())
            }
            _ => Err(refused("take back", id)),
        },
        Change::Complete(slot) => {
            let id = target(m, slot).ok_or_else(|| {
                Error::new(ErrorKind::InvalidInput, "no replacement is being filled").slot(slot)
            })?;
            m.entries.retain(|e| e.member == id || owner(e) != Some(slot));
            set(m, entry(id, Role::InSync(slot)));
            Ok(())
        }
        Change::Attach(id) => {
            if role(m, id).is_some() {
                return Err(refused("attach", id));
            }
            m.entries.push(entry(id, Role::Spare));
            Ok(())
        }
        Change::Detach(id) => match role(m, id) {
            Some(role) if !role.is_in_sync() => drop_entry(m, id),
            _ => Err(refused("detach", id)),
        },
        Change::TargetJournal(index, id) => {
            if filling_journal(m, index).is_some() || role(m, id).is_some() {
                return Err(refused("target", id));
            }
            m.entries.push(entry(id, Role::Journal(index, JournalState::Filling)));
            Ok(())
        }
        Change::CompleteJournal(index) => {
            let id = filling_journal(m, index).ok_or_else(|| {
                Error::new(ErrorKind::InvalidInput, format!("journal-{index} is not being filled"))
            })?;
            m.entries.retain(|e| e.member == id || e.role.seat() != Some(Seat::Journal(index)));
            set(m, entry(id, Role::Journal(index, JournalState::InSync)));
            Ok(())
        }
    }
}

fn lose(m: &mut Membership, id: MemberId) -> Result<()> {
    let lost_at = m.event_count.next();
    // Where rows may be torn, and no journal tells which, a member may lack anything.
    let lost_now = if m.discarded && !m.clean { Epoch(0) } else { m.epoch };
    let of_member = m.entry(id).map(|e| (e.role, e.lost_epoch));
    match of_member {
        Some((Role::InSync(slot), _)) => {
            set(m, Entry { lost_at, lost_epoch: lost_now, ..entry(id, Role::Faulty(slot)) });
            Ok(())
        }
        Some((Role::Journal(index, JournalState::InSync), _)) => {
            let faulty = Role::Journal(index, JournalState::Faulty);
            set(m, Entry { lost_at, lost_epoch: lost_now, ..entry(id, faulty) });
            Ok(())
        }
        Some((Role::Rebuilding(slot), lost_epoch)) if lost_epoch > Epoch(0) => {
            set(m, Entry { lost_at, lost_epoch, ..entry(id, Role::Faulty(slot)) });
            Ok(())
        }
        Some((Role::Rebuilding(_) | Role::Spare | Role::Journal(_, JournalState::Filling), _)) => {
            drop_entry(m, id)
        }
        Some((Role::Faulty(_) | Role::Journal(_, JournalState::Faulty), _)) | None => {
            Err(refused("lose", id))
        }
    }
}

/// What a member is to the array.
pub(super) fn role(m: &Membership, id: MemberId) -> Option<Role> {
    m.entry(id).map(|e| e.role)
}

/// The member in sync in a slot.
pub(super) fn in_sync(m: &Membership, slot: Slot) -> Option<MemberId> {
    m.entries.iter().find(|e| e.role == Role::InSync(slot)).map(|e| e.member)
}

/// The member that owned the slot and was lost.
pub(super) fn faulty(m: &Membership, slot: Slot) -> Option<MemberId> {
    m.entries.iter().find(|e| e.role == Role::Faulty(slot)).map(|e| e.member)
}

/// The member being filled for a slot.
pub(super) fn target(m: &Membership, slot: Slot) -> Option<MemberId> {
    m.entries.iter().find(|e| e.role == Role::Rebuilding(slot)).map(|e| e.member)
}

/// The member in sync of a seat that bears the journal.
pub(super) fn in_sync_journal(m: &Membership, index: JournalIndex) -> Option<MemberId> {
    of_journal(m, index, JournalState::InSync)
}

/// The one that was lost.
pub(super) fn faulty_journal(m: &Membership, index: JournalIndex) -> Option<MemberId> {
    of_journal(m, index, JournalState::Faulty)
}

/// The one that takes new frames and lacks older ones.
pub(super) fn filling_journal(m: &Membership, index: JournalIndex) -> Option<MemberId> {
    of_journal(m, index, JournalState::Filling)
}

fn of_journal(m: &Membership, index: JournalIndex, state: JournalState) -> Option<MemberId> {
    m.entries.iter().find(|e| e.role == Role::Journal(index, state)).map(|e| e.member)
}

/// The member being filled for a seat.
pub(super) fn filling(m: &Membership, seat: Seat) -> Option<MemberId> {
    match seat {
        Seat::Slot(slot) => target(m, slot),
        Seat::Journal(index) => filling_journal(m, index),
    }
}

/// The spares, in order.
pub(super) fn spares(m: &Membership) -> Vec<MemberId> {
    m.entries.iter().filter(|e| e.role == Role::Spare).map(|e| e.member).collect()
}

/// The slots without a member in sync.
pub(super) fn lost(m: &Membership, shape: &Shape) -> Vec<Slot> {
    shape.slots().filter(|s| in_sync(m, *s).is_none()).collect()
}

fn owner(e: &Entry) -> Option<Slot> {
    match e.role {
        Role::InSync(slot) | Role::Faulty(slot) => Some(slot),
        Role::Rebuilding(_) | Role::Spare | Role::Journal(..) => None,
    }
}

fn entry(member: MemberId, role: Role) -> Entry {
    Entry {
        member,
        role,
        rebuilt: Vec::new(),
        lost_at: EventCount(0),
        lost_epoch: Epoch(0),
        taken_out: false,
    }
}

fn set(m: &mut Membership, entry: Entry) {
    for e in m.entries.iter_mut().filter(|e| e.member == entry.member) {
        e.clone_from(&entry);
    }
}

fn drop_entry(m: &mut Membership, id: MemberId) -> Result<()> {
    m.entries.retain(|e| e.member != id);
    Ok(())
}

fn refused(verb: &str, id: MemberId) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("cannot {verb} member {id} in its present state"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Lineage;

    fn id(n: u8) -> MemberId {
        MemberId::from_bytes([n; 16])
    }

    fn membership(roles: &[Role]) -> Membership {
        let entries = roles.iter().zip(1..).map(|(r, n)| entry(id(n), *r)).collect();
        Membership {
            event_count: EventCount(5),
            lineage: Lineage::NIL,
            previous: Vec::new(),
            clean: true,
            discarded: false,
            epoch: Epoch(1),
            entries,
        }
    }

    /// Every change on a member in every standing: what the drawing has is done, the rest refused.
    #[test]
    fn the_drawing_is_the_whole_truth() {
        let s = Slot(0);
        let standings = [Role::InSync(s), Role::Faulty(s), Role::Rebuilding(s), Role::Spare];
        for standing in standings.map(Some).into_iter().chain([None]) {
            let start = || membership(standing.as_slice());
            let after = |change| {
                let mut m = start();
                apply(&mut m, change).map(|()| role(&m, id(1)))
            };
            let lose = match standing {
                Some(Role::InSync(_)) => Some(Some(Role::Faulty(s))),
                Some(Role::Rebuilding(_) | Role::Spare) => Some(None),
                _ => None,
            };
            assert_eq!(after(Change::Lose(id(1))).ok(), lose, "{standing:?}");
            let back = match standing {
                Some(Role::Faulty(_)) => Some(Some(Role::Rebuilding(s))),
                _ => None,
            };
            assert_eq!(after(Change::TakeBack(id(1), Epoch(1))).ok(), back, "{standing:?}");
            let target = match standing {
                Some(Role::Spare) | None => Some(Some(Role::Rebuilding(s))),
                _ => None,
            };
            assert_eq!(after(Change::Target(s, id(1))).ok(), target, "{standing:?}");
            let complete = match standing {
                Some(Role::Rebuilding(_)) => Some(Some(Role::InSync(s))),
                _ => None,
            };
            assert_eq!(after(Change::Complete(s)).ok(), complete, "{standing:?}");
            let attach = standing.is_none().then_some(Some(Role::Spare));
            assert_eq!(after(Change::Attach(id(1))).ok(), attach, "{standing:?}");
            let detach = match standing {
                Some(Role::InSync(_)) | None => None,
                Some(_) => Some(None),
            };
            assert_eq!(after(Change::Detach(id(1))).ok(), detach, "{standing:?}");
        }
    }

    /// The same of members that bear the journal.
    #[test]
    fn the_drawing_holds_for_members_that_bear_the_journal() {
        use JournalState::{Faulty, Filling, InSync};
        let i = JournalIndex(1);
        for state in [InSync, Faulty, Filling] {
            let after = |change| {
                let mut m = membership(&[Role::Journal(i, state)]);
                apply(&mut m, change).map(|()| role(&m, id(1))).ok()
            };
            let lose = match state {
                InSync => Some(Some(Role::Journal(i, Faulty))),
                Filling => Some(None),
                Faulty => None,
            };
            assert_eq!(after(Change::Lose(id(1))), lose, "{state:?}");
            let complete = (state == Filling).then_some(Some(Role::Journal(i, InSync)));
            assert_eq!(after(Change::CompleteJournal(i)), complete, "{state:?}");
            assert_eq!(after(Change::Detach(id(1))), (state != InSync).then_some(None), "{state:?}");
            assert_eq!(after(Change::Attach(id(1))), None);
            assert_eq!(after(Change::Target(Slot(0), id(1))), None);
            assert_eq!(after(Change::TargetJournal(i, id(1))), None);
            let beside = (state != Filling).then_some(Some(Role::Journal(i, state)));
            assert_eq!(after(Change::TargetJournal(i, id(2))), beside, "{state:?}");
        }
        for old in [InSync, Faulty] {
            let mut m =
                membership(&[Role::Journal(i, old), Role::Journal(i, Filling), Role::InSync(Slot(1))]);
            apply(&mut m, Change::CompleteJournal(i)).unwrap();
            assert_eq!((in_sync_journal(&m, i), m.entries.len()), (Some(id(2)), 2));
        }
    }

    #[test]
    fn a_member_that_was_taken_back_may_be_lost_and_taken_back_again() {
        let s = Slot(1);
        let mut m = Membership { epoch: Epoch(9), ..membership(&[Role::InSync(s)]) };
        apply(&mut m, Change::Lose(id(1))).unwrap();
        assert_eq!(m.entries[0].lost_epoch, Epoch(9));
        m.epoch = Epoch(20);
        apply(&mut m, Change::TakeBack(id(1), Epoch(7))).unwrap();
        apply(&mut m, Change::Lose(id(1))).unwrap();
        assert_eq!((m.entries[0].role, m.entries[0].lost_epoch), (Role::Faulty(s), Epoch(7)));
        // Not while a replacement is being filled.
        apply(&mut m, Change::Target(s, id(2))).unwrap();
        assert!(apply(&mut m, Change::TakeBack(id(1), Epoch(7))).is_err());
    }

    #[test]
    fn a_completed_replacement_takes_the_slot_from_its_former_owner() {
        let s = Slot(3);
        for owner in [Role::InSync(s), Role::Faulty(s)] {
            let mut m = membership(&[owner, Role::Rebuilding(s)]);
            apply(&mut m, Change::Complete(s)).unwrap();
            assert_eq!(in_sync(&m, s), Some(id(2)));
            assert_eq!(m.entries.len(), 1);
        }
    }
}
