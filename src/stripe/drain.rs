//! When staged blocks come home.
//!
//! They linger while others are written, because disks that bring blocks home answer writes later, a
//! block that is written again before it went home costs nothing more, and neighbours come home together.
//! When nobody writes they go. When the staging memory or the journal fills they go at once, oldest
//! first, and two batches are under way, so that one reads while the other writes.

use super::engine::Stripes;
use crate::env::Moment;
use crate::error::Result;
use crate::member::Member;
use crate::mutation::{Protection, without};
use futures::StreamExt;
use futures::channel::mpsc::{Receiver, Sender, channel};
use futures::stream::FuturesUnordered;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Blocks linger until nobody has written for so long...
const LINGER: Duration = Duration::from_millis(200);
/// ...but not longer than this.
const LONGEST: Duration = Duration::from_secs(2);
/// How often it is looked whether they may.
const STEP: Duration = Duration::from_millis(10);
/// How often it is tried to empty the journal for a new member before nothing may stay in it.
const PATIENCE: u32 = 100;
/// Batches on their way home at once, if there is much to bring.
const BATCHES: usize = 2;
/// Most bytes of a batch in memory at once.
const MOST_BYTES: u64 = 16 << 20;
/// After a failure.
const RETRY: Duration = Duration::from_millis(200);

/// Wakes the task that brings blocks home.
pub(super) struct Destager {
    kick: Mutex<Sender<()>>,
    /// How often it was woken.
    count: AtomicU64,
    kicks: Mutex<Option<Receiver<()>>>,
    closed: AtomicBool,
    hurries: AtomicUsize,
}

/// Since when nobody has written.
struct Calm {
    writes: u64,
    since: Moment,
}

/// While it is held everything goes home at once.
struct Hurry<'a>(&'a AtomicUsize);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Destager {
    fn hurry(&self) -> Hurry<'_> {
        self.hurries.fetch_add(1, Ordering::AcqRel);
        Hurry(&self.hurries)
    }

    fn is_hurried(&self) -> bool {
        self.hurries.load(Ordering::Acquire) > 0
    }
}

impl Default for Destager {
    fn default() -> Self {
        let (kick, kicks) = channel(1);
        Self {
            kick: Mutex::new(kick),
            count: AtomicU64::new(0),
            kicks: Mutex::new(Some(kicks)),
            closed: AtomicBool::new(false),
            hurries: AtomicUsize::new(0),
        }
    }
}

impl Stripes {
    /// Starts the task that brings staged blocks home. Call once, on an executor thread.
    pub fn start_destager(self: &Arc<Self>) {
        let kicks = self.destager.kicks.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut kicks) = kicks else { return };
        let this = Arc::clone(self);
        self.env.spawn(Box::pin(async move {
            let mut under_way = FuturesUnordered::new();
            let mut calm = Calm { writes: 0, since: this.env.now() };
            while !this.destager.closed.load(Ordering::Acquire) {
                if under_way.is_empty() {
                    if this.has_nothing_to_do() {
                        if kicks.next().await.is_none() {
                            return;
                        }
                        continue;
                    }
                    this.linger(&mut calm).await;
                }
                let more = this.is_full() && this.staging.has_queued() && under_way.len() < BATCHES;
                if more || under_way.is_empty() {
                    under_way.push(this.step());
                }
                if !more {
                    under_way.next().await;
                }
            }
            // What has begun to come home does so to the end.
            while under_way.next().await.is_some() {}
        }));
    }

    /// As [`Self::advance`]; after a failure it takes its time.
    async fn step(self: &Arc<Self>) {
        if self.advance().await.is_err() {
            self.staging.wake();
            self.env.sleep(RETRY).await;
        }
    }

    /// Something was staged, or waits for a sync.
    pub(super) fn kick(&self) {
        self.destager.count.fetch_add(1, Ordering::AcqRel);
        self.wake();
    }

    /// There may be something to do, though nobody wrote.
    fn wake(&self) {
        // Full: it is woken already.
        drop(self.destager.kick.lock().unwrap_or_else(PoisonError::into_inner).try_send(()));
    }

    /// Something was restored: what could not come home before may be able to now.
    pub fn try_parked(&self) {
        self.staging.unpark();
        self.kick();
    }

    fn has_nothing_to_do(&self) -> bool {
        (self.staging.is_empty() || !self.is_full() && self.staging.is_parked())
            && !self.journal.wants_sync()
            && self.tables_are_home()
            && !self.integrity.has_gaps()
            && self.torn.is_empty()
    }

    /// Waits until blocks should go home.
    async fn linger(&self, calm: &mut Calm) {
        let begin = self.env.now();
        while !self.is_pressed() && !self.destager.closed.load(Ordering::Acquire) {
            let (now, writes) = (self.env.now(), self.destager.count.load(Ordering::Acquire));
            if calm.writes != writes {
                *calm = Calm { writes, since: now };
            }
            if now.since(calm.since) >= LINGER || now.since(begin) >= LONGEST {
                break;
            }
            self.env.sleep(STEP).await;
        }
    }

    fn is_pressed(&self) -> bool {
        self.is_full() || self.tables_are_pressed() || self.integrity.has_gaps()
    }

    /// Whether the staging memory or the journal fills.
    pub(super) fn is_full(&self) -> bool {
        self.staging.is_pressed() || self.journal.is_pressed() || self.is_hurried()
    }

    /// Whether nothing may stay in the journal that is there now.
    pub(super) fn is_hurried(&self) -> bool {
        self.destager.is_hurried()
    }

    /// One step: what stripes lack is completed, a batch of stripes comes home, or what is home is
    /// made durable.
    async fn advance(self: &Arc<Self>) -> Result<()> {
        self.mend_all().await?;
        self.fill_gaps().await;
        if self.tables_are_pressed() {
            self.write_tables().await?;
        }
        if self.is_full() {
            self.staging.unpark();
        }
        let (mut parity, mut memory) = (self.journal.parity_budget() / BATCHES as u64, MOST_BYTES);
        let stripes = self.staging.next_stripes(|blocks| {
            let (more, bytes) = (self.parity_cost(blocks), self.memory_cost(blocks));
            let fits = more <= parity && bytes <= memory;
            (parity, memory) = (parity.saturating_sub(more), memory.saturating_sub(bytes));
            fits
        });
        match stripes.is_empty() {
            false => self.destage(&stripes).await,
            true if self.tables_are_home() => self.flush().await,
            true => self.write_tables().await,
        }
    }

    /// Whether everything answered is home, durably, and the journal empty.
    pub fn is_settled(&self) -> bool {
        if self.integrity.has_gaps() {
            // Whoever found them may not have said so.
            self.kick();
        } else if self.journal.wants_sync() {
            // A frame that was refused and needed no more may be written only now.
            self.wake();
        }
        self.staging.is_empty() && self.has_nothing_to_do() && self.journal.is_idle()
    }

    /// Brings everything home. Ends when nothing is staged at some moment; fails if something
    /// cannot come home.
    pub async fn settle_all(self: &Arc<Self>) -> Result<()> {
        while !self.is_settled() {
            self.advance().await?;
            if self.has_nothing_to_do() {
                break;
            }
        }
        Ok(())
    }

    /// Brings things home until nothing is needed of what the journal holds now, which may be from
    /// before this member was filled, and gives it what tables it lacks: so that it counts as one of
    /// those in sync.
    pub async fn settle_onto(self: &Arc<Self>, member: &Arc<Member>) -> Result<()> {
        self.outlive_journal().await?;
        self.write_tables().await?;
        self.copy_epochs_to(member).await?;
        self.give_checkpoint().await
    }

    async fn give_checkpoint(&self) -> Result<()> {
        match without(Protection::CheckpointToReplacement) {
            true => Ok(()),
            false => self.journal.write_checkpoint().await,
        }
    }

    /// Brings things home until nothing is needed of what the journal holds now, and says so to every
    /// member that takes frames: one that took only the newer ones then has the whole journal.
    pub async fn settle_journal(self: &Arc<Self>) -> Result<()> {
        self.outlive_journal().await?;
        self.give_checkpoint().await
    }

    async fn outlive_journal(self: &Arc<Self>) -> Result<()> {
        if !without(Protection::MarkBeforeCompletion) {
            self.journal.mark().await?;
        }
        let now = self.journal.next_frame();
        let mut patience = PATIENCE;
        let mut hurry = None;
        while self.journal.oldest_frame() < now && !without(Protection::SettledOnto) {
            // Blocks of rows beyond repair wait in the journal for room to be scarce: redundancy of all
            // others must not wait for them.
            patience = patience.saturating_sub(1);
            if patience == 0 && hurry.is_none() {
                hurry = Some(self.destager.hurry());
            }
            self.advance().await?;
            self.write_tables().await?;
            self.env.sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Ends the task, and whoever waits for the journal.
    pub fn close(&self) {
        self.destager.closed.store(true, Ordering::Release);
        self.kick();
        self.journal.close();
    }
}
