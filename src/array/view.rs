//! What the array says about itself.

use super::coordinator::{Coordinator, Known, State};
use super::ledger::Identity;
use super::transition as go;
use super::{ArrayState, ErrorCounts, MemberReport, MemberState, Problem, Report, ScrubReport, TaskReport};
use crate::format::{Entry, JournalMembers, Role};
use crate::units::Seat;

/// The system's words for a full file system.
const NO_SPACE: &str = "No space left on device";

/// Builds the report; exports are for the daemon to fill in.
pub(super) fn report(
    coordinator: &Coordinator,
    task: Option<TaskReport>,
    scrub: ScrubReport,
    clean: bool,
) -> Report {
    let state = coordinator.state();
    let identity = &coordinator.identity;
    let members = members(&state, identity);
    let of_slots = members.iter().filter(|m| m.journal.is_none());
    let required = identity.areas.required_bytes();
    let wasted_bytes = of_slots.map(|m| m.size_bytes.saturating_sub(required)).sum();
    let array_state = array_state(&state, coordinator);
    let mut problems = problems(&state, coordinator, array_state, task.is_some());
    problems.extend(scrub.problem(&identity.name));
    Report {
        name: identity.name.clone(),
        uuid: identity.array,
        state: array_state,
        clean,
        data: u8::try_from(identity.shape.data()).unwrap_or(u8::MAX),
        parity: u8::try_from(identity.shape.parity()).unwrap_or(u8::MAX),
        chunk_bytes: identity.shape.chunk_bytes(),
        size_bytes: identity.volume_bytes,
        capacity_bytes: identity.areas.capacity_bytes(&identity.shape),
        wasted_bytes,
        event_count: state.membership.event_count,
        members,
        tasks: task.into_iter().collect(),
        scrub,
        exports: Vec::new(),
        problems,
    }
}

fn array_state(state: &State, coordinator: &Coordinator) -> ArrayState {
    let suspects = state.known.values().any(|k| k.suspect.is_some());
    match go::lost(&state.membership, &coordinator.identity.shape).len() {
        _ if suspects => ArrayState::Failed,
        0 if coordinator.identity.lost_journals(&state.membership).is_empty() => ArrayState::Optimal,
        n if n <= coordinator.identity.shape.parity() => ArrayState::Degraded,
        _ => ArrayState::Failed,
    }
}

fn members(state: &State, identity: &Identity) -> Vec<MemberReport> {
    let mut rows = Vec::new();
    let bear = identity.journal_members.iter().flat_map(JournalMembers::indices).map(Seat::Journal);
    for seat in identity.shape.slots().map(Seat::Slot).chain(bear) {
        let of_seat = state.membership.entries.iter().filter(|e| e.role.seat() == Some(seat));
        let mut entries: Vec<&Entry> = of_seat.collect();
        entries.sort_by_key(|e| !(e.role.is_in_sync() || e.role.is_faulty()));
        if entries.is_empty() {
            rows.push(empty(seat));
        }
        rows.extend(entries.into_iter().map(|e| row(state, e)));
    }
    let spares = state.membership.entries.iter().filter(|e| e.role == Role::Spare);
    rows.extend(spares.map(|e| row(state, e)));
    rows
}

fn row(state: &State, entry: &Entry) -> MemberReport {
    let known: Known = state.known.get(&entry.member).cloned().unwrap_or_default();
    let (member_state, reason) = match (entry.role, &known.suspect, &known.absent) {
        (_, Some(why), _) => (MemberState::Suspect, Some(why.clone())),
        (role, None, _) if role.is_in_sync() => (MemberState::InSync, None),
        (Role::Spare, None, _) => (MemberState::Spare, None),
        (role, None, Some((state, why))) if role.is_faulty() => (*state, Some(why.clone())),
        (role, None, None) if role.is_faulty() => {
            (MemberState::Missing, Some("was not found at start".to_owned()))
        }
        (_, None, _) => (MemberState::Rebuilding, None),
    };
    let (read, write) = known.member.as_ref().map_or((0, 0), |m| m.errors());
    let checksum = known.member.as_ref().map_or(0, |m| m.mismatches());
    MemberReport {
        slot: entry.role.slot(),
        journal: entry.role.journal(),
        path: known.path.clone(),
        uuid: entry.member,
        state: member_state,
        errors: ErrorCounts { read, write, checksum },
        size_bytes: known.member.as_ref().map_or(0, |m| m.size_bytes()),
        // The member's path stands beside it already.
        reason: reason.map(|why| why.replacen(&format!("{}: ", known.path), "", 1)),
    }
}

/// A seat whose lost member was removed.
fn empty(seat: Seat) -> MemberReport {
    let (slot, journal) = match seat {
        Seat::Slot(slot) => (Some(slot), None),
        Seat::Journal(index) => (None, Some(index)),
    };
    MemberReport {
        slot,
        journal,
        path: String::new(),
        uuid: crate::units::MemberId::NIL,
        state: MemberState::Missing,
        errors: ErrorCounts::default(),
        size_bytes: 0,
        reason: Some("was removed".to_owned()),
    }
}

/// What lets an array go on that has lost too many members.
fn resume(state: &State) -> String {
    let full = state.known.values().filter_map(|k| k.suspect.as_ref()).any(|why| why.contains(NO_SPACE));
    let what = if full { "free space where their image files lie" } else { "bring these members back" };
    format!("{what}: the array resumes by itself")
}

/// What the loss of so many members means.
fn outlook(parity: usize, lost: usize) -> String {
    match parity.checked_sub(lost) {
        None => ".".to_owned(),
        Some(0) => "; everything is readable, but not one more may be lost.".to_owned(),
        Some(left) => format!("; everything is readable, and {left} more may be lost."),
    }
}

fn problems(state: &State, coordinator: &Coordinator, array: ArrayState, working: bool) -> Vec<Problem> {
    let name = &coordinator.identity.name;
    let parity = coordinator.identity.shape.parity();
    let mut problems = Vec::new();
    let suspects: Vec<&str> =
        state.known.values().filter(|k| k.suspect.is_some()).map(|k| k.path.as_str()).collect();
    if !suspects.is_empty() {
        problems.push(Problem {
            what: format!(
                "More members fail than can be spared. Writes are refused; what can still be read is \
                 read. Waiting for {}.",
                suspects.join(", ")
            ),
            action: Some(resume(state)),
        });
    }
    let lost = go::lost(&state.membership, &coordinator.identity.shape);
    for slot in &lost {
        let filling = go::target(&state.membership, *slot).is_some();
        if filling && working {
            continue;
        }
        problems.push(Problem {
            what: format!("Slot {slot} has lost its member{}", outlook(parity, lost.len())),
            action: (!filling).then(|| format!("palisade replace {name} {slot} /path/to/new --wait")),
        });
    }
    let bear = coordinator.identity.journal_members.map_or(0, |own| usize::from(own.count));
    let lost = coordinator.identity.lost_journals(&state.membership);
    for index in &lost {
        if go::filling_journal(&state.membership, *index).is_some() {
            continue;
        }
        problems.push(Problem {
            what: format!("journal-{index} has lost its member; {} of {bear} are left.", bear - lost.len()),
            action: Some(format!("palisade replace {name} journal-{index} /path/to/new --wait")),
        });
    }
    if array == ArrayState::Degraded && problems.is_empty() {
        problems.push(Problem {
            what: "The array is degraded and is being rebuilt.".to_owned(),
            action: Some(format!("wait: palisade status {name} --watch")),
        });
    }
    problems
}
