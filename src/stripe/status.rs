//! Which parts of the volume hold data, as far as is known without reading: a stripe that is
//! unallocated and has nothing staged, or kept for members that could not take it, is a hole.

use super::engine::Stripes;
use crate::export::Extent;
use crate::units::StripeIndex;

/// Most stripes looked at in one answer.
const MAX_STRIPES: u64 = 1 << 16;

impl Stripes {
    /// Extents of the volume from `offset` on, at most to `offset + len`; at least one.
    pub fn status(&self, offset: u64, len: u64) -> Vec<Extent> {
        let stripe_bytes = self.shape.stripe_bytes();
        let end = (offset + len).min((offset / stripe_bytes + MAX_STRIPES) * stripe_bytes);
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = offset;
        while at < end {
            let stripe = StripeIndex(at / stripe_bytes);
            let next = ((stripe.0 + 1) * stripe_bytes).min(end);
            // First what is staged, then home: what goes home in between is seen in both.
            let hole =
                !self.staging.has_any(stripe) && !self.epochs.is_allocated(stripe) && !self.is_torn(stripe);
            match extents.last_mut() {
                Some(e) if e.hole == hole => e.len_bytes += next - at,
                _ => extents.push(Extent { len_bytes: next - at, hole, zero: hole }),
            }
            at = next;
        }
        extents
    }
}
