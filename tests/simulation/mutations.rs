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
    /// The one that keeps the promise, too: both are taken away.
    pub and: Option<Protection>,
    /// The promises that it keeps.
    pub promise: &'static str,
    /// Whether it takes few runs, so that the tests can afford them.
    pub soon: bool,
    pub how: How,
    pub journal: JournalOn,
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
                    journal: (scenario != Scenario::Discard).then_some(self.journal),
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
            let sweep = Sweep { seed, shape, journal: self.journal, variety: Variety::Few, trace: false };
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
        let both: Vec<Protection> = self.and.into_iter().chain([self.protection]).collect();
        let _removed = Removed::new(&both);
        run()
    }
}

const fn soon(protection: Protection, promise: &'static str, scenario: Scenario) -> Trial {
    Trial { soon: true, ..later(protection, promise, How::Seeds(scenario)) }
}

pub const fn later(protection: Protection, promise: &'static str, how: How) -> Trial {
    Trial { protection, and: None, promise, soon: false, how, journal: JournalOn::Slots }
}

const fn pair(protection: Protection, and: Protection, promise: &'static str, scenario: Scenario) -> Trial {
    Trial { and: Some(and), ..soon(protection, promise, scenario) }
}

const fn on_its_own(trial: Trial) -> Trial {
    Trial { journal: JournalOn::Own(1), ..trial }
}

/// What is run without each protection.
pub const TRIALS: &[Trial] = &[
    on_its_own(later(Protection::MarkBeforeCompletion, "P2, P4", How::Seeds(Scenario::Refill))),
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
    later(Protection::ZeroBeforePunch, "P1", How::Seeds(Scenario::Hammer)),
    later(Protection::UnansweredPunch, "P5", How::Seeds(Scenario::Impostor)),
    later(Protection::DegradedReadLock, "P5", How::Seeds(Scenario::Hammer)),
    soon(Protection::BlockChecksum, "P5", Scenario::Rot),
    soon(Protection::ParityInJournal, "P3", Scenario::Crash),
    later(Protection::WriteAheadFlush, "P3", How::Seeds(Scenario::Storm)),
    soon(Protection::ParityDelta, "P3", Scenario::Degraded),
    later(Protection::FailedHomeWrite, "P6", How::Seeds(Scenario::Mixed)),
    soon(Protection::TornKept, "P3", Scenario::Upheaval),
    soon(Protection::TornNotUsed, "P5", Scenario::Upheaval),
    soon(Protection::NewerStaysStaged, "P2", Scenario::Rot),
    soon(Protection::FreshIsZero, "P4", Scenario::Calm),
    soon(Protection::FreshInJournal, "P4", Scenario::Crash),
    soon(Protection::OpenInJournal, "P4", Scenario::Crash),
    later(Protection::OpenFlush, "P4", How::Seeds(Scenario::Hammer)),
    soon(Protection::OpenChecksums, "P4", Scenario::Crash),
    later(Protection::SameInJournal, "P4", How::Seeds(Scenario::Hammer)),
    later(Protection::LostIsUnknown, "P4, P5", How::Seeds(Scenario::CrashDegraded)),
    soon(Protection::StripesProven, "P5", Scenario::Discard),
    soon(Protection::SectorChecksum, "P5", Scenario::Impostor),
    soon(Protection::SectorPlace, "P5", Scenario::Mislaid),
    later(Protection::SectorOwner, "P5", How::Seeds(Scenario::Impostor)),
    soon(Protection::EpochsHome, "P1", Scenario::Calm),
    later(Protection::EpochGeneration, "P5", How::Seeds(Scenario::Impostor)),
    soon(Protection::GapsFilled, "P1", Scenario::Impostor),
    later(Protection::RebuildLock, "P3", How::Seeds(Scenario::Mixed)),
    later(Protection::SettledOnto, "P1", How::Seeds(Scenario::Storm)),
    soon(Protection::EpochsToReplacement, "P1", Scenario::Beyond),
    soon(Protection::BlankAtFirst, "P4", Scenario::Impostor),
    soon(Protection::SuperblockFlushed, "P6", Scenario::Rot),
    soon(Protection::SuperblockChecksum, "P5", Scenario::Mislaid),
    later(Protection::SuperblockBeside, "P1", How::Seeds(Scenario::Storm)),
    soon(Protection::StartRecordsFirst, "P9", Scenario::Upheaval),
    soon(Protection::NewLineage, "P7", Scenario::Restart),
    soon(Protection::LineageCompared, "P7", Scenario::Restart),
    later(Protection::EventRaised, "P6", How::Seeds(Scenario::Impostor)),
    later(Protection::StaleRefused, "P6", How::Seeds(Scenario::Impostor)),
    later(Protection::NewestCopy, "P6", How::Seeds(Scenario::Impostor)),
    soon(Protection::OverwrittenNoticed, "P5", Scenario::Impostor),
    soon(Protection::LastIsKept, "P9", Scenario::Beyond),
    soon(Protection::ReturnRecorded, "P9", Scenario::Upheaval),
    on_its_own(soon(Protection::LastBearerKept, "P9", Scenario::Beyond)),
];

/// Protections that another one stands in for, with that: both must be taken away to see the loss.
pub const COVERED: &[(Trial, &str)] = &[
    (
        pair(Protection::SlotInChecksum, Protection::SectorOwner, "P5", Scenario::Mislaid),
        "a checksum is compared with an entry of the member's own table: a block of another slot has to bring its entry along, and a sector of another table does not count",
    ),
    (
        pair(Protection::BlockInChecksum, Protection::SectorPlace, "P5", Scenario::Mislaid),
        "the same: a block of another place has to bring its entry along, and a sector of another place does not count",
    ),
    (
        pair(Protection::CheckpointToReplacement, Protection::MarkBeforeCompletion, "P1", Scenario::Refill),
        "before a replacement counts a frame is logged, and as soon as that is needed no more everybody gets a checkpoint anyhow",
    ),
];

/// Protections that no run has missed so far, and what seems to be the reason.
pub const OPEN: &[(Protection, &str)] = &[
    (
        Protection::JournalOwner,
        "the first MiB of a member is cleared when it is made one, the beginning of the ring in it: a chain from another array has no first frame any more, and random nonces keep later ones out",
    ),
    (
        Protection::FramePlace,
        "a shard with the right number and nonce is the right one wherever it lies; only an unanswered frame of a mirror could count where it was not written",
    ),
    (
        Protection::ReplacedKeepsFrame,
        "it needs a megabyte of frames and a power cut between two flushes; seed 40193 of crash-degraded found it once",
    ),
    (
        Protection::CheckpointDurable,
        "records of data stop at a part of the ring, those of stripes at three quarters: before the space that a checkpoint frees is reached so much must be logged that a sync comes in between",
    ),
    (
        Protection::SumsKeepFrame,
        "every home write enters its stripe in the epoch map, too, under the same pin, and the pages of both go home together: only a stripe written whole between the two could lose its frame",
    ),
    (
        Protection::DoubtAfterFlush,
        "what a failed flush lost does not match its checksum, and is restored; not reading it saves the work",
    ),
    (Protection::LostStaysInJournal, "it takes rows of which too much is lost; seed 105732 found it once"),
    (
        Protection::BareParityUnknown,
        "rows of which too much is lost come from torn stripes, and there a start has made parity unknown already",
    ),
    (
        Protection::SettledBeforeOpen,
        "it takes a power cut between a frame and its flush, which keeps the frame and loses what came home within 200 ms before: the checker would see it now, and no run has met it",
    ),
    (
        Protection::ParityOfItsRow,
        "a record has all parity that anybody holds; parity that nobody held then is read at a replay only if what a replay touches were not filled anew",
    ),
    (
        Protection::RebuiltForgotten,
        "it takes a stripe first written while its replacement was being filled, and a record of how far that is before the journal is empty",
    ),
    (
        Protection::DecidedInJournal,
        "it takes a torn stripe, and a power cut after it is written again; seed 109 of storm found it once",
    ),
    (
        Protection::TablesBeforeProgress,
        "blocks without checksums are restored as soon as somebody asks, and filling on brings the tables home",
    ),
    (
        Protection::TwoRounds,
        "an old copy of a member is known by its epoch map and by its checkpoint, too; one that is a single event behind has had all that the journal does not have any more",
    ),
    (
        Protection::RecordBeforeActing,
        "what a lost member misses before its loss is recorded is in the journal; later its checkpoint is two behind",
    ),
    (
        Protection::GivenUpChange,
        "who may be missing then depends on who got how much of the change; seeds 2546 and 4268 of beyond-crash found its like once",
    ),
    (
        Protection::OwnMapCompared,
        "it takes an image put in the place of a member that was lost, and taken while it was in sync; the epoch in its superblock tells of most",
    ),
    (
        Protection::ImageByMap,
        "an image that old is two checkpoints behind as well, unless nothing was logged since",
    ),
    (
        Protection::ImageByCheckpoint,
        "an image that old lacks changes of the epoch map as well, or changes of members",
    ),
    (Protection::BeyondRefused, "the members that fail refuse the writes by themselves"),
];
