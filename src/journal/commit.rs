//! Turning batches into frames on the members, and making them durable.

use super::log::Journal;
use super::state::{Batch, Flying, Reach};
use crate::env::join_all;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    Checkpoint, FRAME_HEADER_BYTES, FrameHeader, Tail, footprint_for, payload_crc, shard_crc, shard_len_for,
};
use crate::member::{Member, Persistence};
use crate::mutation::{Protection, without};
use bytes::Bytes;
use futures::channel::oneshot;
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

/// Between two tries to write a frame that too few members could take.
const RETRY: Duration = Duration::from_millis(100);
/// A checkpoint is written when it would free this part of the ring.
const CHECKPOINT_PART: u64 = 16;

/// Start of the ring in the journal area: behind the checkpoint pages.
pub(super) const RING_START: u64 = crate::format::CHECKPOINT_PAGES * crate::format::CHECKPOINT_BYTES as u64;

impl Journal {
    /// Seals the batch soon, after the tasks that are ready now.
    pub(super) fn schedule(self: &Arc<Self>) {
        let this = Arc::clone(self);
        self.env.spawn(Box::pin(async move { this.commit() }));
    }

    /// Begins to write the batch, if it may become a frame now.
    fn commit(self: &Arc<Self>) {
        let nonce = self.nonce();
        let Some((place, batch)) = self.seal(nonce) else { return };
        let this = Arc::clone(self);
        self.env.spawn(Box::pin(async move {
            this.write_frame(place, nonce, batch).await;
            this.commit();
        }));
    }

    fn nonce(&self) -> u64 {
        let mut bytes = [0; 8];
        self.env.random(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Writes a frame to every bearer, however long it takes, and honours its tickets.
    async fn write_frame(&self, place: Tail, nonce: u64, batch: Batch) {
        let payload = batch.payload.finish();
        let shards = match self.shards(place, nonce, &payload) {
            Ok(shards) => shards,
            Err(error) => return self.refuse(place.seq, &error),
        };
        if without(Protection::FrameBeforeAnswer) {
            self.honour(place.seq);
        }
        loop {
            match self.spread(place, &shards).await {
                Ok(()) => return self.honour(place.seq),
                Err(error) => self.refuse(place.seq, &error),
            }
            if self.state().closed {
                return;
            }
            self.env.sleep(RETRY).await;
        }
    }

    /// Writes the shards of a frame; fails if too few members could take theirs.
    pub(super) async fn spread(&self, place: Tail, shards: &[Bytes]) -> Result<()> {
        let bearers = self.bearers.bearers()?;
        let offset = self.place.offset + RING_START + place.offset;
        let writes = bearers.iter().filter_map(|(slot, member)| Some((member, shards.get(*slot)?.clone())));
        let writes = writes.map(|(member, shard)| async move {
            (member, member.write(offset, vec![shard], Persistence::Cached).await)
        });
        for (member, done) in join_all(writes).await {
            if let Err(error) = done {
                self.bearers.failed(member, error).await?;
            }
        }
        Ok(())
    }

    /// The n shards of a frame, with their headers, ready to be written.
    pub(super) fn shards(&self, place: Tail, nonce: u64, payload: &[u8]) -> Result<Vec<Bytes>> {
        let (k, m) = (self.code.data(), self.code.parity());
        let shard_len = shard_len_for(payload.len(), k);
        let footprint = usize::try_from(footprint_for(payload.len(), k)).unwrap_or(usize::MAX);
        let mut buffers: Vec<_> = (0..k + m).map(|_| self.env.buffers().take_zeroed(footprint)).collect();
        let body = FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + shard_len;
        for (buffer, part) in buffers.iter_mut().zip(payload.chunks(shard_len)) {
            buffer[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + part.len()].copy_from_slice(part);
        }
        let (data, parity) = buffers.split_at_mut(k);
        let inputs: Vec<&[u8]> = data.iter().map(|b| &b[body.clone()]).collect();
        let mut outputs: Vec<(usize, &mut [u8])> =
            parity.iter_mut().map(|b| &mut b[body.clone()]).enumerate().collect();
        self.codec.encode(&inputs, &mut outputs)?;
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let small = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
        let payload_crc = payload_crc(payload);
        for (shard, buffer) in buffers.iter_mut().enumerate() {
            let header = FrameHeader {
                array: self.array,
                seq: place.seq,
                nonce,
                prev_nonce: place.prev_nonce,
                offset: place.offset,
                payload_len: number(payload.len()),
                payload_crc,
                data: small(k),
                parity: small(m),
                shard: small(shard),
                shard_len: number(shard_len),
                shard_crc: shard_crc(&buffer[body.clone()]),
            };
            buffer[..FRAME_HEADER_BYTES].copy_from_slice(&header.encode());
        }
        Ok(buffers.into_iter().map(|b| b.freeze()).collect())
    }

    /// The frame is written: tickets are honoured in the order of the log.
    fn honour(&self, seq: u64) {
        let mut state = self.state();
        state.failing = None;
        if let Some(flying) = state.flying.get_mut(&seq) {
            flying.done = true;
        }
        while let Some(first) = state.flying.first_entry() {
            if !first.get().done && !without(Protection::FramesInOrder) {
                break;
            }
            let Flying { waiters, replaces, .. } = first.remove();
            for waiter in waiters {
                // Nobody may be waiting any more.
                drop(waiter.send(Ok(())));
            }
            // Not before this frame is durable: a checkpoint that passes over the older one may
            // outlive a power cut that this one does not.
            state.home.extend(replaces);
        }
        state.wake();
    }

    /// The frame could not be written now: it and all behind it are refused, and tried on.
    fn refuse(&self, seq: u64, error: &Error) {
        let mut state = self.state();
        state.failing = Some((error.kind(), error.report()));
        let behind = state.flying.range_mut(seq..).flat_map(|(_, flying)| flying.waiters.drain(..));
        let mut refused: Vec<_> = behind.collect();
        refused.append(&mut state.open.waiters);
        for waiter in refused {
            drop(waiter.send(Err(Error::new(error.kind(), error.report()))));
        }
        state.wake();
    }

    /// Makes every honoured record and every home write answered so far durable on all members
    /// that count; releases what [`Journal::home`] named, and moves the checkpoint if that pays.
    /// Callers at the same time share a flush.
    pub async fn sync(self: &Arc<Self>) -> Result<()> {
        self.sync_shared(Reach::Everything).await
    }

    /// Makes every honoured record durable on the members that bear the log, and nothing else:
    /// nothing is released. Callers at the same time share a flush.
    pub async fn sync_log(self: &Arc<Self>) -> Result<()> {
        self.sync_shared(Reach::Log).await
    }

    async fn sync_shared(self: &Arc<Self>, reach: Reach) -> Result<()> {
        let (sender, done) = oneshot::channel();
        let begin = {
            let syncs = &mut self.state().syncs[reach as usize];
            syncs.waiters.push(sender);
            !std::mem::replace(&mut syncs.busy, true)
        };
        if begin {
            // A task of its own: whoever asked may go away, others wait for the same flush.
            let this = Arc::clone(self);
            self.env.spawn(Box::pin(async move { this.sync_all(reach).await }));
        }
        let gone = || Error::new(ErrorKind::ShuttingDown, "the executor is stopping");
        done.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Syncs until nobody waits for it.
    async fn sync_all(self: Arc<Self>, reach: Reach) {
        loop {
            let waiters = {
                let syncs = &mut self.state().syncs[reach as usize];
                syncs.busy = !syncs.waiters.is_empty();
                take(&mut syncs.waiters)
            };
            if waiters.is_empty() {
                return;
            }
            let done = match reach {
                Reach::Everything => self.sync_alone().await,
                Reach::Log => self.flush_bearers().await,
            };
            for waiter in waiters {
                drop(waiter.send(done.as_ref().copied().map_err(|e| Error::new(e.kind(), e.report()))));
            }
        }
    }

    async fn sync_alone(self: &Arc<Self>) -> Result<()> {
        let (home, checkpoint) = {
            let mut state = self.state();
            (state.take_home(), state.checkpoint.take())
        };
        if let Err(error) = self.flush_everyone().await {
            let mut state = self.state();
            state.home.extend(home);
            state.checkpoint = state.checkpoint.or(checkpoint);
            return Err(error);
        }
        let due = {
            let mut state = self.state();
            let early = if without(Protection::ReleaseByLaterFlush) { state.take_home() } else { Vec::new() };
            home.into_iter().chain(early).for_each(|seq| state.ring.release(seq));
            if let Some(tail) = checkpoint {
                state.ring.free_before(tail);
            }
            state.wake();
            let retired = state.ring.retired();
            let due = retired >= state.ring.len() / CHECKPOINT_PART
                || (retired > 0 && state.ring.tail() == state.ring.head());
            take(&mut state.checkpoint_wanted) || due
        };
        self.commit();
        if due { self.checkpoint().await } else { Ok(()) }
    }

    pub(super) async fn flush_everyone(&self) -> Result<()> {
        self.flush_members(self.bearers.everyone()?).await
    }

    async fn flush_bearers(&self) -> Result<()> {
        self.flush_members(self.bearers.bearers()?.into_iter().map(|(_, m)| m).collect()).await
    }

    async fn flush_members(&self, members: Vec<Arc<Member>>) -> Result<()> {
        let flushes = members.iter().map(|m| async move { (m, m.flush().await) });
        let mut outcome = Ok(());
        for (member, done) in join_all(flushes).await {
            if let Err(error) = done {
                outcome = self.bearers.failed(member, error).await.and(outcome);
            }
        }
        outcome
    }

    /// Tells the members where a replay has to begin; the next sync makes that durable.
    async fn checkpoint(&self) -> Result<()> {
        let (tail, generation) = {
            let state = self.state();
            // Tried again under the same number: nobody who counts may fall behind by failures.
            (state.ring.tail(), state.generation + 1)
        };
        self.write_page(tail, generation).await?;
        let mut state = self.state();
        state.generation = generation;
        state.checkpoint = Some(tail);
        if without(Protection::CheckpointDurable) {
            state.ring.free_before(tail);
        }
        Ok(())
    }

    /// Writes a checkpoint page to everyone.
    pub(super) async fn write_page(&self, tail: Tail, generation: u64) -> Result<()> {
        let page = Bytes::from(Checkpoint { array: self.array, generation, tail }.encode().to_vec());
        let bearers = self.bearers.bearers()?;
        let everyone = self.bearers.everyone()?;
        let write = |member: Arc<Member>| {
            let page = page.clone();
            let start = match bearers.iter().any(|(_, bearer)| bearer.id() == member.id()) {
                true => self.place.offset,
                false => self.checkpoints_offset,
            };
            let offset = start + Checkpoint::page_of(generation);
            async move {
                let done = member.write(offset, vec![page], Persistence::Cached).await;
                (member, done)
            }
        };
        let mut outcome = Ok(());
        for (member, done) in join_all(everyone.into_iter().map(write)).await {
            if let Err(error) = done {
                outcome = self.bearers.failed(&member, error).await.and(outcome);
            }
        }
        outcome
    }
}
