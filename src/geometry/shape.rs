//! The shape of an array and where its chunks lie.
//!
//! Stripe `s` holds `k` data and `m` parity chunks. Shard `i` (data `0..k`, parity `k..n`) of
//! stripe `s` lies in slot `(s * k + i) mod n`, so that data chunk number `c = s * k + i` of the
//! volume lies in slot `c mod n`: a sequential read visits all members in turn, and since
//! `s * k mod n` runs through all multiples of `gcd(k, n)`, which divides `m`, parity is spread
//! evenly. For 4+2:
//!
//! ```text
//!   slot      0   1   2   3   4   5
//!   stripe 0  D0  D1  D2  D3  P   Q
//!   stripe 1  D2  D3  P   Q   D0  D1
//!   stripe 2  P   Q   D0  D1  D2  D3
//! ```

use crate::error::{Error, ErrorKind, Result};
use crate::units::{BLOCK_BYTES, Slot, StripeIndex};

/// Smallest and largest chunk, in bytes.
const CHUNK_RANGE: std::ops::RangeInclusive<u64> = BLOCK_BYTES..=(16 << 20);

/// k, m and the chunk size; checked when made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    data: u8,
    parity: u8,
    chunk_bytes: u64,
}

impl Shape {
    /// A shape of `data` + `parity` chunks of `chunk_bytes` (a power of two, 4 KiB to 16 MiB).
    pub fn new(data: u8, parity: u8, chunk_bytes: u64) -> Result<Self> {
        let bad = |what: String| Err(Error::new(ErrorKind::InvalidInput, what));
        if data == 0 || parity == 0 {
            return bad(format!("{data}+{parity} is no shape: data and parity must each be at least 1"));
        }
        if u16::from(data) + u16::from(parity) > 255 {
            return bad(format!("{data}+{parity} is too wide: data and parity together may be at most 255"));
        }
        if !chunk_bytes.is_power_of_two() || !CHUNK_RANGE.contains(&chunk_bytes) {
            return bad(format!("a chunk of {chunk_bytes} bytes must be a power of two from 4K to 16M"));
        }
        Ok(Self { data, parity, chunk_bytes })
    }

    /// k.
    pub fn data(&self) -> usize {
        usize::from(self.data)
    }

    /// m.
    pub fn parity(&self) -> usize {
        usize::from(self.parity)
    }

    /// n = k + m.
    pub fn width(&self) -> usize {
        self.data() + self.parity()
    }

    /// Bytes of a chunk.
    pub fn chunk_bytes(&self) -> u64 {
        self.chunk_bytes
    }

    /// Bytes of volume in a stripe: k chunks.
    pub fn stripe_bytes(&self) -> u64 {
        self.chunk_bytes * u64::from(self.data)
    }

    /// All slots in order.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.data + self.parity).map(Slot)
    }

    /// The slot that holds a shard (data `0..k`, parity `k..n`) of a stripe.
    pub fn slot_of(&self, stripe: StripeIndex, shard: usize) -> Slot {
        Slot(narrow((self.rotation(stripe) + shard as u64) % self.n()))
    }

    /// The shard that a slot holds in a stripe; the inverse of [`Self::slot_of`].
    pub fn shard_of(&self, stripe: StripeIndex, slot: Slot) -> usize {
        let n = self.n();
        usize::from(narrow((u64::from(slot.0) + n - self.rotation(stripe)) % n))
    }

    /// Offset of a stripe's chunk from the start of the data area, the same on every member.
    pub fn chunk_offset(&self, stripe: StripeIndex) -> u64 {
        stripe.0 * self.chunk_bytes
    }

    /// Number of stripes that `volume_bytes` need.
    pub fn stripes_for(&self, volume_bytes: u64) -> u64 {
        volume_bytes.div_ceil(self.stripe_bytes())
    }

    fn n(&self) -> u64 {
        u64::from(self.data) + u64::from(self.parity)
    }

    fn rotation(&self, stripe: StripeIndex) -> u64 {
        let n = self.n();
        (stripe.0 % n) * u64::from(self.data) % n
    }
}

/// A value below n <= 255.
fn narrow(value: u64) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn slots_and_shards_are_inverse_and_sequential_chunks_visit_every_member(
            data in 1u8..=127, parity in 1u8..=128, stripe in 0u64..1 << 50,
        ) {
            let shape = Shape::new(data, parity, 65536).unwrap();
            let n = shape.width() as u64;
            for shard in 0..shape.width() {
                let slot = shape.slot_of(StripeIndex(stripe), shard);
                prop_assert_eq!(shape.shard_of(StripeIndex(stripe), slot), shard);
                if shard < shape.data() {
                    let chunk = u128::from(stripe) * u128::from(data) + shard as u128;
                    prop_assert_eq!(u128::from(slot.0), chunk % u128::from(n));
                }
            }
        }

        #[test]
        fn parity_is_spread_evenly(data in 1u8..=40, parity in 1u8..=40) {
            let shape = Shape::new(data, parity, 4096).unwrap();
            let mut counts = vec![0u64; shape.width()];
            for stripe in 0..shape.width() as u64 {
                for j in 0..shape.parity() {
                    counts[shape.slot_of(StripeIndex(stripe), shape.data() + j).index()] += 1;
                }
            }
            prop_assert!(counts.iter().all(|c| *c == u64::from(parity)));
        }
    }

    #[test]
    fn a_senseless_shape_is_refused() {
        for (k, m, chunk) in [(0, 1, 4096), (1, 0, 4096), (200, 56, 4096), (4, 2, 5000), (4, 2, 2048)] {
            assert!(Shape::new(k, m, chunk).is_err());
        }
        assert!(Shape::new(254, 1, 4096).is_ok());
    }
}
