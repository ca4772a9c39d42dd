//! Splitting a volume range at stripe borders.

use super::Shape;
use crate::units::StripeIndex;

/// The part of a request that lies in one stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The stripe.
    pub stripe: StripeIndex,
    /// First byte, from the start of the stripe's data.
    pub start: u64,
    /// Bytes, at least 1; the piece ends within the stripe.
    pub len: u64,
    /// Where the piece begins in the request.
    pub request_offset: u64,
}

impl Piece {
    /// Whether the piece covers its stripe whole.
    pub fn is_full(&self, shape: &Shape) -> bool {
        self.start == 0 && self.len == shape.stripe_bytes()
    }
}

/// Splits `len` bytes at volume offset `offset` into pieces, in order.
pub fn split(shape: &Shape, offset: u64, len: u64) -> impl Iterator<Item = Piece> + use<> {
    let stripe_bytes = shape.stripe_bytes();
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let at = offset + done;
        let start = at % stripe_bytes;
        let piece = Piece {
            stripe: StripeIndex(at / stripe_bytes),
            start,
            len: (stripe_bytes - start).min(len - done),
            request_offset: done,
        };
        done += piece.len;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_tile_the_range(offset in 0u64..1 << 40, len in 0u64..1 << 22, data in 1u8..9) {
            let shape = Shape::new(data, 2, 65536).unwrap();
            let mut at = 0;
            for piece in split(&shape, offset, len) {
                prop_assert_eq!(piece.request_offset, at);
                prop_assert_eq!(piece.stripe.0 * shape.stripe_bytes() + piece.start, offset + at);
                prop_assert!(piece.len > 0 && piece.start + piece.len <= shape.stripe_bytes());
                at += piece.len;
            }
            prop_assert_eq!(at, len);
        }
    }
}
