//! Stops and starts: under other names, with members missing, stale, too few, or run apart.

use super::rot::bears_journal;
use super::world::{Check, World};
use palisade::array::{ArrayState, MemberState};
use palisade::env::Environment;
use palisade::error::ErrorKind;
use palisade::member::SimDisk;
use palisade::member::sim::Crash;
use std::time::Duration;

impl World {
    /// Stops and starts, with names permuted, members missing, and old ones back.
    pub async fn restart(&mut self) -> Check {
        self.drain().await?;
        self.heal_all();
        self.harness.sleep(Duration::from_secs(3)).await;
        let budget = self.budget();
        let safe = budget.min(self.shape.parity());
        let report = self.report();
        let whole = World::is_whole(&report);
        let of_use = report.members.iter().filter(|m| m.state == MemberState::InSync);
        let in_sync: Vec<String> = of_use.map(|m| m.path.clone()).collect();
        self.stop().await?;
        if whole && self.shape.parity() >= self.shape.data() && self.random.chance(300) {
            return self.run_apart(&in_sync).await;
        }
        for (name, disk) in std::mem::take(&mut self.shelf) {
            if self.random.chance(500) && self.disks.get(&name).is_none() {
                self.note(|| format!("{name} is back"));
                self.disks.attach(&name, &disk);
            } else {
                self.shelf.insert(name, disk);
            }
        }
        if self.random.chance(150) {
            self.starve().await?;
        }
        if self.random.chance(500) {
            let most = self.random.index(safe + 1);
            self.detach_some(most);
            if most < safe && self.random.chance(300) {
                let name = self.random.pick(&in_sync).cloned().unwrap_or_default();
                if self.disks.get(&name).is_some() {
                    self.put_image_back(&name);
                }
            }
        }
        if self.random.chance(500) {
            self.note(|| "names are permuted".into());
            self.permute_names();
        }
        self.assemble().await.map_err(|e| format!("does not start again: {}", e.report()))
    }

    /// With fewer than k members the array must refuse to start, or serve nothing stale; trying
    /// must cost nothing.
    async fn starve(&mut self) -> Check {
        let names = self.disks.names();
        let keep = self.random.index(self.shape.data());
        let before = self.shelf.len();
        self.detach_some(names.len() - keep.min(names.len()));
        let started = self.assemble().await;
        if started.is_ok() {
            let state = self.report().state;
            if state != ArrayState::Failed {
                return Err(format!(
                    "{keep} members make a {state:?} array of {} data chunks",
                    self.shape.data()
                ));
            }
            self.io.errors_allowed.set(true);
            self.start_burst(8);
            self.drain().await?;
            self.io.errors_allowed.set(false);
            self.crash(Crash::Kill);
        }
        let taken: Vec<String> = names.into_iter().filter(|n| self.disks.get(n).is_none()).collect();
        for name in taken {
            if let Some(disk) = self.shelf.remove(&name) {
                self.disks.attach(&name, &disk);
            }
        }
        if self.shelf.len() > before {
            return Err("the harness lost a disk".into());
        }
        Ok(())
    }

    /// Two halves of the array are run each alone: joined again they must refuse, until one is
    /// taken away (P7).
    async fn run_apart(&mut self, in_sync: &[String]) -> Check {
        self.note(|| "run apart".into());
        let mut slots: Vec<(String, SimDisk)> = Vec::new();
        let mut bear: Vec<(String, SimDisk)> = Vec::new();
        for name in self.disks.names() {
            let Some(disk) = self.disks.detach(&name) else { continue };
            // One that fell behind cannot know it when it is alone: only those that count.
            match in_sync.contains(&name) {
                true if bears_journal(&disk) => bear.push((name, disk)),
                true => slots.push((name, disk)),
                false => drop(self.shelf.insert(name, disk)),
            }
        }
        self.random.shuffle(&mut slots);
        let least = self.shape.data();
        let cut = least + self.random.index(slots.len() - 2 * least + 1);
        let mut other = slots.split_off(cut);
        if !bear.is_empty() {
            // Each half has the journal.
            let cut = 1 + self.random.index(bear.len() - 1);
            other.extend(bear.split_off(cut));
            slots.append(&mut bear);
        }
        let attach = |world: &Self, half: &[(String, SimDisk)]| {
            half.iter().for_each(|(name, disk)| world.disks.attach(name, disk));
        };
        attach(self, &slots);
        self.assemble().await.map_err(|e| format!("one half does not start: {}", e.report()))?;
        self.start_burst(10);
        self.drain().await?;
        self.stop().await?;
        slots.iter().for_each(|(name, _)| drop(self.disks.detach(name)));
        attach(self, &other);
        let ran = self.assemble().await.is_ok();
        if ran {
            // Its writes are not the model's: it makes none, and yet it is another history.
            self.stop().await?;
        }
        attach(self, &slots);
        if ran {
            match self.assemble().await {
                Err(e) if e.kind() == ErrorKind::Foreign => self.note(|| format!("refused: {}", e.report())),
                Err(e) => {
                    return Err(format!("two histories, but refused as {:?}: {}", e.kind(), e.report()));
                }
                Ok(()) => return Err("two halves that ran apart were joined".into()),
            }
            other.iter().for_each(|(name, _)| drop(self.disks.detach(name)));
            self.shelf.clear();
        }
        self.assemble().await.map_err(|e| format!("one side alone does not start: {}", e.report()))
    }
}
