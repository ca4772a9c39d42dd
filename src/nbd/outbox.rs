//! Replies waiting to be sent: headers packed together, data by reference, taken in batches.

use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;

/// A send carries about this much, so that a slow peer shows progress now and then.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_PIECES: usize = 512;
/// Data shorter than this is cheaper to copy than to send as a piece of its own.
const COPY_BYTES: usize = 512;
const HEADER_ROOM: usize = 4096;

/// The sending queue of a connection. Bytes leave in the order they came.
#[derive(Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Bytes>,
    /// Header bytes after the last piece.
    tail: BytesMut,
    /// Positions in the stream of bytes: end of what is queued, end of what was sent.
    queued: u64,
    sent: u64,
    /// End of each reply and what its request cost, until it is sent.
    ends: VecDeque<(u64, u64)>,
}

impl Outbox {
    /// Where to append header bytes.
    pub fn header(&mut self) -> Header<'_> {
        if self.tail.capacity() < 64 {
            self.tail.reserve(HEADER_ROOM);
        }
        Header(self)
    }

    /// Appends data without copying it, unless it is tiny.
    pub fn data(&mut self, data: Bytes) {
        self.queued += data.len() as u64;
        if data.len() < COPY_BYTES {
            self.tail.extend_from_slice(&data);
            return;
        }
        self.seal();
        self.pieces.push_back(data);
    }

    /// Says that a reply ends here; `cost` comes back from [`Outbox::sent`].
    pub fn end_reply(&mut self, cost: u64) {
        self.ends.push_back((self.queued, cost));
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.tail.is_empty()
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }

    /// Takes the next batch and its length.
    pub fn take(&mut self) -> (Vec<Bytes>, u64) {
        self.seal();
        let mut batch = Vec::with_capacity(self.pieces.len().min(BATCH_PIECES));
        let mut room = BATCH_BYTES;
        while room > 0 && batch.len() < BATCH_PIECES {
            let Some(mut piece) = self.pieces.pop_front() else { break };
            if piece.len() > room {
                let rest = piece.split_off(room);
                self.pieces.push_front(rest);
            }
            room -= piece.len();
            batch.push(piece);
        }
        (batch, (BATCH_BYTES - room) as u64)
    }

    /// Notes that `bytes` more were sent; calls `done` with the cost of each reply that ended.
    pub fn sent(&mut self, bytes: u64, mut done: impl FnMut(u64)) {
        self.sent += bytes;
        while let Some((_, cost)) = self.ends.pop_front_if(|(end, _)| *end <= self.sent) {
            done(cost);
        }
    }
}

/// Appends big-endian header fields.
pub(super) struct Header<'a>(&'a mut Outbox);

impl Header<'_> {
    pub fn u16(self, value: u16) -> Self {
        self.0.tail.put_u16(value);
        self.0.queued += 2;
        self
    }

    pub fn u32(self, value: u32) -> Self {
        self.0.tail.put_u32(value);
        self.0.queued += 4;
        self
    }

    pub fn u64(self, value: u64) -> Self {
        self.0.tail.put_u64(value);
        self.0.queued += 8;
        self
    }

    pub fn bytes(self, value: &[u8]) -> Self {
        self.0.tail.put_slice(value);
        self.0.queued += value.len() as u64;
        self
    }
}
