//! What happens to the array during a run, besides requests.

use super::io::Request;
use super::scenario::Scenario;
use super::world::{Check, Running, World};
use palisade::array::{ArrayState, MemberRef, MemberReport, MemberState, RebuildControl, Report, ScrubStart};
use palisade::env::{Environment, deadline};
use palisade::error::Error;
use palisade::member::sim::{Crash, FaultPlan, Trouble};
use palisade::stripe::ScrubMode;
use palisade::units::{MemberId, Seat};
use std::sync::Arc;
use std::time::Duration;

/// Longest an admin's command may take.
const COMMAND: Duration = Duration::from_secs(60);

impl World {
    /// One step of a run.
    pub async fn step(&mut self) -> Check {
        let scenario = self.scenario;
        if scenario.is_small() {
            match scenario {
                Scenario::Upheaval => self.upheaval().await?,
                Scenario::Refill => self.refill().await?,
                Scenario::Mislaid => self.mislaid().await?,
                _ => self.hammer().await?,
            }
            self.drain().await?;
            return self.make_whole().await;
        }
        match self.random.below(100) {
            0..15 if scenario.loses_members() => self.lose_a_member().await?,
            15..30 if scenario.loses_members() => self.mend_something().await?,
            30..35 if scenario.loses_members() => self.change_rebuild(),
            35..45 if scenario.restarts() => self.restart().await?,
            45..55 if scenario.crashes() => self.crash_and_recover().await?,
            55..62 if scenario.loses_too_many() => self.lose_too_many().await?,
            62..66 => {
                // It goes on behind whatever comes next, and must get in nobody's way.
                self.start_scrub();
                self.verify_volume("in between").await?;
            }
            66..85 if scenario == Scenario::Rot => self.rot().await?,
            66..85 if scenario == Scenario::Storm => self.storm().await?,
            66..85 if scenario == Scenario::Impostor => self.impostor().await?,
            _ => {
                self.start_burst(12);
                if self.random.chance(300) {
                    self.pause(Duration::from_millis(800)).await;
                }
            }
        }
        self.drain().await?;
        self.settle().await
    }

    pub fn start_scrub(&self) {
        let scrub = ScrubStart { mode: ScrubMode::Repair, max_rate_bytes_per_s: None };
        // Refused while the array has failed.
        let started = self.running().array.start_scrub(scrub, None);
        self.note(|| format!("scrub {started:?}"));
    }

    /// Something goes wrong with a member while requests are under way.
    async fn lose_a_member(&mut self) -> Check {
        self.start_burst(10);
        self.pause(Duration::from_millis(3)).await;
        let victims = self.victims();
        if victims.is_empty() {
            return Ok(());
        }
        let Some(victim) = self.random.pick(&victims).cloned() else { return Ok(()) };
        let kind = self.random.below(9);
        if kind == 8 {
            return self.admin_fail(&victim).await;
        }
        self.fault_on(&victim.path, kind);
        // Now and then as many at once as may be.
        while self.random.chance(400) && self.budget() > 0 {
            let healthy = self.healthy();
            let Some(next) = self.random.pick(&healthy).map(|m| m.path.clone()) else { break };
            let kind = self.random.below(8);
            self.fault_on(&next, kind);
        }
        self.start_burst(10);
        self.pause(Duration::from_secs(2)).await;
        Ok(())
    }

    /// A fault of a kind: see below.
    pub fn fault_on(&mut self, path: &str, kind: u64) {
        let Some(disk) = self.disks.get(path) else { return };
        self.note(|| format!("fault {kind} on {path}"));
        self.faulted.insert(path.to_owned());
        self.stats.faults += 1;
        match kind {
            0 => disk.vanish(),
            1 => disk.hang(),
            2 => disk.fail_writes(Trouble::Always),
            3 => {
                disk.fail_reads(Trouble::Always);
                disk.fail_writes(Trouble::Always);
                disk.fail_flushes(Trouble::Always);
            }
            4 => disk.fail_flushes(Trouble::Next(1)),
            9 => {
                disk.fail_reads(Trouble::Always);
                disk.fail_writes(Trouble::Always);
            }
            5 => disk.fail_reads(Trouble::Always),
            10 => disk.refuse_writes(),
            6 => {
                let offset = self.random.below(disk.size_bytes() / 2) / 4096 * 4096 + disk.size_bytes() / 2;
                disk.spoil(offset, 4096 * 200);
                disk.set_plan(FaultPlan { latent_sector: 50_000, ..FaultPlan::default() });
            }
            _ => disk.set_plan(FaultPlan {
                transient_read_error: 20_000,
                write_error: 3_000,
                slow: 20_000,
                hang: 3_000,
                hang_time: Duration::from_secs(30),
                ..FaultPlan::default()
            }),
        }
    }

    async fn admin_fail(&mut self, victim: &MemberReport) -> Check {
        let Some(seat) = victim.seat() else { return Ok(()) };
        let references =
            [MemberRef::from(seat), MemberRef::Id(victim.uuid), MemberRef::Path(victim.path.clone())];
        let reference = self.random.pick(&references).cloned().unwrap();
        self.note(|| format!("admin fails {reference}"));
        let array = Arc::clone(&self.running().array);
        self.command("fail", async move { array.fail(&reference).await }).await?.map_err(|e| e.report())?;
        let state = self.report().members.into_iter().find(|m| m.uuid == victim.uuid).map(|m| m.state);
        if matches!(state, Some(MemberState::InSync | MemberState::Suspect)) {
            return Err(format!("{} is {state:?} after it was failed", victim.path));
        }
        Ok(())
    }

    /// Runs an admin's command in the array's process, within a time.
    pub async fn command<T: 'static>(
        &self,
        name: &str,
        future: impl Future<Output = Result<T, Error>> + 'static,
    ) -> Check<Result<T, Error>> {
        let call = self.running().process.call(future);
        match deadline(&self.harness.env(), COMMAND, call).await {
            Some(Some(result)) => Ok(result),
            Some(None) => Err(format!("the process died during {name}")),
            None => Err(format!("{name} hangs; {}", self.describe())),
        }
    }

    /// Replaces a member by a new disk.
    pub async fn replace(&mut self, old: &MemberRef) -> Check<MemberId> {
        let Running { process, array } = self.running();
        let bears = self.report().members.iter().any(|m| {
            m.journal.is_some()
                && (*old == MemberRef::Id(m.uuid) || m.seat().map(MemberRef::from).as_ref() == Some(old))
        });
        let name = if bears { self.new_journal_disk() } else { self.new_disk() };
        self.note(|| format!("replace {old} by {name}"));
        let candidate = self.open(&process, &name).await.map_err(|e| e.report())?;
        let old = old.clone();
        let result = self.command("replace", async move { array.replace(&old, candidate).await }).await?;
        if let Err(e) = &result {
            self.note(|| format!("replace refused: {}", e.report()));
            self.disks.detach(&name);
        } else {
            self.stats.replacements += 1;
        }
        result.map_err(|e| format!("replace failed: {}; {}", e.report(), self.describe()))
    }

    async fn mend_something(&mut self) -> Check {
        self.start_burst(6);
        if self.random.chance(300) {
            self.take_image();
        }
        match self.random.below(14) {
            10..14 => self.bring_one_back().await?,
            0..5 => {
                let seats = self.lost_seats();
                let rebuilding = self.report().tasks.iter().any(|t| !t.slots.is_empty());
                if let (Some(seat), false) = (self.random.pick(&seats).copied(), rebuilding) {
                    self.wait_until_noticed(seat).await;
                    self.try_replace(&MemberRef::from(seat)).await?;
                }
            }
            5..7 => self.add_spare().await?,
            7 => {
                let healthy = self.healthy();
                if let Some(seat) = self.random.pick(&healthy).and_then(MemberReport::seat) {
                    self.try_replace(&MemberRef::from(seat)).await?;
                }
            }
            8 => self.remove_something().await?,
            _ => {
                let limit = Duration::from_secs(self.random.below(30));
                self.pause(limit + Duration::from_micros(1)).await;
            }
        }
        Ok(())
    }

    /// A replacement may be refused, for instance because one is under way; with a reason.
    pub async fn try_replace(&mut self, old: &MemberRef) -> Check {
        let Err(text) = self.replace(old).await else { return Ok(()) };
        if text.starts_with("replace failed") { Ok(()) } else { Err(text) }
    }

    async fn wait_until_noticed(&mut self, seat: Seat) {
        for _ in 0..20 {
            if Self::in_sync_as(&self.report(), seat).is_none() {
                return;
            }
            self.pause(Duration::from_millis(500)).await;
        }
    }

    pub async fn add_spare(&mut self) -> Check {
        let spares = self.report().members.iter().filter(|m| m.state == MemberState::Spare).count();
        if spares >= 2 {
            return Ok(());
        }
        let Running { process, array } = self.running();
        let name = self.new_disk();
        self.note(|| format!("add {name}"));
        let candidate = self.open(&process, &name).await.map_err(|e| e.report())?;
        let added = self.command("add", async move { array.add(candidate).await }).await?;
        if let Err(e) = added {
            self.note(|| format!("add refused: {}", e.report()));
            self.disks.detach(&name);
            // A failed member may make the array busy with itself; a healthy array takes spares.
            if self.lost_seats().is_empty() {
                return Err(format!("add failed: {}", e.report()));
            }
        }
        Ok(())
    }

    async fn remove_something(&mut self) -> Check {
        let members = self.report().members;
        let Some(member) = self.random.pick(&members).cloned() else { return Ok(()) };
        let needed = matches!(member.state, MemberState::InSync | MemberState::Suspect);
        let array = Arc::clone(&self.running().array);
        self.note(|| format!("remove {} ({:?})", member.path, member.state));
        let reference = MemberRef::Id(member.uuid);
        let before = self.gone_faulty.lock().unwrap().len();
        let removed = self.command("remove", async move { array.remove(&reference).await }).await?;
        // Whoever fails while the command waits its turn may go.
        let failed = self.gone_faulty.lock().unwrap()[before..].contains(&member.path);
        match removed {
            Ok(_) if needed && !failed => Err(format!("{} was removed although in sync", member.path)),
            Ok(_) => {
                self.disks.detach(&member.path);
                Ok(())
            }
            Err(e) => {
                self.note(|| format!("remove refused: {}", e.report()));
                Ok(())
            }
        }
    }

    fn change_rebuild(&mut self) {
        let change = RebuildControl {
            max_rate_bytes_per_s: self
                .random
                .pick(&[None, Some(0), Some(256 << 10), Some(8 << 20)])
                .copied()
                .unwrap(),
            paused: self.random.pick(&[None, Some(true), Some(false), Some(false)]).copied().unwrap(),
        };
        self.note(|| format!("{change:?}"));
        self.running().array.control_rebuild(change);
    }

    /// Faults the array took note of are no longer the harness's; soft ones end here.
    async fn settle(&mut self) -> Check {
        let report = self.report();
        let in_sync =
            |path: &String| report.members.iter().any(|m| m.path == *path && m.state == MemberState::InSync);
        self.faulted.retain(&in_sync);
        if self.faulted.is_empty() {
            return Ok(());
        }
        let gone: Vec<String> = self
            .faulted
            .iter()
            .filter(|p| self.disks.get(p).is_some_and(|d| !d.is_present()))
            .cloned()
            .collect();
        if self.random.chance(700) {
            for path in self.faulted.iter().filter(|p| !gone.contains(p)) {
                self.note(|| format!("{path} is healed"));
                self.disks.get(path).inspect(palisade::member::SimDisk::heal);
            }
            // Time for a member that is about to be marked faulty.
            self.harness.sleep(Duration::from_secs(5)).await;
            self.drain().await?;
            let report = self.report();
            let in_sync = |path: &String| {
                report.members.iter().any(|m| m.path == *path && m.state == MemberState::InSync)
            };
            if let Some(path) = gone.iter().find(|p| in_sync(p)) {
                return Err(format!("{path} vanished 5 s ago and is still in sync; {}", self.describe()));
            }
            self.faulted.clear();
        }
        Ok(())
    }

    /// The process is killed or the power fails, anywhere between two steps of a request.
    async fn crash_and_recover(&mut self) -> Check {
        let degraded_allowed = self.scenario.crashes_degraded();
        if !(degraded_allowed || self.lost_seats().is_empty()) {
            return Ok(());
        }
        let swap = degraded_allowed && self.random.chance(250);
        if swap {
            self.take_image();
            self.start_burst(12);
            self.pause(Duration::from_secs(6)).await;
        }
        if self.random.chance(700) {
            self.start_burst(12);
        }
        self.pause(Duration::from_millis(6)).await;
        if degraded_allowed && self.random.chance(200) && self.budget() > 0 {
            let healthy = self.healthy();
            let victim = self.random.pick(&healthy).unwrap().path.clone();
            let kind = self.random.below(6);
            self.fault_on(&victim, kind);
            self.pause(Duration::from_millis(1500)).await;
        }
        let may_go = self.budget();
        self.verdict()?;
        let crash = if self.random.chance(500) { Crash::PowerCut } else { Crash::Kill };
        self.crash(crash);
        self.heal_all();
        let mut missing = 0;
        if swap && may_go > 0 {
            missing += u64::from(self.put_some_image_back());
        } else if degraded_allowed && may_go > 0 && self.random.chance(300) {
            missing = self.random.between(1, may_go as u64);
            self.detach_some(usize::try_from(missing).unwrap());
        }
        let started = self.assemble().await;
        started
            .map_err(|e| format!("does not start after a crash with {missing} missing: {}", e.report()))?;
        // With a slot lost parity stays as it is until that is filled.
        let settled = |r: &Report| r.clean || r.state == ArrayState::Degraded;
        self.wait_for("parity to be consistent after a crash", settled).await?;
        self.verify_volume("after a crash").await?;
        self.rewrite_doubted().await
    }

    /// More members go than parity can replace; then they come back (P9).
    async fn lose_too_many(&mut self) -> Check {
        self.drain().await?;
        self.mend_all().await?;
        self.io.errors_allowed.set(true);
        let mut healthy = self.healthy();
        self.random.shuffle(&mut healthy);
        let parity = self.shape.parity();
        let mut count = parity + 1 + self.random.index(self.shape.width() - parity);
        if self.journals > 0 && self.random.chance(500) {
            // All that bear the journal, and maybe others.
            healthy.sort_by_key(|m| m.journal.is_none());
            count = self.journals + self.random.index(2);
        }
        let writing = self.random.chance(500);
        let at_once = self.scenario == Scenario::BeyondCrash && self.random.chance(500);
        let together = at_once && self.random.chance(500);
        for victim in healthy.into_iter().take(count) {
            // Not a failed flush: what that loses on a member nobody can stand in for is lost.
            // Failing writes are not noticed before somebody writes.
            let kinds: &[u64] = match (writing, at_once) {
                (false, _) => &[0, 1, 9],
                // Those that answer nothing are found at one glance, and none of them is kicked.
                (true, true) if together => &[0, 9],
                (true, _) => &[0, 1, 2, 9],
            };
            let kind = *self.random.pick(kinds).unwrap();
            self.fault_on(&victim.path, kind);
            if writing {
                self.start_burst(5);
            }
            // One after the other, so that the array knows of each; or all in one write.
            match at_once {
                false => self.pause(Duration::from_secs(4)).await,
                true => self.pause(Duration::from_micros(300)).await,
            }
        }
        self.stats.beyond += 1;
        self.start_burst(8);
        self.pause(Duration::from_secs(3)).await;
        self.drain().await?;
        self.note(|| self.describe());
        self.heal_all();
        if self.scenario == Scenario::BeyondCrash && self.random.chance(700) {
            self.crash_as_they_return().await?;
        }
        self.wait_for("the members to be taken back", |r| r.state != ArrayState::Failed).await?;
        self.drain().await?;
        self.harness.sleep(Duration::from_secs(5)).await;
        self.io.errors_allowed.set(false);
        self.mend_all().await?;
        self.verify_volume("after the members came back").await
    }

    /// Everybody is back, and the machine goes down before the array has done what that allows:
    /// at one of its first operations, or a little later. No more than m are missing afterwards.
    async fn crash_as_they_return(&mut self) -> Check {
        let crash = self.any_crash();
        let most = 1 << self.random.between(1, 8);
        let at = self.random.between(1, most);
        let Running { process, array } = self.running();
        let flushed = self.random.chance(300);
        if flushed {
            // What is on its way home is made durable first, and whole stripes are not touched.
            self.wait_quietly().await;
            self.io.start(&process, &array.volume(), Request::Flush, Duration::ZERO);
            self.pause(Duration::from_millis(400)).await;
        }
        self.disks.plan_crash(at, crash);
        if !flushed && self.random.chance(500) {
            self.start_burst(6);
        }
        let patience = Duration::from_millis(self.random.between(1, 3000));
        self.die(crash, patience).await?;
        // The crash may have cut short the record of who is lost: it is known after a start.
        self.start_again().await?;
        let may_go = self.budget();
        if may_go > 0 && self.random.chance(500) {
            self.crash(Crash::Kill);
            let missing = 1 + self.random.index(may_go);
            self.detach_some(missing);
            self.start_again().await?;
        }
        self.io.errors_allowed.set(false);
        self.verify_volume("after a crash while members came back").await?;
        self.rewrite_doubted().await
    }

    /// Waits until the members are taken back, without requests.
    async fn wait_quietly(&self) {
        for _ in 0..60 {
            if self.report().state != ArrayState::Failed {
                return;
            }
            self.harness.sleep(Duration::from_millis(50)).await;
        }
    }

    async fn start_again(&mut self) -> Check {
        self.assemble().await.map_err(|e| format!("does not start after they came back: {}", e.report()))
    }
}
