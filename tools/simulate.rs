//! Runs seeds of the simulation for a given time and prints the first that fails, with how to
//! replay it.
//!
//! ```text
//! cargo run --release --example simulate -- --seconds 600 [--start-seed N] [--jobs 2] [--scenario crash]
//! cargo run --release --example simulate -- --seed N [--steps S] [--trace]
//! ```

#![allow(clippy::unwrap_used, reason = "a tool for developers: a broken harness should stop at once")]

#[path = "../tests/simulation/mod.rs"]
mod simulation;

use clap::Parser;
use simulation::{Failure, RunOptions, Scenario, Stats, run_seed};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Parser)]
struct Args {
    /// How long to run seeds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The first seed; the next ones follow.
    #[arg(long, default_value_t = 0)]
    start_seed: u64,
    /// Seeds run side by side.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Only this scenario: calm, degraded, crash, crash-degraded, restart, beyond, mixed.
    #[arg(long)]
    scenario: Option<Scenario>,
    /// Run only this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after so many steps.
    #[arg(long)]
    steps: Option<u64>,
    /// Print everything that happens.
    #[arg(long)]
    trace: bool,
    /// Go on after a failure and print each.
    #[arg(long)]
    keep_going: bool,
}

#[derive(Default)]
struct Shared {
    next_seed: AtomicU64,
    stop: AtomicBool,
    seeds: AtomicU64,
    stats: Mutex<Stats>,
    failures: Mutex<Vec<Failure>>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(seed) = args.seed {
        return replay(&args, seed);
    }
    let shared = Shared { next_seed: args.start_seed.into(), ..Shared::default() };
    let begin = Instant::now();
    let until = begin + Duration::from_secs(args.seconds);
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| work(&args, &shared, until));
        }
    });
    let seeds = shared.seeds.into_inner();
    let stats = shared.stats.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failures = shared.failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    let elapsed = begin.elapsed().as_secs_f64();
    println!("{seeds} seeds in {elapsed:.1} s ({:.1} seeds/s): {stats}", seeds as f64 / elapsed);
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn work(args: &Args, shared: &Shared, until: Instant) {
    while Instant::now() < until && !shared.stop.load(Ordering::Relaxed) {
        let seed = shared.next_seed.fetch_add(1, Ordering::Relaxed);
        let options = RunOptions {
            seed,
            scenario: args.scenario,
            steps: args.steps,
            trace: false,
            ..RunOptions::default()
        };
        let result = run_seed(&options);
        shared.seeds.fetch_add(1, Ordering::Relaxed);
        match result {
            Ok(outcome) => {
                shared.stats.lock().unwrap_or_else(PoisonError::into_inner).add(&outcome.stats);
            }
            Err(failure) => {
                println!("{failure}\n");
                shared.failures.lock().unwrap_or_else(PoisonError::into_inner).push(*failure);
                if !args.keep_going {
                    shared.stop.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}

fn replay(args: &Args, seed: u64) -> ExitCode {
    let options = RunOptions {
        seed,
        scenario: args.scenario,
        steps: args.steps,
        trace: args.trace,
        ..RunOptions::default()
    };
    match run_seed(&options) {
        Ok(outcome) => {
            println!("seed {seed}: {} (trace hash {:016x})", outcome.stats, outcome.trace_hash);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}
