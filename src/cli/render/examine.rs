//! `palisade examine`: what the superblock of a member says.

use super::table::{Align, Cell, table};
use crate::array::MemberRef;
use crate::cli::out::{Paint, Tone};
use crate::daemon::ExamineReport;
use crate::units::{format_duration, format_size};
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One member.
pub fn examined(report: &ExamineReport, paint: Paint) -> String {
    let mut text = format!("{}\n", paint.tone(Tone::Strong, &report.path));
    let mut line = |label: &str, value: &str| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{label:>10}: {value}");
    };
    line("array", &format!("{}  {}", report.array_name, report.array_uuid));
    line("member", &format!("{}  {}", report.role, report.member_uuid));
    let stopped = if report.clean {
        "clean: nothing was being written"
    } else {
        "being written to, or not stopped in order"
    };
    line("state", &format!("event count {}, {stopped}", report.event_count));
    let (data, parity, chunk) = (report.data, report.parity, format_size(report.chunk_bytes));
    line("shape", &format!("{data} data + {parity} parity, chunk {chunk}"));
    if report.journal_members > 0 {
        line("journal", &format!("on {} members of its own", report.journal_members));
    }
    let (volume, size) = (format_size(report.volume_bytes), format_size(report.size_bytes));
    line("size", &format!("volume {volume}, this member {size}"));
    line("created", &created(report.created_unix_s));
    line("format", &report.format);
    line("lineage", &report.lineage.to_string());
    for past in &report.past_lineages {
        line("before", &past.to_string());
    }
    text.push('\n');
    text.push_str(&areas(report, paint));
    text.push('\n');
    text.push_str(&copies(report, paint));
    text.push('\n');
    text.push_str(&members(report, paint));
    text
}

fn created(unix_s: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    match now.checked_sub(unix_s) {
        Some(ago) => format!("{} ago (unix time {unix_s})", format_duration(Duration::from_secs(ago))),
        None => format!("unix time {unix_s}, in the future"),
    }
}

fn areas(report: &ExamineReport, paint: Paint) -> String {
    let columns = [("AREA", Align::Left), ("OFFSET", Align::Right), ("LENGTH", Align::Right)];
    let rows: Vec<_> = report
        .areas
        .iter()
        .map(|a| {
            let (offset, len) = (a.offset_bytes.to_string(), format_size(a.len_bytes));
            vec![Cell::plain(a.name.as_str()), Cell::plain(offset), Cell::plain(len)]
        })
        .collect();
    table(4, &columns, &rows, paint)
}

fn copies(report: &ExamineReport, paint: Paint) -> String {
    let columns = [("SUPERBLOCK AT", Align::Right), ("EVENT", Align::Right), ("PROBLEM", Align::Left)];
    let rows: Vec<_> = report
        .copies
        .iter()
        .map(|copy| {
            let event = copy.event_count.map_or_else(|| "-".to_owned(), |e| e.to_string());
            let problem = copy.problem.clone().unwrap_or_default();
            vec![
                Cell::plain(copy.offset_bytes.to_string()),
                Cell::plain(event),
                Cell::toned(Tone::Bad, problem),
            ]
        })
        .collect();
    table(4, &columns, &rows, paint)
}

fn members(report: &ExamineReport, paint: Paint) -> String {
    let columns = [("SLOT", Align::Left), ("MEMBER", Align::Left), ("STATE", Align::Left)];
    let rows: Vec<_> = report
        .members
        .iter()
        .map(|m| {
            let seat = m.slot.map(MemberRef::Slot).or(m.journal.map(MemberRef::Journal));
            let seat = seat.map_or_else(|| "spare".to_owned(), |s| s.to_string());
            let mark = if m.uuid == report.member_uuid { "  <- this one" } else { "" };
            vec![
                Cell::plain(seat),
                Cell::plain(m.uuid.to_string()),
                Cell::plain(format!("{}{mark}", m.state)),
            ]
        })
        .collect();
    table(4, &columns, &rows, paint)
}
