//! Each protection of the data proven necessary: without it the simulation is run until it finds the
//! loss. Which kind of run finds it soonest is written down here; where a run looks is not changed for it.

use super::every_cut::{SHAPES, Sweep};
use super::recovery::Variety;
use super::run::{RunOptions, run_seed};
use super::scenario::Scenario;
use palisade::mutation::{Protection, Removed};

/// Runs after which nobody missed a protection.
pub const BUDGET: u64 = 2000;

/// A kind of run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Seeds of a scenario, from 0 on; a seed is a run.
    Seeds(Scenario),
    /// The workloads of seeds from 0 on, on each shape, crashed at every operation; a crash is a run.
    Cuts,
}

impl How {
    pub const ALL: [Self; 12] = [
        Self::Seeds(Scenario::Calm),
        Self::Seeds(Scenario::Degraded),
        Self::Seeds(Scenario::Crash),
        Self::Seeds(Scenario::CrashDegraded),
        Self::Seeds(Scenario::Restart),
        Self::Seeds(Scenario::Beyond),
        Self::Seeds(Scenario::BeyondCrash),
        Self::Seeds(Scenario::Rot),
        Self::Seeds(Scenario::Storm),
        Self::Seeds(Scenario::Impostor),
        Self::Seeds(Scenario::Mixed),
        Self::Cuts,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Seeds(scenario) => scenario.name(),
            Self::Cuts => "cuts",
        }
    }
}

/// What is run without a protection.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    pub protection: Protection,
    /// The promises that it keeps.
    pub promise: &'static str,
    pub how: How,
}

/// What a trial found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Runs, the one that found it included.
    pub runs: u64,
    /// What the checker said.
    pub said: String,
}

impl Trial {
    /// Runs until something finds that the protection is missing, at most `budget` times.
    pub fn run(&self, budget: u64) -> Option<Found> {
        let _removed = Removed::new(self.protection);
        match self.how {
            How::Seeds(scenario) => (0..budget).find_map(|seed| {
                let options = RunOptions { seed, scenario: Some(scenario), ..RunOptions::default() };
                let failure = run_seed(&options).err()?;
                Some(Found { runs: seed + 1, said: failure.message })
            }),
            How::Cuts => cuts(budget),
        }
    }
}

fn cuts(budget: u64) -> Option<Found> {
    let (mut runs, mut found) = (0, None);
    let sweeps = (0..).flat_map(|seed| SHAPES.map(|shape| (seed, shape)));
    for (seed, shape) in sweeps {
        Sweep { seed, shape, variety: Variety::Few, trace: false }.run(|tried| {
            runs += 1;
            found = tried.err().map(|failure| Found { runs, said: failure.message });
            found.is_none() && runs < budget
        });
        if found.is_some() || runs >= budget {
            break;
        }
    }
    found
}

/// What is run without each protection.
pub const TRIALS: &[Trial] = &[];
