//! Verifying everything that is stored, in address order.
//!
//! A scrub makes way for rebuilding and goes on afterwards where it was; so it does after a restart,
//! for where it is and what it found are kept with the array.

use super::pace::Pace;
use super::throttle::Throttle;
use crate::array::{Array, Progress, TaskKind};
use crate::env::join_all;
use crate::error::Result;
use crate::mutation::{Protection, without};
use crate::stripe::ScrubOutcome;
use crate::units::StripeIndex;
use std::sync::Arc;

/// Runs under way side by side.
const SIDE_BY_SIDE: u64 = 2;

/// Goes on with the scrub that is wanted; returns at its end, or when it must make way. An error says
/// that more members fail than parity can replace.
pub(super) async fn scrub(array: &Arc<Array>) -> Result<()> {
    let mut pace = Pace::new(array, TaskKind::Scrub);
    let mut throttle = Throttle::new(array);
    let stripes = array.stripes();
    let chunk = stripes.shape().chunk_bytes();
    let total = array.stripe_count();
    while let Some(task) = array.scrubs().task() {
        let from = task.next.0;
        if from >= total {
            // What was repaired is to stay so, also what others restored that it found whole.
            match without(Protection::TablesAfterScrub) {
                true => stripes.flush().await?,
                false => stripes.write_tables().await?,
            }
            array.end_scrub(task.number);
            return Ok(());
        }
        let at_once = (throttle.at_once(array) / chunk).max(1);
        let per_run = stripes.scrub_stripes().min(at_once);
        let to = (from + at_once.min(per_run * SIDE_BY_SIDE)).min(total);
        let bytes = (to - from) * chunk;
        report(array, from, pace.moved(array, 0));
        let begin = array.env().now();
        if !pace.admit(array, bytes).await {
            return Ok(());
        }
        array.switch().set_busy(true);
        throttle.begin(array);
        let firsts = (from..to).step_by(usize::try_from(per_run).unwrap_or(1));
        let runs = firsts.map(|s| stripes.scrub_run(StripeIndex(s), per_run.min(to - s), task.mode));
        let done = join_all(runs).await;
        array.switch().set_busy(false);
        let took = array.env().now().since(begin);
        note(array, task.number, done)?;
        array.move_scrub(task.number, StripeIndex(to), took);
        report(array, to, pace.moved(array, bytes));
        if !throttle.end(array).await {
            return Ok(());
        }
    }
    Ok(())
}

/// Takes note of what runs found. If one of them failed all are repeated, and only what was repaired
/// counts.
fn note(array: &Array, number: u64, mut done: Vec<ScrubOutcome>) -> Result<()> {
    let failed = done.iter_mut().find_map(|outcome| outcome.failed.take());
    for outcome in done {
        let outcome = if failed.is_some() { outcome.lasting() } else { outcome };
        array.note_scrubbed(number, outcome);
    }
    failed.map_or(Ok(()), Err)
}

fn report(array: &Array, stripes_done: u64, rate: u64) {
    let chunk = array.stripes().shape().chunk_bytes();
    array.switch().report(Some(Progress {
        kind: TaskKind::Scrub,
        slots: Vec::new(),
        done_bytes: stripes_done * chunk,
        total_bytes: array.stripe_count() * chunk,
        rate_bytes_per_s: rate,
    }));
}
