//! A simulated disk: media, what is under way, and what is wrong with it.
//!
//! Operations run as tasks of the hardware, not of the process that asked: who drops the future of
//! a write only stops waiting for it. When a process is killed, its operations under way are
//! decided at once (done, not done, torn) and its lock is released.

use super::fault::{Commanded, FaultCounts, FaultPlan, WriteFate};
use super::machine::{Named, SimDisks};
use super::media::{Change, Media};
use crate::env::sim::{Prng, ProcessId, SimEnv};
use crate::env::{Buffer, Environment};
use crate::error::{Error, ErrorKind, Result};
use crate::member::{Presence, Span};
use bytes::Bytes;
use futures::channel::oneshot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

pub(super) const PAGE: u64 = 4096;

/// A write or punch under way.
pub(super) struct InFlight {
    process: ProcessId,
    change: Change,
}

pub(super) struct DiskState {
    pub media: Media,
    pub random: Prng,
    pub commanded: Commanded,
    pub plan: FaultPlan,
    pub counts: FaultCounts,
    /// Raised when the disk is unplugged: handles of an older generation are dead.
    pub generation: u64,
    pub present: bool,
    /// Handle that holds the lock.
    pub owner: Option<u64>,
    pub next_handle: u64,
    in_flight: BTreeMap<u64, InFlight>,
    next_operation: u64,
    pub waiting: Vec<oneshot::Sender<()>>,
    pub unreadable_pages: BTreeSet<u64>,
    /// It frees no space.
    pub keeps_space: bool,
    /// By page: the machine's operation that last was to change it.
    pub touched: BTreeMap<u64, u64>,
}

pub(super) struct Inner {
    pub hardware: SimEnv,
    /// The machine it belongs to.
    machine: Mutex<Weak<Mutex<Named>>>,
    pub number: u64,
    pub size_bytes: u64,
    state: Mutex<DiskState>,
}

/// A disk: what survives a crash. Clone freely; all clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(pub(super) Arc<Inner>);

/// Who asks for an operation.
#[derive(Clone, Copy)]
pub(super) struct Caller {
    pub process: ProcessId,
    pub generation: u64,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Read = 1,
    Write,
    Flush,
    Spans,
}

impl SimDisk {
    pub(super) fn new(hardware: &SimEnv, machine: Weak<Mutex<Named>>, number: u64, size_bytes: u64) -> Self {
        let state = DiskState {
            media: Media::default(),
            random: hardware.prng(),
            commanded: Commanded::default(),
            plan: FaultPlan::default(),
            counts: FaultCounts::default(),
            generation: 1,
            present: true,
            owner: None,
            next_handle: 1,
            in_flight: BTreeMap::new(),
            next_operation: 1,
            waiting: Vec::new(),
            unreadable_pages: BTreeSet::new(),
            keeps_space: false,
            touched: BTreeMap::new(),
        };
        let state = Mutex::new(state);
        Self(Arc::new(Inner {
            hardware: hardware.clone(),
            machine: Mutex::new(machine),
            number,
            size_bytes: size_bytes / PAGE * PAGE,
            state,
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, DiskState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A disk with the same bytes on another machine, without faults, nothing under way.
    pub(super) fn copy(&self, machine: Weak<Mutex<Named>>) -> Self {
        let Inner { hardware, number, size_bytes, .. } = &*self.0;
        let copy = Self::new(hardware, machine, *number, *size_bytes);
        let (media, touched, keeps_space) = {
            let state = self.lock();
            (state.media.clone(), state.touched.clone(), state.keeps_space)
        };
        let mut state = copy.lock();
        (state.media, state.touched, state.keeps_space) = (media, touched, keeps_space);
        drop(state);
        copy
    }

    /// Counts an operation that was submitted, which may be the one at which the machine goes down.
    pub(super) fn submitted(&self, process: &SimEnv) {
        if let Some(machine) = self.machine() {
            machine.submitted(process);
        }
    }

    fn machine(&self) -> Option<SimDisks> {
        let machine = self.0.machine.lock().unwrap_or_else(PoisonError::into_inner);
        SimDisks::of(&self.0.hardware, &machine)
    }

    /// It belongs to this machine from now on.
    pub(super) fn moved_to(&self, machine: Weak<Mutex<Named>>) {
        *self.0.machine.lock().unwrap_or_else(PoisonError::into_inner) = machine;
    }

    /// Size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.0.size_bytes
    }

    /// What happened to it so far.
    pub fn counts(&self) -> FaultCounts {
        self.lock().counts
    }

    /// Decides the operations under way of a killed process. Its lock goes with its handles.
    pub(super) fn kill_process(&self, process: Option<ProcessId>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let doomed: Vec<u64> = state
            .in_flight
            .iter()
            .filter(|(_, f)| process.is_none_or(|p| p == f.process))
            .map(|(id, _)| *id)
            .collect();
        for id in doomed {
            let Some(InFlight { change, .. }) = state.in_flight.remove(&id) else { continue };
            match state.random.below(3) {
                0 => {}
                1 => state.media.apply(Change { synced: false, ..change }),
                _ => state.media.apply_torn(&change, &mut state.random),
            }
        }
    }

    pub(super) fn power_cut(&self) {
        self.kill_process(None);
        let mut guard = self.lock();
        let state = &mut *guard;
        state.media.power_cut(&mut state.random);
        state.owner = None;
        state.generation += 1;
    }

    /// Waits as long as an operation of `len` bytes takes, hangs included.
    async fn work(&self, len: u64) {
        let latency = self.lock().latency(len);
        self.0.hardware.sleep(latency).await;
        loop {
            let released = {
                let mut state = self.lock();
                if !state.commanded.hanging {
                    return;
                }
                state.counts.delays += 1;
                let (tx, rx) = oneshot::channel();
                state.waiting.push(tx);
                rx
            };
            let _ = released.await;
        }
    }

    fn note(&self, kind: Kind, offset: u64, len: u64, failed: bool) {
        let name = match kind {
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Flush => "flush",
            Kind::Spans => "spans",
        };
        let number = self.0.number;
        self.0.hardware.note(&[kind as u64, number, offset, len, u64::from(failed)], || {
            format!("disk {number} {name} {offset}+{len}{}", if failed { " FAILED" } else { "" })
        });
    }

    pub(super) async fn read(&self, caller: Caller, offset: u64, mut buffer: Buffer) -> (Result<()>, Buffer) {
        let len = buffer.len() as u64;
        self.work(len).await;
        let result = self.lock().finish_read(caller, offset, &mut buffer);
        self.note(Kind::Read, offset, len, result.is_err());
        (result, buffer)
    }

    /// Registers a write or punch; [`Self::change`] carries it out.
    pub(super) fn begin_change(&self, caller: Caller, change: Change) -> u64 {
        let number = self.machine().map_or(0, |machine| machine.operations() + 1);
        let mut state = self.lock();
        state.touched.extend(pages(change.offset, change.len).map(|page| (page, number)));
        let operation = state.next_operation;
        state.next_operation += 1;
        state.in_flight.insert(operation, InFlight { process: caller.process, change });
        operation
    }

    pub(super) async fn change(&self, caller: Caller, operation: u64, offset: u64, len: u64) -> Result<()> {
        self.hang_a_punch(operation).await;
        self.work(len).await;
        // Gone from the list: decided by a crash, and nobody waits any more.
        let Some(in_flight) = self.lock().in_flight.remove(&operation) else { return Ok(()) };
        let result = self.lock().finish_change(caller, in_flight.change, self.0.size_bytes);
        self.note(Kind::Write, offset, len, result.is_err());
        result
    }

    async fn hang_a_punch(&self, operation: u64) {
        let hang_time = {
            let mut guard = self.lock();
            let state = &mut *guard;
            let punches = state.in_flight.get(&operation).is_some_and(|f| f.change.pieces.is_none());
            let hangs = punches && state.random.rare(state.plan.hang_punch);
            state.counts.delays += u64::from(hangs);
            hangs.then_some(state.plan.hang_time)
        };
        if let Some(time) = hang_time {
            self.0.hardware.sleep(time).await;
        }
    }

    pub(super) async fn flush(&self, caller: Caller, covered: u64) -> Result<()> {
        self.work(0).await;
        let result = self.lock().finish_flush(caller, covered);
        self.note(Kind::Flush, 0, 0, result.is_err());
        result
    }

    pub(super) async fn spans(&self, caller: Caller, offset: u64, len: u64) -> Result<Vec<Span>> {
        self.work(0).await;
        let state = self.lock();
        state.check(caller)?;
        let spans = state.media.spans(offset, len);
        drop(state);
        self.note(Kind::Spans, offset, len, false);
        Ok(spans)
    }

    pub(super) async fn probe(&self, caller: Caller) -> Result<Presence> {
        self.work(0).await;
        let gone = self.lock().check(caller).is_err();
        Ok(if gone { Presence::Gone("the disk was unplugged".into()) } else { Presence::Present })
    }
}

impl DiskState {
    /// Whether a write or punch is under way.
    pub(super) fn is_busy(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Some tens of microseconds, now and then much more.
    fn latency(&mut self, len: u64) -> Duration {
        let random = &mut self.random;
        let mut micros = random.between(20, 120) + len / 4096 * random.between(1, 4);
        if random.chance(10) {
            micros *= 20;
        }
        if let Some(factor) = self.commanded.slow_factor {
            micros *= u64::from(factor);
        }
        if random.rare(self.plan.slow) {
            self.counts.delays += 1;
            micros *= 50;
        }
        if random.rare(self.plan.hang) {
            self.counts.delays += 1;
            return self.plan.hang_time;
        }
        Duration::from_micros(micros)
    }

    fn check(&self, caller: Caller) -> Result<()> {
        if self.present && caller.generation == self.generation {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Io, "no such device"))
    }

    fn finish_read(&mut self, caller: Caller, offset: u64, buffer: &mut Buffer) -> Result<()> {
        self.check(caller)?;
        let len = buffer.len() as u64;
        if self.random.rare(self.plan.latent_sector) {
            let page = offset / PAGE + self.random.below(len / PAGE);
            self.unreadable_pages.insert(page);
        }
        let unreadable = pages(offset, len).any(|page| self.unreadable_pages.contains(&page));
        let struck = self.commanded.reads.strikes() | self.random.rare(self.plan.transient_read_error);
        if unreadable || struck {
            self.counts.read_errors += 1;
            // What a failed read leaves in the buffer is anybody's guess.
            self.random.fill(buffer);
            return Err(Error::new(ErrorKind::Io, "simulated read error").at(offset));
        }
        if self.plan.lies_at(offset) && self.random.rare(self.plan.bit_rot) {
            self.counts.lies += 1;
            let at = offset + self.random.below(len);
            let mut byte = [0];
            self.media.read(at, &mut byte);
            let flipped = byte.map(|b| b ^ (1 << self.random.below(8)));
            self.media.scribble(at, &flipped);
        }
        self.media.read(offset, buffer);
        Ok(())
    }

    fn finish_change(&mut self, caller: Caller, change: Change, size_bytes: u64) -> Result<()> {
        self.check(caller)?;
        if self.commanded.refusing {
            self.counts.write_errors += 1;
            return Err(Error::new(ErrorKind::Io, "simulated refusal to write").at(change.offset));
        }
        if self.commanded.writes.strikes() | self.random.rare(self.plan.write_error) {
            self.counts.write_errors += 1;
            self.media.apply_torn(&change, &mut self.random);
            return Err(Error::new(ErrorKind::Io, "simulated write error").at(change.offset));
        }
        match self.fate(&change, size_bytes) {
            None => {
                for page in pages(change.offset, change.len) {
                    self.unreadable_pages.remove(&page);
                }
                self.media.apply(change);
                return Ok(());
            }
            Some(WriteFate::Dropped) => {}
            Some(WriteFate::Torn) => self.media.apply_torn(&change, &mut self.random),
            Some(WriteFate::Misdirected(to)) => self.media.apply(Change { offset: to, ..change }),
        }
        self.counts.lies += 1;
        Ok(())
    }

    fn fate(&mut self, change: &Change, size_bytes: u64) -> Option<WriteFate> {
        if let Some(fate) = self.commanded.next_writes.pop_front() {
            return Some(fate);
        }
        if !self.plan.lies_at(change.offset) {
            return None;
        }
        if self.random.rare(self.plan.torn_write) {
            return Some(WriteFate::Torn);
        }
        if self.random.rare(self.plan.dropped_write) {
            return Some(WriteFate::Dropped);
        }
        if !self.random.rare(self.plan.misdirected_write) {
            return None;
        }
        let last = size_bytes - change.len;
        let anywhere = 0..last + 1;
        let near = self.random.chance(500).then(|| self.random.pick(&self.plan.lies_in).cloned()).flatten();
        let within = near.filter(|range| range.start < range.end && range.start <= last).unwrap_or(anywhere);
        let place = within.start + self.random.below(within.end - within.start);
        Some(WriteFate::Misdirected(place.min(last) / PAGE * PAGE))
    }

    fn finish_flush(&mut self, caller: Caller, covered: u64) -> Result<()> {
        self.check(caller)?;
        if self.commanded.flushes.strikes() | self.random.rare(self.plan.flush_error) {
            self.counts.flush_errors += 1;
            self.media.fail_flush(covered);
            return Err(Error::new(ErrorKind::Io, "simulated flush error"));
        }
        self.media.flush(covered);
        Ok(())
    }
}

pub(super) fn pages(offset: u64, len: u64) -> impl Iterator<Item = u64> {
    offset / PAGE..(offset + len).div_ceil(PAGE)
}

/// The change a write makes.
pub(super) fn write_change(offset: u64, pieces: Vec<Bytes>, synced: bool) -> Change {
    let len = pieces.iter().map(|p| p.len() as u64).sum();
    Change { offset, len, pieces: Some(pieces), synced }
}
