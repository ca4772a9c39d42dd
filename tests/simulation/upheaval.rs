//! Changes of membership that do not come to their end: cut short by a crash, or given up because too few
//! members could record them; then as many members missing as may be.

use super::io::Request;
use super::world::{Check, Running, World};
use palisade::array::{ArrayState, MemberRef, MemberState, Report};
use palisade::env::Environment;
use std::sync::Arc;
use std::time::Duration;

/// Write errors; no answer at all; writes refused: kinds of faults (see `incidents`).
const FAILS_WRITES: u64 = 2;
const VANISHES: u64 = 0;
const REFUSES_WRITES: u64 = 10;

impl World {
    /// One of them, on an array that is whole.
    pub async fn upheaval(&mut self) -> Check {
        match self.random.below(10) {
            0..4 => self.crash_in_a_change().await?,
            4..7 => self.give_a_change_up().await?,
            _ => self.tear_a_stripe().await?,
        }
        self.verify_volume("after an upheaval").await?;
        self.rewrite_doubted().await
    }

    /// The machine goes down while a change is recorded, maybe again while the start records itself.
    async fn crash_in_a_change(&mut self) -> Check {
        let healthy = self.healthy();
        let Some(victim) = self.random.pick(&healthy).cloned() else { return Ok(()) };
        let Running { process, array } = self.running();
        let most = self.some_operations(&[1, 4, 12]);
        let (crash, at) = (self.any_crash(), self.random.between(1, most));
        self.start_burst(4);
        let mut lost = 1;
        match self.random.below(3) {
            0 => {
                self.fault_on(&victim.path, VANISHES);
                self.disks.plan_crash(at, crash);
            }
            1 => {
                self.disks.plan_crash(at, crash);
                let (array, member) = (Arc::clone(&array), MemberRef::Id(victim.uuid));
                process.spawn(Box::pin(async move { drop(array.fail(&member).await) }));
            }
            _ => {
                lost = 0;
                let name = self.new_disk();
                let candidate = self.open(&process, &name).await.map_err(|e| e.report())?;
                self.disks.plan_crash(at, crash);
                let (array, member) = (Arc::clone(&array), MemberRef::Id(victim.uuid));
                process.spawn(Box::pin(async move { drop(array.replace(&member, candidate).await) }));
            }
        }
        self.die(crash, Duration::from_secs(2)).await?;
        self.heal_all();
        while self.random.chance(500) {
            let most = self.some_operations(&[1, 3, 8]);
            let (crash, at) = (self.any_crash(), self.random.between(1, most));
            self.crash_again(crash, at).await?;
        }
        let most = self.random.index(self.shape.parity() - lost + 1);
        self.detach_some(most);
        self.assemble().await.map_err(|e| format!("does not start after a change cut short: {}", e.report()))
    }

    /// More members fail at once than may: whatever was begun to be recorded is given up, and none is
    /// lost. So they all count, after a crash or when they are back; when they are back any others may be
    /// missing.
    async fn give_a_change_up(&mut self) -> Check {
        let mut victims: Vec<String> = self.healthy().into_iter().map(|m| m.path).collect();
        self.random.shuffle(&mut victims);
        victims.truncate(self.shape.parity() + 1);
        self.io.errors_allowed.set(true);
        self.start_burst(5);
        // The loss of the first is being recorded when the others go, and those do not get a byte of it: a
        // write that failed may be done all the same.
        for (number, path) in victims.iter().enumerate() {
            self.fault_on(path, if number == 0 { FAILS_WRITES } else { VANISHES });
            if number == 0 {
                self.start_burst(5);
                self.pause(Duration::from_micros(1500)).await;
            }
        }
        self.start_burst(3);
        self.harness.sleep(Duration::from_secs(3)).await;
        self.drain().await?;
        if !self.none_is_lost() {
            self.heal_all();
            self.wait_for("the members to be taken back", |r| r.state != ArrayState::Failed).await?;
            // What was refused is tried again now and then.
            self.harness.sleep(Duration::from_secs(2)).await;
            self.io.errors_allowed.set(false);
            return self.make_whole().await;
        }
        if self.report().state != ArrayState::Failed || self.random.chance(500) {
            self.heal_all();
            self.wait_for("the members to be taken back", |r| r.state != ArrayState::Failed).await?;
            self.start_burst(3);
            self.drain().await?;
        }
        let was_given_up = self.report().state == ArrayState::Failed;
        let may_go = if self.none_is_lost() { self.shape.parity() } else { self.budget() };
        let crash = self.any_crash();
        self.crash(crash);
        self.heal_all();
        self.io.errors_allowed.set(false);
        // Before they are back it depends on who got how much of the change whether others may be missing.
        self.detach_only(if was_given_up { 0 } else { may_go }, victims);
        self.assemble().await.map_err(|e| format!("does not start after a change given up: {}", e.report()))
    }

    /// Whether every seat has its member, be it suspect.
    fn none_is_lost(&self) -> bool {
        let counts = |state| matches!(state, MemberState::InSync | MemberState::Suspect);
        self.report().members.iter().filter(|m| m.seat().is_some()).all(|m| counts(m.state))
    }

    /// More members fail at once than may while stripes are written, and come back. Then others go.
    async fn tear_a_stripe(&mut self) -> Check {
        let stripe = self.io.stripe_bytes;
        let mut victims: Vec<String> = self.healthy().into_iter().map(|m| m.path).collect();
        self.random.shuffle(&mut victims);
        victims.truncate(self.shape.parity() + 1);
        let Running { process, array } = self.running();
        let offset = self.random.below(self.volume_bytes / stripe) * stripe;
        let block = offset + self.random.below(stripe / 4096) * 4096;
        self.fill(self.volume_bytes).await?;
        self.io.errors_allowed.set(true);
        self.io.model.borrow_mut().let_failed_come(true);
        let whole = Request::Write { offset, len: stripe, durable: false, aligned: true };
        let small = Request::Write { offset: block, len: 4096, durable: false, aligned: true };
        match self.random.chance(500) {
            true => self.io.start(&process, &array.volume(), whole, Duration::ZERO),
            false => {
                self.io.start(&process, &array.volume(), small, Duration::ZERO);
                self.harness.sleep(Duration::from_millis(200)).await;
            }
        }
        self.pause(Duration::from_micros(1500)).await;
        for (number, path) in victims.iter().enumerate() {
            let kinds: &[u64] = if number > 0 {
                &[VANISHES, VANISHES, REFUSES_WRITES]
            } else {
                &[REFUSES_WRITES, FAILS_WRITES]
            };
            let kind = *self.random.pick(kinds).unwrap();
            self.fault_on(path, kind);
        }
        let read = Request::Read { offset, len: stripe };
        for _ in 0..self.random.below(12) {
            self.io.start(&process, &array.volume(), read, Duration::ZERO);
            self.pause(Duration::from_millis(10)).await;
        }
        self.pause(Duration::from_secs(2)).await;
        self.drain().await?;
        self.heal_all();
        self.wait_for("the members to be taken back", |r| r.state != ArrayState::Failed).await?;
        self.drain().await?;
        self.harness.sleep(Duration::from_secs(2)).await;
        self.io.errors_allowed.set(false);
        self.io.model.borrow_mut().let_failed_come(false);
        let settled = |r: &Report| r.clean || r.state == ArrayState::Degraded;
        self.wait_for("parity to be consistent after a stripe was torn", settled).await?;
        let mut healthy = self.healthy();
        self.random.shuffle(&mut healthy);
        for victim in healthy.into_iter().take(self.budget()) {
            self.fault_on(&victim.path, VANISHES);
        }
        Ok(())
    }
}
