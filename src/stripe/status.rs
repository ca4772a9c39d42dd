//! Which parts of the volume are backed by space, as far as the members can tell.
//!
//! A chunk is a hole if its member says so. For a lost chunk nobody can say, unless k others of its
//! stripe can, and all that can are holes: then the stripe is all zeroes, and so was it.

use super::engine::{Stripes, to_usize};
use super::roster::Roster;
use crate::env::join_all;
use crate::export::Extent;
use crate::units::{BLOCK_BYTES, StripeIndex};
use std::sync::Arc;

/// Most stripes asked for at once.
const MAX_STRIPES: u64 = 4096;

impl Stripes {
    /// Extents of the volume from `offset` on, at most to `offset + len`; at least one.
    pub async fn status(self: &Arc<Self>, offset: u64, len: u64) -> Vec<Extent> {
        let (stripe_bytes, chunk) = (self.shape.stripe_bytes(), self.shape.chunk_bytes());
        let first = StripeIndex(offset / stripe_bytes);
        let last = (offset + len).div_ceil(stripe_bytes).min(first.0 + MAX_STRIPES);
        // First what is staged, then home: what goes home in between is seen in both.
        let staged = self.staging.get(offset / BLOCK_BYTES..(last * stripe_bytes).div_ceil(BLOCK_BYTES));
        let roster = self.membership.roster();
        let holes = self.holes(&roster, first, last - first.0).await;
        let end = (offset + len).min(last * stripe_bytes);
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = offset;
        while at < end {
            let next = ((at / chunk + 1) * chunk).min(end);
            let stripe = StripeIndex(at / stripe_bytes);
            let slot = self.shape.slot_of(stripe, to_usize(at % stripe_bytes / chunk)).index();
            let row = to_usize(stripe.0 - first.0);
            let blocks = at / BLOCK_BYTES..next.div_ceil(BLOCK_BYTES);
            let first = staged.get(staged.partition_point(|(block, _)| *block < blocks.start));
            let hole = !first.is_some_and(|(block, _)| blocks.contains(block))
                && match &holes[slot] {
                    Some(known) => known[row],
                    None => {
                        let known = holes.iter().flatten();
                        known.clone().count() >= self.shape.data() && known.into_iter().all(|h| h[row])
                    }
                };
            match extents.last_mut() {
                Some(e) if e.hole == hole => e.len_bytes += next - at,
                _ => extents.push(Extent { len_bytes: next - at, hole, zero: hole }),
            }
            at = next;
        }
        extents
    }

    /// By slot, then by stripe: is the chunk a hole? `None` for a slot that cannot tell.
    async fn holes(&self, roster: &Roster, first: StripeIndex, count: u64) -> Vec<Option<Vec<bool>>> {
        let chunk = self.shape.chunk_bytes();
        let of_slot = roster.slots.iter().map(|slot| async move {
            let member = slot.primary.as_ref().filter(|m| !m.doubted())?;
            let spans = member.spans(self.offset_on(member, first, 0), count * chunk).await.ok()?;
            let mut holes = vec![true; to_usize(count)];
            let mut at = 0;
            for span in spans {
                let end = at + span.len_bytes;
                if !span.hole {
                    let touched = to_usize(at / chunk)..to_usize(end.div_ceil(chunk).min(count));
                    holes[touched].fill(false);
                }
                at = end;
            }
            Some(holes)
        });
        join_all(of_slot).await
    }
}
