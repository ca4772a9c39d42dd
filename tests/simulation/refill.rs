//! Replacements: half filled when the machine goes down, filled on in silence, and then needed at once
//! because as many others are missing as may be.

use super::world::{Check, Running, World};
use palisade::array::{MemberRef, RebuildControl};
use palisade::env::Environment;
use palisade::member::sim::Crash;
use palisade::units::Seat;
use std::time::Duration;

impl World {
    /// A replacement, from its first block to the moment it is all that is left.
    pub async fn refill(&mut self) -> Check {
        if self.random.chance(300) {
            self.fill(self.volume_bytes).await?;
        }
        let new = self.begin_to_fill().await?;
        for _ in 0..self.random.below(5) {
            self.start_burst(4);
            self.pause(Duration::from_secs(3)).await;
        }
        let most = self.some_operations(&[1, 6, 30]);
        let (crash, at) = (self.any_crash(), self.random.between(1, most));
        self.disks.plan_crash(at, crash);
        self.start_burst(4);
        let patience = *self.random.pick(&[1, 20, 400, 6000]).unwrap();
        self.die(crash, Duration::from_millis(patience)).await?;
        while self.random.chance(300) {
            let most = self.some_operations(&[1, 4, 12]);
            let (crash, at) = (self.any_crash(), self.random.between(1, most));
            self.crash_again(crash, at).await?;
        }
        self.heal_all();
        self.assemble().await.map_err(|e| format!("does not start with a replacement: {}", e.report()))?;
        if self.random.chance(500) {
            self.verify_volume("with a replacement half filled").await?;
        }
        if self.random.chance(300) {
            self.start_burst(4);
            self.drain().await?;
        }
        self.fill_in_silence().await?;
        if self.random.chance(300) {
            self.verify_volume("with a replacement filled").await?;
        }
        self.leave_only(&new).await
    }

    /// Begins to fill a new disk, for a member that is there or lost; answers its name.
    async fn begin_to_fill(&mut self) -> Check<String> {
        let change = RebuildControl {
            max_rate_bytes_per_s: self.random.pick(&[None, Some(16 << 10), Some(64 << 10)]).copied().unwrap(),
            paused: Some(false),
        };
        self.running().array.control_rebuild(change);
        let healthy = self.healthy();
        let victim = self.random.pick(&healthy).cloned().ok_or("nobody is in sync")?;
        let seat = victim.seat().ok_or("a member in sync has no seat")?;
        if self.random.chance(600) {
            self.fault_on(&victim.path, 0);
            for _ in 0..20 {
                self.start_burst(2);
                self.pause(Duration::from_millis(500)).await;
                if Self::in_sync_as(&self.report(), seat).is_none() {
                    break;
                }
            }
            self.drain().await?;
            // Another one takes its place: it does not come back.
            self.disks.detach(&victim.path);
        }
        let prefix = if matches!(seat, Seat::Journal(_)) { "/dev/j" } else { "/dev/d" };
        let name = format!("{prefix}{}", self.next_disk);
        // A spare may have been quicker.
        self.try_replace(&MemberRef::from(seat)).await?;
        Ok(name)
    }

    /// Waits until all is in sync, without one request.
    async fn fill_in_silence(&mut self) -> Check {
        self.running().array.control_rebuild(RebuildControl { max_rate_bytes_per_s: Some(0), paused: None });
        for _ in 0..600 {
            if World::is_whole(&self.report()) {
                break;
            }
            self.harness.sleep(Duration::from_millis(100)).await;
        }
        self.verdict()
    }

    /// As many members go as may, but not this one: at once, or with a crash.
    async fn leave_only(&mut self, spared: &str) -> Check {
        let mut others = self.healthy();
        others.retain(|m| m.path != spared);
        self.random.shuffle(&mut others);
        let others: Vec<String> = others.into_iter().map(|m| m.path).take(self.budget()).collect();
        match self.random.below(4) {
            0 => others.iter().for_each(|path| self.fault_on(path, 0)),
            kind => {
                let Running { .. } = self.running();
                match kind {
                    1 => self.stop().await?,
                    2 => self.crash(Crash::PowerCut),
                    _ => self.crash(Crash::Kill),
                }
                for name in others {
                    if let Some(disk) = self.disks.detach(&name) {
                        self.note(|| format!("{name} is taken off"));
                        self.shelf.insert(name, disk);
                    }
                }
                self.assemble()
                    .await
                    .map_err(|e| format!("does not start with {spared} alone that may be: {}", e.report()))?;
            }
        }
        self.verify_volume("with a replacement and few others").await?;
        self.rewrite_doubted().await
    }
}
