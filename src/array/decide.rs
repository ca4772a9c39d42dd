//! Which of the devices at hand make the array, and which do not and why (pure).
//!
//! The newest superblock of the array (highest event count) tells who belongs to it. Each other
//! device is then judged:
//!
//! ```text
//!   superblock            in the newest table   its event count    verdict
//!   none, damaged         -                     -                  refused (no member, truncated)
//!   of another array      -                     -                  refused (foreign)
//!   same id seen before   -                     -                  refused (copied)
//!   history not an        -                     -                  conflict: nothing starts
//!     ancestor of newest,
//!     or written on since
//!   ok                    no                    any                refused (was removed)
//!   ok                    in sync               newest or 1 less   in sync
//!   ok                    in sync               older              stale
//!   ok                    faulty                any                stale
//!   ok                    rebuilding            newest or 1 less   rebuilding, with its progress
//!   ok                    rebuilding            older              rebuilding from the start
//!   ok                    spare                 any                spare
//! ```
//!
//! In sync, faulty: of a slot, or among the members that bear the journal. One of those that is being
//! filled is what it is at any event: it needs no more than the frames that are read back.
//!
//! One event less is current: a change of membership is acted upon only once every surviving member
//! recorded it twice, so whoever is one behind was there when the last change was cut short.
//!
//! A change that was given up, because too few could record it, may be on some members all the same.
//! If the array cannot start by it, and a member that it counts on lacks it (which shows that it was
//! never acted upon), the table before it counts.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{Ancestor, Membership, Role, Superblock};
use crate::mutation::{Protection, without};
use crate::units::ArrayId;
use std::cmp::Reverse;

/// What a device is to the array that is being assembled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Serves its role as the newest table has it. `fresh` if its recorded progress counts.
    Current {
        /// The role.
        role: Role,
        /// Its rebuild progress may be believed.
        fresh: bool,
    },
    /// Belongs to the array but missed writes.
    Stale(String),
    /// Takes no part, and why.
    Refused(String),
}

/// The verdict on all devices.
#[derive(Debug)]
pub(super) struct Verdicts {
    /// The newest superblock: its membership is the array's.
    pub newest: Superblock,
    /// One for each device, in order.
    pub standings: Vec<Standing>,
}

/// Judges the devices, given as path and what was read from it.
pub(super) fn judge(array: ArrayId, found: &[(String, Result<Superblock>)]) -> Result<Verdicts> {
    let ours = || found.iter().filter_map(|(p, s)| Some((p, s.as_ref().ok().filter(|s| s.array == array)?)));
    let age = |s: &Superblock| (s.membership.event_count, s.write_count);
    let newest = ours().map(|(_, s)| s).max_by_key(|s| age(s)).ok_or_else(|| nobody(found))?;
    let before = || {
        let older =
            ours().map(|(_, s)| s).filter(|s| s.membership.event_count < newest.membership.event_count);
        older.max_by_key(|s| age(s)).filter(|older| given_up(newest, older, ours().map(|(_, s)| s)))
    };
    let newest = before().unwrap_or(newest).clone();
    let (same, other): (Vec<_>, Vec<_>) = ours().partition(|(_, s)| is_related(&newest.membership, s));
    if !other.is_empty() {
        let names = |list: Vec<(&String, &Superblock)>| {
            list.into_iter().map(|(p, _)| p.as_str()).collect::<Vec<_>>().join(", ")
        };
        let what = format!(
            "the members ran apart and each side has writes the other lacks: [{}] and [{}]",
            names(same),
            names(other)
        );
        return Err(Error::new(ErrorKind::Foreign, what)
            .hint("decide which side wins and start with --exclude for every member of the other"));
    }
    // Of several devices with the same identity only the newest counts.
    let original = |i: usize, s: &Superblock| {
        let same = |(_, r): &&(usize, &Superblock)| r.member == s.member;
        let all = found.iter().enumerate().filter_map(|(i, (_, r))| Some((i, r.as_ref().ok()?)));
        let all: Vec<(usize, &Superblock)> = all.collect();
        let rank = |r: &Superblock| (!without(Protection::NewestCopy)).then(|| age(r));
        all.iter().filter(same).max_by_key(|(j, r)| (rank(r), Reverse(*j))).is_some_and(|(j, _)| *j == i)
    };
    let standings = found
        .iter()
        .enumerate()
        .map(|(i, (_, read))| match read {
            Err(e) => Standing::Refused(e.report()),
            Ok(s) if s.array != array => {
                Standing::Refused(format!("belongs to another array, {} ({})", s.name, s.array))
            }
            Ok(s) if !original(i, s) => {
                Standing::Refused("is a copy of another member of this array".to_owned())
            }
            Ok(s) => standing(&newest, s),
        })
        .collect();
    Ok(Verdicts { newest, standings })
}

/// Whether a member is of this history, however far behind. Of a former lineage only what it had come
/// to when it ended counts: one that wrote on took part in another history since. One write more was cut
/// short, for a change is acted upon after two.
pub(super) fn is_related(now: &Membership, s: &Superblock) -> bool {
    let own = s.membership.lineage;
    let was = |a: &Ancestor| a.lineage == own && s.write_count <= a.write_count.saturating_add(1);
    own == now.lineage || now.previous.iter().any(was) || without(Protection::LineageCompared)
}

/// Whether the change from the `older` table to the `newest` was given up, and the older is needed.
fn given_up<'a>(
    newest: &Superblock,
    older: &Superblock,
    here: impl Iterator<Item = &'a Superblock> + Clone,
) -> bool {
    let starts = |table: &Superblock| {
        let roles = here.clone().filter_map(|s| match standing(table, s) {
            Standing::Current { role, .. } if role.is_in_sync() => Some(role),
            _ => None,
        });
        let (bear, hold): (Vec<Role>, Vec<Role>) = roles.partition(|r| matches!(r, Role::Journal(..)));
        hold.len() >= table.shape.data() && (table.journal.is_none() || !bear.is_empty())
    };
    let lacks = |s: &Superblock| {
        let counted_on = newest.membership.entry(s.member).is_some_and(|e| e.role.is_in_sync());
        counted_on && s.membership.event_count == older.membership.event_count
    };
    !without(Protection::GivenUpChange)
        && older.membership.event_count.next() == newest.membership.event_count
        && here.clone().any(lacks)
        && !starts(newest)
        && starts(older)
}

fn standing(newest: &Superblock, s: &Superblock) -> Standing {
    let (now, own) = (newest.membership.event_count, s.membership.event_count);
    let current = own.next() >= now || without(Protection::StaleRefused);
    let Some(entry) = newest.membership.entry(s.member) else {
        return Standing::Refused("was removed from the array".to_owned());
    };
    match entry.role {
        role if role.is_faulty() => Standing::Stale(format!("was marked faulty at event {}", entry.lost_at)),
        role if role.is_in_sync() && !current => {
            Standing::Stale(format!("is an old copy: at event {own}, the array is at {now}"))
        }
        role => Standing::Current { role, fresh: current },
    }
}

fn nobody(found: &[(String, Result<Superblock>)]) -> Error {
    let reason = |(path, read): &(String, Result<Superblock>)| match read {
        Err(e) => format!("{path}: {}", e.report()),
        Ok(s) => format!("{path}: belongs to another array, {} ({})", s.name, s.array),
    };
    let reasons: Vec<String> = found.iter().map(reason).collect();
    let what = match reasons.is_empty() {
        true => "no member was found".to_owned(),
        false => format!("no member was found ({})", reasons.join("; ")),
    };
    Error::new(ErrorKind::NotFound, what)
        .hint("correct the paths under 'members' in the array's configuration file")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::ledger::Identity;
    use crate::format::{Areas, Entry, Features};
    use crate::geometry::Shape;
    use crate::units::{Epoch, EventCount, Lineage, MemberId, Slot};

    fn id(n: u8) -> MemberId {
        MemberId::from_bytes([n; 16])
    }

    fn superblock(member: u8, event: u64, lineage: u8, previous: &[u8], roles: &[(u8, Role)]) -> Superblock {
        let shape = Shape::new(1, 1, 65536).unwrap();
        let areas = Areas::plan(64 << 20, &shape).unwrap();
        let of = |n: u8| Lineage::from_bytes([n; 16]);
        let entry = |(n, role): &(u8, Role)| Entry {
            member: id(*n),
            role: *role,
            rebuilt: Vec::new(),
            lost_at: EventCount(2),
            lost_epoch: Epoch(1),
            taken_out: false,
        };
        let membership = Membership {
            event_count: EventCount(event),
            lineage: of(lineage),
            previous: previous.iter().map(|n| Ancestor { lineage: of(*n), write_count: 7 }).collect(),
            clean: true,
            discarded: false,
            epoch: Epoch(2),
            entries: roles.iter().map(entry).collect(),
        };
        let identity = Identity {
            array: ArrayId::from_bytes([9; 16]),
            name: "t".to_owned(),
            created_unix_s: 0,
            shape,
            volume_bytes: areas.capacity_bytes(&shape),
            areas,
            journal_members: None,
            features: Features::default(),
        };
        identity.superblock(id(member), 64 << 20, &membership, event)
    }

    fn verdicts(found: Vec<Result<Superblock>>) -> Result<Vec<Standing>> {
        let found: Vec<_> = found.into_iter().map(|s| (String::new(), s)).collect();
        judge(ArrayId::from_bytes([9; 16]), &found).map(|v| v.standings)
    }

    const A: Role = Role::InSync(Slot(0));
    const B: Role = Role::InSync(Slot(1));

    /// The rows of the table for a device beside the newest one.
    #[test]
    fn every_row_of_the_table() {
        let newest = |b: Option<Role>| {
            let mut roles = vec![(1, A)];
            roles.extend(b.map(|r| (2, r)));
            superblock(1, 10, 5, &[4], &roles)
        };
        let other = |event| superblock(2, event, 5, &[4], &[(1, A), (2, B)]);
        let judge_2 = |b, event| verdicts(vec![Ok(newest(b)), Ok(other(event))]).unwrap().remove(1);
        // Whoever was removed never hears of it.
        assert!(matches!(judge_2(None, 9), Standing::Refused(_)));
        assert_eq!(judge_2(Some(B), 10), Standing::Current { role: B, fresh: true });
        assert_eq!(judge_2(Some(B), 9), Standing::Current { role: B, fresh: true });
        assert!(matches!(judge_2(Some(B), 8), Standing::Stale(_)));
        assert!(matches!(judge_2(Some(Role::Faulty(Slot(1))), 9), Standing::Stale(_)));
        let filling = Role::Rebuilding(Slot(1));
        assert_eq!(judge_2(Some(filling), 9), Standing::Current { role: filling, fresh: true });
        assert_eq!(judge_2(Some(filling), 3), Standing::Current { role: filling, fresh: false });
        assert_eq!(judge_2(Some(Role::Spare), 1), Standing::Current { role: Role::Spare, fresh: false });
        let damaged = Err(Error::new(ErrorKind::Corrupt, "truncated"));
        let found = verdicts(vec![Ok(newest(Some(B))), damaged]).unwrap();
        assert!(matches!(&found[1], Standing::Refused(why) if why.contains("truncated")));
        let mut foreign = other(10);
        foreign.array = ArrayId::from_bytes([8; 16]);
        let found = verdicts(vec![Ok(newest(Some(B))), Ok(foreign)]).unwrap();
        assert!(matches!(&found[1], Standing::Refused(why) if why.contains("another array")));
        let found = verdicts(vec![Ok(newest(Some(B))), Ok(other(10)), Ok(other(10))]).unwrap();
        assert!(matches!(&found[2], Standing::Refused(why) if why.contains("copy")));
    }

    #[test]
    fn an_ancestor_is_merely_behind_but_two_histories_are_a_conflict() {
        let newest = superblock(1, 10, 5, &[4], &[(1, A), (2, Role::Faulty(Slot(1)))]);
        let ancestor = superblock(2, 7, 4, &[], &[(1, A), (2, B)]);
        assert!(verdicts(vec![Ok(newest.clone()), Ok(ancestor)]).is_ok());
        // A write that was cut short when the ancestor ended, and one that was not.
        let cut_short = superblock(2, 8, 4, &[], &[(1, A), (2, B)]);
        assert!(verdicts(vec![Ok(newest.clone()), Ok(cut_short)]).is_ok());
        let went_on = superblock(2, 9, 4, &[], &[(1, Role::Faulty(Slot(0))), (2, B)]);
        let error = verdicts(vec![Ok(newest.clone()), Ok(went_on)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Foreign);
        let apart = superblock(2, 9, 6, &[4], &[(1, Role::Faulty(Slot(0))), (2, B)]);
        let error = verdicts(vec![Ok(newest), Ok(apart)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Foreign);
    }
}
