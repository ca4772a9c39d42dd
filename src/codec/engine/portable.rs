//! Fast on any CPU without intrinsics: Horner's rule over bit planes.
//!
//! Problem: a table lookup per byte and coefficient runs at a byte per cycle at best.
//! Idea: write every coefficient in bits, `c = c7*2^7 + .. + c0`, and collect by power of two:
//!
//! ```text
//!   sum over i of c[i]*x[i]  =  (..(P7 * 2 + P6) * 2 + ..) * 2 + P0
//!   Pb = XOR of those inputs whose coefficient has bit b
//! ```
//!
//! So an output costs seven doublings in all, however many inputs there are, plus about four XORs
//! per input: only whole-word operations, which the compiler turns into whatever vectors the target
//! has (SSE2 on x86-64, NEON on arm64). A row of ones starts at the last plane: plain XOR.
//! Source: the doubling of H. P. Anvin, "The mathematics of RAID-6", section 4.

use super::contract::{Engine, checked_len};
use crate::codec::{Coefficients, field};

/// Bytes taken through all planes at once: few enough for the first-level cache, enough to make the
/// mispredicted branch per factor and plane cheap.
const COLUMN: usize = 256;

/// Whole-word arithmetic on any CPU.
pub(super) struct Portable;

impl Engine for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn combine(&self, matrix: &Coefficients, inputs: &[&[u8]], outputs: &mut [&mut [u8]], accumulate: bool) {
        let len = checked_len(matrix, inputs, outputs);
        for at in (0..len).step_by(COLUMN) {
            for (r, output) in outputs.iter_mut().enumerate() {
                let sum = column_sum(matrix, r, inputs, at);
                let rest = output.get_mut(at..).unwrap_or_default();
                if !accumulate {
                    rest.iter_mut().take(COLUMN).for_each(|o| *o = 0);
                }
                match rest.first_chunk_mut::<COLUMN>() {
                    Some(whole) => whole.iter_mut().zip(&sum).for_each(|(o, s)| *o ^= s),
                    None => rest.iter_mut().zip(&sum).for_each(|(o, s)| *o ^= s),
                }
            }
        }
    }
}

/// Output `r` for the column that starts at `at`; bytes past the end count as zero.
fn column_sum(matrix: &Coefficients, r: usize, inputs: &[&[u8]], at: usize) -> [u8; COLUMN] {
    let row = || matrix.by_input().map(|factors| factors.get(r).copied().unwrap_or(0));
    let used = row().fold(0, |all, factor| all | factor);
    let mut sum = [0; COLUMN];
    for bit in (0..u8::BITS - used.leading_zeros()).rev() {
        double(&mut sum);
        for (factor, input) in row().zip(inputs) {
            if (factor >> bit) & 1 == 1 {
                add(&mut sum, input.get(at..).unwrap_or_default());
            }
        }
    }
    sum
}

#[inline]
fn double(column: &mut [u8; COLUMN]) {
    for x in column {
        // The sign bit, spread over the byte, picks the reduction without a branch or a multiply.
        let spread = (x.cast_signed() >> 7).cast_unsigned();
        *x = (*x << 1) ^ (spread & field::REDUCTION);
    }
}

#[inline]
fn add(column: &mut [u8; COLUMN], input: &[u8]) {
    match input.first_chunk::<COLUMN>() {
        Some(whole) => column.iter_mut().zip(whole).for_each(|(c, x)| *c ^= x),
        None => column.iter_mut().zip(input).for_each(|(c, x)| *c ^= x),
    }
}
