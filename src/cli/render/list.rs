//! `palisade list`: a line for each array.

use super::table::{Align, Cell, table};
use crate::array::{ArrayState, MemberState, Report, TaskKind};
use crate::cli::find::Found;
use crate::cli::out::{Paint, Tone};
use crate::units::format_size;

/// All of them.
pub fn list(arrays: &[Found], paint: Paint) -> String {
    let columns = [
        ("NAME", Align::Left),
        ("STATE", Align::Left),
        ("SIZE", Align::Right),
        ("SHAPE", Align::Left),
        ("IN SYNC", Align::Left),
        ("TASK", Align::Left),
    ];
    let rows: Vec<_> = arrays.iter().map(row).collect();
    table(0, &columns, &rows, paint)
}

fn row(found: &Found) -> Vec<Cell> {
    let name = Cell::toned(Tone::Strong, found.name());
    match found {
        Found::Running(report) => running(name, report),
        Found::Stopped { config, .. } => {
            let note = if config.is_ok() { "" } else { "its configuration cannot be read" };
            vec![name, Cell::toned(Tone::Faint, "stopped"), none(), none(), none(), Cell::plain(note)]
        }
        Found::Silent { reason, .. } => {
            vec![
                name,
                Cell::toned(Tone::Bad, "unknown"),
                none(),
                none(),
                none(),
                Cell::plain(reason.as_str()),
            ]
        }
    }
}

fn none() -> Cell {
    Cell::plain("-")
}

fn running(name: Cell, report: &Report) -> Vec<Cell> {
    let (tone, state) = match report.state {
        ArrayState::Optimal => (Tone::Good, "optimal"),
        ArrayState::Degraded => (Tone::Warn, "degraded"),
        ArrayState::Failed => (Tone::Bad, "failed"),
    };
    let slots = u16::from(report.data) + u16::from(report.parity);
    let in_sync =
        report.members.iter().filter(|m| m.slot.is_some() && m.state == MemberState::InSync).count();
    let task = report.tasks.first().map(|task| {
        let kind = match task.kind {
            TaskKind::Rebuild => "rebuild",
            TaskKind::Scrub => "scrub",
        };
        format!("{kind} {:.1}%", (task.percent * 10.0).floor() / 10.0)
    });
    vec![
        name,
        Cell::toned(tone, state),
        Cell::plain(format_size(report.size_bytes)),
        Cell::plain(format!("{}+{}", report.data, report.parity)),
        Cell::plain(format!("{in_sync}/{slots}")),
        Cell::plain(task.unwrap_or_default()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::sample;
    use crate::daemon::Config;
    use crate::units::ArrayId;

    #[test]
    fn running_and_stopped_arrays_stand_in_one_table() {
        let arrays = [
            Found::Stopped {
                name: "old".to_owned(),
                config: Ok(Config::new("old", ArrayId::NIL, Vec::new())),
            },
            Found::Running(Box::new(sample::degraded())),
        ];
        assert_eq!(
            list(&arrays, Paint::PLAIN),
            "\
NAME  STATE     SIZE  SHAPE  IN SYNC  TASK
old   stopped      -  -      -
tank  degraded    4G  4+2    5/6      rebuild 42.5%
"
        );
    }
}
