//! What the log has in memory: the batch that is being filled, the frames in flight, the ring, and who waits.

use super::ring::Ring;
use crate::error::{ErrorKind, Result};
use crate::format::{PayloadWriter, Tail};
use crate::mutation::{Protection, without};
use futures::channel::oneshot;
use std::collections::{BTreeMap, VecDeque};

/// Frames being written at once.
const MAX_IN_FLIGHT: usize = 4;
/// So many bytes are worth a frame beside one that is being written, four times as many beside two.
const WORTH_A_FRAME: usize = 16 << 10;

#[derive(Default)]
pub(super) struct Batch {
    pub payload: PayloadWriter,
    pub waiters: Vec<oneshot::Sender<Result<()>>>,
    pub pins: u64,
    /// Frames that are needed by one less when this one is durable.
    pub replaces: Vec<u64>,
}

/// A frame in flight; `done` when it is written.
pub(super) struct Flying {
    pub waiters: Vec<oneshot::Sender<Result<()>>>,
    pub replaces: Vec<u64>,
    pub done: bool,
}

pub(super) struct State {
    pub ring: Ring,
    pub open: Batch,
    pub commit_scheduled: bool,
    pub flying: BTreeMap<u64, Flying>,
    /// Who waits until the batch or the ring has room.
    pub waiting: VecDeque<oneshot::Sender<()>>,
    pub last_version: u64,
    /// Bytes of the ring that frames took since pages of the tables last went home.
    pub since_pages: u64,
    /// Frames needed no more once the home writes made so far are durable.
    pub home: Vec<u64>,
    pub generation: u64,
    /// A checkpoint that is written, and not known to be durable.
    pub checkpoint: Option<Tail>,
    /// A member lacks one.
    pub checkpoint_wanted: bool,
    /// Why frames cannot be written now: nothing new is taken until they can.
    pub failing: Option<(ErrorKind, String)>,
    /// By [`Reach`].
    pub syncs: [Syncs; 2],
    pub closed: bool,
}

impl State {
    /// Nothing on its way.
    pub fn new(ring: Ring, generation: u64, last_version: u64) -> Self {
        Self {
            ring,
            open: Batch::default(),
            commit_scheduled: false,
            flying: BTreeMap::new(),
            waiting: VecDeque::new(),
            last_version,
            since_pages: 0,
            home: Vec::new(),
            generation,
            checkpoint: None,
            checkpoint_wanted: false,
            failing: None,
            syncs: <[Syncs; 2]>::default(),
            closed: false,
        }
    }

    /// Whether the batch may become a frame beside those that are being written.
    pub fn may_fly(&self) -> bool {
        match self.flying.len() {
            0 => true,
            MAX_IN_FLIGHT.. => false,
            some => self.open.payload.len() >= WORTH_A_FRAME << (2 * (some - 1)),
        }
    }

    /// Those of [`Self::home`] that the next flush releases.
    ///
    /// Not frames that are still to be written, or tried again, whoever needs them no more: a checkpoint would
    /// pass over a frame that nobody could read, or its place be given away before it is written.
    pub fn take_home(&mut self) -> Vec<u64> {
        let unwritten = self.unwritten();
        let (written, waiting) = std::mem::take(&mut self.home).into_iter().partition(|seq| *seq < unwritten);
        self.home = waiting;
        written
    }

    /// Whether the next flush would release something.
    pub fn has_home(&self) -> bool {
        let unwritten = self.unwritten();
        self.home.iter().any(|seq| *seq < unwritten)
    }

    /// The first frame that was not honoured.
    fn unwritten(&self) -> u64 {
        let next = self.ring.head().seq;
        match without(Protection::WrittenBeforeRelease) {
            true => next,
            false => self.flying.first_key_value().map_or(next, |(seq, _)| *seq),
        }
    }

    /// A part of the ring, in bytes.
    pub fn sixteenths(&self, count: u64) -> u64 {
        self.ring.len() / 16 * count
    }

    /// Lets everybody who waits for room look again.
    pub fn wake(&mut self) {
        for waiting in self.waiting.drain(..) {
            // Who went away needs no room.
            let _ = waiting.send(());
        }
    }
}

/// What a sync makes durable.
#[derive(Clone, Copy)]
pub(super) enum Reach {
    /// The log and what was brought home: then frames are released.
    Everything,
    /// The log alone.
    Log,
}

/// Who waits for the next sync, and whether one runs.
#[derive(Default)]
pub(super) struct Syncs {
    pub busy: bool,
    pub waiters: Vec<oneshot::Sender<Result<()>>>,
}
