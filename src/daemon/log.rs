//! The log, and events in words.

use super::ready::{Teller, Word};
use crate::observe::{Damage, Event, Finding, Observer};
use crate::units::{BLOCK_BYTES, Seat, format_size};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use tracing_subscriber::EnvFilter;

/// Logs to stderr, which for a daemon in the background is its log file. `PALISADE_LOG` sets
/// what is logged, as `debug`.
pub fn start() {
    let filter = EnvFilter::try_from_env("PALISADE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let set = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    if let Err(e) = set {
        tracing::debug!("a log is set up already: {e}");
    }
}

/// Logs every event, and wakes whoever keeps the configuration in step with the members.
pub struct LogObserver {
    wake: SyncSender<()>,
    teller: Teller,
    /// The tenths of the check of all stripes that were logged.
    tenths: AtomicU64,
}

impl LogObserver {
    /// `wake` should have room for one message: more would say the same.
    pub fn new(wake: SyncSender<()>, teller: Teller) -> Self {
        Self { wake, teller, tenths: AtomicU64::new(0) }
    }

    /// Whoever waits for the array to start hears of what concerns the start alone. Says whether it is worth
    /// a line in the log.
    fn tell(&self, event: &Event, text: &str) -> bool {
        match event {
            Event::StripesChecked { done, total } => {
                self.teller.say(&Word::Checking(*done, *total));
                let tenth = (done * 10).checked_div(*total).unwrap_or(10);
                *done == 0 || self.tenths.swap(tenth, Ordering::Relaxed) != tenth
            }
            Event::JournalDiscarded { .. } | Event::StripesProven { .. } => {
                self.teller.say(&Word::Remark(text.to_owned()));
                true
            }
            Event::ArrayStarted { .. } => {
                self.teller.hang_up();
                true
            }
            _ => true,
        }
    }
}

impl Observer for LogObserver {
    fn event(&self, event: Event) {
        let text = words(&event);
        if !self.tell(&event, &text) {
            return;
        }
        if is_trouble(&event) {
            tracing::warn!("{text}");
        } else {
            tracing::info!("{text}");
        }
        // Full means somebody is about to look anyway.
        let _ = self.wake.try_send(());
    }
}

fn is_trouble(event: &Event) -> bool {
    match event {
        Event::ArrayStarted { lost, clean, .. } => !lost.is_empty() || !clean,
        Event::MemberFaulty { .. }
        | Event::MemberSuspect { .. }
        | Event::ReadRepaired { .. }
        | Event::DeviceRefused { .. }
        | Event::RebuildBlocked { .. }
        | Event::RebuildGaveUp { .. }
        | Event::ScrubFinding(_) => true,
        Event::ScrubFinished { found, .. } => *found > 0,
        Event::JournalDiscarded { clean } => !clean,
        Event::StripesProven { lost, unproven, .. } => lost + unproven > 0,
        _ => false,
    }
}

fn words(event: &Event) -> String {
    match event {
        Event::ArrayStarted { event_count, lost, clean } => {
            let after = if *clean { "" } else { ", after an unclean stop" };
            let without = if lost.is_empty() { String::new() } else { format!(", without {}", seats(lost)) };
            format!("array started (event {event_count}{without}{after})")
        }
        Event::ArrayStopped => "array stopped".to_owned(),
        Event::MemberFaulty { seat, path, reason } => {
            format!("{path} ({seat}) is faulty and no longer used: {reason}")
        }
        Event::MemberSuspect { seat, path, reason } => {
            format!("{path} ({seat}) fails but is kept, because data would be lost without it: {reason}")
        }
        Event::MemberReturned { seat, path } => {
            format!("{path} ({seat}) is back; what it missed is being written to it")
        }
        Event::MemberRecovered { seat, path } => format!("{path} ({seat}) answers again"),
        Event::ReadRepaired { slot, offset_bytes, len_bytes } => {
            let len = format_size(*len_bytes);
            format!("slot {slot} could not read {len} at byte {offset_bytes}; reconstructed and repaired")
        }
        Event::RebuildStarted { slot, path, spare, .. } => {
            let what = if *spare { "spare " } else { "" };
            format!("rebuild of slot {slot} onto {what}{path} started")
        }
        Event::RebuildFinished { slot, path } => {
            format!("rebuild of slot {slot} onto {path} finished: in sync")
        }
        Event::RebuildBlocked { stripes } => {
            format!(
                "rebuild tries {stripes} stripes again: more shards of them are unreadable than parity replaces"
            )
        }
        Event::RebuildGaveUp { blocks } => format!(
            "rebuild could not restore {blocks} blocks: more of their rows is damaged than parity replaces; a scrub \
             says which, and they can be read again once they are written anew"
        ),
        Event::JournalFilling { index, path } => {
            format!("{path} takes the frames of journal-{index}, until it has all that are needed")
        }
        Event::JournalFilled { index, path } => format!("{path} is in sync as journal-{index}"),
        Event::ScrubStarted { .. } | Event::ScrubFinding(_) | Event::ScrubFinished { .. } => {
            scrub_words(event)
        }
        Event::JournalDiscarded { .. } | Event::StripesChecked { .. } | Event::StripesProven { .. } => {
            discard_words(event)
        }
        Event::DeviceRefused { path, reason } => format!("{path} takes no part: {reason}"),
        Event::SpareAdded { path } => format!("{path} attached as a spare"),
        Event::MemberRemoved { path } => format!("{path} removed"),
    }
}

fn discard_words(event: &Event) -> String {
    match event {
        Event::JournalDiscarded { clean: true } => {
            "the lost journal was discarded, and new members bear one. \
             The last stop was in order, so that nothing is lost"
                .to_owned()
        }
        Event::JournalDiscarded { clean: false } => {
            "the lost journal was discarded, and new members bear one. \
             Lost are writes that had been answered and were not yet home on the members that hold data; \
             blocks of which the journal alone knew that they are whole cannot be read (EIO) until they are \
             written again"
                .to_owned()
        }
        Event::StripesChecked { done: 0, total } => {
            format!("checking {total} stripes before anybody is served")
        }
        Event::StripesChecked { done, total } => format!("checked {done} of {total} stripes"),
        Event::StripesProven { restored, lost, parity, unproven } => {
            let size = |blocks: &u64| format_size(blocks * BLOCK_BYTES);
            let mut text = format!(
                "all stripes are checked: {} of data and {} of parity restored, {} cannot be read until written again",
                size(restored),
                size(parity),
                size(lost)
            );
            if *unproven > 0 {
                text.push_str(&format!(
                    "; in {unproven} stripes what missing members held is taken from parity that nothing proves"
                ));
            }
            text
        }
        _ => String::new(),
    }
}

fn scrub_words(event: &Event) -> String {
    match event {
        Event::ScrubStarted { number, repair, resumed } => {
            let what = if *repair { "verifies and repairs" } else { "verifies" };
            let how = if *resumed { "goes on where it was" } else { "started" };
            format!("scrub {number} {how}: {what} everything that is stored")
        }
        Event::ScrubFinding(Finding { slot, path, stripe, offset_bytes, what, repaired, .. }) => {
            let what = match what {
                Damage::Unreadable => "cannot be read",
                Damage::ChecksumMismatch => "does not match its checksum",
                Damage::ParityMismatch => "does not match the rest of its row",
            };
            let outcome = if *repaired { "repaired" } else { "not repaired" };
            format!(
                "{path} (slot {slot}): the block at byte {offset_bytes} (stripe {stripe}) {what}; {outcome}"
            )
        }
        Event::ScrubFinished { number, cancelled, found, repaired, unrepairable_bytes } => {
            let how = if *cancelled { "was cancelled" } else { "finished" };
            let beyond = match unrepairable_bytes {
                0 => String::new(),
                n => format!("; {} of the volume cannot be restored", format_size(*n)),
            };
            format!("scrub {number} {how}: {found} damaged blocks, {repaired} of them repaired{beyond}")
        }
        _ => String::new(),
    }
}

fn seats(seats: &[Seat]) -> String {
    let names: Vec<_> = seats.iter().map(ToString::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{EventCount, Slot};

    #[test]
    fn a_degraded_start_reads_as_one_sentence() {
        let event = Event::ArrayStarted {
            event_count: EventCount(7),
            lost: [1, 4].map(|n| Seat::Slot(Slot(n))).to_vec(),
            clean: false,
        };
        assert_eq!(words(&event), "array started (event 7, without slot 1, slot 4, after an unclean stop)");
        assert!(is_trouble(&event));
    }
}
