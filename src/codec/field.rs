//! GF(2^8): bytes as polynomials over GF(2), modulo `x^8 + x^4 + x^3 + x^2 + 1` (0x11D).
//!
//! Adding is XOR. Multiplying by a constant is linear over the bits, which is what every fast
//! engine lives on: `c * x` is two lookups of the nibbles of `x` ([`NIBBLES`]) or one 8x8 bit
//! matrix times `x` ([`AFFINE`]).

/// What is left of `x^8` after reduction: the polynomial without its top bit.
pub(super) const REDUCTION: u8 = 0x1D;

/// Powers of the generator 2, twice over, so that a sum of two logarithms needs no modulo.
static EXP: [u8; 510] = exp_table();
/// `LOG[EXP[i]] == i`; `LOG[0]` has no meaning.
static LOG: [u8; 256] = log_table();

/// Per constant `c`: the products with 0..16, then with 0, 16, 32 .. 240.
pub(super) static NIBBLES: [Nibbles; 256] = nibble_tables();

/// Per constant `c`: the bit matrix of "multiply by c" as `gf2p8affineqb` wants it.
pub(super) static AFFINE: [u64; 256] = affine_tables();

/// The products of one constant with all low and all high nibbles.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct Nibbles {
    pub(super) low: [u8; 16],
    pub(super) high: [u8; 16],
}

/// `a * b`.
pub(super) fn multiply(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 {
        return 0;
    }
    EXP[usize::from(LOG[usize::from(a)]) + usize::from(LOG[usize::from(b)])]
}

/// `1 / a`; zero has no inverse and gives zero.
pub(super) fn invert(a: u8) -> u8 {
    if a == 0 {
        return 0;
    }
    EXP[255 - usize::from(LOG[usize::from(a)])]
}

/// `a` to the power `n`; anything to the power 0 is 1, zero too.
pub(super) fn power(a: u8, n: usize) -> u8 {
    match (a, n) {
        (_, 0) => 1,
        (0, _) => 0,
        _ => EXP[usize::from(LOG[usize::from(a)]) * (n % 255) % 255],
    }
}

/// `2 * a`: shift, and fold the bit that fell out back in.
pub(super) const fn double(a: u8) -> u8 {
    (a << 1) ^ (REDUCTION * (a >> 7))
}

const fn exp_table() -> [u8; 510] {
    let mut table = [0; 510];
    let mut value = 1;
    let mut i = 0;
    while i < 510 {
        table[i] = value;
        value = double(value);
        i += 1;
    }
    table
}

#[expect(clippy::cast_possible_truncation, reason = "i < 255; try_from is not const")]
const fn log_table() -> [u8; 256] {
    let powers = exp_table();
    let mut table = [0; 256];
    let mut i = 0;
    while i < 255 {
        table[powers[i] as usize] = i as u8;
        i += 1;
    }
    table
}

/// Schoolbook product, for the tables.
const fn product(a: u8, b: u8) -> u8 {
    let mut sum = 0;
    let mut shifted = a;
    let mut rest = b;
    while rest != 0 {
        if rest & 1 == 1 {
            sum ^= shifted;
        }
        shifted = double(shifted);
        rest >>= 1;
    }
    sum
}

#[expect(clippy::cast_possible_truncation, reason = "c < 256, x < 16; try_from is not const")]
const fn nibble_tables() -> [Nibbles; 256] {
    let mut tables = [Nibbles { low: [0; 16], high: [0; 16] }; 256];
    let mut c = 0;
    while c < 256 {
        let mut x = 0;
        while x < 16 {
            tables[c].low[x] = product(c as u8, x as u8);
            tables[c].high[x] = product(c as u8, (x << 4) as u8);
            x += 1;
        }
        c += 1;
    }
    tables
}

/// Bit `i` of a result is the parity of (byte `7 - i` of the matrix AND x), so bit `j` of that byte
/// says whether `x^j` contributes to bit `i`: bit `i` of `c * 2^j`.
#[expect(clippy::cast_possible_truncation, reason = "c < 256; try_from is not const")]
const fn affine_tables() -> [u64; 256] {
    let mut tables = [0; 256];
    let mut c = 0;
    while c < 256 {
        let mut column = c as u8;
        let mut j = 0;
        while j < 8 {
            let mut i = 0;
            while i < 8 {
                let bit = (column >> i) & 1;
                tables[c] |= (bit as u64) << (8 * (7 - i) + j);
                i += 1;
            }
            column = double(column);
            j += 1;
        }
        c += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_product_agrees_with_the_schoolbook_and_the_nibble_tables() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                let expected = product(a, b);
                assert_eq!(multiply(a, b), expected, "{a} * {b}");
                let t = &NIBBLES[usize::from(a)];
                assert_eq!(t.low[usize::from(b & 15)] ^ t.high[usize::from(b >> 4)], expected);
            }
        }
    }

    #[test]
    fn every_element_but_zero_has_an_inverse() {
        assert_eq!(invert(0), 0);
        for a in 1..=255u8 {
            assert_eq!(multiply(a, invert(a)), 1, "{a}");
        }
    }

    #[test]
    fn a_power_is_repeated_multiplication() {
        for a in 0..=255u8 {
            let mut expected = 1;
            for n in 0..600 {
                assert_eq!(power(a, n), expected, "{a}^{n}");
                expected = multiply(expected, a);
            }
        }
    }
}
