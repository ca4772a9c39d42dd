//! The log as its users see it: append a record, wait until it is written, sync, release.
//!
//! Appending joins the batch that is being filled. A commit, scheduled by whoever finds none
//! scheduled, seals the batch into a frame once the tasks that are ready now have had their turn:
//! so a lone writer does not wait, and many writers share a frame. While a frame is in flight the
//! batch fills, as every frame costs a write of each member: the more are in flight, the larger one
//! has to be to join them.
//!
//! Data records leave a part of the ring to the records that bring data home, without which the
//! ring could fill up for good.

use super::recover::Spec;
use super::ring::Ring;
use super::state::{Batch, Flying, State};
use crate::codec::Codec;
use crate::env::{Env, LocalFuture};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    OpenRecord, ParityRecord, Tail, ZERO_RECORD_LEN, data_record_len, open_record_len, parity_record_len,
};
use crate::geometry::Shape;
use crate::integrity::{Pin, Pinned};
use crate::member::Member;
use crate::mutation::{Protection, without};
use crate::units::ArrayId;
use bytes::Bytes;
use futures::channel::oneshot;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Most bytes of records in a frame.
pub const MAX_BATCH_BYTES: usize = 1 << 20;

/// The members that bear the log, as the layer above knows them.
pub trait Bearers: Send + Sync {
    /// By number of the shard: every member that takes frames now, replacements included. Fails if
    /// too few members are left to write to.
    fn bearers(&self) -> Result<Vec<(usize, Arc<Member>)>>;

    /// Every member that a sync makes durable: the bearers, and those that blocks are brought home to.
    fn everyone(&self) -> Result<Vec<Arc<Member>>>;

    /// A member could not take its part. `Ok` once it no longer counts, durably.
    fn failed<'a>(&'a self, member: &'a Member, error: Error) -> LocalFuture<'a, Result<()>>;
}

/// Where the log lies on each member, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Start of the journal area.
    pub offset: u64,
    /// Its size.
    pub len: u64,
}

/// A record on its way: in which frame, and word when that frame is written.
pub struct Ticket {
    seq: u64,
    written: oneshot::Receiver<Result<()>>,
}

/// Keeps frames in the ring until it is dropped; the next sync then releases them.
struct Hold {
    /// Not to keep the journal itself: what a crash leaves in the tables would never be freed.
    journal: Weak<Journal>,
    seqs: Vec<u64>,
}

impl Pin for Hold {
    fn seq(&self) -> u64 {
        self.seqs.first().copied().unwrap_or(u64::MAX)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(journal) = self.journal.upgrade() {
            journal.home(self.seqs.drain(..));
        }
    }
}

impl Ticket {
    /// Completes when this frame and all before it are on every member that counts (in its
    /// cache: see [`Journal::sync`]). On an error it may be written later all the same.
    pub async fn written(self) -> Result<()> {
        let gone = || Error::new(ErrorKind::ShuttingDown, "the journal is closed");
        self.written.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// The log of one array. See the module.
pub struct Journal {
    pub(super) env: Env,
    pub(super) codec: Codec,
    pub(super) array: ArrayId,
    pub(super) place: Place,
    pub(super) checkpoints_offset: u64,
    /// Of the array.
    shape: Shape,
    /// How frames are cut: its chunk means nothing.
    pub(super) code: Shape,
    pub(super) bearers: Arc<dyn Bearers>,
    /// Blocks in it that have still to come home, counted by whoever stages them.
    pub staged: Arc<AtomicU64>,
    state: Mutex<State>,
}

/// What a record is appended for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Something new: leaves room for what brings it home.
    Data,
    /// Whole stripes: leaves room for what brings the rest home.
    Stripes,
    /// Makes room in the end.
    Progress,
}

impl Journal {
    /// A log whose ring holds what `ring` says.
    pub(super) fn with_ring(spec: Spec, ring: Ring, generation: u64, last_version: u64) -> Result<Arc<Self>> {
        let codec = Codec::new(spec.code.data(), spec.code.parity())?;
        let Spec { env, array, shape, code, place, checkpoints_offset, bearers, .. } = spec;
        Ok(Arc::new(Self {
            env,
            codec,
            array,
            place,
            checkpoints_offset,
            shape,
            code,
            bearers,
            staged: Arc::default(),
            state: Mutex::new(State::new(ring, generation, last_version)),
        }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs new content of whole blocks from `block` on. `stage` is told the version and the frame
    /// that holds it, in the order of the log, and answers the frames of the contents that these
    /// take the place of: they are needed no more once this one is durable.
    pub async fn data(
        self: &Arc<Self>,
        block: u64,
        bytes: &[u8],
        stage: impl FnOnce(u64, u64) -> Vec<u64>,
    ) -> Result<Ticket> {
        let len = data_record_len(bytes.len() / 4096);
        self.append(len, Purpose::Data, |state, seq| {
            state.last_version += 1;
            let version = state.last_version;
            // One pin for each block: they go home one by one.
            state.open.pins += (bytes.len() / 4096) as u64;
            state.open.payload.data(version, block, bytes);
            let replaced = stage(version, seq);
            match without(Protection::ReplacedKeepsFrame) {
                true => state.home.extend(replaced),
                false => state.open.replaces.extend(replaced),
            }
        })
        .await
    }

    /// Logs a block anew that cannot come home, so that the ring before it can be used again. `take` is told
    /// the version and the frame, enters them where the block is staged, and answers its content and the
    /// frame that had it; none if it is staged no more.
    pub async fn again(
        self: &Arc<Self>,
        block: u64,
        take: impl FnOnce(u64, u64) -> Option<(Bytes, u64)>,
    ) -> Result<Ticket> {
        let len = data_record_len(1).max(ZERO_RECORD_LEN);
        self.append(len, Purpose::Progress, |state, seq| {
            let version = state.last_version + 1;
            state.open.pins += 1;
            if let Some((bytes, replaced)) = take(version, seq) {
                state.last_version = version;
                state.open.payload.data(version, block, &bytes);
                state.open.replaces.push(replaced);
            } else {
                state.open.payload.zero(0, 0, 0);
                state.home.push(seq);
            }
        })
        .await
    }

    /// Frames before this one are the older half of those that are needed.
    pub fn older_half(&self) -> u64 {
        let state = self.state();
        state.ring.tail().seq.midpoint(state.ring.head().seq)
    }

    /// Waits until blocks of so many bytes are likely to find room.
    pub async fn room(&self, bytes: usize) {
        loop {
            let waiting = {
                let mut state = self.state();
                let len = data_record_len(bytes / 4096);
                if state.closed || state.failing.is_some() || self.has_room(&state, len, Purpose::Data) {
                    // What is wrong the next record is told.
                    return;
                }
                let (sender, receiver) = oneshot::channel();
                state.waiting.push_back(sender);
                receiver
            };
            // Closed or room: the loop finds out.
            let _ = waiting.await;
        }
    }

    /// Logs new parity of rows whose data goes home.
    pub async fn parity(self: &Arc<Self>, record: &ParityRecord) -> Result<Ticket> {
        let len = parity_record_len(record.pieces.len(), record.rows.len());
        self.append(len, Purpose::Progress, |state, _| {
            state.open.pins += 1;
            state.open.payload.parity(record);
        })
        .await
    }

    /// Logs that whole stripes are about to be changed at home. What is staged of them up to the
    /// record's version must be home durably.
    pub async fn open(self: &Arc<Self>, record: &OpenRecord) -> Result<Ticket> {
        self.append_open(record, Purpose::Stripes).await
    }

    /// Logs what a replay made of an opened stripe: its checksums, as in [`OpenRecord`]. It must be home
    /// durably.
    pub async fn decided(self: &Arc<Self>, stripe: u64, crcs: Vec<u32>) -> Result<Ticket> {
        // What is staged of the stripe stays so.
        let record = OpenRecord { first_stripe: stripe, count: 1, crcs, ..OpenRecord::default() };
        // Nobody makes room before the array serves.
        self.append_open(&record, Purpose::Progress).await
    }

    async fn append_open(self: &Arc<Self>, record: &OpenRecord, purpose: Purpose) -> Result<Ticket> {
        let len = open_record_len(record.crcs.len(), !record.same.is_empty());
        self.append(len, purpose, |state, _| {
            state.open.pins += 1;
            state.open.payload.open(record);
        })
        .await
    }

    /// Logs that whole stripes become unallocated, and what is staged of them up to a version void.
    pub async fn zero(self: &Arc<Self>, first_stripe: u64, count: u64, up_to_version: u64) -> Result<Ticket> {
        self.append(ZERO_RECORD_LEN, Purpose::Stripes, |state, _| {
            state.open.pins += 1;
            state.open.payload.zero(first_stripe, count, up_to_version);
        })
        .await
    }

    /// Logs nothing, in a frame that takes the place of any that was not honoured before a crash.
    pub async fn mark(self: &Arc<Self>) -> Result<()> {
        let ticket = self.append(ZERO_RECORD_LEN, Purpose::Progress, |state, _| {
            state.open.pins += 1;
            state.open.payload.zero(0, 0, 0);
        });
        let ticket = ticket.await?;
        let pin = self.hold(&ticket);
        ticket.written().await?;
        drop(pin);
        Ok(())
    }

    /// Keeps the frame of a record that brings something home. Take it once for each record.
    pub fn hold(self: &Arc<Self>, ticket: &Ticket) -> Pinned {
        self.hold_all(vec![ticket.seq])
    }

    /// Keeps frames found by a replay, in ascending order. Take it once.
    pub fn hold_all(self: &Arc<Self>, seqs: Vec<u64>) -> Pinned {
        Arc::new(Hold { journal: Arc::downgrade(self), seqs })
    }

    /// The highest version given out.
    pub fn last_version(&self) -> u64 {
        self.state().last_version
    }

    /// What frames were needed for is home, in the members' caches: the next sync releases them.
    pub fn home(&self, seqs: impl IntoIterator<Item = u64>) {
        self.state().home.extend(seqs);
    }

    /// Every page of the tables that has changed so far goes home now.
    pub fn pages_go_home(&self) {
        self.state().since_pages = 0;
    }

    /// Whether a sync would release something.
    pub fn wants_sync(&self) -> bool {
        let state = self.state();
        state.has_home() || state.checkpoint.is_some()
    }

    /// Whether the ring is filling up.
    pub fn is_pressed(&self) -> bool {
        let state = self.state();
        !state.waiting.is_empty() || self.needed(&state) > state.sixteenths(10)
    }

    /// Whether so much of the ring is in use that changed pages of the tables should go home, since
    /// they may be what keeps it.
    pub fn wants_space(&self) -> bool {
        let state = self.state();
        self.needed(&state) > state.sixteenths(11) && state.since_pages > state.sixteenths(2)
    }

    /// Bytes of the ring in use, with what the parity that brings the staged blocks home may take: m times
    /// their space, which must always be found.
    fn needed(&self, state: &State) -> u64 {
        let rows = self.staged.load(Ordering::Acquire) * self.shape.parity() as u64;
        // A sixteenth for what frames take beside their records.
        state.ring.used() + rows * parity_record_len(1, 1) as u64 / self.code.data() as u64 * 17 / 16
    }

    /// Most bytes of parity to log before the space of what came home can be used again.
    pub fn parity_budget(&self) -> u64 {
        self.state().ring.len() / 32 * self.code.data() as u64
    }

    /// Whether nothing in the log is needed.
    pub fn is_idle(&self) -> bool {
        let state = self.state();
        state.open.payload.is_empty() && state.ring.tail() == state.ring.head()
    }

    /// Number of the next frame.
    pub fn next_frame(&self) -> u64 {
        let state = self.state();
        // A batch that is being filled becomes it.
        state.ring.head().seq + u64::from(!state.open.payload.is_empty())
    }

    /// Number of the oldest frame that is needed; the next one's if none is.
    pub fn oldest_frame(&self) -> u64 {
        self.state().ring.tail().seq
    }

    /// Writes a checkpoint that reaches every bearer there is now, durably.
    pub async fn write_checkpoint(self: &Arc<Self>) -> Result<()> {
        self.state().checkpoint_wanted = true;
        // One sync writes it, the next makes it durable.
        self.sync().await?;
        self.sync().await
    }

    /// Frames are no longer tried to be written; who waits is refused.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.open.waiters.clear();
        // They stay there: what was not written is not released.
        state.flying.values_mut().for_each(|flying| flying.waiters.clear());
        state.waiting.clear();
    }

    async fn append(
        self: &Arc<Self>,
        len: usize,
        purpose: Purpose,
        push: impl FnOnce(&mut State, u64),
    ) -> Result<Ticket> {
        loop {
            let waiting = {
                let mut state = self.state();
                if state.closed {
                    return Err(Error::new(ErrorKind::ShuttingDown, "the journal is closed"));
                }
                if let Some((kind, why)) = &state.failing {
                    return Err(Error::new(*kind, why.clone()));
                }
                if self.has_room(&state, len, purpose) {
                    let (sender, written) = oneshot::channel();
                    state.open.waiters.push(sender);
                    let seq = state.ring.head().seq;
                    push(&mut state, seq);
                    // Else who is being written goes on with it.
                    let schedule = state.may_fly() && !std::mem::replace(&mut state.commit_scheduled, true);
                    drop(state);
                    if schedule {
                        self.schedule();
                    }
                    return Ok(Ticket { seq, written });
                }
                let (sender, receiver) = oneshot::channel();
                state.waiting.push_back(sender);
                receiver
            };
            // Closed or room: the loop finds out.
            let _ = waiting.await;
        }
    }

    /// Whether a record of `len` bytes may join the batch.
    fn has_room(&self, state: &State, len: usize, purpose: Purpose) -> bool {
        let batch = state.open.payload.len();
        let fits = batch == 0 || batch + len <= MAX_BATCH_BYTES;
        // Frames are not as full as they could be, and one may not fit at the end of the ring.
        fits && match purpose {
            Purpose::Data => self.needed(state) < state.sixteenths(13),
            Purpose::Stripes => self.needed(state) < state.sixteenths(14),
            Purpose::Progress => true,
        }
    }

    /// Takes the batch if it may become a frame now.
    pub(super) fn seal(&self, nonce: u64) -> Option<(Tail, Batch)> {
        let mut state = self.state();
        state.commit_scheduled = false;
        if state.open.payload.is_empty() || !state.may_fly() || state.closed {
            return None;
        }
        let len = crate::format::footprint_for(state.open.payload.len(), self.code.data());
        let pins = state.open.pins;
        let place = state.ring.place(len, nonce, pins)?;
        state.since_pages += len;
        let mut batch = std::mem::take(&mut state.open);
        let (waiters, replaces) = (std::mem::take(&mut batch.waiters), std::mem::take(&mut batch.replaces));
        state.flying.insert(place.seq, Flying { waiters, replaces, done: false });
        state.wake();
        Some((place, batch))
    }
}
