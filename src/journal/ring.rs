//! Where frames lie in the ring (pure).
//!
//! ```text
//!     0            oldest               head          len
//!     |   free     |  retired   live    |    free       |
//! ```
//!
//! Frames lie one after another; one that does not fit before the end begins again at 0. A frame
//! is live while somebody needs it or an older one. Then it is retired, and its space is free
//! once the members know (by a checkpoint) that replay begins behind it.

use crate::format::Tail;
use std::collections::VecDeque;

/// A frame in the ring.
#[derive(Debug, Clone)]
struct Frame {
    place: Tail,
    len: u64,
    /// Who still needs it.
    pins: u64,
}

/// The ring's bookkeeping.
#[derive(Debug)]
pub(super) struct Ring {
    len: u64,
    retired: VecDeque<Frame>,
    live: VecDeque<Frame>,
    /// The next frame: its number, the nonce before it, and where its place is looked for.
    head: Tail,
}

impl Ring {
    /// A ring of `len` bytes whose next frame is `head`.
    pub fn new(len: u64, head: Tail) -> Self {
        Self { len, retired: VecDeque::new(), live: VecDeque::new(), head }
    }

    /// The next frame's number, and the nonce of the one before.
    pub fn head(&self) -> Tail {
        self.head
    }

    /// Where a replay has to begin.
    pub fn tail(&self) -> Tail {
        self.live.front().map_or(self.head, |f| f.place)
    }

    /// Bytes that no new frame can have.
    pub fn used(&self) -> u64 {
        match self.oldest() {
            None => 0,
            Some(oldest) if self.head.offset > oldest => self.head.offset - oldest,
            Some(oldest) => self.len - (oldest - self.head.offset),
        }
    }

    /// Size of the ring in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Takes space for the next frame of `len` bytes; `None` if there is none.
    pub fn place(&mut self, len: u64, nonce: u64, pins: u64) -> Option<Tail> {
        let head = self.head.offset;
        // Never filled to the last byte: head at the oldest frame would look empty.
        let offset = match self.oldest() {
            None if head + len <= self.len => head,
            None if len <= self.len => 0,
            Some(oldest) if head > oldest && head + len <= self.len => head,
            Some(oldest) if head > oldest && len < oldest => 0,
            Some(oldest) if head <= oldest && head + len < oldest => head,
            _ => return None,
        };
        let place = Tail { offset, ..self.head };
        self.live.push_back(Frame { place, len, pins });
        self.head = Tail { seq: place.seq + 1, offset: offset + len, prev_nonce: nonce };
        Some(place)
    }

    /// Enters a frame found by a replay, which is the next one.
    pub fn found(&mut self, place: Tail, len: u64, nonce: u64, pins: u64) {
        self.live.push_back(Frame { place, len, pins });
        self.head = Tail { seq: place.seq + 1, offset: place.offset + len, prev_nonce: nonce };
    }

    /// One who needed the frame needs it no more.
    pub fn release(&mut self, seq: u64) {
        let Some(first) = self.live.front() else { return };
        let index = usize::try_from(seq.wrapping_sub(first.place.seq)).unwrap_or(usize::MAX);
        if let Some(frame) = self.live.get_mut(index) {
            frame.pins = frame.pins.saturating_sub(1);
        }
        while self.live.front().is_some_and(|f| f.pins == 0) {
            self.retired.extend(self.live.pop_front());
        }
    }

    /// Bytes of retired frames: what a checkpoint would free.
    pub fn retired(&self) -> u64 {
        self.retired.iter().map(|f| f.len).sum()
    }

    /// The members know durably that replay begins at `tail`: what is retired before it is free.
    pub fn free_before(&mut self, tail: Tail) {
        while self.retired.front().is_some_and(|f| f.place.seq < tail.seq) {
            self.retired.pop_front();
        }
    }

    fn oldest(&self) -> Option<u64> {
        self.retired.front().or(self.live.front()).map(|f| f.place.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ring(len: u64) -> Ring {
        Ring::new(len, Tail { seq: 1, offset: 0, prev_nonce: 0 })
    }

    #[test]
    fn a_frame_that_does_not_fit_before_the_end_begins_again_at_the_start() {
        let mut ring = ring(100);
        assert_eq!(ring.place(60, 11, 1).map(|t| t.offset), Some(0));
        assert_eq!(ring.place(30, 12, 1).map(|t| t.offset), Some(60));
        assert_eq!(ring.place(30, 13, 1), None);
        ring.release(1);
        assert_eq!(ring.place(30, 13, 1), None, "the members do not know yet");
        let tail = ring.tail();
        assert_eq!(tail, Tail { seq: 2, offset: 60, prev_nonce: 11 });
        ring.free_before(tail);
        assert_eq!(ring.place(30, 13, 1), Some(Tail { seq: 3, offset: 0, prev_nonce: 12 }));
        assert_eq!(ring.place(30, 14, 1), None, "it would reach the oldest frame");
        assert_eq!(ring.place(20, 14, 1).map(|t| t.offset), Some(30));
    }

    #[test]
    fn frames_retire_in_order() {
        let mut ring = ring(100);
        for nonce in 0..3 {
            ring.place(10, nonce, 2);
        }
        ring.release(2);
        ring.release(2);
        assert_eq!((ring.tail().seq, ring.retired()), (1, 0));
        ring.release(1);
        ring.release(1);
        assert_eq!((ring.tail().seq, ring.retired()), (3, 20));
    }

    proptest! {
        #[test]
        fn no_two_frames_share_a_byte(ops in prop::collection::vec((1u64..40, any::<bool>()), 1..200)) {
            let mut ring = ring(128);
            let mut taken: VecDeque<(u64, u64, u64)> = VecDeque::new();
            for (len, free) in ops {
                if free && let Some((seq, ..)) = taken.front().copied() {
                    ring.release(seq);
                    ring.free_before(ring.tail());
                    taken.pop_front();
                } else if let Some(place) = ring.place(len, place_nonce(len), 1) {
                    prop_assert!(place.offset + len <= 128);
                    for (_, from, to) in &taken {
                        prop_assert!(place.offset + len <= *from || place.offset >= *to);
                    }
                    taken.push_back((place.seq, place.offset, place.offset + len));
                    let bytes: u64 = taken.iter().map(|(_, a, b)| b - a).sum();
                    prop_assert!(ring.used() >= bytes && ring.used() <= 128);
                } else {
                    prop_assert!(!taken.is_empty(), "an empty ring takes any frame");
                }
            }
        }
    }

    fn place_nonce(len: u64) -> u64 {
        len * 7
    }
}
