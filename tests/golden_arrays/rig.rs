//! Making golden arrays: a simulated machine, so that a state is the same each time it is made, and
//! a crash can be had at any operation.

use super::content::{Content, SECTOR, Version, bytes};
use super::golden::{Golden, Image, Outcome};
use palisade::array::{Array, AssembleOptions, Candidate, CreateSpec, Devices, Report};
use palisade::env::Environment;
use palisade::env::sim::{SimEnv, Simulation};
use palisade::export::{Durability, ZeroOptions};
use palisade::format::{Areas, JournalMembers};
use palisade::geometry::Shape;
use palisade::member::{Opener, SimDisks};
use palisade::observe::Silent;
use palisade::task::supervise;
use palisade::units::ArrayId;
use std::cell::RefCell;
use std::future::Future;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub const CHUNK: u64 = 4096;
/// More than a page of either table has entries.
pub const STRIPES: u64 = 1024;

/// A simulated machine with one array.
pub struct Rig {
    pub disks: SimDisks,
    pub shape: Shape,
    pub content: Rc<RefCell<Content>>,
    harness: SimEnv,
    id: ArrayId,
    process: SimEnv,
    array: Option<Arc<Array>>,
    /// The power will fail: what is answered and not flushed may go.
    pub lossy: bool,
}

/// What an array is made of.
#[derive(Debug, Clone, Copy)]
pub struct Of {
    /// k and m.
    pub shape: (u8, u8),
    /// Spares, on disks behind those of the slots.
    pub spares: usize,
    /// Journal members `j0`, `j1` and so on; none if the slots bear the journal.
    pub journal: usize,
}

impl From<(u8, u8)> for Of {
    fn from(shape: (u8, u8)) -> Self {
        Self { shape, spares: 0, journal: 0 }
    }
}

/// A change of the volume.
#[derive(Debug, Clone)]
pub enum Step {
    /// These sectors get this version.
    Write(Range<u64>, Version),
    /// The same, but their whole stripes are written, the other sectors with what they hold.
    Among(Range<u64>, Version),
    /// These stripes are zeroed.
    Zero(Range<u64>),
    /// These stripes are given back.
    Discard(Range<u64>),
}

/// The smallest members that hold the volume.
pub fn member_bytes(shape: &Shape) -> u64 {
    let more_than_enough = Areas::minimum_bytes(shape) + 2 * STRIPES * CHUNK;
    Areas::plan(more_than_enough, shape).unwrap().data_offset + STRIPES * CHUNK + (64 << 10)
}

/// The same, if they do not bear the journal.
fn bytes_without_journal(shape: &Shape) -> u64 {
    let more_than_enough = Areas::minimum_bytes_without_journal(shape) + 2 * STRIPES * CHUNK;
    let areas = Areas::plan_without_journal(more_than_enough, shape).unwrap();
    areas.data_offset + STRIPES * CHUNK + (64 << 10)
}

impl Rig {
    /// Runs `make` on a new array, stopped.
    pub fn run<T, F: Future<Output = T>>(of: impl Into<Of>, make: impl FnOnce(Self) -> F) -> T {
        let of = of.into();
        let (k, m) = of.shape;
        let mut sim = Simulation::new(u64::from(k) << 8 | u64::from(m));
        let harness = sim.handle();
        let done = sim.run(async {
            let rig = Self::create(&harness, Shape::new(k, m, CHUNK).unwrap(), of).await;
            make(rig).await
        });
        done.map_err(|stuck| stuck.to_string()).unwrap()
    }

    async fn create(harness: &SimEnv, shape: Shape, of: Of) -> Self {
        let disks = SimDisks::new(harness);
        let process = harness.new_process();
        let opener = disks.opener(&process);
        let in_slots = if of.journal == 0 { member_bytes(&shape) } else { bytes_without_journal(&shape) };
        let slots = (0..shape.width() + of.spares).map(|number| (format!("d{number}"), in_slots));
        let journal = (0..of.journal).map(|number| (format!("j{number}"), JournalMembers::MINIMUM_BYTES));
        let mut members = Vec::new();
        for (path, bytes) in slots.chain(journal) {
            disks.create(&path, bytes);
            members.push(Candidate { backend: opener.open(&path).await.unwrap(), path });
        }
        let mut spares = members.split_off(shape.width());
        let journal = spares.split_off(of.spares);
        let volume_bytes = STRIPES * shape.stripe_bytes();
        let devices = Devices { members, spares, journal };
        let spec = CreateSpec { name: "golden".into(), shape, size_bytes: Some(volume_bytes) };
        let env = process.env();
        let created = process.call(async move { Array::create(&env, &spec, &devices).await });
        let id = created.await.unwrap().unwrap();
        disks.power_cut(&process);
        let content = Rc::new(RefCell::new(Content::zeroes(volume_bytes)));
        Self { disks, shape, content, harness: harness.clone(), id, process, array: None, lossy: false }
    }

    /// Starts it of the disks named.
    pub async fn start_of(&mut self, names: &[&str]) {
        let process = self.harness.new_process();
        let opener = self.disks.opener(&process);
        let mut candidates = Vec::new();
        for name in names {
            candidates.push(Candidate { backend: opener.open(name).await.unwrap(), path: (*name).into() });
        }
        let options = AssembleOptions {
            env: process.env(),
            unopened: Vec::new(),
            opener: Arc::new(opener),
            observer: Arc::new(Silent),
            member_deadline: Duration::from_secs(1),
            probe_interval: Duration::from_millis(500),
            staging_bytes: 1 << 20,
            checksum_cache_bytes: 1 << 20,
            max_rebuild_rate: None,
            discard: palisade::array::Discard::default(),
        };
        let id = self.id;
        let started = process.call(async move {
            let array = Array::assemble(id, candidates, options).await?;
            supervise(&array);
            Ok::<_, palisade::error::Error>(array)
        });
        self.array = Some(started.await.unwrap().unwrap());
        self.process = process;
    }

    pub async fn start(&mut self) {
        let names = self.disks.names();
        self.start_of(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }

    pub fn array(&self) -> Arc<Array> {
        Arc::clone(self.array.as_ref().unwrap())
    }

    /// The process it runs in.
    pub fn process(&self) -> &SimEnv {
        &self.process
    }

    /// Has something done in the array's process; nothing if it dies before.
    pub async fn call<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        make: impl FnOnce(Arc<Array>) -> F,
    ) -> Option<T> {
        self.process.call(make(self.array())).await
    }

    pub async fn stop(&mut self) {
        self.call(|array| async move { array.stop().await }).await.unwrap().unwrap();
        self.array = None;
        self.disks.kill_process(&self.process);
    }

    /// Ends the process as `kill -9` does.
    pub fn kill(&mut self) {
        self.disks.kill_process(&self.process);
        self.array = None;
    }

    /// What no flush covered is there, or not, or in part.
    pub fn power_cut(&mut self) {
        self.disks.power_cut(&self.process);
        self.array = None;
    }

    pub async fn wait(&self, what: &str, done: impl Fn(&Report) -> bool) {
        for _ in 0..10_000 {
            if done(&self.array().report()) {
                return;
            }
            self.sleep(Duration::from_millis(20)).await;
        }
        panic!("waited in vain until {what}: {:?}", self.array().report());
    }

    pub async fn sleep(&self, time: Duration) {
        self.harness.sleep(time).await;
    }

    /// Does a step. What was answered counts, and so does what was not, if the process died.
    pub async fn carry_out(&self, step: Step) {
        self.carry_out_as(step, Durability::Volatile).await;
    }

    /// Does a step, and it is durable when it is answered.
    pub async fn durably(&self, step: Step) {
        self.carry_out_as(step, Durability::Durable).await;
    }

    async fn carry_out_as(&self, step: Step, durability: Durability) {
        let (sectors, version) = self.effect(&step);
        let among = self.among(&sectors);
        self.content.borrow_mut().may_become(sectors.clone(), version);
        let (at, len) = (sectors.start * SECTOR, (sectors.end - sectors.start) * SECTOR);
        let done = self.call(|array| async move {
            let volume = array.volume();
            match step {
                Step::Write(..) => volume.write(at, bytes(sectors, version).into(), durability).await,
                Step::Among(..) => {
                    let (before, after) = among;
                    let at = at - before.len() as u64;
                    let whole = [before, bytes(sectors, version), after].concat();
                    volume.write(at, whole.into(), durability).await
                }
                Step::Zero(_) => {
                    volume.write_zeroes(at, len, ZeroOptions { durability, ..ZeroOptions::default() }).await
                }
                Step::Discard(_) => volume.discard(at, len, durability).await,
            }
        });
        if let Some(answer) = done.await {
            answer.unwrap();
            if self.lossy && durability == Durability::Volatile {
                return;
            }
            self.content.borrow_mut().is(at / SECTOR..(at + len) / SECTOR, version);
        }
    }

    fn effect(&self, step: &Step) -> (Range<u64>, Version) {
        let stripe = self.shape.stripe_bytes() / SECTOR;
        match step {
            Step::Write(sectors, version) | Step::Among(sectors, version) => (sectors.clone(), *version),
            Step::Zero(stripes) | Step::Discard(stripes) => (stripes.start * stripe..stripes.end * stripe, 0),
        }
    }

    /// What lies before and behind these sectors in their stripes.
    fn among(&self, sectors: &Range<u64>) -> (Vec<u8>, Vec<u8>) {
        let stripe = self.shape.stripe_bytes() / SECTOR;
        let first = sectors.start / stripe * stripe;
        let end = sectors.end.next_multiple_of(stripe);
        let content = self.content.borrow();
        (content.bytes(first..sectors.start), content.bytes(sectors.end..end))
    }

    /// Writes whole stripes.
    pub async fn write_stripes(&self, stripes: Range<u64>, version: Version) {
        let sectors = self.effect(&Step::Zero(stripes)).0;
        self.carry_out(Step::Write(sectors, version)).await;
    }

    /// Until everything is home and the members say so.
    pub async fn settle(&self) {
        self.wait("all is home", |report| report.clean).await;
        self.sleep(Duration::from_secs(3)).await;
    }

    /// Every block of the volume is what it may be; what it is found to be it is from then on.
    pub async fn holds_everything(&self, when: &str) {
        let read = |array: Arc<Array>| async move {
            let volume = array.volume();
            Ok::<_, palisade::error::Error>(volume.read(0, volume.info().size_bytes).await?.concat())
        };
        let volume = self.call(read).await.unwrap();
        let volume = volume.unwrap_or_else(|e| panic!("{when}: {}", e.report()));
        let complaint = self.content.borrow_mut().complaint(&volume);
        assert_eq!(complaint, None, "{when}");
        self.content.borrow_mut().is_now(&volume);
    }

    /// What the disks named hold, as the state it is in.
    pub fn golden(&self, what: &str, outcome: Outcome, names: &[&str]) -> Golden {
        let image = |name: &&str| {
            let disk = self.disks.get(name).unwrap();
            let size_bytes = disk.size_bytes();
            let pages = disk.written_pages(0..size_bytes).into_iter().map(|at| (at, disk.peek(at, 4096)));
            let pages = pages.filter(|(_, page)| page.iter().any(|b| *b != 0)).collect();
            Image { name: (*name).to_owned(), size_bytes, pages }
        };
        Golden {
            what: what.to_owned(),
            shape: (
                self.shape.data().try_into().unwrap(),
                self.shape.parity().try_into().unwrap(),
                self.shape.chunk_bytes(),
            ),
            uuid: self.id,
            outcome,
            filled: false,
            damaged: false,
            content: self.content.borrow().clone(),
            members: names.iter().map(image).collect(),
        }
    }
}
