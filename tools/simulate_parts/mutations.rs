//! `--mutations`: the simulation without one protection after the other, as a table.

use super::simulation::{BUDGET, Found, OPEN, TRIALS, Trial};
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
    pub budget: Option<u64>,
    pub jobs: usize,
    pub json: bool,
}

/// Runs the trials and prints them in their order; fails if a protection was not missed.
pub fn run(orders: &Orders<'_>) -> ExitCode {
    // What a run finds may be a panic: it is in the table.
    std::panic::set_hook(Box::new(|_| ()));
    let wanted = |t: &&Trial| orders.only.is_empty() || orders.only.iter().any(|o| o == t.protection.name());
    let trials: Vec<&Trial> = TRIALS.iter().filter(wanted).collect();
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
    let rows: Vec<(&Trial, Option<Found>)> =
        trials.into_iter().zip(found.into_iter().map(|(_, f)| f)).collect();
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

fn take<'a>(next: &AtomicUsize, trials: &[&'a Trial]) -> Option<(usize, &'a Trial)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, *trials.get(index)?))
}

fn print_table(rows: &[(&Trial, Option<Found>)]) {
    println!("| Protection | Promise | Run | Until found | The checker said |");
    println!("|---|---|---|---:|---|");
    for (trial, found) in rows {
        let (runs, said) = found.as_ref().map_or(("not found".to_owned(), String::new()), |f| {
            let line: String = f.said.split_whitespace().collect::<Vec<_>>().join(" ");
            (f.runs.to_string(), line.chars().take(SAID).collect())
        });
        let about = trial.protection.about().trim_end_matches('.');
        println!(
            "| {about} | {} | {} | {runs} | {} |",
            trial.promise,
            trial.how.name(),
            said.replace('|', "/")
        );
    }
    println!("\n| Not missed so far | Because |");
    println!("|---|---|");
    for (protection, why) in OPEN {
        println!("| {} | {why} |", protection.about().trim_end_matches('.'));
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
