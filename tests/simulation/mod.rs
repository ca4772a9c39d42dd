//! The simulation of a whole array: a seed decides the shape, the requests, the faults and their
//! order; a model says what every read may answer. `tests/simulation.rs` runs a fixed list of
//! seeds, `tools/simulate.rs` runs seeds for as long as one likes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a broken harness should stop at once"
)]

mod aimed;
mod aimed_journal;
mod aimed_members;
mod aimed_stripes;
mod check;
mod discard;
mod every_cut;
mod hammer;
mod hard;
mod impostor;
mod incidents;
mod io;
mod media;
mod mislaid;
mod model;
mod mutations;
mod power;
mod recovery;
mod refill;
mod restarts;
mod returns;
mod rot;
mod run;
mod scenario;
mod start;
mod storm;
mod torn_row;
mod upheaval;
mod workload;
mod world;

#[allow(unused_imports, reason = "the test and the tool each need some")]
pub use aimed::Aim;
#[allow(unused_imports, reason = "the test and the tool each need some")]
pub use every_cut::{Cut, CutFailure, SHAPES, Sweep};
#[allow(unused_imports, reason = "the test and the tool each need some")]
pub use mutations::{BUDGET, COVERED, Found, How, SOON, TRIALS, Trial, later};
#[allow(unused_imports, reason = "the test and the tool each need some")]
pub use recovery::Variety;
#[allow(unused_imports, reason = "the test and the tool each need some")]
pub use run::{Failure, RunOptions, Stats, run_seed};
pub use scenario::{JournalOn, Scenario};
#[allow(unused_imports, reason = "the test's")]
pub use torn_row::torn_row;
