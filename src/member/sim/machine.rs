//! All disks of a simulated machine, by name; names can be permuted between two starts.

use super::backend::SimBackend;
use super::disk::SimDisk;
use super::fault::FaultCounts;
use crate::env::sim::SimEnv;
use crate::env::{Environment, LocalFuture};
use crate::error::{Error, ErrorKind, Result};
use crate::member::{Backend, Opener};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// How a machine goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// `kill -9`: answered writes stay, those under way are done, torn or not done.
    Kill,
    /// What no flush covered survives as any subset of its sectors.
    PowerCut,
}

#[derive(Default)]
pub(super) struct Named {
    disks: BTreeMap<String, SimDisk>,
    next_number: u64,
    /// Writes, flushes and punches submitted so far.
    operations: u64,
    /// The operation at which the machine goes down, and how.
    planned: Option<(u64, Crash)>,
}

/// The disks of a machine; clone freely.
#[derive(Clone)]
pub struct SimDisks {
    hardware: SimEnv,
    named: Arc<Mutex<Named>>,
}

impl SimDisks {
    /// A machine without disks whose hardware runs in `hardware`, the harness's process.
    pub fn new(hardware: &SimEnv) -> Self {
        Self { hardware: hardware.clone(), named: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Named> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an empty disk, or an existing one, under a name.
    pub fn create(&self, name: &str, size_bytes: u64) -> SimDisk {
        let mut named = self.lock();
        let disk = SimDisk::new(&self.hardware, Arc::downgrade(&self.named), named.next_number, size_bytes);
        named.next_number += 1;
        named.disks.insert(name.to_owned(), disk.clone());
        disk
    }

    /// Puts a disk under a name; what had that name has none any more.
    pub fn attach(&self, name: &str, disk: &SimDisk) {
        disk.moved_to(Arc::downgrade(&self.named));
        self.lock().disks.insert(name.to_owned(), disk.clone());
    }

    /// Takes a name away; the disk itself stays as it is.
    pub fn detach(&self, name: &str) -> Option<SimDisk> {
        self.lock().disks.remove(name)
    }

    /// A copy of a disk as somebody who reads it now would make it.
    pub fn image(&self, name: &str) -> Option<SimDisk> {
        Some(self.get(name)?.copy(Arc::downgrade(&self.named)))
    }

    /// The disk of that name.
    pub fn get(&self, name: &str) -> Option<SimDisk> {
        self.lock().disks.get(name).cloned()
    }

    /// All names, in order.
    pub fn names(&self) -> Vec<String> {
        self.lock().disks.keys().cloned().collect()
    }

    /// All disks, in the order of their names.
    pub fn disks(&self) -> Vec<SimDisk> {
        self.lock().disks.values().cloned().collect()
    }

    /// What opens disks for the process of `env`.
    pub fn opener(&self, env: &SimEnv) -> SimOpener {
        SimOpener { disks: self.clone(), env: env.clone() }
    }

    /// `kill -9`: answered writes stay, those under way are done, torn or not done; the locks go.
    pub fn kill_process(&self, process: &SimEnv) {
        for disk in self.disks() {
            disk.kill_process(Some(process.process()));
            disk.lock().owner = None;
        }
        process.kill();
    }

    /// Power loss: every disk keeps what was flushed and, of the rest, whatever the seed wills.
    pub fn power_cut(&self, process: &SimEnv) {
        self.disks().iter().for_each(SimDisk::power_cut);
        process.kill();
    }

    /// Writes, flushes and punches submitted to the disks so far, superblocks included.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// Lets the machine go down at the `n`th operation from now, counted from 1, in the instant
    /// it is submitted: that one is under way. No further instruction of its process counts.
    pub fn plan_crash(&self, n: u64, crash: Crash) {
        let mut named = self.lock();
        named.planned = Some((named.operations + n, crash));
    }

    /// Takes back a planned crash that has not come; says whether there was one.
    pub fn unplan_crash(&self) -> bool {
        self.lock().planned.take().is_some()
    }

    pub(super) fn of(hardware: &SimEnv, named: &Weak<Mutex<Named>>) -> Option<Self> {
        Some(Self { hardware: hardware.clone(), named: named.upgrade()? })
    }

    /// Counts an operation of a process, and lets the machine go down if this is the one.
    pub(super) fn submitted(&self, process: &SimEnv) {
        let crash = {
            let mut named = self.lock();
            named.operations += 1;
            let now = named.operations;
            let due = named.planned.filter(|(at, _)| *at == now);
            if due.is_some() {
                named.planned = None;
            }
            due.map(|(_, crash)| crash)
        };
        match crash {
            None => {}
            Some(Crash::Kill) => self.kill_process(process),
            Some(Crash::PowerCut) => self.power_cut(process),
        }
    }

    /// The disks of a machine that is down once more, without their faults: what happens to one
    /// set leaves the other alone.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self::new(&self.hardware);
        let named = self.lock();
        let twin = |disk: &SimDisk| disk.copy(Arc::downgrade(&copy.named));
        let disks = named.disks.iter().map(|(name, disk)| (name.clone(), twin(disk))).collect();
        let (next_number, operations) = (named.next_number, named.operations);
        drop(named);
        *copy.lock() = Named { disks, next_number, operations, ..Named::default() };
        copy
    }

    /// What happened to all disks so far.
    pub fn counts(&self) -> FaultCounts {
        self.disks().iter().map(SimDisk::counts).fold(FaultCounts::default(), |a, b| FaultCounts {
            read_errors: a.read_errors + b.read_errors,
            write_errors: a.write_errors + b.write_errors,
            flush_errors: a.flush_errors + b.flush_errors,
            delays: a.delays + b.delays,
            lies: a.lies + b.lies,
        })
    }
}

/// Opens the disks of a machine by name, for one process.
#[derive(Clone)]
pub struct SimOpener {
    disks: SimDisks,
    env: SimEnv,
}

impl Opener for SimOpener {
    fn open(&self, path: &str) -> LocalFuture<'_, Result<Arc<dyn Backend>>> {
        let path = path.to_owned();
        Box::pin(async move {
            self.env.sleep(Duration::from_micros(50)).await;
            let disk = self
                .disks
                .get(&path)
                .ok_or_else(|| Error::new(ErrorKind::NotFound, "no such disk").member(path.as_str()))?;
            Ok(Arc::new(SimBackend::open(&disk, &path, &self.env)?) as Arc<dyn Backend>)
        })
    }
}
