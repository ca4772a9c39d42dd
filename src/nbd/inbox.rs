//! Receiving: many small messages per receive, large payloads straight into their own buffer.

use super::pulse::Pulse;
use crate::env::{Buffer, Env, Stream};
use crate::error::{Error, ErrorKind, Result};
use std::rc::Rc;

/// Room for received bytes not yet consumed; also the longest message read through it.
pub(super) const INBOX_BYTES: usize = 128 << 10;

/// The receiving half of a connection.
pub(super) struct Inbox {
    stream: Rc<dyn Stream>,
    env: Env,
    pulse: Rc<Pulse>,
    /// `None` only while a receive has it.
    buffer: Option<Buffer>,
    start: usize,
    end: usize,
}

fn truncated() -> Error {
    Error::new(ErrorKind::Protocol, "the peer closed the connection in the middle of a message")
}

impl Inbox {
    pub fn new(stream: Rc<dyn Stream>, env: Env, pulse: Rc<Pulse>) -> Self {
        Self { stream, env, pulse, buffer: None, start: 0, end: 0 }
    }

    fn len(&self) -> usize {
        self.end - self.start
    }

    /// The bytes received and not consumed.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.as_deref().and_then(|b| b.get(self.start..self.end)).unwrap_or(&[])
    }

    /// Drops `count` of the received bytes.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Waits until `count` bytes (at most [`INBOX_BYTES`]) are here. `false`: the peer closed
    /// before the first of them. `mid`: they belong to a message that has begun.
    pub async fn fill(&mut self, count: usize, mid: bool) -> Result<bool> {
        while self.len() < count {
            if self.receive_more(count, mid).await? == 0 {
                return if mid || self.len() > 0 { Err(truncated()) } else { Ok(false) };
            }
        }
        Ok(true)
    }

    async fn receive_more(&mut self, count: usize, mid: bool) -> Result<usize> {
        let mut buffer = self.buffer.take().unwrap_or_else(|| self.env.buffers().take(INBOX_BYTES));
        if self.start + count > buffer.len() {
            buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let range = self.end..buffer.len();
        self.pulse.mid_message.set(mid || self.len() > 0);
        let (result, buffer) = self.stream.recv(buffer, range).await;
        self.pulse.mid_message.set(false);
        self.buffer = Some(buffer);
        let count = result.map_err(|e| Error::io("cannot receive from the peer", e))?;
        self.end += count;
        self.pulse.received.set(self.pulse.received.get() + count as u64);
        Ok(count)
    }

    /// Fills `target[from..]` with the bytes that follow, those not here yet received in place.
    pub async fn read_into(&mut self, mut target: Buffer, from: usize, to: usize) -> Result<Buffer> {
        let here = self.bytes();
        let mut at = from;
        if let Some(space) = target.get_mut(from..to) {
            let count = space.len().min(here.len());
            let (space, _) = space.split_at_mut(count);
            space.copy_from_slice(here.split_at(count).0);
            at += count;
            self.consume(count);
        }
        let end = to.min(target.len());
        while at < end {
            self.pulse.mid_message.set(true);
            let (result, buffer) = self.stream.recv(target, at..end).await;
            self.pulse.mid_message.set(false);
            target = buffer;
            let count = result.map_err(|e| Error::io("cannot receive from the peer", e))?;
            if count == 0 {
                return Err(truncated());
            }
            self.pulse.received.set(self.pulse.received.get() + count as u64);
            at += count;
        }
        Ok(target)
    }

    /// Receives and drops `count` bytes.
    pub async fn skip(&mut self, mut count: u64) -> Result<()> {
        loop {
            let now = usize::try_from(count).unwrap_or(usize::MAX).min(self.len());
            self.consume(now);
            count -= now as u64;
            if count == 0 {
                return Ok(());
            }
            self.fill(1, true).await?;
        }
    }
}
