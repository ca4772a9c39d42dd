//! XOR of buffers: the sum of the field.

/// `target ^= other`, for example `delta = old ^ new`.
///
/// # Panics
/// If the lengths differ: half a delta would be silent corruption.
pub fn xor_into(target: &mut [u8], other: &[u8]) {
    assert_eq!(target.len(), other.len(), "XOR of buffers of unequal length");
    target.iter_mut().zip(other).for_each(|(t, o)| *t ^= o);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xor_twice_gives_back_the_first() {
        let other: Vec<u8> = (0..=250).collect();
        let mut target = vec![0x5A; 251];
        xor_into(&mut target, &other);
        assert_eq!(target[3], 0x59);
        xor_into(&mut target, &other);
        assert_eq!(target, [0x5A; 251]);
    }
}
