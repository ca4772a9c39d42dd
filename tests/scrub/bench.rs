//! A simulated array full of known bytes, whose members can be damaged behind its back.

use palisade::array::{
    Array, AssembleOptions, Candidate, CreateSpec, Devices, MemberRef, Report, ScrubDetails, ScrubRecord,
    ScrubStart,
};
use palisade::env::sim::{SimEnv, Simulation};
use palisade::env::{Environment, Moment};
use palisade::export::Durability;
use palisade::format::{
    Areas, PAGE_BYTES, PAGE_ENTRIES, PageKind, SECTOR_ENTRIES, SECTORS_PER_PAGE, SUPERBLOCK_BYTES, Sector,
    Superblock, decode_page, encode_page, pick_newest,
};
use palisade::geometry::Shape;
use palisade::integrity::sum;
use palisade::member::{Opener, SimDisk, SimDisks};
use palisade::observe::{Silent, VolumeRange};
use palisade::stripe::ScrubMode;
use palisade::units::{ArrayId, MemberId, Slot, StripeIndex};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub const BLOCK: u64 = 4096;
pub const CHUNK: u64 = 16384;
const STRIPES: u64 = 300;
const DISK: u64 = 24 << 20;

pub struct Bench {
    harness: SimEnv,
    disks: SimDisks,
    shape: Shape,
    id: ArrayId,
    process: SimEnv,
    array: Option<Arc<Array>>,
}

/// Where damage was done.
pub struct Place {
    pub slot: Slot,
    pub path: String,
    pub offset_bytes: u64,
}

/// What the volume holds.
fn content(offset: u64) -> u8 {
    (offset / 509 % 251).to_le_bytes()[0] ^ (offset / BLOCK).to_le_bytes()[0]
}

impl Bench {
    /// Runs a test on an array of `k` + `m` in virtual time.
    pub fn run<F: Future<Output = ()>>(seed: u64, k: u8, m: u8, test: impl FnOnce(Self) -> F) {
        let mut sim = Simulation::new(seed);
        let harness = sim.handle();
        let done = sim.run(async {
            let bench = Self::create(&harness, Shape::new(k, m, CHUNK).unwrap()).await;
            test(bench).await;
        });
        done.map_err(|stuck| stuck.to_string()).unwrap();
    }

    async fn create(harness: &SimEnv, shape: Shape) -> Self {
        let disks = SimDisks::new(harness);
        let process = harness.new_process();
        let opener = disks.opener(&process);
        let mut members = Vec::new();
        for slot in 0..shape.width() {
            let path = name(slot);
            disks.create(&path, DISK);
            members.push(Candidate { backend: opener.open(&path).await.unwrap(), path });
        }
        let spec = CreateSpec { name: "t".into(), shape, size_bytes: Some(STRIPES * shape.stripe_bytes()) };
        let env = process.env();
        let devices = Devices { members, ..Devices::default() };
        let created = process.call(async move { Array::create(&env, &spec, &devices).await });
        let id = created.await.unwrap().unwrap();
        disks.kill_process(&process);
        let mut bench = Self { harness: harness.clone(), disks, shape, id, process, array: None };
        bench.start().await;
        bench.fill().await;
        bench
    }

    pub async fn start(&mut self) {
        let process = self.harness.new_process();
        let opener = self.disks.opener(&process);
        let mut candidates = Vec::new();
        for path in self.disks.names() {
            candidates.push(Candidate { backend: opener.open(&path).await.unwrap(), path });
        }
        let options = AssembleOptions {
            unopened: Vec::new(),
            env: process.env(),
            opener: Arc::new(opener),
            observer: Arc::new(Silent),
            member_deadline: Duration::from_secs(1),
            probe_interval: Duration::from_millis(500),
            staging_bytes: 256 << 10,
            checksum_cache_bytes: 256 << 10,
            max_rebuild_rate: None,
            discard: palisade::array::Discard::default(),
        };
        let id = self.id;
        let started = process.call(async move {
            let array = Array::assemble(id, candidates, options).await?;
            palisade::task::supervise(&array);
            Ok::<_, palisade::error::Error>(array)
        });
        self.array = Some(started.await.unwrap().unwrap());
        self.process = process;
    }

    /// Stops in order; what is known of scrubs is all that is left.
    pub async fn stop(&mut self) -> ScrubRecord {
        let array = self.array.take().unwrap();
        let stopping = Arc::clone(&array);
        self.process.call(async move { stopping.stop().await }).await.unwrap().unwrap();
        let record = array.scrub_record();
        drop(array);
        self.disks.kill_process(&self.process);
        record
    }

    pub fn array(&self) -> Arc<Array> {
        Arc::clone(self.array.as_ref().unwrap())
    }

    pub fn report(&self) -> Report {
        self.array().report()
    }

    /// Where the array runs.
    #[allow(dead_code, reason = "not every file of tests uses it")]
    pub fn process(&self) -> &SimEnv {
        &self.process
    }

    pub fn stripes(&self) -> u64 {
        STRIPES
    }

    pub fn disk(&self, slot: Slot) -> SimDisk {
        self.disks.get(&name(slot.index())).unwrap()
    }

    #[allow(dead_code, reason = "not every file of tests uses it")]
    pub fn now(&self) -> Moment {
        self.harness.now()
    }

    pub async fn sleep(&self, time: Duration) {
        self.harness.sleep(time).await;
    }

    pub async fn wait(&self, what: &str, done: impl Fn(&Report) -> bool) {
        for _ in 0..100_000 {
            if done(&self.report()) {
                return;
            }
            self.sleep(Duration::from_millis(20)).await;
        }
        panic!("waited in vain until {what}: {:?}", self.report());
    }

    /// Runs a scrub to its end.
    pub async fn scrub(&self, mode: ScrubMode) -> ScrubDetails {
        let start = ScrubStart { mode, max_rate_bytes_per_s: None };
        let started = self.array().start_scrub(start, None).unwrap();
        let ended = |r: &Report| r.scrub.last.as_ref().is_some_and(|last| last.number == started.number);
        self.wait("the scrub ends", ended).await;
        self.array().scrub_record().last.unwrap()
    }

    fn areas(&self) -> Areas {
        Areas::plan(DISK, &self.shape).unwrap()
    }

    fn place(&self, stripe: StripeIndex, shard: usize, row: u64) -> Place {
        let slot = self.shape.slot_of(stripe, shard);
        let offset_bytes = self.areas().data_offset + self.shape.chunk_offset(stripe) + row;
        Place { slot, path: name(slot.index()), offset_bytes }
    }

    /// Which block of its member's data area it is.
    fn block(&self, place: &Place) -> u64 {
        (place.offset_bytes - self.areas().data_offset) / BLOCK
    }

    /// Makes a block unreadable.
    pub fn spoil(&self, stripe: StripeIndex, shard: usize, row: u64) -> Place {
        let place = self.place(stripe, shard, row);
        self.disk(place.slot).spoil(place.offset_bytes, BLOCK);
        place
    }

    /// Flips a bit of a block.
    pub fn scribble(&self, stripe: StripeIndex, shard: usize, row: u64) -> Place {
        let place = self.place(stripe, shard, row);
        let disk = self.disk(place.slot);
        let byte = disk.peek(place.offset_bytes + 77, 1)[0];
        disk.scribble(place.offset_bytes + 77, &[byte ^ 4]);
        place
    }

    /// Flips a bit of a block and makes its checksum match, as a bug would. Only while the array is
    /// stopped, for a page of checksums that is in memory is not read again.
    pub fn forge(&self, stripe: StripeIndex, shard: usize, row: u64) -> Place {
        assert!(self.array.is_none(), "the array is not stopped");
        let place = self.scribble(stripe, shard, row);
        let (disk, block) = (self.disk(place.slot), self.block(&place));
        let bytes = disk.peek(place.offset_bytes, usize::try_from(BLOCK).unwrap());
        let (index, entry) = page_of(block);
        let sectors = self.checksum_page(place.slot, index).map(|sector| match sector {
            Sector::Good { generation, entries } => (generation, entries),
            other => panic!("page {index} of slot {}: {other:?}", place.slot),
        });
        let mut entries: Vec<u32> = sectors.iter().flat_map(|(_, entries)| entries).copied().collect();
        entries[entry] = sum(place.slot, block, &bytes);
        let generations = sectors.map(|(generation, _)| generation);
        let page = encode_page(self.kind(place.slot), index, &generations, &entries);
        disk.scribble(self.areas().checksum_offset + index * PAGE_BYTES, &page);
        place
    }

    /// Flips a bit of the sector of checksums that covers the first block of a shard; answers the slot
    /// and how many blocks the sector covers.
    pub fn rot_checksums(&self, stripe: StripeIndex, shard: usize) -> (Slot, u64) {
        let place = self.place(stripe, shard, 0);
        let (index, entry) = page_of(self.block(&place));
        let sector = entry / SECTOR_ENTRIES;
        let at = self.areas().checksum_offset + index * PAGE_BYTES + sector as u64 * 512 + 100;
        let disk = self.disk(place.slot);
        disk.scribble(at, &[disk.peek(at, 1)[0] ^ 4]);
        (place.slot, SECTOR_ENTRIES as u64)
    }

    /// The page of checksums that covers the first block of a shard, as it is on the member.
    pub fn checksums(&self, stripe: StripeIndex, shard: usize) -> [Sector; SECTORS_PER_PAGE] {
        let place = self.place(stripe, shard, 0);
        self.checksum_page(place.slot, page_of(self.block(&place)).0)
    }

    fn checksum_page(&self, slot: Slot, index: u64) -> [Sector; SECTORS_PER_PAGE] {
        let at = self.areas().checksum_offset + index * PAGE_BYTES;
        let bytes = self.disk(slot).peek(at, usize::try_from(PAGE_BYTES).unwrap());
        decode_page(self.kind(slot), index, &bytes).unwrap()
    }

    fn kind(&self, slot: Slot) -> PageKind {
        PageKind::Checksums(self.member(slot))
    }

    fn member(&self, slot: Slot) -> MemberId {
        let disk = self.disk(slot);
        let copies = Superblock::slot_offsets(DISK);
        let found = copies.map(|offset| Superblock::parse(&disk.peek(offset, SUPERBLOCK_BYTES)));
        pick_newest(found.into_iter()).unwrap().member
    }

    /// A data shard of the stripe that another slot holds.
    pub fn shard_not_in(&self, stripe: StripeIndex, slot: Slot) -> usize {
        (0..self.shape.data()).find(|shard| self.shape.slot_of(stripe, *shard) != slot).unwrap()
    }

    async fn fill(&self) {
        let array = self.array();
        let bytes: Vec<u8> = (0..STRIPES * self.shape.stripe_bytes()).map(content).collect();
        let written = self
            .process
            .call(async move { array.volume().write(0, bytes.into(), Durability::Durable).await });
        written.await.unwrap().unwrap();
    }

    /// Gives whole stripes back.
    pub async fn discard(&self, first: StripeIndex, count: u64) {
        let (array, stripe) = (self.array(), self.shape.stripe_bytes());
        let discarded = self.process.call(async move {
            array.volume().discard(first.0 * stripe, count * stripe, Durability::Durable).await
        });
        discarded.await.unwrap().unwrap();
    }

    /// Writes what the volume holds to a range anew.
    #[allow(dead_code, reason = "not every file of tests uses it")]
    pub async fn write_again(&self, range: VolumeRange) {
        let (array, VolumeRange { offset_bytes: at, len_bytes }) = (self.array(), range);
        let bytes: Vec<u8> = (at..at + len_bytes).map(content).collect();
        let written = self
            .process
            .call(async move { array.volume().write(at, bytes.into(), Durability::Durable).await });
        written.await.unwrap().unwrap();
    }

    /// Reads the whole volume.
    pub async fn holds_everything(&self) {
        let (array, len) = (self.array(), STRIPES * self.shape.stripe_bytes());
        let read = self.process.call(async move { array.volume().read(0, len).await });
        let bytes = read.await.unwrap().unwrap().concat();
        let wrong = bytes.iter().zip(0..).find(|(is, at)| **is != content(*at)).map(|(_, at)| at);
        assert_eq!(wrong, None, "the first byte that is wrong");
    }

    /// Small writes and whole stripes in a few stripes, as fast as they go, until the simulation ends.
    pub fn write_in_the_background(&self) {
        let stripe = self.shape.stripe_bytes();
        for writer in 0..8u64 {
            let volume = self.array().volume();
            self.process.env().spawn(Box::pin(async move {
                for n in writer.. {
                    let (at, len) = match writer {
                        0 => (n * 7 % 24 * stripe, stripe),
                        _ => (n * 7919 % (24 * stripe / BLOCK) * BLOCK, BLOCK),
                    };
                    let bytes = vec![n.to_le_bytes()[0]; usize::try_from(len).unwrap()];
                    volume.write(at, bytes.into(), Durability::Volatile).await.unwrap();
                }
            }));
        }
    }

    /// The slot of a shard.
    #[allow(dead_code, reason = "not every file of tests uses it")]
    pub fn slot_of(&self, stripe: StripeIndex, shard: usize) -> Slot {
        self.shape.slot_of(stripe, shard)
    }

    /// Takes a member out.
    #[allow(dead_code, reason = "not every file of tests uses it")]
    pub async fn fail(&self, slot: Slot) {
        let array = self.array();
        let failed = self.process.call(async move { array.fail(&MemberRef::Slot(slot)).await });
        failed.await.unwrap().unwrap();
    }

    /// Puts a new disk in the place of a member that works.
    pub async fn replace(&self, slot: Slot) {
        let path = "/dev/new".to_owned();
        self.disks.create(&path, DISK);
        let backend = self.disks.opener(&self.process).open(&path).await.unwrap();
        let (array, new) = (self.array(), Candidate { path, backend });
        let replaced = self.process.call(async move { array.replace(&MemberRef::Slot(slot), new).await });
        replaced.await.unwrap().unwrap();
    }
}

/// The page that has the entry of a block, and which entry it is.
fn page_of(block: u64) -> (u64, usize) {
    let entries = PAGE_ENTRIES as u64;
    (block / entries, usize::try_from(block % entries).unwrap())
}

fn name(slot: usize) -> String {
    format!("/dev/d{slot}")
}
