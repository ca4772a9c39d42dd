//! The simulated machine with its array, as the harness sees it.

use super::io::{Io, Request};
use super::run::Stats;
use super::scenario::Scenario;
use palisade::array::{Array, ArrayState, Candidate, MemberReport, MemberState, Report};
use palisade::env::Environment;
use palisade::env::sim::{Prng, SimEnv};
use palisade::format::JournalMembers;
use palisade::geometry::Shape;
use palisade::member::{Opener, SimDisk, SimDisks};
use palisade::units::{ArrayId, JournalIndex, Seat, Slot};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longest any background work may take, in virtual time.
pub const PATIENCE: Duration = Duration::from_secs(3600);

/// What went wrong, for a person.
pub type Check<T = ()> = Result<T, String>;

/// The running array and the process it runs in.
#[derive(Clone)]
pub struct Running {
    pub process: SimEnv,
    pub array: Arc<Array>,
}

pub struct World {
    pub harness: SimEnv,
    pub random: Prng,
    pub scenario: Scenario,
    pub disks: SimDisks,
    /// Disks of the array that are not attached now, with the name they had.
    pub shelf: BTreeMap<String, SimDisk>,
    /// Disks as an array before this one left them (see `impostor`).
    pub relics: Vec<SimDisk>,
    /// What members held once, by the name they had (see `impostor`).
    pub copies: BTreeMap<String, SimDisk>,
    /// How often the array was started when they were made.
    pub copied_at: u64,
    pub shape: Shape,
    pub volume_bytes: u64,
    pub disk_bytes: u64,
    /// The disks free no space.
    pub keeps_space: bool,
    /// Members that bear the journal and nothing else; 0 if those of the slots do.
    pub journals: usize,
    pub id: ArrayId,
    pub running: Option<Running>,
    pub io: Rc<Io>,
    /// Copies of members' disks, by the name the disk had.
    pub images: BTreeMap<String, SimDisk>,
    /// Members that were taken back.
    pub returned: Arc<AtomicU64>,
    /// Disks with a fault the array may not have noticed yet.
    pub faulted: BTreeSet<String>,
    /// Names of the disks that lie (see `rot`).
    pub evil: BTreeSet<String>,
    /// Paths of members that became faulty, in that order, as the array told.
    pub gone_faulty: Arc<Mutex<Vec<String>>>,
    pub next_disk: u64,
    /// Disks that are to bear a journal in place of a lost one, at the next start.
    pub discard: Vec<String>,
    /// How often the array was started.
    pub starts: u64,
    pub stats: Stats,
}

impl World {
    pub fn running(&self) -> Running {
        self.running.clone().expect("the array runs")
    }

    pub fn report(&self) -> Report {
        self.running().array.report()
    }

    pub fn note(&self, text: impl FnOnce() -> String) {
        self.harness.note(&[9], text);
    }

    pub async fn pause(&mut self, most: Duration) {
        let micros = self.random.below(u64::try_from(most.as_micros()).unwrap());
        self.harness.sleep(Duration::from_micros(micros)).await;
    }

    /// Adds an empty disk, now and then larger than the others.
    pub fn new_disk(&mut self) -> String {
        let name = format!("/dev/d{}", self.next_disk);
        self.next_disk += 1;
        // The very first is as small as may be: later ones, spares above all, are at least as large.
        let extra =
            if self.next_disk > 1 && self.random.chance(300) { self.random.below(64) * 65536 } else { 0 };
        match self.used_disk() {
            Some(used) => self.disks.attach(&name, &used),
            None => {
                let disk = self.disks.create(&name, self.disk_bytes + extra);
                if self.keeps_space {
                    disk.keep_space();
                }
            }
        }
        name
    }

    /// Adds an empty disk to bear the journal, now and then larger than need be.
    pub fn new_journal_disk(&mut self) -> String {
        let name = format!("/dev/j{}", self.next_disk);
        self.next_disk += 1;
        let extra = if self.random.chance(300) { self.random.below(64) * 4096 } else { 0 };
        self.disks.create(&name, JournalMembers::MINIMUM_BYTES + extra);
        name
    }

    /// Opens a disk for a process.
    pub async fn open(&self, process: &SimEnv, path: &str) -> palisade::error::Result<Candidate> {
        let opener = self.disks.opener(process);
        let backend = opener.open(path).await?;
        Ok(Candidate { path: path.to_owned(), backend })
    }

    /// The member that holds a slot in sync.
    pub fn in_sync(report: &Report, slot: Slot) -> Option<&MemberReport> {
        report.members.iter().find(|m| m.slot == Some(slot) && m.state == MemberState::InSync)
    }

    /// Every seat of the array.
    fn seats(&self) -> impl Iterator<Item = Seat> + use<> {
        let bear = (0..u8::try_from(self.journals).unwrap()).map(|i| Seat::Journal(JournalIndex(i)));
        self.shape.slots().map(Seat::Slot).chain(bear)
    }

    /// The member that serves a seat, in sync.
    pub fn in_sync_as(report: &Report, seat: Seat) -> Option<&MemberReport> {
        report.members.iter().find(|m| m.seat() == Some(seat) && m.state == MemberState::InSync)
    }

    /// Seats whose data, or journal, the array, or the harness, holds for lost.
    pub fn lost_seats(&self) -> Vec<Seat> {
        let report = self.report();
        let lost = |seat: &Seat| Self::in_sync_as(&report, *seat).is_none_or(|m| self.fails(m));
        self.seats().filter(lost).collect()
    }

    /// Members in sync that have no fault.
    pub fn healthy(&self) -> Vec<MemberReport> {
        let report = self.report();
        let members = report.members.into_iter();
        members.filter(|m| m.state == MemberState::InSync && !self.fails(m)).collect()
    }

    /// Whether a member has a fault, or had one that the array will notice: a disk that is back serves
    /// nobody who had it open before.
    fn fails(&self, member: &MemberReport) -> bool {
        let is_open = self.disks.get(&member.path).is_some_and(|disk| disk.is_open());
        self.faulted.contains(&member.path) || !is_open
    }

    /// Members that may be lost now: an evil one counts as lost already.
    pub fn victims(&self) -> Vec<MemberReport> {
        let any = self.budget() > 0;
        self.healthy().into_iter().filter(|m| any || self.evil.contains(&m.path)).collect()
    }

    /// How many more members may be lost now.
    pub fn budget(&self) -> usize {
        let report = self.report();
        let evil =
            |seat: &Seat| Self::in_sync_as(&report, *seat).is_some_and(|m| self.evil.contains(&m.path));
        let lost = self.lost_seats();
        let bad = self.seats().filter(|seat| lost.contains(seat) || evil(seat)).count();
        self.shape.parity().saturating_sub(bad)
    }

    /// Starts some requests that overlap in time and place.
    pub fn start_burst(&mut self, most: u64) {
        let running = self.running();
        let volume = running.array.volume();
        let hot = self.random.below(self.volume_bytes);
        for _ in 0..self.random.between(1, most) {
            let request = Request::random(&mut self.random, self.volume_bytes, self.io.stripe_bytes, hot);
            let delay = Duration::from_micros(self.random.below(3000));
            self.io.start(&running.process, &volume, request, delay);
        }
    }

    /// Waits until every request is answered.
    pub async fn drain(&self) -> Check {
        let begin = self.harness.now();
        while self.io.under_way.get() > 0 {
            self.harness.sleep(Duration::from_millis(1)).await;
            if self.harness.now().since(begin) > Duration::from_secs(300) {
                let report = self.describe();
                return Err(format!("{} requests hang; {report}", self.io.under_way.get()));
            }
        }
        self.verdict()
    }

    /// The first failure of a request, if there is one.
    pub fn verdict(&self) -> Check {
        match self.io.failures.borrow().first() {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    /// Waits until the report satisfies a condition, with requests going on now and then.
    pub async fn wait_for(&mut self, what: &str, mut done: impl FnMut(&Report) -> bool) -> Check {
        let begin = self.harness.now();
        loop {
            if done(&self.report()) {
                return self.verdict();
            }
            if self.harness.now().since(begin) > PATIENCE {
                return Err(format!("waited {PATIENCE:?} for {what}; {}", self.describe()));
            }
            if self.random.chance(50) {
                self.start_burst(3);
                self.drain().await?;
            }
            self.pause(Duration::from_millis(500)).await;
        }
    }

    /// Ends every fault of every disk; the array need not know.
    pub fn heal_all(&mut self) {
        for (name, disk) in self.disks.names().iter().zip(self.disks.disks()) {
            disk.heal();
            if !disk.is_present() {
                self.note(|| format!("{name} comes back"));
                disk.come_back();
            }
        }
        self.faulted.clear();
        self.arm();
    }

    pub fn is_whole(report: &Report) -> bool {
        // A replacement may wait for its task to begin.
        let filling = report.members.iter().any(|m| m.state == MemberState::Rebuilding);
        report.state == ArrayState::Optimal && report.clean && report.tasks.is_empty() && !filling
    }

    /// The array in a line or two.
    pub fn describe(&self) -> String {
        let Some(running) = &self.running else { return "the array does not run".into() };
        let report = running.array.report();
        let members: Vec<String> = report
            .members
            .iter()
            .map(|m| {
                let slot = m.seat().map_or("-".to_owned(), |s| s.to_string());
                let reason = m.reason.as_deref().unwrap_or("");
                format!("{slot}:{} {:?} {reason}", m.path, m.state)
            })
            .collect();
        format!(
            "{:?} clean={} members [{}] tasks {:?} problems {:?}; faulted {:?}",
            report.state,
            report.clean,
            members.join(", "),
            report.tasks,
            report.problems,
            self.faulted
        )
    }
}
