//! Runs seeds of the simulation for a given time and prints the first that fails, with how to
//! replay it.
//!
//! ```text
//! cargo run --release --example simulate -- --seconds 600 [--start-seed N] [--jobs 2] [--scenario crash|all]
//! cargo run --release --example simulate -- --seed N [--steps S] [--trace]
//! ```
//!
//! With `--cuts` each seed is a workload that is crashed at every operation on its members, with
//! every shape of the sweep or one:
//!
//! ```text
//! cargo run --release --example simulate -- --cuts --seconds 600 [--start-seed N] [--jobs 2] [--shape 4+2]
//! cargo run --release --example simulate -- --cuts --seed N --shape 4+2 --cut I [--kill] [--few] [--trace]
//! ```
//!
//! With `--mutations` each protection of the data is taken away in turn (see docs/proofs.md):
//!
//! ```text
//! cargo run --release --example simulate -- --mutations [--only NAME] [--budget N] [--jobs 2] [--json]
//! ```

#![allow(clippy::unwrap_used, reason = "a tool for developers: a broken harness should stop at once")]

#[path = "simulate_parts/mutations.rs"]
mod mutations;
#[path = "../tests/simulation/mod.rs"]
mod simulation;

use clap::Parser;
use palisade::member::sim::Crash;
use palisade::mutation::{Protection, Removed};
use simulation::{
    Cut, CutFailure, Failure, JournalOn, RunOptions, SHAPES, Scenario, Stats, Sweep, Variety, run_seed,
};
use std::process::ExitCode;
use std::str::FromStr;
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
    /// Only this scenario: calm, degraded, crash, crash-degraded, restart, beyond, beyond-crash, rot,
    /// storm, impostor, discard, hammer, upheaval, refill, mislaid, aimed, mixed. Or all: the seeds
    /// take them in turn. Not given, each seed draws one of the seven most usual.
    #[arg(long)]
    scenario: Option<Scenarios>,
    /// The journal on slots, own (m + 1 members of its own) or own+ (one more); drawn from the seed if
    /// not given, and with --cuts on slots.
    #[arg(long)]
    journal: Option<JournalOn>,
    /// Run only this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after so many steps.
    #[arg(long)]
    steps: Option<u64>,
    /// Print everything that happens.
    #[arg(long)]
    trace: bool,
    /// With --seed: without this protection, by its name in src/mutation.rs; may be given again.
    #[arg(long, requires = "seed")]
    without: Vec<String>,
    /// Go on after a failure and print each.
    #[arg(long)]
    keep_going: bool,
    /// Crash the workload of each seed at every operation on its members.
    #[arg(long)]
    cuts: bool,
    /// With --cuts: only this shape; needed with --cut.
    #[arg(long, requires = "cuts", value_parser = parse_shape)]
    shape: Option<(u8, u8)>,
    /// With --cuts and --seed: only at this operation.
    #[arg(long, requires_all = ["seed", "shape"])]
    cut: Option<u64>,
    /// With --cut: kill the process instead of cutting the power.
    #[arg(long, requires = "cut")]
    kill: bool,
    /// With --cuts: try three ways to recover after each crash, not all.
    #[arg(long, requires = "cuts")]
    few: bool,
    /// Take one protection after the other away, and see how soon each is missed.
    #[arg(long)]
    mutations: bool,
    /// With --mutations: only this protection, by its name in src/mutation.rs; may be given again. With
    /// --scenario, too: in that kind of run, and two at once as `A+B`.
    #[arg(long, requires = "mutations")]
    only: Vec<String>,
    /// With --mutations: most runs of each.
    #[arg(long, requires = "mutations")]
    budget: Option<u64>,
    /// With --mutations: print JSON.
    #[arg(long, requires = "mutations")]
    json: bool,
}

/// The scenarios that the seeds run.
#[derive(Clone, Copy)]
enum Scenarios {
    One(Scenario),
    All,
}

impl Scenarios {
    fn of_seed(self, seed: u64) -> Scenario {
        match self {
            Self::One(scenario) => scenario,
            #[allow(clippy::cast_possible_truncation, reason = "any number will do")]
            Self::All => Scenario::ALL[seed as usize % Scenario::ALL.len()],
        }
    }
}

impl FromStr for Scenarios {
    type Err = <Scenario as FromStr>::Err;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self::All),
            one => one.parse().map(Self::One),
        }
    }
}

impl Args {
    fn run_options(&self, seed: u64, trace: bool) -> RunOptions {
        let scenario = self.scenario.map(|scenarios| scenarios.of_seed(seed));
        RunOptions { seed, scenario, journal: self.journal, steps: self.steps, trace }
    }

    /// The sweeps of a seed.
    fn sweeps(&self, seed: u64) -> impl Iterator<Item = Sweep> {
        let variety = if self.few { Variety::Few } else { Variety::All };
        let trace = self.trace;
        let shapes: Vec<(u8, u8)> = self.shape.map_or(SHAPES.to_vec(), |shape| vec![shape]);
        let journal = self.journal.unwrap_or(JournalOn::Slots);
        shapes.into_iter().map(move |shape| Sweep { seed, shape, journal, variety, trace })
    }
}

fn parse_shape(text: &str) -> Result<(u8, u8), String> {
    let parsed = text.split_once('+').and_then(|(k, m)| Some((k.parse().ok()?, m.parse().ok()?)));
    parsed.ok_or_else(|| format!("'{text}' is no shape such as 4+2"))
}

#[derive(Default)]
struct Shared {
    next_seed: AtomicU64,
    stop: AtomicBool,
    seeds: AtomicU64,
    stats: Mutex<Stats>,
    failures: Mutex<Vec<Failure>>,
    crashes: AtomicU64,
    recoveries: AtomicU64,
    bad_cuts: AtomicU64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.mutations {
        let (only, budget, jobs, json) = (&args.only[..], args.budget, args.jobs, args.json);
        let scenario = match args.scenario {
            Some(Scenarios::All) => {
                eprintln!("simulate: --mutations looks in one scenario, or where each is found soonest");
                return ExitCode::from(2);
            }
            Some(Scenarios::One(scenario)) => Some(scenario),
            None => None,
        };
        let journal = args.journal;
        return mutations::run(&mutations::Orders { only, scenario, journal, budget, jobs, json });
    }
    if let Some(seed) = args.seed {
        return if args.cuts { replay_cuts(&args, seed) } else { replay(&args, seed) };
    }
    let shared = Shared { next_seed: args.start_seed.into(), ..Shared::default() };
    let begin = Instant::now();
    let until = begin + Duration::from_secs(args.seconds);
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| match args.cuts {
                true => work_cuts(&args, &shared, until),
                false => work(&args, &shared, until),
            });
        }
    });
    let seeds = shared.seeds.into_inner();
    let stats = shared.stats.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failures = shared.failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    let elapsed = begin.elapsed().as_secs_f64();
    let bad_cuts = shared.bad_cuts.into_inner();
    if args.cuts {
        let (crashes, recoveries) = (shared.crashes.into_inner(), shared.recoveries.into_inner());
        println!(
            "{crashes} crashes of {seeds} workloads in {elapsed:.1} s, {recoveries} recoveries, {bad_cuts} wrong"
        );
    } else {
        println!("{seeds} seeds in {elapsed:.1} s ({:.1} seeds/s): {stats}", seeds as f64 / elapsed);
    }
    if failures.is_empty() && bad_cuts == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn work(args: &Args, shared: &Shared, until: Instant) {
    while Instant::now() < until && !shared.stop.load(Ordering::Relaxed) {
        let seed = shared.next_seed.fetch_add(1, Ordering::Relaxed);
        let result = run_seed(&args.run_options(seed, false));
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

fn work_cuts(args: &Args, shared: &Shared, until: Instant) {
    let done = || Instant::now() >= until || shared.stop.load(Ordering::Relaxed);
    while !done() {
        let seed = shared.next_seed.fetch_add(1, Ordering::Relaxed);
        shared.seeds.fetch_add(1, Ordering::Relaxed);
        for sweep in args.sweeps(seed) {
            sweep.run(|tried| {
                note_cut(args, shared, tried);
                !done()
            });
        }
    }
}

fn note_cut(args: &Args, shared: &Shared, tried: Result<usize, CutFailure>) {
    shared.crashes.fetch_add(1, Ordering::Relaxed);
    match tried {
        Ok(ways) => drop(shared.recoveries.fetch_add(ways as u64, Ordering::Relaxed)),
        Err(failure) => {
            println!("{failure}\n");
            shared.bad_cuts.fetch_add(1, Ordering::Relaxed);
            if !args.keep_going {
                shared.stop.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// All sweeps of one seed, or one crash of one.
fn replay_cuts(args: &Args, seed: u64) -> ExitCode {
    let shared = Shared::default();
    for sweep in args.sweeps(seed) {
        match args.cut {
            Some(at) => {
                let crash = if args.kill { Crash::Kill } else { Crash::PowerCut };
                note_cut(args, &shared, sweep.attempt(Some(Cut { at, crash })));
            }
            None => sweep.run(|tried| {
                note_cut(args, &shared, tried);
                !shared.stop.load(Ordering::Relaxed)
            }),
        }
    }
    let (crashes, recoveries) = (shared.crashes.into_inner(), shared.recoveries.into_inner());
    let bad = shared.bad_cuts.into_inner();
    println!("workload {seed}: {crashes} crashes, {recoveries} recoveries, {bad} wrong");
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(args: &Args, seed: u64) -> ExitCode {
    let named = |p: &&Protection| args.without.iter().any(|name| name == p.name());
    let without: Vec<Protection> = Protection::ALL.iter().filter(named).copied().collect();
    let _removed = Removed::new(&without);
    match run_seed(&args.run_options(seed, args.trace)) {
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
