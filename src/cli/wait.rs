//! Waiting until members are filled, or a scrub has ended, with a progress bar for people and lines for logs.

use super::interrupt::Interrupt;
use super::out::remark;
use super::render::progress_text;
use crate::array::{MemberState, Report, ScrubReport, TaskKind, TaskReport};
use crate::control::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::units::MemberId;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY_PERCENT: f64 = 10.0;

/// How the waiting ended, if not with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every member is in sync.
    Filled,
    /// A person pressed Ctrl-C; the rebuild goes on.
    Interrupted,
}

/// What a look at the array tells.
#[derive(Debug, PartialEq)]
enum Look<'a> {
    Filled,
    Lost(String),
    Busy(Option<&'a TaskReport>),
}

/// Waits until these members are in sync; an error says why one will not be.
pub fn rebuilt(client: &Client, name: &str, members: &[MemberId], interrupt: &Interrupt) -> Result<Ended> {
    let mut show = Show::new("rebuild");
    let ended = loop {
        let report = client.report().map_err(|e| gone(name, "rebuild", e))?;
        match look(&report, members) {
            Look::Filled => break Ok(Ended::Filled),
            Look::Lost(why) => {
                break Err(Error::new(ErrorKind::Failed, format!("the rebuild failed: {why}"))
                    .array(name)
                    .hint(format!("palisade status {name}")));
            }
            Look::Busy(task) => show.task(task),
        }
        if interrupt.within(LOOK_EVERY) {
            break Ok(Ended::Interrupted);
        }
    };
    show.end(matches!(ended, Ok(Ended::Filled)));
    ended
}

/// Waits until the scrub of that number has ended; false if a person pressed Ctrl-C before.
pub fn scrubbed(client: &Client, name: &str, number: u64, interrupt: &Interrupt) -> Result<bool> {
    let mut show = Show::new("scrub");
    let ended = loop {
        let report = client.report().map_err(|e| gone(name, "scrub", e))?;
        if has_ended(&report.scrub, number) {
            break true;
        }
        show.task(report.tasks.iter().find(|task| task.kind == TaskKind::Scrub));
        if interrupt.within(LOOK_EVERY) {
            break false;
        }
    };
    show.end(ended);
    Ok(ended)
}

fn has_ended(scrub: &ScrubReport, number: u64) -> bool {
    scrub.running.as_ref().is_none_or(|running| running.number != number)
}

fn gone(name: &str, what: &str, cause: Error) -> Error {
    if cause.kind() != ErrorKind::NotFound {
        return cause;
    }
    let what = format!("was stopped during the {what}, which goes on where it was");
    Error::new(ErrorKind::ShuttingDown, what).array(name).hint(format!("palisade start {name}"))
}

fn look<'a>(report: &'a Report, members: &[MemberId]) -> Look<'a> {
    let mut filled = true;
    for id in members {
        let Some(member) = report.members.iter().find(|m| m.uuid == *id) else {
            return Look::Lost("the new member is no longer part of the array".to_owned());
        };
        match member.state {
            MemberState::InSync => {}
            MemberState::Rebuilding | MemberState::Spare | MemberState::Suspect => filled = false,
            MemberState::Faulty | MemberState::Missing | MemberState::Stale => {
                let why = member.reason.as_deref().unwrap_or("the new member is lost");
                return Look::Lost(format!("{}: {why}", member.path));
            }
        }
    }
    if filled { Look::Filled } else { Look::Busy(report.tasks.first()) }
}

/// The bar, or the lines.
struct Show {
    what: &'static str,
    bar: Option<ProgressBar>,
    next_line_percent: f64,
}

impl Show {
    fn new(what: &'static str) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr());
            let template = "  {prefix} [{bar:36}] {msg}";
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.with_style(style.progress_chars("=> ")).with_prefix(what)
        });
        Self { what, bar, next_line_percent: 0.0 }
    }

    fn task(&mut self, task: Option<&TaskReport>) {
        if let Some(task) = task {
            self.at(task.percent, progress_text(task));
        }
    }

    fn at(&mut self, percent: f64, text: String) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(permille(percent));
                bar.set_message(text);
            }
            None if percent >= self.next_line_percent => {
                remark(&format!("  {} {text}", self.what));
                self.next_line_percent = percent + LINE_EVERY_PERCENT;
            }
            None => {}
        }
    }

    fn end(&self, filled: bool) {
        match &self.bar {
            Some(bar) if filled => {
                bar.set_position(1000);
                bar.finish_with_message("100%");
            }
            Some(bar) => bar.abandon(),
            None if filled => remark(&format!("  {} 100%", self.what)),
            None => {}
        }
    }
}

/// How far the check of all stripes is that a start makes after a journal was discarded.
pub struct Checking(Show);

impl Checking {
    /// Says that it begins.
    pub fn new(total: u64) -> Self {
        remark(&format!("checking {total} stripes before the volume is served"));
        Self(Show::new("check"))
    }

    /// So many of them are done.
    pub fn at(&mut self, done: u64, total: u64) {
        if done == total {
            return self.0.end(true);
        }
        let parts = |n: u64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        // In thousandths, so that it does not matter how many there are.
        let permille = done.saturating_mul(1000).checked_div(total).unwrap_or(1000);
        let percent = parts(permille) / 10.0;
        self.0.at(percent, format!("{percent:.1}%"));
    }
}

/// Percent as steps of the bar.
fn permille(percent: f64) -> u64 {
    (0..=1000u64)
        .rev()
        .find(|step| f64::from(u16::try_from(*step).unwrap_or(u16::MAX)) <= percent * 10.0)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::sample;

    #[test]
    fn a_member_is_waited_for_until_it_is_in_sync_or_lost() {
        let mut report = sample::degraded();
        let new = report.members.iter().position(|m| m.state == MemberState::Rebuilding).unwrap();
        let id = report.members[new].uuid;
        assert!(matches!(look(&report, &[id]), Look::Busy(Some(_))));
        report.members[new].state = MemberState::InSync;
        assert_eq!(look(&report, &[id]), Look::Filled);
        report.members[new].state = MemberState::Faulty;
        assert!(matches!(look(&report, &[id]), Look::Lost(_)));
        report.members.remove(new);
        assert!(matches!(look(&report, &[id]), Look::Lost(_)));
    }

    #[test]
    fn a_scrub_is_waited_for_until_it_no_longer_runs() {
        let mut report = ScrubReport::default();
        assert!(has_ended(&report, 4));
        report.running = Some(sample::scrub(4));
        assert!(!has_ended(&report, 4));
        report.running = Some(sample::scrub(5));
        assert!(has_ended(&report, 4));
    }

    #[test]
    fn the_bar_never_runs_ahead() {
        for (percent, step) in
            [(0.0, 0), (0.05, 0), (50.0, 500), (99.99, 999), (100.0, 1000), (1e9, 1000), (-1.0, 0)]
        {
            assert_eq!(permille(percent), step);
        }
    }
}
