//! Blocks that were answered from the journal and are not home yet.
//!
//! A read looks here first. Stripes come home in the order in which they were first written to,
//! so that the oldest frames of the journal are the first that nobody needs.

use crate::geometry::Shape;
use crate::journal::StagedBlock;
use crate::mutation::{Protection, without};
use crate::units::{BLOCK_BYTES, StripeIndex};
use bytes::Bytes;
use futures::channel::oneshot;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct State {
    blocks: BTreeMap<u64, StagedBlock>,
    queue: VecDeque<u64>,
    queued: HashSet<u64>,
    /// Stripes that cannot come home until something of them is written.
    parked: BTreeSet<u64>,
    waiting: Vec<oneshot::Sender<()>>,
}

/// The staged blocks of one array.
pub(super) struct Staging {
    stripe_blocks: u64,
    limit_blocks: u64,
    /// The journal keeps room for what brings so many home.
    count: Arc<AtomicU64>,
    state: Mutex<State>,
}

impl Staging {
    /// Holds at most about `limit_bytes`; `count` is that of its blocks, none so far.
    pub fn new(shape: &Shape, limit_bytes: u64, count: Arc<AtomicU64>) -> Self {
        Self {
            stripe_blocks: shape.stripe_bytes() / BLOCK_BYTES,
            limit_blocks: (limit_bytes / BLOCK_BYTES).max(1),
            count,
            state: Mutex::default(),
        }
    }

    /// Whether nothing is staged.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Whether a stripe waits to come home.
    pub fn has_queued(&self) -> bool {
        !self.state().queue.is_empty()
    }

    /// Whether so much is staged that it should be brought home at once.
    pub fn is_pressed(&self) -> bool {
        self.count.load(Ordering::Acquire) > self.limit_blocks / 4 * 3
    }

    /// Whether there is room for more. What several writers add at once may exceed the limit by as
    /// much as may be under way.
    pub fn has_room(&self) -> bool {
        self.count.load(Ordering::Acquire) < self.limit_blocks
    }

    /// Waits until something went home, or could not.
    pub async fn change(&self) {
        let (sender, receiver) = oneshot::channel();
        self.state().waiting.push(sender);
        if !self.has_room() {
            // Woken, or the sender is gone: the caller looks again.
            let _ = receiver.await;
        }
    }

    /// Lets everybody who waits look again.
    pub fn wake(&self) {
        for waiting in self.state().waiting.drain(..) {
            // Who went away needs no room.
            let _ = waiting.send(());
        }
    }

    /// Stages a block; answers the frame of the content it takes the place of.
    pub fn put(&self, block: u64, staged: StagedBlock) -> Option<u64> {
        let stripe = block / self.stripe_blocks;
        let mut state = self.state();
        let old = state.blocks.insert(block, staged).map(|s| s.seq);
        if old.is_none() {
            self.count.fetch_add(1, Ordering::AcqRel);
        }
        state.parked.remove(&stripe);
        if state.queued.insert(stripe) {
            state.queue.push_back(stripe);
        }
        old
    }

    /// What is staged of these blocks, in order.
    pub fn get(&self, blocks: Range<u64>) -> Vec<(u64, Bytes)> {
        if self.is_empty() {
            return Vec::new();
        }
        self.state().blocks.range(blocks).map(|(b, s)| (*b, s.bytes.clone())).collect()
    }

    /// Whether anything is staged of a stripe.
    pub fn has_any(&self, stripe: StripeIndex) -> bool {
        let blocks = stripe.0 * self.stripe_blocks..(stripe.0 + 1) * self.stripe_blocks;
        !self.is_empty() && self.state().blocks.range(blocks).next().is_some()
    }

    /// What is staged of a stripe, in order.
    pub fn of_stripe(&self, stripe: StripeIndex) -> Vec<(u64, StagedBlock)> {
        if self.is_empty() {
            return Vec::new();
        }
        let blocks = stripe.0 * self.stripe_blocks..(stripe.0 + 1) * self.stripe_blocks;
        self.state().blocks.range(blocks).map(|(b, s)| (*b, s.clone())).collect()
    }

    /// Enters a newer version of the same content of a block; answers that, and the frame that had it.
    pub fn renew(&self, block: u64, version: u64, seq: u64) -> Option<(Bytes, u64)> {
        let mut state = self.state();
        let staged = state.blocks.get_mut(&block)?;
        staged.version = version;
        Some((staged.bytes.clone(), std::mem::replace(&mut staged.seq, seq)))
    }

    /// Forgets a block that is home, unless it was staged anew; answers its frame.
    pub fn remove(&self, block: u64, version: u64) -> Option<u64> {
        let is_it = |s: &StagedBlock| s.version == version || without(Protection::NewerStaysStaged);
        let mut state = self.state();
        let seq = state.blocks.get(&block).filter(|s| is_it(s))?.seq;
        state.blocks.remove(&block);
        self.count.fetch_sub(1, Ordering::AcqRel);
        drop(state);
        self.wake();
        Some(seq)
    }

    /// Takes the stripes that have waited longest, at least one and as many as `take` agrees to, which
    /// is told how many blocks of a stripe there are, in address order.
    pub fn next_stripes(&self, mut take: impl FnMut(u64) -> bool) -> Vec<StripeIndex> {
        let mut state = self.state();
        let mut stripes = Vec::new();
        while let Some(stripe) = state.queue.front().copied() {
            let blocks = stripe * self.stripe_blocks..(stripe + 1) * self.stripe_blocks;
            if !take(state.blocks.range(blocks).count() as u64) && !stripes.is_empty() {
                break;
            }
            state.queue.pop_front();
            state.queued.remove(&stripe);
            stripes.push(stripe);
        }
        stripes.sort_unstable();
        stripes.into_iter().map(StripeIndex).collect()
    }

    /// Keeps a stripe aside that cannot come home until something of it is written.
    pub fn park(&self, stripe: StripeIndex) {
        let mut state = self.state();
        if !state.queued.contains(&stripe.0) {
            state.parked.insert(stripe.0);
        }
    }

    /// Tries again what was kept aside.
    pub fn unpark(&self) {
        let mut state = self.state();
        for stripe in std::mem::take(&mut state.parked) {
            if state.queued.insert(stripe) {
                state.queue.push_back(stripe);
            }
        }
    }

    /// Whether everything staged is kept aside.
    pub fn is_parked(&self) -> bool {
        let state = self.state();
        state.blocks.keys().all(|block| state.parked.contains(&(block / self.stripe_blocks)))
    }

    /// Puts a stripe that could not be brought home back in front.
    pub fn put_back(&self, stripe: StripeIndex) {
        let mut state = self.state();
        if state.queued.insert(stripe.0) {
            state.queue.push_front(stripe.0);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lays staged blocks over the bytes of a range that begins at `start`, a multiple of 4096.
pub(super) fn overlay(pieces: Vec<Bytes>, start: u64, staged: &[(u64, Bytes)]) -> Vec<Bytes> {
    let mut out = Vec::with_capacity(pieces.len() + 2 * staged.len());
    let mut staged = staged.iter().peekable();
    let mut at = start;
    for piece in pieces {
        let end = at + piece.len() as u64;
        let mut from = at;
        while let Some((block, bytes)) = staged.peek().filter(|(b, _)| b * BLOCK_BYTES < end) {
            let place = block * BLOCK_BYTES;
            if place > from {
                out.push(super::engine::part(&piece, from - at, place - from));
            }
            out.push(bytes.clone());
            from = place + BLOCK_BYTES;
            staged.next();
        }
        if from < end {
            out.push(super::engine::part(&piece, from - at, end - from));
        }
        at = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(version: u64, fill: u8) -> StagedBlock {
        StagedBlock { version, bytes: Bytes::from(vec![fill; 4096]), seq: version * 10 }
    }

    fn staging() -> Staging {
        Staging::new(&Shape::new(2, 1, 8192).unwrap(), 16 << 10, Arc::default())
    }

    #[test]
    fn staged_blocks_lie_over_what_was_read() {
        let pieces = vec![Bytes::from(vec![0; 8192]), Bytes::from(vec![1; 8192])];
        let staged = [(10, Bytes::from(vec![7; 4096])), (12, Bytes::from(vec![8; 4096]))];
        let whole = overlay(pieces.clone(), 10 * 4096, &staged).concat();
        let fills: Vec<u8> = whole.chunks(4096).map(|c| c[0]).collect();
        assert_eq!(fills, [7, 0, 8, 1]);
        assert_eq!(overlay(pieces.clone(), 0, &[]), pieces);
    }

    #[test]
    fn a_block_staged_anew_is_not_forgotten_with_its_older_content() {
        let staging = staging();
        assert_eq!(staging.put(5, block(1, 1)), None);
        assert_eq!(staging.put(5, block(2, 2)), Some(10));
        assert_eq!(staging.remove(5, 1), None);
        assert_eq!(staging.get(0..9)[0].1[0], 2);
        assert_eq!(staging.remove(5, 2), Some(20));
        assert!(staging.is_empty());
    }

    #[test]
    fn stripes_come_home_oldest_first_in_address_order() {
        let staging = staging();
        for (version, b) in [(1, 13), (2, 1), (3, 5), (4, 2)] {
            staging.put(b, block(version, 0));
        }
        assert_eq!(staging.next_stripes(|_| false), [StripeIndex(3)]);
        staging.put_back(StripeIndex(3));
        let mut budget = 4;
        let take = |n| {
            budget -= n;
            true
        };
        assert_eq!(staging.next_stripes(take), [StripeIndex(0), StripeIndex(1), StripeIndex(3)]);
        assert_eq!(budget, 0);
        assert_eq!(staging.of_stripe(StripeIndex(0)).len(), 2);
        assert!(staging.is_pressed());
    }
}
