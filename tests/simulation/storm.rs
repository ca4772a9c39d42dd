//! Crash upon crash: the machine goes down again and again, before what the crash before left is put in
//! order, with few and like requests in between, so that what is written anew lies where something was
//! that did not count.
//!
//! Members that are evil (see `rot`) lose parts of their journal while the machine is down, or have
//! them in other places.

use super::io::Request;
use super::world::{Check, World};
use palisade::array::{ArrayState, MemberRef, Report};
use palisade::member::SimDisk;
use palisade::member::sim::FaultPlan;
use palisade::units::BLOCK_BYTES;
use std::time::Duration;

/// Where the ring begins in the journal area: behind two checkpoint pages.
const RING: u64 = 2 * 4096;
/// What a structure of the journal says of itself begins behind what all have in common.
const FIELDS: u64 = 40;

impl World {
    /// Some crashes in a row, then a look at every byte.
    pub async fn storm(&mut self) -> Check {
        self.drain().await?;
        self.heal_all();
        if self.random.chance(400) && self.budget() > 0 {
            self.turn_one_evil();
        }
        if self.random.chance(200) {
            self.wear_the_ring().await?;
        }
        for _ in 0..self.random.between(2, 7) {
            if self.random.chance(150) {
                self.replace_one().await?;
            }
            let longest = *self.random.pick(&[150, 400, 1000, 4000, 300_000]).unwrap();
            self.few_requests(longest);
            self.pause(Duration::from_micros(longest)).await;
            self.verdict()?;
            let may_go = self.budget();
            let crash = self.any_crash();
            self.crash(crash);
            self.rot_journals()?;
            if self.random.chance(300) {
                let (crash, at) = (self.any_crash(), self.random.between(1, 60));
                self.crash_again(crash, at).await?;
                self.rot_journals()?;
            }
            if may_go > 0 && self.random.chance(200) {
                self.detach_some(1);
            }
            self.assemble().await.map_err(|e| format!("does not start in a storm: {}", e.report()))?;
            if self.random.chance(300) {
                self.verify_volume("in a storm").await?;
            }
        }
        let settled = |r: &Report| r.clean || r.state == ArrayState::Degraded;
        self.wait_for("parity to be consistent after a storm", settled).await?;
        self.verify_volume("after a storm").await?;
        self.rewrite_doubted().await
    }

    async fn replace_one(&mut self) -> Check {
        let healthy = self.healthy();
        match self.random.pick(&healthy).and_then(|m| m.slot) {
            Some(slot) => self.try_replace(&MemberRef::Slot(slot)).await,
            None => Ok(()),
        }
    }

    /// A few requests for one place, side by side or one after the other, within a time.
    fn few_requests(&mut self, longest_us: u64) {
        let running = self.running();
        let volume = running.array.volume();
        let all = self.volume_bytes / BLOCK_BYTES;
        let blocks = (*self.random.pick(&[1, 1, 1, 2, 8, 64]).unwrap()).min(all);
        let near = self.random.below(all - blocks + 1);
        let stripe = self.io.stripe_bytes;
        let most = *self.random.pick(&[6, 6, 20]).unwrap();
        for _ in 0..self.random.between(1, most) {
            let anywhere = self.random.below(all - blocks + 1);
            let block = if self.random.chance(700) { near } else { anywhere };
            let (offset, len) = (block * BLOCK_BYTES, blocks * BLOCK_BYTES);
            let whole = (offset / stripe * stripe, stripe);
            let fits = whole.0 + stripe <= self.volume_bytes;
            let durable = self.random.chance(150);
            let request = match self.random.below(100) {
                0..15 => Request::Flush,
                15..30 if fits => Request::Write { offset: whole.0, len: stripe, durable, aligned: true },
                30..36 if fits => Request::Discard { offset: whole.0, len: stripe },
                _ => Request::Write { offset, len, durable, aligned: true },
            };
            let delay = Duration::from_micros(self.random.below(longest_us.min(800)));
            self.io.start(&running.process, &volume, request, delay);
        }
        for _ in 0..self.random.below(4) {
            let delay = Duration::from_micros(self.random.below(longest_us));
            self.io.start(&running.process, &volume, Request::Flush, delay);
        }
    }

    /// Writes so much that the journal begins anew at the start of its ring.
    async fn wear_the_ring(&mut self) -> Check {
        let journal = self.used()?.journal;
        let len = (256 << 10).min(self.volume_bytes);
        let ring = (journal.end - journal.start) * self.shape.data() as u64;
        if self.shape.data() > 2 {
            return Ok(());
        }
        for _ in 0..ring / len.max(64 << 10) {
            let running = self.running();
            let offset = self.random.below((self.volume_bytes - len) / BLOCK_BYTES + 1) * BLOCK_BYTES;
            let request = Request::Write { offset, len, durable: false, aligned: true };
            self.io.start(&running.process, &running.array.volume(), request, Duration::ZERO);
            if self.io.under_way.get() > 4 {
                self.drain().await?;
            }
        }
        self.verdict()
    }

    /// While the machine is down: pages of the journals of evil members rot, or lie elsewhere.
    fn rot_journals(&mut self) -> Check {
        let evil: Vec<SimDisk> = self.evil.iter().filter_map(|path| self.disks.get(path)).collect();
        let journal = self.used()?.journal;
        let others = self.disks.disks();
        for disk in evil {
            disk.set_plan(FaultPlan::default());
            for _ in 0..self.random.below(4) {
                let kind = self.random.below(5);
                let area = if kind == 1 { journal.start..journal.start + RING } else { journal.clone() };
                let pages = disk.written_pages(area);
                let Some(page) = self.random.pick(&pages).copied() else { continue };
                let (at, bytes) = match kind {
                    0 => {
                        self.scramble(&disk, journal.clone());
                        continue;
                    }
                    1 | 2 => (page + FIELDS + self.random.below(24), self.noise(24)),
                    3 => (page, self.random.pick(&others).unwrap().peek(page, 4096)),
                    _ => {
                        let to = if self.random.chance(300) { journal.start + RING } else { page + 4096 };
                        (to.min(journal.end - 4096), disk.peek(page, 4096))
                    }
                };
                self.note(|| format!("{} bytes of the journal rot at {at}", bytes.len()));
                disk.scribble(at, &bytes);
                self.stats.rotten += 1;
            }
        }
        Ok(())
    }
}
