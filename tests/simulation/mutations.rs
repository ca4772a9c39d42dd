//! Each protection of the data proven necessary: without it the simulation is run until it finds the
//! loss. Which kind of run finds it soonest is written down here; where a run looks is not changed for it.

#![allow(dead_code, reason = "the test and the tool each need some")]

use super::every_cut::{SHAPES, Sweep};
use super::recovery::Variety;
use super::run::{RunOptions, run_seed};
use super::scenario::{JournalOn, Scenario};
use palisade::mutation::{Protection, Removed};

/// Runs after which nobody missed a protection.
pub const BUDGET: u64 = 2000;
/// The same for those that take few.
pub const SOON: u64 = 60;

/// A kind of run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Seeds of a scenario, from 0 on; a seed is a run.
    Seeds(Scenario),
    /// The workloads of seeds from 0 on, on each shape, crashed at every operation; a crash is a run.
    Cuts,
}

impl How {
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
    /// Whether it takes few runs, so that the tests can afford them.
    pub soon: bool,
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
    /// Runs until one finds what none finds with the protection, at most `budget` times.
    pub fn run(&self, budget: u64) -> Option<Found> {
        match self.how {
            How::Seeds(scenario) => (0..budget).find_map(|seed| {
                let options = RunOptions {
                    seed,
                    scenario: Some(scenario),
                    // That one is about a journal on members of its own.
                    journal: (scenario != Scenario::Discard).then_some(JournalOn::Slots),
                    ..RunOptions::default()
                };
                let failure = self.without(|| run_seed(&options)).err()?;
                run_seed(&options).is_ok().then_some(Found { runs: seed + 1, said: failure.message })
            }),
            How::Cuts => self.cuts(budget),
        }
    }

    fn cuts(&self, budget: u64) -> Option<Found> {
        let (mut runs, mut found) = (0, None);
        let sweeps = (0..).flat_map(|seed| SHAPES.map(|shape| (seed, shape)));
        for (seed, shape) in sweeps {
            let sweep = Sweep { seed, shape, journal: JournalOn::Slots, variety: Variety::Few, trace: false };
            self.without(|| {
                sweep.run(|tried| {
                    runs += 1;
                    found = tried.err();
                    found.is_none() && runs < budget
                });
            });
            let said = found.take().filter(|failure| sweep.attempt(failure.cut).is_ok());
            if said.is_some() || runs >= budget {
                return said.map(|failure| Found { runs, said: failure.message });
            }
        }
        None
    }

    fn without<T>(&self, run: impl FnOnce() -> T) -> T {
        let _removed = Removed::new(self.protection);
        run()
    }
}

const fn soon(protection: Protection, promise: &'static str, scenario: Scenario) -> Trial {
    Trial { protection, promise, soon: true, how: How::Seeds(scenario) }
}

const fn later(protection: Protection, promise: &'static str, how: How) -> Trial {
    Trial { protection, promise, soon: false, how }
}

/// What is run without each protection.
pub const TRIALS: &[Trial] = &[
    soon(Protection::FrameBeforeAnswer, "P2", Scenario::Mixed),
    later(Protection::FramesInOrder, "P2", How::Seeds(Scenario::CrashDegraded)),
    later(Protection::FailedFrameWrite, "P1, P2", How::Seeds(Scenario::Restart)),
    later(Protection::NonceChain, "P4", How::Seeds(Scenario::Storm)),
    soon(Protection::ShardChecksum, "P2, P5", Scenario::Storm),
    later(Protection::HeaderChecksum, "P5", How::Seeds(Scenario::Storm)),
    later(Protection::ShardSlot, "P5", How::Seeds(Scenario::Storm)),
    later(Protection::FramesMended, "P1", How::Seeds(Scenario::Storm)),
    later(Protection::FramesFlushed, "P1", How::Seeds(Scenario::Storm)),
    later(Protection::ReleaseByLaterFlush, "P1", How::Cuts),
    later(Protection::EpochsKeepFrame, "P1", How::Seeds(Scenario::Storm)),
    soon(Protection::FlushMembers, "P1", Scenario::CrashDegraded),
    soon(Protection::FuaMembers, "P1", Scenario::Rot),
    soon(Protection::MergeAlone, "P2", Scenario::Mixed),
    later(Protection::DegradedInJournal, "P3", How::Seeds(Scenario::CrashDegraded)),
    later(Protection::UnansweredPunch, "P5", How::Seeds(Scenario::Impostor)),
    later(Protection::DegradedReadLock, "P5", How::Seeds(Scenario::Degraded)),
    soon(Protection::BlockChecksum, "P5", Scenario::Rot),
    soon(Protection::ParityInJournal, "P3", Scenario::Crash),
    later(Protection::WriteAheadFlush, "P3", How::Seeds(Scenario::Storm)),
    soon(Protection::ParityDelta, "P3", Scenario::Degraded),
    later(Protection::FailedHomeWrite, "P6", How::Seeds(Scenario::Mixed)),
    soon(Protection::NewerStaysStaged, "P2", Scenario::Rot),
    soon(Protection::FreshIsZero, "P4", Scenario::Calm),
    soon(Protection::FreshInJournal, "P4", Scenario::Crash),
    soon(Protection::OpenInJournal, "P4", Scenario::Crash),
    soon(Protection::OpenChecksums, "P4", Scenario::Crash),
    later(Protection::LostIsUnknown, "P4, P5", How::Seeds(Scenario::CrashDegraded)),
    soon(Protection::StripesProven, "P5", Scenario::Discard),
    soon(Protection::SectorChecksum, "P5", Scenario::Impostor),
    later(Protection::SectorOwner, "P5", How::Seeds(Scenario::Impostor)),
    soon(Protection::EpochsHome, "P1", Scenario::Calm),
    later(Protection::EpochGeneration, "P5", How::Seeds(Scenario::Impostor)),
    soon(Protection::GapsFilled, "P1", Scenario::Impostor),
    later(Protection::RebuildLock, "P3", How::Seeds(Scenario::Mixed)),
    later(Protection::SettledOnto, "P1", How::Seeds(Scenario::Storm)),
    soon(Protection::EpochsToReplacement, "P1", Scenario::Beyond),
    later(Protection::CheckpointToReplacement, "P1", How::Seeds(Scenario::Storm)),
    soon(Protection::BlankAtFirst, "P4", Scenario::Impostor),
    soon(Protection::SuperblockFlushed, "P6", Scenario::Rot),
    later(Protection::SuperblockBeside, "P1", How::Seeds(Scenario::Storm)),
    later(Protection::StartRecordsFirst, "P9", How::Seeds(Scenario::Storm)),
    soon(Protection::NewLineage, "P7", Scenario::Restart),
    soon(Protection::LineageCompared, "P7", Scenario::Restart),
    later(Protection::StaleRefused, "P6", How::Seeds(Scenario::Impostor)),
    later(Protection::NewestCopy, "P6", How::Seeds(Scenario::Impostor)),
    soon(Protection::OverwrittenNoticed, "P5", Scenario::Impostor),
    soon(Protection::LastIsKept, "P9", Scenario::Beyond),
];

/// Protections that no run has missed so far, and what seems to be the reason.
pub const OPEN: &[(Protection, &str)] = &[
    (
        Protection::MarkBeforeCompletion,
        "it needs a power cut, no write after it, and a member that is filled just then; seed 20006284 found it once",
    ),
    (
        Protection::JournalOwner,
        "the space of a new array is punched, and random nonces keep the frames of another apart as well",
    ),
    (
        Protection::FramePlace,
        "a shard with the right number and nonce is the right one wherever it lies; only an unanswered frame of a mirror could count where it was not written",
    ),
    (
        Protection::ReplacedKeepsFrame,
        "it needs a megabyte of frames and a power cut between two flushes; seed 40193 of crash-degraded found it once",
    ),
    (Protection::CheckpointDurable, "the ring must wrap around in the moment of a power cut"),
    (
        Protection::SumsKeepFrame,
        "an old page makes new blocks look damaged, and they are restored from the others",
    ),
    (Protection::ZeroBeforePunch, "it takes a power cut within one flush of a discard"),
    (
        Protection::DoubtAfterFlush,
        "what a failed flush lost does not match its checksum, and is restored; not reading it saves the work",
    ),
    (Protection::TornKept, "the blocks stay staged too, and go home again"),
    (
        Protection::TornNotUsed,
        "a block that too few members took does not match its checksum and is not used",
    ),
    (Protection::LostStaysInJournal, "it takes rows of which too much is lost; seed 105732 found it once"),
    (Protection::BareParityUnknown, "it takes rows of which too much is lost"),
    (Protection::OpenFlush, "the checker allows a read error in stripes that were being rewritten"),
    (Protection::SettledBeforeOpen, "the checker allows a read error in stripes that were being rewritten"),
    (Protection::ParityOfItsRow, "it takes a torn stripe, written again in part, and lost members"),
    (
        Protection::SlotInChecksum,
        "a block in the wrong place has another content, and so another checksum; tables know their own places",
    ),
    (Protection::BlockInChecksum, "the same"),
    (
        Protection::SectorPlace,
        "only a sector that says zero of a block that is not can do harm: else the blocks do not match, and are restored",
    ),
    (Protection::RebuiltForgotten, "it takes a replay older than what was filled, and lost members"),
    (Protection::TablesBeforeProgress, "blocks without checksums are restored as soon as somebody asks"),
    (
        Protection::EventRaised,
        "the write count tells members apart too; only an old copy of a member could pass",
    ),
    (Protection::TwoRounds, "it takes a crash while a change is recorded, and members lost at once"),
    (Protection::RecordBeforeActing, "it takes a crash while a loss is recorded, and the lost member back"),
    (Protection::SuperblockChecksum, "most fields have rules of their own, and four copies"),
    (Protection::GivenUpChange, "seeds 2546 and 4268 of beyond-crash found its like once"),
    (Protection::ReturnRecorded, "it takes a crash between the return of suspects and the next change"),
    (Protection::BeyondRefused, "the members that fail refuse the writes by themselves"),
];
