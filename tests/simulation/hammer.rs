//! Blow upon blow: a few changes of one place, a crash at one of the operations they take, maybe another at
//! one of those that put it in order, and then as many members missing as may be.
//!
//! What the sweep does with every operation of one workload, this does with some operation of many.

use super::hard::alone;
use super::io::Request;
use super::workload::Step;
use super::world::{Check, Running, World};
use palisade::env::Environment;
use palisade::member::sim::Crash;
use palisade::units::BLOCK_BYTES;
use std::time::Duration;

/// Bytes rewritten again and again: as many times as make a sixteenth of the ring.
const AGAIN_BYTES: u64 = 256 << 10;

impl World {
    /// A series of blows on an array that is whole.
    pub async fn hammer(&mut self) -> Check {
        if self.random.chance(300) {
            self.fill(self.volume_bytes).await?;
        }
        for _ in 0..self.random.between(1, 3) {
            let steps = self.blow();
            self.crash_within(&steps).await?;
            while self.random.chance(350) {
                let most = self.some_operations(&[1, 4, 12]);
                let (crash, at) = (self.any_crash(), self.random.between(1, most));
                self.crash_again(crash, at).await?;
            }
            if self.random.chance(600) {
                self.detach_some(self.shape.parity());
            }
            self.assemble().await.map_err(|e| format!("does not start after a blow: {}", e.report()))?;
            self.verify_volume("after a blow").await?;
            if self.random.chance(300) {
                self.read_what_changes().await?;
            }
            self.rewrite_doubted().await?;
            self.make_whole().await?;
        }
        Ok(())
    }

    /// Reads a stripe, of which chunks may be lost, over and over while a block of it comes home.
    async fn read_what_changes(&mut self) -> Check {
        let Running { process, array } = self.running();
        let len = self.io.stripe_bytes;
        let offset = self.random.below(self.volume_bytes / len) * len;
        let block = offset + self.random.below(len / BLOCK_BYTES) * BLOCK_BYTES;
        let write = Request::Write { offset: block, len: BLOCK_BYTES, durable: false, aligned: true };
        self.io.start(&process, &array.volume(), write, Duration::ZERO);
        self.harness.sleep(Duration::from_millis(199)).await;
        for number in 0..150 {
            let delay = Duration::from_micros(number * 50);
            self.io.start(&process, &array.volume(), Request::Read { offset, len }, delay);
        }
        self.drain().await
    }

    /// Ends every fault, puts every disk back, and waits until all members are in sync.
    pub async fn make_whole(&mut self) -> Check {
        if !self.faulted.is_empty() {
            // Whoever is gone is known to be before it comes back.
            self.verify_volume("with members lost").await?;
            self.harness.sleep(Duration::from_secs(5)).await;
            self.drain().await?;
        }
        self.heal_all();
        for (name, disk) in std::mem::take(&mut self.shelf) {
            if self.disks.get(&name).is_none() {
                self.disks.attach(&name, &disk);
            }
        }
        self.mend_all().await?;
        // Who lies about for more histories than members remember would be taken for one that ran apart.
        let members: Vec<String> = self.report().members.into_iter().map(|m| m.path).collect();
        for name in self.disks.names().into_iter().filter(|name| !members.contains(name)) {
            self.disks.detach(&name);
        }
        Ok(())
    }

    pub fn any_crash(&mut self) -> Crash {
        if self.random.chance(500) { Crash::PowerCut } else { Crash::Kill }
    }

    /// So many operations as one of these numbers of rounds takes, with one for each member.
    pub fn some_operations(&mut self, rounds: &[u64]) -> u64 {
        self.random.pick(rounds).copied().unwrap_or(1) * self.shape.width() as u64
    }

    /// Carries steps out and crashes at one of the operations that one of them takes, or later.
    async fn crash_within(&mut self, steps: &[Step]) -> Check {
        let (before, after) = steps.split_at(self.random.index(steps.len()));
        self.carry_out(before).await?;
        let most = self.some_operations(&[2, 4, 12, 40]);
        let (crash, at) = (self.any_crash(), self.random.between(1, most));
        self.disks.plan_crash(at, crash);
        self.carry_out(after).await?;
        self.die(crash, Duration::from_millis(300)).await
    }

    /// Waits for a planned crash, so long; then it comes anyhow.
    pub async fn die(&mut self, crash: Crash, patience: Duration) -> Check {
        let process = self.running().process;
        let until = self.harness.now().after(patience);
        while !process.is_dead() && self.harness.now() < until {
            self.harness.sleep(Duration::from_micros(500)).await;
        }
        self.verdict()?;
        match self.disks.unplan_crash() {
            true => self.crash(crash),
            false => self.went_down(crash),
        }
        Ok(())
    }

    /// Changes of one place, close together or so far apart that something came home in between.
    fn blow(&mut self) -> Vec<Step> {
        let stripe = self.io.stripe_bytes;
        let start = self.random.below(self.volume_bytes / stripe) * stripe;
        let hot = start + self.random.below(stripe / BLOCK_BYTES) * BLOCK_BYTES;
        let mut steps: Vec<Step> = Vec::new();
        for _ in 0..self.random.between(2, 7) {
            let durable = self.random.chance(150);
            let write = |offset, len, aligned| Request::Write { offset, len, durable, aligned };
            let request = match self.random.below(20) {
                0..6 => write(start, stripe, true),
                6..9 => write(hot, BLOCK_BYTES, true),
                9..11 => {
                    write(start + self.random.below(stripe / BLOCK_BYTES) * BLOCK_BYTES, BLOCK_BYTES, true)
                }
                11 => write(hot + 700, 2000, false),
                12 if self.random.chance(500) => Request::Discard { offset: start, len: stripe },
                12 => Request::Zero { offset: start, len: stripe, no_hole: false, durable },
                13..15 => {
                    steps.push(self.again_and_again(start));
                    continue;
                }
                15..17 => Request::Flush,
                17 => {
                    steps.extend(zero_but_for(start, stripe, hot));
                    continue;
                }
                _ => {
                    let ms = *self.random.pick(&[1, 205, 230, 390, 700]).unwrap();
                    steps.push(Step::Idle(Duration::from_millis(ms + self.random.below(20))));
                    continue;
                }
            };
            match steps.last_mut() {
                Some(Step::Burst(burst)) if self.random.chance(300) => {
                    burst.push((request, Duration::from_micros(self.random.below(600))));
                }
                _ => steps.push(alone(request)),
            }
        }
        steps
    }

    /// The same blocks again and again, with flushes: much of the journal is needed no more at once.
    fn again_and_again(&mut self, start: u64) -> Step {
        let len = AGAIN_BYTES.min(self.volume_bytes);
        let offset = start.min(self.volume_bytes - len);
        let write = Request::Write { offset, len, durable: false, aligned: true };
        let mut burst = Vec::new();
        let mut at = 0;
        for _ in 0..(8 * (1 << 20) / len).min(24) {
            at += self.random.below(800);
            let request = if self.random.chance(300) { Request::Flush } else { write };
            burst.push((request, Duration::from_micros(at)));
        }
        Step::Burst(burst)
    }
}

/// Zeroes, written, over a stripe that has them already but for one block.
fn zero_but_for(start: u64, stripe: u64, hot: u64) -> [Step; 4] {
    let zero = || alone(Request::Zero { offset: start, len: stripe, no_hole: true, durable: false });
    let write = Request::Write { offset: hot, len: BLOCK_BYTES, durable: false, aligned: true };
    [zero(), alone(write), Step::Idle(Duration::from_millis(450)), zero()]
}
