//! After a crash: doing again what the journal holds.

use super::engine::Stripes;
use super::lock::Mode;
use super::torn::{Load, Shreds};
use crate::env::join_all;
use crate::error::Result;
use crate::integrity::Pinned;
use crate::journal::{Changes, Redo, Replayed, Start};
use crate::mutation::{Protection, without};
use crate::units::{BLOCK_BYTES, StripeIndex};
use std::sync::Arc;

/// Stripes worked on side by side.
const SIDE_BY_SIDE: usize = 64;

impl Stripes {
    /// Brings the members to where the journal says they are, and stages what is not home. Call
    /// before anything else uses the stripes. `hold` keeps the frames the journal was read from.
    pub async fn redo(self: &Arc<Self>, replayed: Replayed, hold: Pinned) -> Result<()> {
        let redo: Vec<(u64, Redo)> = replayed.redo.into_iter().collect();
        let mut decided = Vec::new();
        for some in redo.chunks(SIDE_BY_SIDE) {
            let work = some.iter().map(|(stripe, redo)| self.redo_stripe(StripeIndex(*stripe), redo, &hold));
            for (done, (stripe, _)) in join_all(work).await.into_iter().zip(some) {
                decided.extend(done?.map(|sums| (*stripe, sums)));
            }
        }
        self.log_decided(decided).await?;
        for (block, staged) in replayed.staged {
            self.staging.put(block, staged);
        }
        drop(hold);
        // What was answered before this start may be in the members' caches only.
        self.whole.insert(StripeIndex(0));
        if self.tables_are_home() { Ok(()) } else { self.write_tables().await }
    }

    /// Tells the journal what became of opened stripes where it could not say so. It is at home, durably,
    /// before that: a replay must not take for done what was not.
    async fn log_decided(self: &Arc<Self>, decided: Vec<(u64, Vec<u32>)>) -> Result<()> {
        if decided.is_empty() || without(Protection::DecidedInJournal) {
            return Ok(());
        }
        self.flush().await?;
        for (stripe, sums) in decided {
            let ticket = self.journal.decided(stripe, sums).await?;
            let pin = self.journal.hold(&ticket);
            ticket.written().await?;
            self.epochs.note(StripeIndex(stripe), true, Some(&pin));
        }
        Ok(())
    }

    /// Does again what is to be done in a stripe. Answers its checksums if the journal cannot tell them.
    async fn redo_stripe(
        self: &Arc<Self>,
        stripe: StripeIndex,
        redo: &Redo,
        hold: &Pinned,
    ) -> Result<Option<Vec<u32>>> {
        let _guard = self.locks.lock(stripe, Mode::Exclusive).await;
        // What is logged may be from before a replacement was filled, and tells nothing of its part.
        for target in self.membership.roster().slots.iter().filter_map(|s| s.target.as_ref()) {
            if !without(Protection::RebuiltForgotten) {
                target.rebuilt.remove(stripe);
            }
        }
        if redo.unallocated {
            self.epochs.note(stripe, false, Some(hold));
            return Ok(None);
        }
        if let Start::Opened(opened) = &redo.start {
            return self.resolve(stripe, opened, &redo.changes, hold).await;
        }
        let load = Load {
            shreds: self.shreds(&redo.changes),
            fresh: redo.start == Start::Zero,
            bare: self.bare_rows(&redo.changes),
            pin: Some(Arc::clone(hold)),
            ..Load::default()
        };
        self.store_whole(stripe, load).await?;
        self.enter_what_is_home(stripe, &redo.changes, hold).await?;
        Ok(None)
    }

    /// Rows of which parity is not known.
    pub(super) fn bare_rows(&self, changes: &Changes) -> Vec<u64> {
        changes.bare.iter().map(|row| u64::from(*row) * BLOCK_BYTES).collect()
    }

    fn shreds(&self, changes: &Changes) -> Shreds {
        let data = changes.data.iter().filter_map(|(block, piece)| {
            let (chunk, row) = self.place_of(*block);
            Some((chunk, row, piece.bytes.clone()?))
        });
        let parity = changes.parity.iter().map(|((shard, row_block), bytes)| {
            (usize::from(*shard), u64::from(*row_block) * BLOCK_BYTES, bytes.clone())
        });
        data.chain(parity).collect()
    }

    /// Blocks that were home durably may have left their checksums in memory only.
    async fn enter_what_is_home(&self, stripe: StripeIndex, changes: &Changes, hold: &Pinned) -> Result<()> {
        let roster = self.writable_roster()?;
        for (block, piece) in changes.data.iter().filter(|(_, piece)| piece.bytes.is_none()) {
            let (chunk, row) = self.place_of(*block);
            self.enter_shard(&roster, stripe, chunk, row, &[piece.sum], Some(hold)).await?;
        }
        Ok(())
    }
}
