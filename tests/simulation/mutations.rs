//! Each protection of the data proven necessary: without it the simulation is run until it finds the
//! loss. Which kind of run finds it soonest is written down here; where a run looks is not changed for it.

#![allow(dead_code, reason = "the test and the tool each need some")]

use super::aimed::Aim;
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
    /// The seeds of a script, in order; a seed is a run.
    Aimed(Aim),
    /// The workloads of seeds from 0 on, on each shape, crashed at every operation; a crash is a run.
    Cuts,
}

impl How {
    pub fn name(self) -> &'static str {
        match self {
            Self::Seeds(scenario) => scenario.name(),
            Self::Aimed(_) => Scenario::Aimed.name(),
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
            How::Aimed(aim) => (1..=budget).zip(aim.seeds()).find_map(|(runs, seed)| self.aimed(runs, seed)),
            How::Cuts => self.cuts(budget),
        }
    }

    /// One run of a script. If two protections are taken away neither is to be missed alone.
    fn aimed(&self, runs: u64, seed: u64) -> Option<Found> {
        let options = RunOptions { seed, scenario: Some(Scenario::Aimed), ..RunOptions::default() };
        let failure = self.without(|| run_seed(&options)).err()?;
        let alone = |protection: Protection| {
            let _removed = Removed::new(&[protection]);
            run_seed(&options).is_ok()
        };
        let needs_both = self.and.is_none_or(|and| alone(and) && alone(self.protection));
        (needs_both && run_seed(&options).is_ok()).then_some(Found { runs, said: failure.message })
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

const fn aimed(protection: Protection, promise: &'static str, aim: Aim) -> Trial {
    Trial { soon: true, ..later(protection, promise, How::Aimed(aim)) }
}

const fn aimed_pair(protection: Protection, and: Protection, promise: &'static str, aim: Aim) -> Trial {
    Trial { and: Some(and), ..aimed(protection, promise, aim) }
}

const fn on_its_own(trial: Trial) -> Trial {
    Trial { journal: JournalOn::Own(1), ..trial }
}

/// What is run without each protection.
pub const TRIALS: &[Trial] = &[
    aimed(Protection::MarkBeforeCompletion, "P2, P4", Aim::Marked),
    soon(Protection::FrameBeforeAnswer, "P2", Scenario::Mixed),
    later(Protection::FramesInOrder, "P2", How::Seeds(Scenario::CrashDegraded)),
    later(Protection::FailedFrameWrite, "P1, P2", How::Seeds(Scenario::Restart)),
    later(Protection::NonceChain, "P4", How::Seeds(Scenario::Storm)),
    aimed(Protection::EveryFrameTried, "P4", Aim::Hidden),
    soon(Protection::ShardChecksum, "P2, P5", Scenario::Storm),
    aimed(Protection::JournalOwner, "P5", Aim::Foreign),
    aimed(Protection::FramePlace, "P5", Aim::Misdirected),
    later(Protection::HeaderChecksum, "P5", How::Seeds(Scenario::Storm)),
    later(Protection::ShardSlot, "P5", How::Seeds(Scenario::Storm)),
    later(Protection::FramesMended, "P1", How::Seeds(Scenario::Storm)),
    aimed(Protection::FramesFlushed, "P1", Aim::Mended),
    aimed(Protection::ReleaseByLaterFlush, "P1", Aim::Released),
    aimed(Protection::WrittenBeforeRelease, "P9", Aim::Unwritten),
    aimed(Protection::ReplacedKeepsFrame, "P1", Aim::Replaced),
    aimed(Protection::CheckpointDurable, "P1", Aim::Reused),
    aimed(Protection::SumsKeepFrame, "P1", Aim::Passed),
    later(Protection::EpochsKeepFrame, "P1", How::Seeds(Scenario::Storm)),
    soon(Protection::FlushMembers, "P1", Scenario::CrashDegraded),
    soon(Protection::FuaMembers, "P1", Scenario::Rot),
    soon(Protection::MergeAlone, "P2", Scenario::Mixed),
    aimed(Protection::DegradedInJournal, "P3", Aim::Degraded),
    later(Protection::ZeroBeforePunch, "P1", How::Seeds(Scenario::Hammer)),
    later(Protection::UnansweredPunch, "P5", How::Seeds(Scenario::Impostor)),
    aimed(Protection::DoubtAfterFlush, "P2", Aim::Doubted),
    aimed(Protection::LostNotRead, "P5", Aim::LostRead),
    later(Protection::DegradedReadLock, "P5", How::Seeds(Scenario::Hammer)),
    soon(Protection::BlockChecksum, "P5", Scenario::Rot),
    soon(Protection::ParityInJournal, "P3", Scenario::Hammer),
    later(Protection::WriteAheadFlush, "P3", How::Seeds(Scenario::Storm)),
    soon(Protection::ParityDelta, "P3", Scenario::Degraded),
    later(Protection::FailedHomeWrite, "P6", How::Seeds(Scenario::Mixed)),
    soon(Protection::TornKept, "P3", Scenario::Upheaval),
    later(Protection::TornNotUsed, "P5", How::Seeds(Scenario::Upheaval)),
    soon(Protection::NewerStaysStaged, "P2", Scenario::Rot),
    aimed(Protection::RestKeepsEntry, "P4", Aim::Between),
    soon(Protection::FreshIsZero, "P4", Scenario::Calm),
    soon(Protection::FreshInJournal, "P4", Scenario::Crash),
    aimed(Protection::LostStaysInJournal, "P1", Aim::LostBlock),
    aimed(Protection::BareParityUnknown, "P5", Aim::BareRow),
    soon(Protection::OpenInJournal, "P4", Scenario::Crash),
    later(Protection::OpenFlush, "P4", How::Seeds(Scenario::Hammer)),
    soon(Protection::OpenChecksums, "P4", Scenario::Crash),
    later(Protection::SameInJournal, "P4", How::Seeds(Scenario::Hammer)),
    aimed(Protection::SettledBeforeOpen, "P1", Aim::Unsettled),
    aimed(Protection::DecidedInJournal, "P4", Aim::Decided),
    later(Protection::LostIsUnknown, "P4, P5", How::Seeds(Scenario::CrashDegraded)),
    soon(Protection::StripesProven, "P5", Scenario::Discard),
    soon(Protection::SectorChecksum, "P5", Scenario::Impostor),
    soon(Protection::SectorPlace, "P5", Scenario::Mislaid),
    later(Protection::SectorOwner, "P5", How::Seeds(Scenario::Impostor)),
    soon(Protection::EpochsHome, "P1", Scenario::Calm),
    later(Protection::EpochGeneration, "P5", How::Seeds(Scenario::Impostor)),
    soon(Protection::GapsFilled, "P1", Scenario::Impostor),
    aimed(Protection::UnknownIsGap, "P1", Aim::Unfilled),
    aimed(Protection::TablesAfterScrub, "P1", Aim::Scrubbed),
    later(Protection::TablesBeforeMap, "P3", How::Seeds(Scenario::Discard)),
    aimed(Protection::TablesOfTheNew, "P1", Aim::Joined),
    later(Protection::RebuildLock, "P3", How::Seeds(Scenario::Mixed)),
    aimed(Protection::RebuiltForgotten, "P1", Aim::Forgotten),
    aimed(Protection::UnknownFilled, "P1", Aim::Unknown),
    aimed(Protection::TablesBeforeProgress, "P1", Aim::Unrecorded),
    later(Protection::SettledOnto, "P1", How::Seeds(Scenario::Storm)),
    soon(Protection::EpochsToReplacement, "P1", Scenario::Beyond),
    soon(Protection::BlankAtFirst, "P4", Scenario::Impostor),
    aimed(Protection::RecordBeforeActing, "P2", Aim::Acting),
    soon(Protection::SuperblockFlushed, "P6", Scenario::Rot),
    soon(Protection::SuperblockChecksum, "P5", Scenario::Mislaid),
    later(Protection::SuperblockBeside, "P1", How::Seeds(Scenario::Storm)),
    soon(Protection::StartRecordsFirst, "P9", Scenario::Upheaval),
    soon(Protection::NewLineage, "P7", Scenario::Restart),
    soon(Protection::LineageCompared, "P7", Scenario::Restart),
    later(Protection::EventRaised, "P6", How::Seeds(Scenario::Impostor)),
    later(Protection::StaleRefused, "P6", How::Seeds(Scenario::Impostor)),
    aimed(Protection::GivenUpChange, "P9", Aim::GivenUp),
    later(Protection::NewestCopy, "P6", How::Seeds(Scenario::Impostor)),
    soon(Protection::OverwrittenNoticed, "P5", Scenario::Impostor),
    soon(Protection::LastIsKept, "P9", Scenario::Beyond),
    soon(Protection::ReturnRecorded, "P9", Scenario::Upheaval),
    aimed(Protection::OwnMapCompared, "P6", Aim::ImageReturns),
    aimed(Protection::ImageByMap, "P6", Aim::ImageByMap),
    aimed(Protection::ImageByCheckpoint, "P6", Aim::ImageByCheckpoint),
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
    (
        aimed_pair(Protection::ParityOfItsRow, Protection::ParityInJournal, "P5", Aim::Outdated),
        "the journal has all parity that anybody holds when a block comes home, and that counts",
    ),
    (
        aimed_pair(Protection::TwoRounds, Protection::ImageByCheckpoint, "P6", Aim::ImageByEvent),
        "an old copy of a member that is a single change behind is known by its checkpoint, too, unless the journal still has all that it lacks",
    ),
    (
        aimed_pair(Protection::BeyondRefused, Protection::FailedFrameWrite, "P2", Aim::Refused),
        "the members that fail refuse the writes by themselves, so that no frame is written",
    ),
];
