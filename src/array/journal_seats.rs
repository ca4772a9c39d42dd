//! Members that bear the journal and nothing else: when a new one has all of it.
//!
//! ```text
//!   frames   ... 41 42 43 | 44 45 46 47 ...          older ones are released one by one, as what
//!   new member              44 45 46 47 ...          they redo comes home
//! ```
//!
//! A new member takes every frame from its admission on, and none before. Once nobody needs an older
//! one, and a checkpoint that says so is durable, it can do what the others can.

use super::Array;
use super::transition::{self as go, Change};
use crate::error::Result;
use crate::format::{JournalMembers, Membership};
use crate::observe::Event;
use crate::units::{JournalIndex, MemberId};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Array {
    /// Lets new members that bear the journal count as in sync as soon as they are. Goes on in the
    /// background; what fails is tried again when it is called again.
    pub(super) fn fill_journal(self: &Arc<Self>) {
        if self.filling().is_empty() || self.settling.swap(true, Ordering::AcqRel) {
            return;
        }
        let array = Arc::clone(self);
        self.env().spawn(Box::pin(async move {
            // The next round tries again.
            drop(array.complete_journal().await);
            array.settling.store(false, Ordering::Release);
        }));
    }

    async fn complete_journal(&self) -> Result<()> {
        let before = self.filling();
        self.stripes().settle_journal().await?;
        let proof = self.coordinator.begin().await;
        if self.switch().stopping() {
            return Ok(());
        }
        // Only who was there when it began; some may be lost by now.
        let now = self.filling();
        for (index, id) in before.into_iter().filter(|filled| now.contains(filled)) {
            self.coordinator.commit(&proof, &[Change::CompleteJournal(index)]).await?;
            let path = self.coordinator.known(id).path;
            self.tell(Event::JournalFilled { index, path });
        }
        Ok(())
    }

    fn filling(&self) -> Vec<(JournalIndex, MemberId)> {
        let m: Membership = self.coordinator.membership();
        let all = self.coordinator.identity.journal_members.iter().flat_map(JournalMembers::indices);
        all.filter_map(|index| Some((index, go::filling_journal(&m, index)?))).collect()
    }
}
