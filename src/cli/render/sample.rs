//! Reports for the tests of rendering.

use crate::array::{
    ArrayState, ErrorCounts, ExportReport, MemberReport, MemberState, Problem, Report, ScrubCounts,
    ScrubReport, ScrubSummary, TaskKind, TaskReport,
};
use crate::stripe::ScrubMode;
use crate::units::{ArrayId, EventCount, MemberId, Slot, StripeIndex};

const LOST: &str = "cannot write: Input/output error (os error 5)";

/// Six members, all well.
pub fn optimal() -> Report {
    Report {
        name: "tank".to_owned(),
        uuid: ArrayId::from_bytes([7; 16]),
        state: ArrayState::Optimal,
        clean: true,
        data: 4,
        parity: 2,
        chunk_bytes: 64 << 10,
        size_bytes: 4 << 30,
        capacity_bytes: 9 << 29,
        wasted_bytes: 512 << 20,
        event_count: EventCount(12),
        members: (0..6).map(|i| member(i, Some(i), MemberState::InSync)).collect(),
        tasks: Vec::new(),
        scrub: ScrubReport::default(),
        exports: vec![
            export("nbd+unix:///tank?socket=/run/palisade/tank/nbd.sock", 2, false),
            export("nbd://127.0.0.1:10809/tank", 0, true),
        ],
        problems: Vec::new(),
    }
}

/// A scrub that runs.
pub fn scrub(number: u64) -> ScrubSummary {
    ScrubSummary {
        number,
        mode: ScrubMode::Repair,
        started_unix_s: 1_000_000,
        ended_unix_s: None,
        cancelled: false,
        took_ms: 12_345,
        next_stripe: StripeIndex(77),
        paused: false,
        max_rate_bytes_per_s: None,
        verified_bytes: 3 << 30,
        found: ScrubCounts::default(),
        unrepairable_bytes: 0,
    }
}

/// Slot 3 lost, its replacement being filled, a spare.
pub fn degraded() -> Report {
    let mut report = optimal();
    report.state = ArrayState::Degraded;
    report.members[1].errors.checksum = 5;
    report.members[3].state = MemberState::Faulty;
    report.members[3].errors.write = 7;
    report.members[3].reason = Some(LOST.to_owned());
    report.members.insert(4, member(6, Some(3), MemberState::Rebuilding));
    report.members.push(member(7, None, MemberState::Spare));
    report.tasks.push(TaskReport {
        kind: TaskKind::Rebuild,
        slots: vec![Slot(3)],
        percent: 42.5,
        done_bytes: 435 << 20,
        total_bytes: 1 << 30,
        rate_bytes_per_s: 181 << 20,
        eta_s: Some(3),
        paused: false,
        max_rate_bytes_per_s: Some(200 << 20),
    });
    report.problems.push(Problem {
        what: format!("slot 3 is lost: {LOST}. One more member may be lost before data is."),
        action: Some("palisade replace tank 3 NEW".to_owned()),
    });
    report
}

fn member(number: u8, slot: Option<u8>, state: MemberState) -> MemberReport {
    MemberReport {
        slot: slot.map(Slot),
        journal: None,
        path: format!("/srv/d{number}.img"),
        uuid: MemberId::from_bytes([number + 1; 16]),
        state,
        errors: ErrorCounts::default(),
        size_bytes: 1 << 30,
        reason: None,
    }
}

fn export(uri: &str, connections: u64, read_only: bool) -> ExportReport {
    ExportReport { uri: uri.to_owned(), read_only, connections }
}
