//! Every member that bears the journal is lost, and the array goes on without what they held.
//!
//! What was answered may be gone then, so that the model of other scenarios says nothing. This one does:
//!
//! - a block holds what it held when everything was home, or something that was written to it as a whole since,
//!   or its read fails;
//! - one that was not touched since everything was home holds what it held, and is read;
//! - what was read once is read again, whoever is lost then; that fails only where the row has a block that
//!   fails already.

use super::model::content;
use super::rot::superblock_of;
use super::world::{Check, Running, World};
use bytes::Bytes;
use palisade::array::ArrayState;
use palisade::env::Environment;
use palisade::export::{Durability, Volume, ZeroOptions};
use palisade::member::SimDisk;
use palisade::member::sim::Crash;
use palisade::units::BLOCK_BYTES;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

const BLOCK: u64 = BLOCK_BYTES;
/// Longest the array may take to be whole, in virtual time.
const LONGEST: Duration = Duration::from_secs(3600);

/// What a block held, by the number of the change that wrote it; zeroes are of change 0.
type Value = u32;

/// What is known of the volume.
#[derive(Default)]
struct Known {
    /// By block: what was ever written to it.
    ever: Vec<BTreeSet<Value>>,
    /// By block: what it holds if nobody touched it since everything was home.
    home: Vec<Option<Value>>,
    last: Value,
}

/// A change of whole blocks.
#[derive(Clone, Copy)]
pub enum Change {
    Write { durable: bool },
    Zero,
    Discard,
    Flush,
}

impl Known {
    /// Everything is home, and this is what it is.
    fn settle(&mut self, held: Vec<Option<Value>>) {
        for (ever, held) in self.ever.iter_mut().zip(&held) {
            *ever = held.iter().copied().collect();
        }
        self.home = held;
    }

    fn touch(&mut self, first: u64, count: u64, value: Value) {
        for block in first..first + count {
            let block = usize::try_from(block).unwrap();
            self.ever[block].insert(value);
            self.home[block] = None;
        }
    }
}

impl World {
    /// Runs of the array, each ended by the loss of its journal.
    pub async fn discards(&mut self) -> Check {
        let blocks = usize::try_from(self.volume_bytes / BLOCK).unwrap();
        let known = Known { ever: vec![BTreeSet::from([0]); blocks], home: vec![None; blocks], last: 0 };
        let known = Rc::new(RefCell::new(known));
        for round in 0..self.random.between(1, 3) {
            self.note(|| format!("--- round {round}"));
            if self.random.chance(800) {
                self.changes(&known, 20).await?;
                self.whole().await?;
                let held = self.contents(&known, None).await?;
                known.borrow_mut().settle(held);
            }
            let clean = self.end(&known).await?;
            self.lose_journals(&known, clean).await?;
            let held = self.contents(&known, None).await?;
            if clean && held.contains(&None) {
                return Err("a block cannot be read although the array was stopped in order".into());
            }
            let held = self.lose_more(&known, &held).await?;
            self.rewrite(&known, &held).await?;
        }
        self.stop().await
    }

    /// Random changes of whole blocks, side by side, all answered in the end.
    async fn changes(&mut self, known: &Rc<RefCell<Known>>, most: u64) -> Check {
        let under_way = self.start_changes(known, most);
        let begin = self.harness.now();
        while under_way.get() > 0 {
            self.harness.sleep(Duration::from_millis(1)).await;
            if self.harness.now().since(begin) > LONGEST {
                return Err(format!("{} changes hang; {}", under_way.get(), self.describe()));
            }
        }
        self.verdict()
    }

    fn start_changes(&mut self, known: &Rc<RefCell<Known>>, most: u64) -> Rc<Cell<u64>> {
        let Running { process, array } = self.running();
        let under_way = Rc::new(Cell::new(0));
        let (all, stripe) = (self.volume_bytes / BLOCK, self.shape.stripe_bytes() / BLOCK);
        let near = self.random.below(all);
        for _ in 0..self.random.between(1, most) {
            let longest = *self.random.pick(&[1, 1, 3, 8, stripe, 2 * stripe]).unwrap();
            let count = self.random.between(1, longest).min(all);
            let around = near.saturating_sub(self.random.below(2 * stripe));
            let first = if self.random.chance(700) { around } else { self.random.below(all) };
            let mut first = first.min(all - count);
            let mut count = count;
            if self.random.chance(300) {
                // Whole stripes take another way.
                first = first / stripe * stripe;
                count = stripe.min(all - first);
            }
            let change = match self.random.below(100) {
                0..80 => Change::Write { durable: self.random.chance(300) },
                80..85 => Change::Zero,
                85..90 => Change::Discard,
                _ => Change::Flush,
            };
            let value = self.next_value(known, change, first, count);
            let delay = Duration::from_micros(self.random.below(3000));
            let (io, env, volume) = (Rc::clone(&self.io), process.clone(), array.volume());
            let left = Rc::clone(&under_way);
            under_way.set(under_way.get() + 1);
            process.spawn(Box::pin(async move {
                env.sleep(delay).await;
                env.note(&[7], || format!("change {value} of blocks {first}+{count}"));
                if let Err(e) = carry_out(&*volume, change, value, first * BLOCK, count * BLOCK).await {
                    io.fail(format!("a change of blocks {first}+{count} failed: {}", e.report()));
                }
                left.set(left.get() - 1);
            }));
        }
        under_way
    }

    fn next_value(&self, known: &Rc<RefCell<Known>>, change: Change, first: u64, count: u64) -> Value {
        let mut known = known.borrow_mut();
        known.last += 1;
        let value = known.last;
        match change {
            Change::Write { .. } => known.touch(first, count, value),
            Change::Zero | Change::Discard => known.touch(first, count, 0),
            Change::Flush => {}
        }
        self.io.requests.set(self.io.requests.get() + 1);
        value
    }

    /// Waits until the array is whole and everything is home.
    pub async fn whole(&self) -> Check {
        let begin = self.harness.now();
        while !Self::is_whole(&self.report()) {
            self.harness.sleep(Duration::from_millis(300)).await;
            if self.harness.now().since(begin) > LONGEST {
                return Err(format!("never whole; {}", self.describe()));
            }
        }
        self.verdict()
    }

    /// Ends the run, in order or not; says which.
    async fn end(&mut self, known: &Rc<RefCell<Known>>) -> Check<bool> {
        if self.random.chance(500) {
            // Some of it comes home before the end, and its checksums or not.
            self.changes(known, 40).await?;
            let most = *self.random.pick(&[1_000, 30_000, 1_500_000]).unwrap();
            self.pause(Duration::from_micros(most)).await;
        }
        if self.random.chance(150) {
            self.stop().await?;
            return Ok(true);
        }
        let crash = if self.random.chance(700) { Crash::PowerCut } else { Crash::Kill };
        if self.random.chance(700) {
            // At some write: what comes home, and its checksums, is torn apart by it.
            let at = *self.random.pick(&[20, 60, 200]).unwrap();
            let at = self.random.between(1, at);
            self.disks.plan_crash(at, crash);
        }
        let most = *self.random.pick(&[1, 2, 4, 30]).unwrap();
        drop(self.start_changes(known, most));
        let most = *self.random.pick(&[500, 5000, 100_000, 4_000_000]).unwrap();
        self.pause(Duration::from_micros(most)).await;
        self.disks.unplan_crash();
        match self.running().process.is_dead() {
            true => self.went_down(crash),
            false => self.crash(crash),
        }
        self.verdict()?;
        Ok(false)
    }

    /// Takes every member that bears the journal away, and starts without.
    async fn lose_journals(&mut self, known: &Rc<RefCell<Known>>, clean: bool) -> Check {
        let old = self.take_journals();
        match self.assemble().await {
            Ok(()) => return Err("starts although nobody is left who bears the journal".into()),
            Err(e) if e.next_step().is_some_and(|hint| hint.contains("--discard-journal")) => {}
            Err(e) => return Err(format!("is refused for another reason: {e:?}")),
        }
        self.start_short_of_a_slot(clean).await?;
        let (mut back, mut must_start) = (false, false);
        for _ in 0..self.random.below(4) {
            let crash = self.any_crash();
            let at = *self.random.pick(&[30, 100, 400]).unwrap();
            let at = self.random.between(1, at);
            self.note(|| format!("{crash:?} planned at operation {at}"));
            if !must_start {
                self.disks.plan_crash(at, crash);
            }
            self.discard = match back {
                true => Vec::new(),
                false => self.new_journals(),
            };
            let started = self.assemble().await;
            self.disks.unplan_crash();
            match started {
                Ok(()) => {
                    // It was slower than the start, or is yet to come: anything may be under way.
                    self.contents(known, None).await?;
                    self.crash(crash);
                }
                Err(e) if must_start => {
                    return Err(format!("does not start with the journal it was stopped with: {e:?}"));
                }
                Err(e) => self.note(|| format!("cut short: {e:?}")),
            }
            (back, must_start) = (false, false);
            match self.random.below(4) {
                // Those that were made then are gone, too.
                0 => drop(self.take_journals()),
                // They are listed, and it is started as ever.
                1 => back = true,
                // The old ones are found again.
                2 => {
                    old.iter().for_each(|(name, disk)| self.disks.attach(name, disk));
                    must_start = !self.is_recorded(&old);
                    back = must_start;
                }
                _ => {}
            }
        }
        self.discard.clear();
        if self.assemble().await.is_err() {
            drop(self.take_journals());
            self.discard = self.new_journals();
            self.assemble().await.map_err(|e| format!("does not start without its journal: {e:?}"))?;
        }
        self.discard.clear();
        self.stats.crashes += 1;
        Ok(())
    }

    /// With a slot empty too, it is not started unless everything is home.
    async fn start_short_of_a_slot(&mut self, clean: bool) -> Check {
        if clean || self.random.chance(700) {
            return Ok(());
        }
        let slots: Vec<String> = self.disks.names();
        let Some(name) = self.random.pick(&slots).cloned() else { return Ok(()) };
        let Some(disk) = self.disks.detach(&name) else { return Ok(()) };
        self.discard = self.new_journals();
        let started = self.assemble().await;
        if started.is_ok() {
            if !self.report().clean {
                return Err(format!("starts without {name}, on parity that nothing proves"));
            }
            self.crash(Crash::Kill);
        }
        drop(self.take_journals());
        self.disks.attach(&name, &disk);
        Ok(())
    }

    /// Whether any member of a slot knows that these no longer bear the journal.
    fn is_recorded(&self, old: &[(String, SimDisk)]) -> bool {
        let old: Vec<_> = old.iter().filter_map(|(_, disk)| Some(superblock_of(disk).ok()?.member)).collect();
        let names = self.disks.names();
        let mut slots = names.iter().filter(|name| name.starts_with("/dev/d"));
        slots.any(|name| {
            let superblock = self.disks.get(name).and_then(|disk| superblock_of(&disk).ok());
            superblock.is_none_or(|s| old.iter().all(|id| s.membership.entry(*id).is_none()))
        })
    }

    pub fn take_journals(&mut self) -> Vec<(String, SimDisk)> {
        let names = self.disks.names().into_iter().filter(|name| name.starts_with("/dev/j"));
        names.filter_map(|name| Some((name.clone(), self.disks.detach(&name)?))).collect()
    }

    pub fn new_journals(&mut self) -> Vec<String> {
        let count = self.shape.parity() + 1 + self.random.index(2);
        (0..count).map(|_| self.new_journal_disk()).collect()
    }

    /// Reads every block. Blocks in `must` must be read, as what they were, if anything.
    async fn contents(
        &mut self,
        known: &Rc<RefCell<Known>>,
        must: Option<&[Option<Value>]>,
    ) -> Check<Vec<Option<Value>>> {
        let blocks = self.volume_bytes / BLOCK;
        let (mut found, mut unread) = (Vec::new(), None);
        let Running { process, array } = self.running();
        for block in 0..blocks {
            let volume = array.volume();
            let read = process.call(async move { volume.read(block * BLOCK, BLOCK).await });
            let place = usize::try_from(block).unwrap();
            let value = match read.await {
                None => return Err("the process died while the volume was read".into()),
                Some(Ok(pieces)) => {
                    let bytes = pieces.concat();
                    let ever = &known.borrow().ever[place];
                    let is = |value: &Value| bytes == of(*value, block);
                    let value = ever.iter().rev().copied().find(is);
                    Some(value.ok_or_else(|| {
                        format!("block {block} holds what nobody wrote: {:02x?}", &bytes[..16])
                    })?)
                }
                Some(Err(_)) => None,
            };
            let home = known.borrow().home[place];
            if home.is_some() && must.is_none() && value != home {
                return Err(format!("block {block} held {home:?}, was not touched, and is {value:?}"));
            }
            if let Some(must) = must
                && value != must[place]
            {
                match value {
                    Some(value) => {
                        let was = must[place];
                        return Err(format!("block {block} was {was:?} and is {value} with members lost"));
                    }
                    None if self.must_read(must, block) => drop(unread.get_or_insert(block)),
                    None => {}
                }
            }
            found.push(value);
        }
        match unread {
            Some(block) => {
                Err(format!("block {block} cannot be read with members lost, and all of its row could"))
            }
            None => Ok(found),
        }
    }

    /// Whether all blocks of the row could be read.
    fn must_read(&self, held: &[Option<Value>], block: u64) -> bool {
        let chunk = self.shape.chunk_bytes() / BLOCK;
        let stripe = self.shape.stripe_bytes() / BLOCK;
        let (start, row) = (block / stripe * stripe, block % chunk);
        let row = (0..stripe / chunk).map(|shard| usize::try_from(start + shard * chunk + row).unwrap());
        row.into_iter().all(|block| held.get(block).is_none_or(Option::is_some))
    }

    /// As many members are lost as may be: nothing reads otherwise. Answers what does read: the rest may be gone
    /// when they are back, since what they have of a stripe that changed meanwhile is not believed.
    async fn lose_more(
        &mut self,
        known: &Rc<RefCell<Known>>,
        held: &[Option<Value>],
    ) -> Check<Vec<Option<Value>>> {
        if self.report().state != ArrayState::Optimal {
            // One that is being filled still, and is lost, would be gone for good.
            self.whole().await?;
        }
        self.stop().await?;
        let before: BTreeSet<String> = self.shelf.keys().cloned().collect();
        let mut names = self.disks.names();
        if self.random.chance(800) {
            names.retain(|name| name.starts_with("/dev/d"));
        }
        self.random.shuffle(&mut names);
        for name in names.into_iter().take(self.shape.parity()) {
            if let Some(disk) = self.disks.detach(&name) {
                self.shelf.insert(name, disk);
            }
        }
        self.assemble().await.map_err(|e| format!("does not start with members missing: {e:?}"))?;
        let found = self.contents(known, Some(held)).await?;
        self.stop().await?;
        let taken: Vec<String> = self.shelf.keys().filter(|name| !before.contains(*name)).cloned().collect();
        for name in taken {
            if let Some(disk) = self.shelf.remove(&name) {
                self.disks.attach(&name, &disk);
            }
        }
        self.assemble().await.map_err(|e| format!("does not start again: {e:?}"))?;
        Ok(found)
    }

    /// Writes what cannot be read, and waits until all is whole.
    async fn rewrite(&mut self, known: &Rc<RefCell<Known>>, held: &[Option<Value>]) -> Check {
        let lost = held.iter().zip(0..).filter(|(value, _)| value.is_none());
        let lost: Vec<u64> = lost.map(|(_, block)| block).collect();
        self.io.refused.set(self.io.refused.get() + lost.len() as u64);
        let Running { process, array } = self.running();
        for block in lost {
            let change = Change::Write { durable: false };
            let value = self.next_value(known, change, block, 1);
            let volume = array.volume();
            let written =
                process.call(async move { carry_out(&*volume, change, value, block * BLOCK, BLOCK).await });
            written.await.ok_or("the process died")?.map_err(|e| format!("block {block}: {}", e.report()))?;
        }
        let begin = self.harness.now();
        while self.report().state != ArrayState::Optimal || !self.report().clean {
            self.harness.sleep(Duration::from_millis(300)).await;
            if self.harness.now().since(begin) > LONGEST {
                return Err(format!("never whole again; {}", self.describe()));
            }
        }
        let now = self.contents(known, None).await?;
        match now.iter().position(Option::is_none) {
            Some(block) => Err(format!("block {block} cannot be read after it was written anew")),
            None => Ok(()),
        }
    }
}

/// What a block holds.
pub fn of(value: Value, block: u64) -> Vec<u8> {
    match value {
        0 => vec![0; 4096],
        value => content(value, block * BLOCK, BLOCK),
    }
}

/// Makes a change.
pub async fn carry_out(
    volume: &dyn Volume,
    change: Change,
    value: Value,
    offset: u64,
    len: u64,
) -> palisade::error::Result<()> {
    match change {
        Change::Write { durable } => {
            let durability = if durable { Durability::Durable } else { Durability::Volatile };
            volume.write(offset, Bytes::from(content(value, offset, len)), durability).await
        }
        Change::Zero => volume.write_zeroes(offset, len, ZeroOptions::default()).await,
        Change::Discard => volume.discard(offset, len, Durability::Volatile).await,
        Change::Flush => volume.flush().await,
    }
}
