//! The scrub that runs, and the last one that ended.
//!
//! ```text
//!              start                     everything seen, or cancelled
//!   none -----------------> running --------------------------------> none, "last" is this one
//!                             |  ^
//!                     stop    v  |  restore, after the next start
//!                         in the record
//! ```

use super::progress::Orders;
use super::{
    Applied, Array, RebuildControl, ScrubCounts, ScrubDetails, ScrubRecord, ScrubReport, ScrubStart,
    ScrubStarted, ScrubSummary,
};
use crate::error::{Error, ErrorKind, Result};
use crate::observe::Event;
use crate::stripe::{ScrubMode, ScrubOutcome};
use crate::units::StripeIndex;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the task is to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubTask {
    /// Number of the scrub.
    pub number: u64,
    /// Whether it repairs.
    pub mode: ScrubMode,
    /// The next stripe.
    pub next: StripeIndex,
}

#[derive(Default)]
struct Inner {
    running: Option<ScrubDetails>,
    last: Option<ScrubDetails>,
}

/// What is known of an array's scrubs.
#[derive(Default)]
pub struct Scrubs(Mutex<Inner>);

impl Scrubs {
    /// What is to be done; nothing if no scrub runs.
    pub fn task(&self) -> Option<ScrubTask> {
        let inner = self.inner();
        let summary = &inner.running.as_ref()?.summary;
        Some(ScrubTask { number: summary.number, mode: summary.mode, next: summary.next_stripe })
    }

    pub(super) fn orders(&self) -> Orders {
        match &self.inner().running {
            Some(ScrubDetails { summary, .. }) => {
                Orders { paused: summary.paused, max_rate: summary.max_rate_bytes_per_s, end: false }
            }
            None => Orders { end: true, ..Orders::default() },
        }
    }

    pub(super) fn report(&self, now_unix_s: u64) -> ScrubReport {
        let inner = self.inner();
        let last = inner.last.as_ref().map(|l| l.summary.clone());
        let ended_s_ago = last.as_ref().and_then(|l| Some(now_unix_s.saturating_sub(l.ended_unix_s?)));
        ScrubReport { running: inner.running.as_ref().map(|r| r.summary.clone()), last, ended_s_ago }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn begin(&mut self, start: ScrubStart, now_unix_s: u64) -> u64 {
        let number = self.last.as_ref().map_or(0, |l| l.summary.number) + 1;
        let summary = ScrubSummary {
            number,
            mode: start.mode,
            started_unix_s: now_unix_s,
            ended_unix_s: None,
            cancelled: false,
            took_ms: 0,
            next_stripe: StripeIndex(0),
            paused: false,
            max_rate_bytes_per_s: start.max_rate_bytes_per_s.filter(|rate| *rate > 0),
            verified_bytes: 0,
            found: ScrubCounts::default(),
            unrepairable_bytes: 0,
        };
        self.running = Some(ScrubDetails { summary, findings: Vec::new(), unrepairable: Vec::new() });
        number
    }

    /// The scrub of that number, if it still runs.
    fn running(&mut self, number: u64) -> Option<&mut ScrubDetails> {
        self.running.as_mut().filter(|r| r.summary.number == number)
    }

    fn change(&mut self, change: RebuildControl) -> bool {
        let Some(ScrubDetails { summary, .. }) = &mut self.running else { return false };
        let mut orders =
            Orders { paused: summary.paused, max_rate: summary.max_rate_bytes_per_s, end: false };
        orders.change(change);
        summary.paused = orders.paused;
        summary.max_rate_bytes_per_s = orders.max_rate;
        true
    }

    /// Ends the scrub that runs; what it found is then that of the last one.
    fn end(&mut self, cancelled: bool, now_unix_s: u64) -> Option<Event> {
        let mut ended = self.running.take()?;
        ended.summary.ended_unix_s = Some(now_unix_s);
        ended.summary.cancelled = cancelled;
        ended.summary.paused = false;
        let ScrubSummary { number, found, unrepairable_bytes, .. } = ended.summary;
        self.last = Some(ended);
        let (found, repaired) = (found.found(), found.repaired);
        Some(Event::ScrubFinished { number, cancelled, found, repaired, unrepairable_bytes })
    }
}

/// Scrubs, as an admin sees them.
impl Array {
    /// Starts a scrub, at `default_rate` if none is asked for. One of the same mode that runs already
    /// is what was asked for: only its ceiling is changed, if one is given.
    pub fn start_scrub(&self, start: ScrubStart, default_rate: Option<u64>) -> Result<ScrubStarted> {
        self.refuse_if_failed()?;
        let rate = start.max_rate_bytes_per_s;
        let number = {
            let mut inner = self.scrubs().inner();
            if let Some(ScrubSummary { number, mode, .. }) = inner.running.as_ref().map(|r| r.summary.clone())
            {
                if mode != start.mode {
                    drop(inner);
                    return Err(self.another_runs());
                }
                inner.change(RebuildControl { max_rate_bytes_per_s: rate, paused: None });
                return Ok(ScrubStarted { number, applied: Applied::Already });
            }
            let max_rate_bytes_per_s = rate.or(default_rate);
            inner.begin(ScrubStart { max_rate_bytes_per_s, ..start }, self.env().unix_seconds())
        };
        let repair = start.mode == ScrubMode::Repair;
        self.tell(Event::ScrubStarted { number, repair, resumed: false });
        Ok(ScrubStarted { number, applied: Applied::Done })
    }

    /// Changes how the scrub that runs goes on; `NotFound` if none does.
    pub fn control_scrub(&self, change: RebuildControl) -> Result<()> {
        let changed = self.scrubs().inner().change(change);
        let name = self.identity().0;
        let none = || Error::new(ErrorKind::NotFound, "no scrub runs").hint(format!("palisade scrub {name}"));
        if changed { Ok(()) } else { Err(self.named_error(none())) }
    }

    /// Ends the scrub that runs. What it repaired stays so.
    pub fn cancel_scrub(&self) -> Applied {
        let ended = self.scrubs().inner().end(true, self.env().unix_seconds());
        match ended {
            None => Applied::Already,
            Some(event) => {
                self.tell(event);
                Applied::Done
            }
        }
    }

    /// Everything known of scrubs, for whoever asks and to be kept over a restart.
    pub fn scrub_record(&self) -> ScrubRecord {
        let inner = self.scrubs().inner();
        ScrubRecord { array: self.identity().1, running: inner.running.clone(), last: inner.last.clone() }
    }

    /// Takes up what was kept: a scrub that ran goes on. The record of another array is ignored.
    pub fn restore_scrub(&self, record: ScrubRecord) {
        if record.array != self.identity().1 {
            return;
        }
        let resumed = record.running.as_ref().map(|r| (r.summary.number, r.summary.mode));
        *self.scrubs().inner() = Inner { running: record.running, last: record.last };
        if let Some((number, mode)) = resumed {
            self.tell(Event::ScrubStarted { number, repair: mode == ScrubMode::Repair, resumed: true });
        }
    }

    fn another_runs(&self) -> Error {
        let name = self.identity().0;
        self.named_error(Error::new(ErrorKind::Busy, "a scrub of the other kind runs").hint(format!(
            "wait for it (`palisade status {name} --watch`) or end it (`palisade scrub {name} --cancel`)"
        )))
    }
}

/// What the task tells. The number says which scrub it means: that one may have been cancelled.
impl Array {
    /// What a run found.
    pub fn note_scrubbed(&self, number: u64, outcome: ScrubOutcome) {
        let volume_bytes = self.identity().2;
        let mut told = Vec::new();
        {
            let mut inner = self.scrubs().inner();
            let Some(scrub) = inner.running(number) else { return };
            scrub.summary.verified_bytes += outcome.verified_bytes;
            for mut finding in outcome.findings {
                finding.volume = finding.volume.and_then(|range| range.before(volume_bytes));
                if scrub.add(finding.clone()) {
                    told.push(finding);
                }
            }
            for range in outcome.unrepairable.into_iter().filter_map(|range| range.before(volume_bytes)) {
                scrub.add_range(range);
            }
        }
        told.into_iter().for_each(|finding| self.tell(Event::ScrubFinding(finding)));
    }

    /// Everything before `next` has been seen; that took so long.
    pub fn move_scrub(&self, number: u64, next: StripeIndex, took: Duration) {
        if let Some(scrub) = self.scrubs().inner().running(number) {
            scrub.summary.next_stripe = next;
            scrub.summary.took_ms += u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        }
    }

    /// Everything has been seen.
    pub fn end_scrub(&self, number: u64) {
        let ended = {
            let mut inner = self.scrubs().inner();
            match inner.running(number) {
                Some(_) => inner.end(false, self.env().unix_seconds()),
                None => None,
            }
        };
        if let Some(event) = ended {
            self.tell(event);
        }
    }
}
