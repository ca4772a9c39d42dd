//! `--mutations`: the simulation without one protection after the other, as a table.

use super::simulation::{BUDGET, COVERED, Found, How, JournalOn, Scenario, TRIALS, Trial, later};
use palisade::mutation::Protection;
use serde_json::json;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Characters of what the checker said that are printed.
const SAID: usize = 110;

/// Which trials, and how.
pub struct Orders<'a> {
    /// Names of protections; all of them if none is given.
    pub only: &'a [String],
    /// Another kind of run than the one that is known to find it soonest.
    pub scenario: Option<Scenario>,
    pub journal: Option<JournalOn>,
    pub budget: Option<u64>,
    pub jobs: usize,
    pub json: bool,
}

/// Runs the trials and prints them in their order; fails if a protection was not missed.
pub fn run(orders: &Orders<'_>) -> ExitCode {
    // What a run finds may be a panic: it is in the table.
    std::panic::set_hook(Box::new(|_| ()));
    let trials = match orders.scenario {
        Some(scenario) => others(orders, scenario),
        None => {
            let wanted =
                |t: &&Trial| orders.only.is_empty() || orders.only.iter().any(|o| o == t.protection.name());
            let all = TRIALS.iter().chain(COVERED.iter().map(|(trial, _)| trial));
            all.filter(wanted).copied().collect()
        }
    };
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<(usize, Option<Found>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..orders.jobs.max(1) {
            scope.spawn(|| {
                while let Some((index, trial)) = take(&next, &trials) {
                    let result = trial.run(orders.budget.unwrap_or(BUDGET));
                    let runs = result.as_ref().map_or("not found".to_owned(), |f| f.runs.to_string());
                    eprintln!("{} of {}: {} {runs}", index + 1, trials.len(), trial.protection.name());
                    found.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(index, _)| *index);
    let rows: Vec<(&Trial, Option<Found>)> = trials.iter().zip(found.into_iter().map(|(_, f)| f)).collect();
    if orders.json {
        print_json(&rows)
    } else {
        print_table(&rows)
    }
    match rows.iter().all(|(_, found)| found.is_some()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// The protections named, one or two (`A+B`) at a time, in another kind of run.
fn others(orders: &Orders<'_>, scenario: Scenario) -> Vec<Trial> {
    let named = |name: &str| Protection::ALL.iter().copied().find(|p| p.name() == name);
    let trial = |names: &String| {
        let mut protections = names.split('+').filter_map(named);
        let trial = later(protections.next()?, "", How::Seeds(scenario));
        let journal = orders.journal.unwrap_or(trial.journal);
        Some(Trial { and: protections.next(), journal, ..trial })
    };
    orders.only.iter().filter_map(trial).collect()
}

fn take<'a>(next: &AtomicUsize, trials: &'a [Trial]) -> Option<(usize, &'a Trial)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, trials.get(index)?))
}

fn print_table(rows: &[(&Trial, Option<Found>)]) {
    println!("| Protection | Promise | Run | Until found | The checker said |");
    println!("|---|---|---|---:|---|");
    for (trial, found) in rows {
        let (runs, said) = found.as_ref().map_or(("not found".to_owned(), String::new()), |f| {
            let line: String = f.said.split_whitespace().collect::<Vec<_>>().join(" ");
            (f.runs.to_string(), line.chars().take(SAID).collect())
        });
        let mut about = trial.protection.about().trim_end_matches('.').to_owned();
        if let Some(and) = trial.and {
            about.push_str(&format!(", and: {}", and.about().trim_end_matches('.')));
        }
        println!(
            "| {about} | {} | {} | {runs} | {} |",
            trial.promise,
            run_name(trial),
            said.replace('|', "/")
        );
    }
    println!("\n| Covered twice | Because |");
    println!("|---|---|");
    for (trial, why) in COVERED {
        println!("| {} | {why} |", trial.protection.about().trim_end_matches('.'));
    }
}

fn run_name(trial: &Trial) -> String {
    match trial.journal {
        JournalOn::Slots => trial.how.name().to_owned(),
        own => format!("{}, journal on {own}", trial.how.name()),
    }
}

fn print_json(rows: &[(&Trial, Option<Found>)]) {
    let row = |(trial, found): &(&Trial, Option<Found>)| {
        json!({
            "protection": trial.protection.name(),
            "about": trial.protection.about(),
            "promise": trial.promise,
            "run": trial.how.name(),
            "runs_to_detection": found.as_ref().map(|f| f.runs),
            "said": found.as_ref().map(|f| f.said.as_str()),
        })
    };
    println!("{:#}", rows.iter().map(row).collect::<serde_json::Value>());
}
