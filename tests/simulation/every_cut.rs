//! The sweep: one workload, crashed at every single operation on its members.
//!
//! A crash at a random moment meets few of the gaps between two writes. Here each write, flush and
//! punch that any member is asked for is, in a run of its own from scratch, the last: the power
//! fails (the operation and everything unflushed surviving as any subset of sectors) or the
//! process is killed (nothing answered is lost). The same seed gives the same run up to there.
//!
//! ```text
//!   count:     |--fill--|--- op 1 --- op 2 --- op 3 --- ... --- op N ---|
//!   cut at 2:  |--fill--|--- op 1 --- op X    recover whole, check
//!                                       \---- recover with a member missing, check
//!                                        \--- ...
//! ```

use super::recovery::{Recovery, Variety};
use super::run::{STEP_LIMIT, panic_text};
use super::scenario::{JournalOn, Scenario};
use super::workload::steps;
use super::world::{Check, World};
use palisade::env::sim::{Prng, SimEnv, Simulation};
use palisade::geometry::Shape;
use palisade::member::sim::Crash;
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The shapes swept: data and parity chunks.
pub const SHAPES: [(u8, u8); 3] = [(2, 1), (4, 2), (1, 2)];

const CHUNK_BYTES: u64 = 8192;
/// Stripes of the volume; the last ones are not written before the workload is.
const STRIPES: u64 = 6;
const WRITTEN: u64 = 4;

/// A workload on one shape.
#[derive(Debug, Clone, Copy)]
pub struct Sweep {
    pub seed: u64,
    pub shape: (u8, u8),
    pub journal: JournalOn,
    pub variety: Variety,
    /// Prints everything that happens.
    pub trace: bool,
}

/// One crash of a workload.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// The operation, counted from 1.
    pub at: u64,
    pub crash: Crash,
}

/// A crash after which something was wrong, or a workload that went wrong without one.
#[derive(Debug, Clone)]
pub struct CutFailure {
    pub sweep: Sweep,
    pub cut: Option<Cut>,
    pub message: String,
}

impl fmt::Display for CutFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sweep { seed, shape: (data, parity), journal, variety, .. } = self.sweep;
        let cut = match self.cut {
            None => String::new(),
            Some(Cut { at, crash: Crash::Kill }) => format!(" --cut {at} --kill"),
            Some(Cut { at, crash: Crash::PowerCut }) => format!(" --cut {at}"),
        };
        let variety = if variety == Variety::Few { " --few" } else { "" };
        let what = self.cut.map_or("no crash".into(), |c| format!("{:?} at operation {}", c.crash, c.at));
        write!(
            f,
            "workload {seed} on {data}+{parity}, {what}:\n  {}\nreplay: cargo run --release --example \
             simulate -- --cuts --seed {seed} --shape {data}+{parity} --journal {journal}{cut}{variety} --trace",
            self.message
        )
    }
}

impl Sweep {
    /// Crashes the workload at every operation in both ways, in order. `each` is told how many ways
    /// to recover were tried, or what was wrong, and says whether to go on.
    pub fn run(&self, mut each: impl FnMut(Result<usize, CutFailure>) -> bool) {
        let operations = match self.attempt(None) {
            Ok(operations) => operations as u64,
            Err(failure) => {
                each(Err(failure));
                return;
            }
        };
        for at in 1..=operations {
            for crash in [Crash::PowerCut, Crash::Kill] {
                if !each(self.attempt(Some(Cut { at, crash }))) {
                    return;
                }
            }
        }
    }

    /// Runs the workload until the crash and recovers; answers the number of ways tried. Without a
    /// crash, runs it to its end and answers the number of its operations.
    pub fn attempt(&self, cut: Option<Cut>) -> Result<usize, CutFailure> {
        let mut sim = Simulation::new(self.seed).step_limit(STEP_LIMIT).print_trace(self.trace);
        let harness = sim.handle();
        let way = RefCell::new(String::new());
        let finished = catch_unwind(AssertUnwindSafe(|| match sim.run(self.work(&harness, cut, &way)) {
            Ok(result) => result,
            Err(stuck) => Err(stuck.to_string()),
        }));
        let message = match finished {
            Ok(Ok(count)) => return Ok(count),
            Ok(Err(message)) => message,
            Err(panic) => {
                // Its tasks are in the middle of something: leave them, do not run their destructors.
                std::mem::forget(sim);
                panic_text(&*panic)
            }
        };
        Err(CutFailure { sweep: *self, cut, message: format!("{}{message}", way.into_inner()) })
    }

    async fn work(&self, harness: &SimEnv, cut: Option<Cut>, way: &RefCell<String>) -> Check<usize> {
        let mut random = Prng::new(self.seed ^ 0x6375_7473);
        let shape = Shape::new(self.shape.0, self.shape.1, CHUNK_BYTES).map_err(|e| e.report())?;
        let volume_bytes = STRIPES * shape.stripe_bytes();
        let steps = steps(&mut random, &shape, volume_bytes, WRITTEN);
        let mut world =
            World::with_shape(harness, random, Scenario::Calm, self.journal, shape, volume_bytes).await?;
        world.fill(WRITTEN * shape.stripe_bytes()).await?;
        let before = world.disks.operations();
        if let Some(Cut { at, crash }) = cut {
            world.disks.plan_crash(at, crash);
        }
        world.carry_out(&steps).await?;
        let Some(Cut { at, crash }) = cut else {
            return Ok(usize::try_from(world.disks.operations() - before).unwrap());
        };
        if !world.running().process.is_dead() {
            return Err(format!("the workload has fewer than {at} operations"));
        }
        world.went_down(crash);
        let mut drawn = Prng::new(self.seed ^ at << 1 ^ u64::from(crash == Crash::Kill));
        let ways = Recovery::ways(&mut drawn, &world.disks.names(), shape.parity(), at, self.variety);
        for how in &ways {
            *way.borrow_mut() = format!("{how:?}: ");
            world.twin().recover(how).await?;
        }
        Ok(ways.len())
    }
}
