//! One run of one seed.

use super::aimed::Aim;
use super::scenario::{JournalOn, Scenario};
use super::world::{Check, World};
use palisade::env::sim::{Prng, Simulation};
use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

/// Polls after which a run is given up.
pub const STEP_LIMIT: u64 = 60_000_000;

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    pub seed: u64,
    /// Drawn from the seed if none.
    pub scenario: Option<Scenario>,
    /// Drawn from the seed if none.
    pub journal: Option<JournalOn>,
    /// Ends the run early, to shrink a failure.
    pub steps: Option<u64>,
    /// Prints everything that happens.
    pub trace: bool,
}

/// Counts of what happened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stats {
    pub requests: u64,
    pub refused: u64,
    pub faults: u64,
    pub crashes: u64,
    pub restarts: u64,
    pub replacements: u64,
    pub returned: u64,
    pub beyond: u64,
    pub rotten: u64,
    /// Runs in which the journal had members of its own.
    pub own_journals: u64,
    pub polls: u64,
}

impl Stats {
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.refused += other.refused;
        self.faults += other.faults;
        self.crashes += other.crashes;
        self.restarts += other.restarts;
        self.replacements += other.replacements;
        self.returned += other.returned;
        self.beyond += other.beyond;
        self.rotten += other.rotten;
        self.own_journals += other.own_journals;
        self.polls += other.polls;
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests ({} refused), {} faults, {} crashes, {} restarts, \
             {} replacements, {} members taken back, {} times beyond parity, {} rotten places, {} runs with journal members",
            self.requests,
            self.refused,
            self.faults,
            self.crashes,
            self.restarts,
            self.replacements,
            self.returned,
            self.beyond,
            self.rotten,
            self.own_journals
        )
    }
}

/// A run that found nothing.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub stats: Stats,
    pub trace_hash: u64,
}

/// A run that found something.
#[derive(Debug, Clone)]
pub struct Failure {
    pub options: RunOptions,
    /// Scenario and shape, as far as known.
    pub about: String,
    /// The step in which it showed.
    pub step: u64,
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut scenario =
            self.options.scenario.map_or(String::new(), |s| format!(" --scenario {}", s.name()));
        if let Some(journal) = self.options.journal {
            scenario.push_str(&format!(" --journal {journal}"));
        }
        if let Some(steps) = self.options.steps {
            scenario.push_str(&format!(" --steps {steps}"));
        }
        write!(
            f,
            "seed {} ({}) failed in step {}:\n  {}\nreplay: cargo run --release --example simulate -- \
             --seed {}{scenario} --trace",
            self.options.seed, self.about, self.step, self.message, self.options.seed
        )
    }
}

/// What a panic said.
pub fn panic_text(panic: &dyn Any) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("without a message"))
}

/// Runs a seed to its end, or to the first thing that is wrong.
pub fn run_seed(options: &RunOptions) -> Result<Outcome, Box<Failure>> {
    let mut random = Prng::new(options.seed ^ 0x7061_6c69_7361_6465);
    let drawn = Scenario::of_seed(&mut random);
    let scenario = options.scenario.unwrap_or(drawn);
    let drawn = match scenario {
        // They know where on the members of the slots everything lies.
        Scenario::Storm | Scenario::Impostor | Scenario::Mislaid => JournalOn::Slots,
        Scenario::Discard => JournalOn::Own(if options.seed.is_multiple_of(3) { 2 } else { 1 }),
        _ => JournalOn::of_seed(options.seed),
    };
    let aim = (scenario == Scenario::Aimed).then(|| Aim::of_seed(options.seed));
    let journal = aim.map_or(options.journal.unwrap_or(drawn), Aim::journal);
    let about = RefCell::new(scenario.name().to_owned());
    let step = std::cell::Cell::new(0);
    let mut sim = Simulation::new(options.seed).step_limit(STEP_LIMIT).print_trace(options.trace);
    let harness = sim.handle();
    let drawn = if scenario.is_small() { random.between(2, 5) } else { random.between(10, 40) };
    let steps = options.steps.unwrap_or(drawn);
    let finished = catch_unwind(AssertUnwindSafe(|| {
        let result: Result<Check<Stats>, _> = sim.run(async {
            let mut world = match aim {
                Some(aim) => aim.world(&harness, random).await?,
                None => World::create(&harness, random, scenario, journal).await?,
            };
            let shape = world.shape;
            *about.borrow_mut() = format!(
                "{}, {}+{}, journal on {journal}, chunk {}, volume {} bytes",
                scenario.name(),
                shape.data(),
                shape.parity(),
                shape.chunk_bytes(),
                world.volume_bytes
            );
            if let Some(aim) = aim {
                world.note(|| format!("--- {aim:?}"));
                aim.run(&mut world).await?;
            } else if scenario == Scenario::Discard {
                // It has a model of its own.
                world.discards().await?;
            } else {
                for number in 0..steps {
                    step.set(number);
                    world.note(|| format!("--- step {number}"));
                    world.step().await?;
                }
                step.set(steps);
                world.finish().await?;
            }
            let mut stats = world.stats;
            stats.requests = world.io.requests.get();
            stats.refused = world.io.refused.get();
            stats.returned = world.returned.load(Ordering::Relaxed);
            stats.own_journals = u64::from(world.journals > 0);
            Ok(stats)
        });
        match result {
            Ok(Ok(stats)) => Ok(stats),
            Ok(Err(message)) => Err(message),
            Err(stuck) => Err(stuck.to_string()),
        }
    }));
    let message = match finished {
        Ok(Ok(mut stats)) => {
            stats.polls = sim.steps();
            return Ok(Outcome { stats, trace_hash: sim.trace_hash() });
        }
        Ok(Err(message)) => message,
        Err(panic) => {
            // Its tasks are in the middle of something: leave them, do not run their destructors.
            std::mem::forget(sim);
            panic_text(&*panic)
        }
    };
    let about = about.into_inner();
    Err(Box::new(Failure { options: options.clone(), about, step: step.get(), message }))
}
