//! Bringing changed pages of the checksum tables and of the epoch map home.
//!
//! A change of a page costs nothing while the journal has what can redo it. Pages go home when the
//! journal needs the space, when nothing else is to be done, and before something is recorded that
//! rests on them. Then everything changed so far is on the members: that ends an epoch.

use super::engine::{Stripes, to_usize};
use super::gather::Want;
use crate::env::{Moment, join_all};
use crate::error::{Error, ErrorKind, Result};
use crate::integrity::UNKNOWN;
use crate::member::{Member, Persistence};
use crate::mutation::{Protection, without};
use crate::units::{BLOCK_BYTES, Epoch, StripeIndex};
use bytes::Bytes;
use futures::channel::oneshot;
use futures::lock::Mutex as AsyncMutex;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// An epoch lasts at least so long: they are numbered with 31 bits.
const EPOCH: Duration = Duration::from_secs(1);
/// Pages of checksums that may wait before they are brought home.
const MANY_PAGES: usize = 4096;
/// Pages of the epoch map written at once.
const BATCH: usize = 64;

/// One at a time brings pages home.
#[derive(Default)]
pub(super) struct Tables {
    writing: AsyncMutex<()>,
    raised: Mutex<Option<Moment>>,
}

impl Stripes {
    /// Whether every page is home.
    pub(super) fn tables_are_home(&self) -> bool {
        self.integrity.not_home() == 0 && self.epochs.not_home() == 0
    }

    /// Whether pages should go home although there is other work.
    pub(super) fn tables_are_pressed(&self) -> bool {
        self.journal.wants_space() && !self.tables_are_home() || self.integrity.not_home() > MANY_PAGES
    }

    /// Brings every changed page home, durably. Goes on though the asker goes away.
    pub async fn write_tables(self: &Arc<Self>) -> Result<()> {
        let (sender, done) = oneshot::channel();
        let this = Arc::clone(self);
        self.env.spawn(Box::pin(async move {
            let result = this.write_tables_now().await;
            // Nobody may be waiting any more.
            drop(sender.send(result));
        }));
        let gone = || Error::new(ErrorKind::ShuttingDown, "the executor is stopping");
        done.await.unwrap_or_else(|_| Err(gone()))
    }

    async fn write_tables_now(&self) -> Result<()> {
        let _alone = self.tables.writing.lock().await;
        let ended = self.end_epoch();
        self.journal.pages_go_home();
        self.write_pages().await?;
        self.flush().await?;
        if let Some(epoch) = ended {
            self.epochs.settled(epoch);
        }
        Ok(())
    }

    /// Changes from now on belong to another epoch, unless this one has only begun.
    fn end_epoch(&self) -> Option<Epoch> {
        let mut raised = self.tables.raised.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.env.now();
        if raised.is_some_and(|last| now.since(last) < EPOCH) {
            return None;
        }
        *raised = Some(now);
        Some(self.epochs.end_epoch())
    }

    /// Restores what a page of a checksum table lost, stripe by stripe, so that its blocks count again
    /// before somebody relies on them.
    pub(super) async fn fill_gaps(self: &Arc<Self>) {
        for (id, blocks) in self.integrity.take_gaps() {
            if without(Protection::GapsFilled) {
                continue;
            }
            let per_chunk = self.shape.chunk_bytes() / BLOCK_BYTES;
            for stripe in (blocks.start / per_chunk..blocks.end.div_ceil(per_chunk)).map(StripeIndex) {
                if !self.epochs.is_allocated(stripe) {
                    continue;
                }
                let roster = self.membership.roster();
                let held = self.shape.slots().zip(&roster.slots).find_map(|(slot, view)| {
                    Some((slot, Arc::clone(view.writable(stripe).find(|m| m.id() == id)?)))
                });
                let Some((slot, member)) = held else { continue };
                // Most were written since, or had never been written when the page was read.
                let entries = self
                    .integrity
                    .table(&member)
                    .entries_at_hand(self.block_on(stripe, 0), to_usize(per_chunk));
                if entries.is_some_and(|entries| !entries.contains(&UNKNOWN)) {
                    continue;
                }
                let shard = self.shape.shard_of(stripe, slot);
                let chunk = self.shape.chunk_bytes();
                if !self.repair(&member, &Want { stripe, shard, rows: 0..chunk }, true).await {
                    // A row that cannot be restored must not cost the others.
                    for row in (0..chunk).step_by(to_usize(BLOCK_BYTES)) {
                        let rows = row..row + BLOCK_BYTES;
                        self.repair(&member, &Want { stripe, shard, rows }, true).await;
                    }
                }
            }
        }
    }

    async fn write_pages(&self) -> Result<()> {
        let members = || -> Vec<Arc<Member>> { self.membership.roster().members().cloned().collect() };
        let before = if without(Protection::TablesOfTheNew) { members() } else { Vec::new() };
        let mut outcome = self.write_checksums(members).await;
        let (changed, has_new) = self.epochs.begin();
        // What the tables say counts once a stripe is allocated, also of those of its blocks that were never
        // written: without its journal an array has nothing else.
        if has_new && !without(Protection::TablesBeforeMap) {
            // Somebody may have taken the place of one that was lost meanwhile.
            let by_now = || if without(Protection::TablesOfTheNew) { before } else { members() };
            outcome = self.write_checksums(by_now).await.and(outcome);
            outcome = self.flush().await.and(outcome);
        }
        // Whoever joins from here on is brought all of the map.
        let members = members();
        for some in changed.chunks(BATCH) {
            let writes = some.iter().map(|(page, bytes, pin)| {
                let members = &members;
                async move {
                    let done = self.write_epoch_page(members, *page, bytes).await;
                    let failed = || Error::new(ErrorKind::Io, "the epoch map could not be written");
                    self.epochs.page_is_home(*page, done.as_ref().copied().map_err(|_| pin.clone()));
                    done.map_err(|_| failed())
                }
            });
            outcome = join_all(writes).await.into_iter().fold(outcome, Result::and);
        }
        // What the pins kept may go now, and not before.
        drop(changed);
        outcome
    }

    async fn write_checksums(&self, members: impl FnOnce() -> Vec<Arc<Member>>) -> Result<()> {
        let mut outcome = Ok(());
        for unwritten in self.integrity.write_home(members).await {
            outcome = self.settle(&unwritten.member, unwritten.error).await.and(outcome);
        }
        outcome
    }

    async fn write_epoch_page(&self, members: &[Arc<Member>], page: u64, bytes: &Bytes) -> Result<()> {
        let offset = self.epochs.offset_of(page);
        let members = if without(Protection::EpochsHome) { &[] } else { members };
        let writes = members.iter().map(|member| async move {
            let done = member.write(offset, vec![bytes.clone()], Persistence::Cached).await;
            (Arc::clone(member), done)
        });
        self.settle_all_of(join_all(writes).await).await
    }

    /// Brings all of the epoch map to a member that is to count from now on.
    pub(super) async fn copy_epochs_to(&self, member: &Arc<Member>) -> Result<()> {
        if without(Protection::EpochsToReplacement) {
            return Ok(());
        }
        let _alone = self.tables.writing.lock().await;
        for pages in self.epochs.present_pages().chunks(BATCH) {
            let pages = pages.iter().filter_map(|page| Some((*page, self.epochs.copy(*page)?)));
            let writes = pages.map(|(page, bytes)| async move {
                let done = member.write(self.epochs.offset_of(page), vec![bytes], Persistence::Cached).await;
                (Arc::clone(member), done)
            });
            self.settle_all_of(join_all(writes).await).await?;
        }
        Ok(())
    }
}
