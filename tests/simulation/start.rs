//! Creating, starting, stopping and crashing the array.

use super::io::Io;
use super::model::Model;
use super::run::Stats;
use super::scenario::{JournalOn, Scenario};
use super::world::{Check, Running, World};
use palisade::array::{Array, AssembleOptions, Candidate, CreateSpec, Devices, Discard};
use palisade::env::sim::{Prng, SimEnv};
use palisade::error::{Error, ErrorKind};
use palisade::format::Areas;
use palisade::geometry::Shape;
use palisade::member::sim::Crash;
use palisade::member::{SimDisk, SimDisks};
use palisade::observe::{Event, Observer};
use palisade::units::{ArrayId, BLOCK_BYTES, StripeIndex};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Writes events into the trace, and who became faulty into a list.
struct Tracer {
    env: SimEnv,
    gone_faulty: Arc<Mutex<Vec<String>>>,
    returned: Arc<AtomicU64>,
}

impl Observer for Tracer {
    fn event(&self, event: Event) {
        self.env.note(&[10], || format!("event {event:?}"));
        match event {
            Event::MemberFaulty { path, .. } => self.gone_faulty.lock().unwrap().push(path),
            Event::MemberReturned { .. } => drop(self.returned.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
    }
}

impl World {
    /// Draws shape and sizes, formats the members and starts the array.
    pub async fn create(
        harness: &SimEnv,
        mut random: Prng,
        scenario: Scenario,
        journal: JournalOn,
    ) -> Check<Self> {
        if scenario.is_small() {
            return Self::create_small(harness, random, scenario, journal).await;
        }
        let data = u8::try_from(random.between(1, 6)).unwrap();
        let parity = u8::try_from(random.between(1, 3)).unwrap();
        let shape = Shape::new(data, parity, 4096 << random.below(5)).unwrap();
        let blocks = match random.below(3) {
            0 => random.between(1, 64),
            1 => random.between(64, 300),
            _ => random.between(300, 900),
        };
        // It reads every block again and again.
        let blocks = if scenario == Scenario::Discard { blocks.min(200) } else { blocks };
        let volume_bytes = blocks * BLOCK_BYTES;
        Self::with_shape(harness, random, scenario, journal, shape, volume_bytes).await
    }

    async fn create_small(
        harness: &SimEnv,
        mut random: Prng,
        scenario: Scenario,
        journal: JournalOn,
    ) -> Check<Self> {
        let data = u8::try_from(random.between(1, 4)).unwrap();
        let parity = u8::try_from(random.between(1, 2)).unwrap();
        let shape = Shape::new(data, parity, 4096 << random.below(2)).unwrap();
        let stripes = match scenario {
            // So many that the tables have some sectors.
            Scenario::Mislaid => random.between(200, 600),
            _ => *random.pick(&[2, 6, 24, 60]).unwrap(),
        };
        Self::with_shape(harness, random, scenario, journal, shape, stripes * shape.stripe_bytes()).await
    }

    /// Formats the members of an array of that shape and starts it.
    pub async fn with_shape(
        harness: &SimEnv,
        random: Prng,
        scenario: Scenario,
        journal: JournalOn,
        shape: Shape,
        volume_bytes: u64,
    ) -> Check<Self> {
        let mut disk_bytes = 20 << 20;
        let journals = match journal {
            JournalOn::Slots => 0,
            JournalOn::Own(more) => shape.parity() + usize::from(more),
        };
        while Areas::plan(disk_bytes, &shape).map_or(0, |a| a.capacity_bytes(&shape)) < volume_bytes {
            disk_bytes += 1 << 20;
        }
        let disks = SimDisks::new(harness);
        let mut world = Self {
            harness: harness.clone(),
            random,
            scenario,
            disks: disks.clone(),
            shelf: BTreeMap::new(),
            copies: BTreeMap::new(),
            relics: Vec::new(),
            shape,
            volume_bytes,
            disk_bytes,
            keeps_space: false,
            journals,
            id: ArrayId::NIL,
            running: None,
            io: Io::new(Model::new(volume_bytes), shape.stripe_bytes(), &disks),
            images: BTreeMap::new(),
            returned: Arc::default(),
            faulted: BTreeSet::new(),
            evil: BTreeSet::new(),
            gone_faulty: Arc::default(),
            starts: 0,
            copied_at: 0,
            next_disk: 0,
            discard: Vec::new(),
            stats: Stats::default(),
        };
        world.keeps_space = scenario == Scenario::Mislaid && world.random.chance(500);
        world.format().await?;
        world.assemble().await.map_err(|e| format!("a new array does not start: {}", e.report()))?;
        let used_before = matches!(scenario, Scenario::Impostor | Scenario::Mislaid);
        if used_before && world.random.chance(300) {
            world.create_anew().await?;
        }
        Ok(world)
    }

    async fn format(&mut self) -> Check {
        let process = self.harness.new_process();
        let spare_count =
            if self.scenario.loses_members() && !self.scenario.is_small() { self.random.below(2) } else { 0 };
        let (mut members, mut spares) = (Vec::new(), Vec::new());
        for _ in 0..self.shape.width() {
            let name = self.new_disk();
            members.push(self.open(&process, &name).await.map_err(|e| e.report())?);
        }
        for _ in 0..spare_count {
            let name = self.new_disk();
            spares.push(self.open(&process, &name).await.map_err(|e| e.report())?);
        }
        let mut journal = Vec::new();
        for _ in 0..self.journals {
            let name = self.new_journal_disk();
            journal.push(self.open(&process, &name).await.map_err(|e| e.report())?);
        }
        let devices = Devices { members, spares, journal };
        self.make(&process, devices).await
    }

    /// Creates the array of these devices.
    pub async fn make(&mut self, process: &SimEnv, devices: Devices) -> Check {
        let size_bytes = Some(self.volume_bytes);
        let spec = CreateSpec { name: "sim".into(), shape: self.shape, size_bytes };
        let env = process.env();
        let created = process.call(async move { Array::create(&env, &spec, &devices).await });
        self.id = created.await.unwrap().map_err(|e| format!("create failed: {}", e.report()))?;
        // What was created must survive a power cut at once.
        self.disks.power_cut(process);
        Ok(())
    }

    fn options(&mut self, process: &SimEnv) -> AssembleOptions {
        let (gone_faulty, returned) = (Arc::clone(&self.gone_faulty), Arc::clone(&self.returned));
        AssembleOptions {
            unopened: self.shelf.keys().cloned().collect(),
            env: process.env(),
            opener: Arc::new(self.disks.opener(process)),
            observer: Arc::new(Tracer { env: process.clone(), gone_faulty, returned }),
            member_deadline: Duration::from_secs(1),
            probe_interval: Duration::from_millis(500),
            staging_bytes: 1 << 20,
            checksum_cache_bytes: 256 << 10,
            max_rebuild_rate: self.random.chance(200).then_some(4 << 20),
            discard: Discard::default(),
        }
    }

    /// Starts the array from every disk that can be opened, in random order.
    pub async fn assemble(&mut self) -> Result<(), Error> {
        let process = self.harness.new_process();
        let mut names = self.disks.names();
        self.random.shuffle(&mut names);
        let mut candidates: Vec<Candidate> = Vec::new();
        for name in names {
            match self.open(&process, &name).await {
                Ok(candidate) => candidates.push(candidate),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        let mut options = self.options(&process);
        let new = |c: &mut Candidate| self.discard.contains(&c.path);
        options.discard.journal = candidates.extract_if(.., new).collect();
        let id = self.id;
        let started = process.call(async move {
            let array = Array::assemble(id, candidates, options).await?;
            palisade::task::supervise(&array);
            Ok::<_, Error>(array)
        });
        let gone = || Error::new(ErrorKind::ShuttingDown, "the process died while the array was started");
        match started.await.unwrap_or_else(|| Err(gone())) {
            Ok(array) => {
                self.note(|| "assembled".into());
                self.starts += 1;
                self.running = Some(Running { process, array });
                self.note(|| self.describe());
                Ok(())
            }
            Err(e) => {
                self.note(|| format!("assembly refused: {}", e.report()));
                self.disks.kill_process(&process);
                Err(e)
            }
        }
    }

    /// Stops in order. Everything answered is durable afterwards.
    pub async fn stop(&mut self) -> Check {
        let Running { process, array } = self.running();
        let stopping = Arc::clone(&array);
        let stopped = process.call(async move { stopping.stop().await });
        let limit = palisade::env::deadline(&self.harness.env(), Duration::from_secs(120), stopped).await;
        match limit {
            None => return Err(format!("stop hangs; {}", self.describe())),
            Some(None) => return Err("the process died while stopping".into()),
            Some(Some(Err(e))) => return Err(format!("stop failed: {}", e.report())),
            Some(Some(Ok(()))) => {}
        }
        let tick = self.io.model.borrow_mut().tick();
        self.io.model.borrow_mut().flushed(tick);
        self.running = None;
        drop(array);
        if self.random.chance(300) {
            self.disks.power_cut(&process);
        } else {
            self.disks.kill_process(&process);
        }
        self.stats.restarts += 1;
        Ok(())
    }

    /// Kills the process or cuts the power, requests under way or not.
    pub fn crash(&mut self, crash: Crash) {
        let process = self.running().process;
        match crash {
            Crash::PowerCut => self.disks.power_cut(&process),
            Crash::Kill => self.disks.kill_process(&process),
        }
        self.went_down(crash);
    }

    /// The machine went down: the model is told.
    pub fn went_down(&mut self, crash: Crash) {
        self.note(|| format!("CRASH: {crash:?}"));
        self.running = None;
        let power_cut = crash == Crash::PowerCut;
        let touched = self.touched();
        let mut model = self.io.model.borrow_mut();
        model.doubt(power_cut, self.io.stripe_bytes, touched);
        model.crash(power_cut);
        self.io.under_way.set(0);
        self.stats.crashes += 1;
    }

    /// Whether any disk was asked to change the home of a stripe after an operation of the disks.
    fn touched(&self) -> impl Fn(u64, u64) -> bool + use<> {
        let disks: Vec<SimDisk> =
            self.disks.disks().into_iter().chain(self.shelf.values().cloned()).collect();
        let (shape, data) = (self.shape, self.used().map(|used| used.data.start));
        move |stripe, since| {
            // Nobody can say where it is.
            let Ok(data) = data else { return true };
            let start = data + shape.chunk_offset(StripeIndex(stripe));
            disks.iter().any(|disk| disk.was_touched(start..start + shape.chunk_bytes(), since))
        }
    }
}
