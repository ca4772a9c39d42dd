//! Filling replacements: the most endangered stripes first, then in address order.
//!
//! A stripe is the more endangered the more of its chunks are lost. With one replacement being
//! filled all its missing stripes are alike; with several, those that several still lack come
//! first. Each pass works on the stripes with the most missing chunks until none is left.

use super::pace::Pace;
use super::throttle::{MOST_AT_ONCE, Throttle};
use crate::array::{Array, Progress, TaskKind};
use crate::env::join_all;
use crate::error::Result;
use crate::observe::Event;
use crate::stripe::{Roster, Target};
use crate::units::{MemberId, Slot, StripeIndex};
use std::sync::Arc;
use std::time::Duration;

/// Runs under way side by side.
const SIDE_BY_SIDE: usize = 2;
/// Bytes of one member that one run moves.
const RUN_BYTES: u64 = MOST_AT_ONCE / SIDE_BY_SIDE as u64;
/// How often progress is made durable.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// Stripes looked at under one lock for what needs no filling.
const SKIP_STEP: usize = 1024;
const SKIP_STRIPES: u64 = SKIP_STEP as u64;
/// After so many looks whoever else has something to do gets a turn, of this length at least.
const SKIPS_AT_ONCE: usize = 64;
const BREATH: Duration = Duration::from_micros(10);
/// How long to wait before trying stripes again that could not be read.
const RETRY: Duration = Duration::from_secs(5);
/// Passes after which damaged blocks are given up, lest all others wait for them.
const PASSES: u32 = 3;

/// Fills every replacement there is; returns when none is left or the task must end.
pub(super) async fn rebuild(array: &Arc<Array>) -> Result<()> {
    let mut pace = Pace::new(array, TaskKind::Rebuild);
    let mut throttle = Throttle::new(array);
    let mut saved = array.env().now();
    let chunk = array.stripes().shape().chunk_bytes();
    let mut pass = Pass::default();
    let mut blocked_passes = 0;
    loop {
        let roster = array.roster();
        if finish(array, &roster).await? {
            continue;
        }
        let targets = targets(&roster);
        if targets.is_empty() {
            return Ok(());
        }
        report(array, &targets, pace.moved(array, 0));
        if pass.is_news(&targets) {
            skip(array).await;
        }
        let runs = pass.next_runs(array, &targets, throttle.at_once(array));
        if runs.is_empty() {
            if pass.blocked > 0 {
                blocked_passes += 1;
                array.tell(Event::RebuildBlocked { stripes: pass.blocked });
                array.env().sleep(RETRY).await;
            }
            pass = Pass::default();
            if array.switch().stopping() {
                return Ok(());
            }
            continue;
        }
        let bytes = runs.iter().map(|(_, count)| count * chunk).sum();
        if !pace.admit(array, bytes).await {
            return Ok(());
        }
        array.switch().set_busy(true);
        throttle.begin(array);
        let give_up = blocked_passes >= PASSES;
        let work = runs.iter().map(|(first, n)| array.stripes().rebuild_run(*first, *n, give_up));
        let done = join_all(work).await;
        array.switch().set_busy(false);
        let given_up = done.iter().map(|d| d.given_up).sum();
        if given_up > 0 {
            array.tell(Event::RebuildGaveUp { blocks: given_up });
        }
        pass.blocked += done.iter().map(|d| d.blocked.len() as u64).sum::<u64>();
        report(array, &targets, pace.moved(array, bytes));
        if array.env().now().since(saved) >= SAVE_EVERY {
            array.save_progress().await?;
            saved = array.env().now();
        }
        if !throttle.end(array).await {
            return Ok(());
        }
    }
}

/// One walk over the stripes of the greatest need.
#[derive(Default)]
struct Pass {
    cursor: u64,
    /// The replacements it was begun for, and the most of them that a stripe lacks.
    need: Option<(Vec<MemberId>, usize)>,
    blocked: u64,
}

impl Pass {
    /// Whether it was begun for other replacements, or for none.
    fn is_news(&self, targets: &[(Slot, Target)]) -> bool {
        self.need.as_ref().is_none_or(|(known, _)| *known != ids(targets))
    }

    /// The next runs of stripes to fill, `at_once` bytes of a member at most; none if the walk has come to
    /// its end.
    fn next_runs(
        &mut self,
        array: &Array,
        targets: &[(Slot, Target)],
        at_once: u64,
    ) -> Vec<(StripeIndex, u64)> {
        let stripes = array.stripe_count();
        let chunk = array.stripes().shape().chunk_bytes();
        let per_run = (RUN_BYTES.min(at_once) / chunk).max(1);
        let most_runs = if at_once > RUN_BYTES { SIDE_BY_SIDE } else { 1 };
        let lacking = |s: u64| targets.iter().filter(|(_, t)| !t.rebuilt.contains(StripeIndex(s))).count();
        let most = match &self.need {
            Some((known, most)) if *known == ids(targets) => *most,
            _ => {
                let most = (0..stripes).map(lacking).max().unwrap_or(0);
                *self = Self { need: Some((ids(targets), most)), ..Self::default() };
                most
            }
        };
        let mut runs: Vec<(StripeIndex, u64)> = Vec::new();
        while most > 0 && self.cursor < stripes {
            if lacking(self.cursor) == most {
                let full = runs.len() == most_runs;
                match runs.last_mut() {
                    Some((first, count)) if first.0 + *count == self.cursor && *count < per_run => {
                        *count += 1
                    }
                    _ if full => break,
                    _ => runs.push((StripeIndex(self.cursor), 1)),
                }
            }
            self.cursor += 1;
        }
        runs
    }
}

/// Counts as filled whatever needs no filling.
async fn skip(array: &Array) {
    let stripes = array.stripe_count();
    for (number, first) in (0..stripes).step_by(SKIP_STEP).enumerate() {
        array.stripes().skip_run(StripeIndex(first), SKIP_STRIPES.min(stripes - first)).await;
        if number % SKIPS_AT_ONCE == SKIPS_AT_ONCE - 1 {
            array.env().sleep(BREATH).await;
        }
        if array.switch().stopping() {
            return;
        }
    }
}

fn ids(targets: &[(Slot, Target)]) -> Vec<MemberId> {
    targets.iter().map(|(_, t)| t.member.id()).collect()
}

/// Hands slots over whose replacements are full; says whether there was one.
async fn finish(array: &Arc<Array>, roster: &Roster) -> Result<bool> {
    let mut any = false;
    for (slot, target) in targets(roster) {
        if target.rebuilt.filled() == target.rebuilt.stripes() {
            array.complete(slot).await?;
            any = true;
        }
    }
    Ok(any)
}

fn targets(roster: &Roster) -> Vec<(Slot, Target)> {
    let of_slot = |(slot, view): (u8, &crate::stripe::SlotView)| Some((Slot(slot), view.target.clone()?));
    (0..).zip(&roster.slots).filter_map(of_slot).collect()
}

fn report(array: &Array, targets: &[(Slot, Target)], rate: u64) {
    let chunk = array.stripes().shape().chunk_bytes();
    let filled: u64 = targets.iter().map(|(_, t)| t.rebuilt.filled()).sum();
    array.switch().report(Some(Progress {
        kind: TaskKind::Rebuild,
        slots: targets.iter().map(|(s, _)| *s).collect(),
        done_bytes: filled * chunk / targets.len().max(1) as u64,
        total_bytes: array.stripe_count() * chunk,
        rate_bytes_per_s: rate,
    }));
}
