//! `palisade status`, in the manner of `zpool status`: what it is, what is wrong, what to do, then
//! the members.

use super::scrub::scrub_line;
use super::table::{Align, Cell, table};
use super::task::task_line;
use crate::array::{ArrayState, MemberRef, MemberReport, MemberState, Report};
use crate::cli::find::Found;
use crate::cli::out::{Paint, Tone};
use crate::daemon::Config;
use crate::error::Error;
use crate::units::{MemberId, format_size};
use std::collections::BTreeSet;

/// Width of a line of prose, labels included.
const PROSE_CELLS: usize = 96;
/// Labels are right-aligned to this width.
const LABEL_CELLS: usize = 8;

/// Every array, one below the other.
pub fn status(arrays: &[Found], paint: Paint) -> String {
    let texts: Vec<_> = arrays.iter().map(|found| one(found, paint)).collect();
    texts.join("\n")
}

/// The text drawn over what the terminal shows, so that nothing flickers.
pub fn in_place(text: &str) -> String {
    let lines = text.lines().fold(String::new(), |all, line| all + line + "\x1b[K\r\n");
    format!("\x1b[H{lines}\x1b[J")
}

fn one(found: &Found, paint: Paint) -> String {
    match found {
        Found::Running(report) => running(report, paint),
        Found::Stopped { name, config } => stopped(name, config.as_ref(), paint),
        Found::Silent { name, reason } => silent(name, reason, paint),
    }
}

fn running(report: &Report, paint: Paint) -> String {
    let mut text = Labelled { text: String::new(), paint };
    text.add("array", &paint.tone(Tone::Strong, &report.name));
    text.add("state", &state(report, paint));
    for (what, action) in problems(report) {
        text.prose("status", &what);
        if let Some(action) = action {
            text.add("action", &action);
        }
    }
    text.add("size", &size(report));
    for task in &report.tasks {
        text.add("task", &task_line(task));
    }
    if let Some(line) = scrub_line(&report.scrub, !report.tasks.is_empty()) {
        text.add("scrub", &line);
    }
    for export in &report.exports {
        let read_only = if export.read_only { ", read-only" } else { "" };
        let clients = match export.connections {
            0 => "no client".to_owned(),
            1 => "1 client".to_owned(),
            n => format!("{n} clients"),
        };
        text.add("export", &format!("{}  ({clients}{read_only})", export.uri));
    }
    format!("{}\n{}", text.text, members(report, paint))
}

fn state(report: &Report, paint: Paint) -> String {
    match report.state {
        ArrayState::Optimal => paint.tone(Tone::Good, "optimal"),
        ArrayState::Degraded => paint.tone(Tone::Warn, "degraded"),
        ArrayState::Failed => paint.tone(Tone::Bad, "failed"),
    }
}

/// What the array says is wrong; where it says nothing, at least that something is.
fn problems(report: &Report) -> Vec<(String, Option<String>)> {
    if !report.problems.is_empty() || report.state == ArrayState::Optimal {
        return report.problems.iter().map(|p| (p.what.clone(), p.action.clone())).collect();
    }
    let lost: Vec<_> = report
        .members
        .iter()
        .filter(|m| matches!(m.state, MemberState::Faulty | MemberState::Missing | MemberState::Stale))
        .filter_map(|m| m.seat().map(MemberRef::from))
        .collect();
    let action = lost.first().map(|seat| format!("palisade replace {} {seat} NEW", report.name));
    let all = report.members.iter().filter_map(MemberReport::seat).collect::<BTreeSet<_>>().len();
    let what = format!("{} of {all} members are not in sync; {} may be lost", lost.len(), report.parity);
    vec![(what, action)]
}

fn size(report: &Report) -> String {
    let Report { data, parity, chunk_bytes, size_bytes, capacity_bytes, wasted_bytes, .. } = report;
    let mut parts = vec![format!(
        "{} as {data} data + {parity} parity, chunk {}",
        format_size(*size_bytes),
        format_size(*chunk_bytes)
    )];
    if capacity_bytes > size_bytes {
        parts.push(format!("{} possible", format_size(*capacity_bytes)));
    }
    if *wasted_bytes > 0 {
        parts.push(format!("{} of larger members unused", format_size(*wasted_bytes)));
    }
    parts.join("; ")
}

fn members(report: &Report, paint: Paint) -> String {
    let columns = [
        ("SLOT", Align::Left),
        ("MEMBER", Align::Left),
        ("STATE", Align::Left),
        ("READ", Align::Right),
        ("WRITE", Align::Right),
        ("CKSUM", Align::Right),
        ("REASON", Align::Left),
    ];
    let mentioned = report.members.iter().any(|m| m.reason.is_some());
    let shown = if mentioned { columns.len() } else { columns.len() - 1 };
    let rows: Vec<_> = report.members.iter().map(member).collect();
    table(4, columns.get(..shown).unwrap_or(&columns), &rows, paint)
}

fn member(member: &MemberReport) -> Vec<Cell> {
    let (tone, state) = member_state(member.state);
    let count = |n: u64| if n == 0 { Cell::plain("0") } else { Cell::toned(Tone::Warn, n.to_string()) };
    let path = match member.path.as_str() {
        "" if member.uuid == MemberId::NIL => "-".to_owned(),
        "" => member.uuid.to_string(),
        path => path.to_owned(),
    };
    vec![
        Cell::plain(
            member.seat().map_or_else(|| "spare".to_owned(), |seat| MemberRef::from(seat).to_string()),
        ),
        Cell::plain(path),
        Cell::toned(tone, state),
        count(member.errors.read),
        count(member.errors.write),
        count(member.errors.checksum),
        Cell::plain(member.reason.clone().unwrap_or_default()),
    ]
}

/// The state in the glossary's words, and how worrying it is.
pub fn member_state(state: MemberState) -> (Tone, &'static str) {
    match state {
        MemberState::InSync => (Tone::Good, "in-sync"),
        MemberState::Suspect => (Tone::Warn, "suspect"),
        MemberState::Rebuilding => (Tone::Warn, "rebuilding"),
        MemberState::Spare => (Tone::Good, "spare"),
        MemberState::Faulty => (Tone::Bad, "faulty"),
        MemberState::Missing => (Tone::Bad, "missing"),
        MemberState::Stale => (Tone::Bad, "stale"),
    }
}

fn stopped(name: &str, config: Result<&Config, &Error>, paint: Paint) -> String {
    let mut text = Labelled { text: String::new(), paint };
    text.add("array", &paint.tone(Tone::Strong, name));
    text.add("state", "stopped");
    match config {
        Ok(config) => {
            text.add("action", &format!("palisade start {name}"));
            let rows: Vec<_> = config.members.iter().map(|path| vec![Cell::plain(path.clone())]).collect();
            format!("{}\n{}", text.text, table(4, &[("MEMBER", Align::Left)], &rows, paint))
        }
        Err(e) => {
            text.prose("status", &e.report());
            if let Some(hint) = e.next_step() {
                text.add("action", hint);
            }
            text.text
        }
    }
}

fn silent(name: &str, reason: &str, paint: Paint) -> String {
    let mut text = Labelled { text: String::new(), paint };
    text.add("array", &paint.tone(Tone::Strong, name));
    text.add("state", &paint.tone(Tone::Bad, "unknown"));
    text.prose("status", &format!("its daemon does not answer as it should: {reason}"));
    text.add("action", "look into its log, in the array's runtime folder");
    text.text
}

/// Lines that begin with a right-aligned label.
struct Labelled {
    text: String,
    paint: Paint,
}

impl Labelled {
    fn add(&mut self, label: &str, value: &str) {
        let gap = " ".repeat(LABEL_CELLS.saturating_sub(label.len()));
        let label = self.paint.tone(Tone::Faint, &format!("{label}:"));
        self.text.push_str(&format!("{gap}{label} {value}\n"));
    }

    /// A value that may be long: broken between words.
    fn prose(&mut self, label: &str, value: &str) {
        let indent = LABEL_CELLS + 2;
        let mut lines = vec![String::new()];
        for word in value.split_whitespace() {
            let line = lines.last().map_or(0, |l| l.chars().count());
            if line > 0 && indent + line + 1 + word.chars().count() > PROSE_CELLS {
                lines.push(String::new());
            }
            if let Some(line) = lines.last_mut() {
                line.push_str(if line.is_empty() { "" } else { " " });
                line.push_str(word);
            }
        }
        self.add(label, &lines.join(&format!("\n{}", " ".repeat(indent))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::sample;
    use crate::error::ErrorKind;
    use crate::units::ArrayId;

    fn plain(report: Report) -> String {
        status(&[Found::Running(Box::new(report))], Paint::PLAIN)
    }

    #[test]
    fn a_degraded_array_says_what_is_wrong_and_what_to_do() {
        assert_eq!(
            plain(sample::degraded()),
            "   array: tank
   state: degraded
  status: slot 3 is lost: cannot write: Input/output error (os error 5). One more member may be
          lost before data is.
  action: palisade replace tank 3 NEW
    size: 4G as 4 data + 2 parity, chunk 64K; 4.5G possible; 512M of larger members unused
    task: rebuild [==========>             ] 42.5%  435M of 1G  181M/s  3s left  (at most 200M/s)  slot 3
  export: nbd+unix:///tank?socket=/run/palisade/tank/nbd.sock  (2 clients)
  export: nbd://127.0.0.1:10809/tank  (no client, read-only)

    SLOT   MEMBER       STATE       READ  WRITE  CKSUM  REASON
    0      /srv/d0.img  in-sync        0      0      0
    1      /srv/d1.img  in-sync        0      0      5
    2      /srv/d2.img  in-sync        0      0      0
    3      /srv/d3.img  faulty         0      7      0  cannot write: Input/output error (os error 5)
    3      /srv/d6.img  rebuilding     0      0      0
    4      /srv/d4.img  in-sync        0      0      0
    5      /srv/d5.img  in-sync        0      0      0
    spare  /srv/d7.img  spare          0      0      0
"
        );
    }

    #[test]
    fn members_that_bear_the_journal_are_named_by_their_number() {
        let mut report = sample::optimal();
        let spare = report.members.iter().position(|m| m.slot.is_none()).unwrap_or(report.members.len());
        let mut bears = report.members[0].clone();
        (bears.slot, bears.journal) = (None, Some(crate::units::JournalIndex(1)));
        report.members.insert(spare, bears);
        assert!(plain(report).contains("    journal-1  /srv/d0.img  in-sync"));
    }

    #[test]
    fn a_healthy_array_has_nothing_to_do() {
        let text = plain(sample::optimal());
        assert!(text.starts_with("   array: tank\n   state: optimal\n    size: "), "{text}");
        assert!(!text.contains("action") && !text.contains("REASON"), "{text}");
    }

    #[test]
    fn an_array_that_explains_nothing_is_explained() {
        let mut report = sample::degraded();
        report.problems.clear();
        let text = plain(report);
        assert!(text.contains("degraded\n"), "{text}");
        assert!(text.contains("1 of 6 members are not in sync; 2 may be lost\n"), "{text}");
        assert!(text.contains("action: palisade replace tank 3 NEW\n"), "{text}");
    }

    #[test]
    fn a_stopped_array_shows_its_members_and_how_to_start_it() {
        let members = vec!["/a".to_owned(), "/b".to_owned()];
        let config = Config::new("tank", ArrayId::NIL, members);
        let found = Found::Stopped { name: "tank".to_owned(), config: Ok(config) };
        assert_eq!(
            status(&[found], Paint::PLAIN),
            "   array: tank\n   state: stopped\n  action: palisade start tank\n\n    MEMBER\n    /a\n    /b\n"
        );
        let error = Error::new(ErrorKind::InvalidInput, "line 3: bad").hint("correct it");
        let found = Found::Stopped { name: "tank".to_owned(), config: Err(error) };
        let text = status(&[found], Paint::PLAIN);
        assert!(text.contains("status: line 3: bad\n  action: correct it\n"), "{text}");
    }

    #[test]
    fn a_silent_daemon_is_not_called_stopped() {
        let found = Found::Silent { name: "tank".to_owned(), reason: "no answer".to_owned() };
        let text = status(&[found], Paint::PLAIN);
        assert!(text.contains("state: unknown") && text.contains("no answer"), "{text}");
    }

    #[test]
    fn watching_draws_over_the_same_place() {
        assert_eq!(in_place("a\nb\n"), "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n\x1b[J");
    }
}
