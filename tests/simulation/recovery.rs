//! Recovering from one crash in several ways, each on a copy of the disks.

use super::io::Io;
use super::run::Stats;
use super::world::{Check, World};
use palisade::array::{ArrayState, Report};
use palisade::env::Environment;
use palisade::env::sim::Prng;
use palisade::error::ErrorKind;
use palisade::member::sim::Crash;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How many ways to recover are tried after each crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Variety {
    /// With all members, with one missing (another after each crash), and one more that is drawn.
    #[default]
    Few,
    #[allow(dead_code, reason = "the tool's; the test has no time for it")]
    /// With every single member missing, several missing, lost meanwhile, and crashing again.
    All,
}

/// One way to recover: which disks are lost, by name, and when.
#[derive(Debug, Clone)]
pub enum Recovery {
    /// None.
    Whole,
    /// With the crash.
    Missing(Vec<String>),
    /// While the array starts.
    LostDuring(Vec<String>),
    /// As soon as it has started, read once or not, whatever work is left to do.
    LostAfter(Vec<String>),
    /// The recovery itself crashes at its `n`th operation; the disks are lost with that.
    CrashAgain(Crash, u64, Vec<String>),
}

impl Recovery {
    /// The ways to recover after the crash number `at` of a series.
    pub fn ways(random: &mut Prng, names: &[String], parity: usize, at: u64, variety: Variety) -> Vec<Self> {
        let some = |random: &mut Prng, least: u64| {
            let mut names = names.to_vec();
            random.shuffle(&mut names);
            names.truncate(usize::try_from(random.between(least, parity as u64)).unwrap());
            names
        };
        let again = |random: &mut Prng, crash, lost| Self::CrashAgain(crash, random.between(1, 40), lost);
        let crash = if random.chance(500) { Crash::PowerCut } else { Crash::Kill };
        let all = parity as u64;
        let mut ways = vec![Self::Whole];
        match variety {
            Variety::Few => {
                let one = &names[usize::try_from(at).unwrap() % names.len()];
                ways.push(Self::Missing(vec![one.clone()]));
                let lost = some(random, 1);
                ways.push(match random.below(5) {
                    0 => Self::Missing(some(random, all)),
                    1 => Self::LostDuring(lost),
                    2 => Self::LostAfter(lost),
                    3 => again(random, crash, lost),
                    _ => again(random, crash, Vec::new()),
                });
            }
            Variety::All => {
                ways.extend(names.iter().map(|n| Self::Missing(vec![n.clone()])));
                for _ in 0..2 {
                    ways.push(Self::Missing(some(random, all)));
                    ways.push(Self::LostDuring(some(random, 1)));
                    ways.push(Self::LostAfter(some(random, 1)));
                }
                for crash in [Crash::PowerCut, Crash::Kill] {
                    ways.push(again(random, crash, Vec::new()));
                    let lost = some(random, 1);
                    ways.push(again(random, crash, lost));
                }
            }
        }
        ways
    }

    fn lost(&self) -> &[String] {
        match self {
            Self::Whole => &[],
            Self::Missing(lost)
            | Self::LostDuring(lost)
            | Self::LostAfter(lost)
            | Self::CrashAgain(_, _, lost) => lost,
        }
    }
}

impl World {
    /// The machine as a crash left it, once more.
    pub fn twin(&mut self) -> Self {
        assert!(self.running.is_none(), "a machine that runs has no twin");
        let disks = self.disks.copy();
        Self {
            harness: self.harness.clone(),
            random: self.random.fork(),
            shelf: BTreeMap::new(),
            copies: BTreeMap::new(),
            relics: Vec::new(),
            running: None,
            io: Io::new(self.io.model.borrow().clone(), self.io.stripe_bytes, &disks),
            disks,
            images: BTreeMap::new(),
            returned: Arc::default(),
            faulted: BTreeSet::new(),
            evil: BTreeSet::new(),
            gone_faulty: Arc::default(),
            discard: Vec::new(),
            stats: Stats::default(),
            ..*self
        }
    }

    /// Recovers from a crash and looks at every byte: right after the start, after more requests,
    /// and after a restart.
    pub async fn recover(&mut self, how: &Recovery) -> Check {
        self.note(|| format!("--- recover: {how:?}"));
        if let Recovery::CrashAgain(crash, n, _) = how {
            self.crash_again(*crash, *n).await?;
        }
        if let Recovery::Missing(lost) | Recovery::CrashAgain(_, _, lost) = how {
            lost.iter().for_each(|name| drop(self.disks.detach(name)));
        }
        let whole = how.lost().is_empty();
        self.start_and_lose(how).await?;
        self.verify_volume("right after the crash").await?;
        self.rewrite_doubted().await?;
        let settled = |r: &Report| r.clean || r.state == ArrayState::Degraded;
        self.wait_for("parity to be consistent after a crash", settled).await?;
        self.start_burst(8);
        self.drain().await?;
        self.verify_volume("after more requests").await?;
        if whole {
            let (disks, bear) = (self.slot_disks()?, self.journal_disks());
            self.stop().await?;
            self.verify_media(&disks)?;
            return self.verify_journals(&bear);
        }
        self.stop().await?;
        self.assemble().await.map_err(|e| format!("does not start again: {}", e.report()))?;
        self.verify_volume("after a restart").await?;
        self.stop().await
    }

    async fn start_and_lose(&mut self, how: &Recovery) -> Check {
        if let Recovery::LostDuring(lost) = how {
            for name in lost {
                let disk = self.disks.get(name).ok_or("there is no such disk")?;
                let (env, after) = (self.harness.clone(), Duration::from_micros(self.random.below(5000)));
                self.harness.spawn(Box::pin(async move {
                    env.sleep(after).await;
                    disk.vanish();
                }));
            }
        }
        let started = self.assemble().await;
        started.map_err(|e| format!("does not start after a crash: {}", e.report()))?;
        match how {
            Recovery::LostDuring(_) => self.harness.sleep(Duration::from_millis(5)).await,
            Recovery::LostAfter(lost) => {
                // What was read once must not turn into something else that was possible.
                if self.random.chance(500) {
                    self.verify_volume("before members are lost").await?;
                }
                lost.iter().filter_map(|name| self.disks.get(name)).for_each(|disk| disk.vanish());
            }
            _ => {}
        }
        Ok(())
    }

    /// Starts with all members and goes down at the `n`th operation, or a while after the start if
    /// there are not so many.
    pub async fn crash_again(&mut self, crash: Crash, n: u64) -> Check {
        self.disks.plan_crash(n, crash);
        match self.assemble().await {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::ShuttingDown => {
                self.went_down(crash);
                return Ok(());
            }
            Err(e) => return Err(format!("does not start after a crash: {}", e.report())),
        }
        let process = self.running().process;
        for _ in 0..50 {
            if process.is_dead() {
                self.went_down(crash);
                return Ok(());
            }
            self.harness.sleep(Duration::from_millis(1)).await;
        }
        self.disks.unplan_crash();
        self.crash(crash);
        Ok(())
    }
}
