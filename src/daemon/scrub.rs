//! What makes scrubs outlive the daemon: the file that says what was found and where one is, and the
//! schedule, which goes by that file.

use super::admin::Desk;
use super::config_text::{self, Over};
use super::places::Places;
use crate::array::{Array, ScrubRecord, ScrubStart, ScrubStarted};
use crate::error::{Error, ErrorKind, Result};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often it is looked whether a scrub is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a scrub's place is written, in looks; its end is written at once.
const LOOKS_PER_SAVE: u64 = 5;
/// No record is larger: a thousand findings twice, each with a long path.
const FILE_MAX: u64 = 16 << 20;

/// Lets the array go on with what the file says. A file that cannot be had or understood costs the
/// place of an interrupted scrub and no more, so it is only logged.
pub fn restore(array: &Array, places: &Places, name: &str) {
    match load(&places.scrub_file(name)) {
        Ok(Some(record)) => array.restore_scrub(record),
        Ok(None) => {}
        Err(e) => tracing::warn!("what earlier scrubs found is not known: {}", e.report()),
    }
}

fn load(path: &Path) -> Result<Option<ScrubRecord>> {
    let failed = |e| Error::io(format!("cannot read {}", path.display()), e);
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let mut text = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut text).map_err(failed)?;
    serde_json::from_slice(&text).map(Some).map_err(|e| {
        Error::new(ErrorKind::Corrupt, format!("{} is not what this build writes", path.display())).source(e)
    })
}

impl Desk {
    /// Starts a scrub an admin asks for.
    pub fn start_scrub(&self, start: ScrubStart) -> Result<ScrubStarted> {
        self.array()?.start_scrub(start, Some(self.scrub.max_rate))
    }

    /// What is known of scrubs. An end that is told is written down: a daemon that dies then does not
    /// forget what was found.
    pub fn scrubs(&self) -> Result<ScrubRecord> {
        let array = self.array()?;
        let record = array.scrub_record();
        if record.running.is_none() {
            self.save_scrubs(&array, false);
        }
        Ok(record)
    }

    /// Starts scrubs that are due and writes down what becomes of them, until the array is gone.
    pub fn keep_scrubs(&self) {
        let mut last = None;
        for look in 1u64.. {
            std::thread::sleep(LOOK_EVERY);
            let Ok(array) = self.array() else { return };
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
            let record = array.scrub_record();
            if is_due(&record, self.scrub.every, now) {
                self.start_due(&array);
            }
            let ended = record.last.map(|l| l.summary.number);
            if ended != last || look.is_multiple_of(LOOKS_PER_SAVE) {
                last = ended;
                self.save_scrubs(&array, false);
            }
        }
    }

    fn start_due(&self, array: &Array) {
        let start = ScrubStart { mode: self.scrub.mode, max_rate_bytes_per_s: None };
        if let Err(e) = array.start_scrub(start, Some(self.scrub.max_rate)) {
            tracing::debug!("a scrub is due and does not start: {}", e.report());
        }
    }

    /// Writes what is known of scrubs if that changed. `stopped`: the array has been taken away, so
    /// that this is the last time.
    pub fn save_scrubs(&self, array: &Array, stopped: bool) {
        let mut written = self.scrub_file.lock().unwrap_or_else(PoisonError::into_inner);
        if !stopped && self.array().is_err() {
            return;
        }
        let record = array.scrub_record();
        if record.running.is_none() && record.last.is_none() {
            return;
        }
        let saved = serde_json::to_string(&record)
            .map_err(|e| Error::new(ErrorKind::InvalidInput, "cannot encode").source(e))
            .and_then(|text| match text == *written {
                true => Ok(text),
                false => config_text::write(&self.places.scrub_file(&self.name), &text, Over::Existing)
                    .map(|()| text),
            });
        match saved {
            Ok(text) => *written = text,
            Err(e) => tracing::warn!("cannot write down what scrubs found: {}", e.report()),
        }
    }
}

/// Starts the thread that keeps scrubs.
pub fn spawn_keeper(desk: &Arc<Desk>) -> Result<()> {
    let desk = Arc::clone(desk);
    let spawned = std::thread::Builder::new().name("scrubs".into()).spawn(move || desk.keep_scrubs());
    spawned.map(drop).map_err(|e| Error::io("cannot start a thread", e))
}

/// Whether one should begin: none runs, and the last one ended long enough ago. A clock that was set
/// back does not put it off for ever: an end in the future counts as long ago.
fn is_due(record: &ScrubRecord, every: Option<Duration>, now_unix_s: u64) -> bool {
    let Some(every) = every.filter(|_| record.running.is_none()) else { return false };
    let ended = record.last.as_ref().and_then(|l| l.summary.ended_unix_s);
    ended.and_then(|ended| now_unix_s.checked_sub(ended)).is_none_or(|ago| ago >= every.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::{ScrubCounts, ScrubDetails, ScrubSummary};
    use crate::stripe::ScrubMode;
    use crate::units::{ArrayId, StripeIndex};

    fn ended_at(unix_s: u64) -> ScrubDetails {
        let summary = ScrubSummary {
            number: 3,
            mode: ScrubMode::Repair,
            started_unix_s: 1,
            ended_unix_s: Some(unix_s),
            cancelled: false,
            took_ms: 5,
            next_stripe: StripeIndex(9),
            paused: false,
            max_rate_bytes_per_s: None,
            verified_bytes: 7,
            found: ScrubCounts::default(),
            unrepairable_bytes: 0,
        };
        ScrubDetails { summary, findings: Vec::new(), unrepairable: Vec::new() }
    }

    fn record(running: Option<ScrubDetails>, last: Option<ScrubDetails>) -> ScrubRecord {
        ScrubRecord { array: ArrayId::NIL, running, last }
    }

    #[test]
    fn a_scrub_is_due_when_the_last_one_ended_long_enough_ago_and_none_runs() {
        let every = Some(Duration::from_secs(100));
        let due = |record: &ScrubRecord, now| is_due(record, every, now);
        assert!(due(&record(None, None), 1000));
        assert!(!due(&record(None, Some(ended_at(1000))), 1099));
        assert!(due(&record(None, Some(ended_at(1000))), 1100));
        assert!(due(&record(None, Some(ended_at(5000))), 1000), "the clock was set back");
        assert!(!due(&record(Some(ended_at(0)), None), 1000));
        assert!(!is_due(&record(None, None), None, 1000));
    }

    #[test]
    fn a_record_reads_back_and_any_other_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scrub.json");
        assert_eq!(load(&path).unwrap(), None);
        let record = record(Some(ended_at(2)), Some(ended_at(1)));
        std::fs::write(&path, serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(load(&path).unwrap(), Some(record));
        for text in ["", "{}", "\0\u{1}", "[1, 2"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(load(&path).unwrap_err().kind(), ErrorKind::Corrupt, "{text}");
        }
    }
}
