//! The reference: the definition, byte by byte. Every other engine is tested against it.

use super::contract::{Engine, checked_len};
use crate::codec::{Coefficients, field};

/// Slow and plain.
pub(super) struct Naive;

impl Engine for Naive {
    fn name(&self) -> &'static str {
        "naive"
    }

    fn combine(&self, matrix: &Coefficients, inputs: &[&[u8]], outputs: &mut [&mut [u8]], accumulate: bool) {
        checked_len(matrix, inputs, outputs);
        for (r, output) in outputs.iter_mut().enumerate() {
            if !accumulate {
                output.fill(0);
            }
            for (i, input) in inputs.iter().enumerate() {
                let factor = matrix.get(r, i);
                for (o, &x) in output.iter_mut().zip(*input) {
                    *o ^= field::multiply(factor, x);
                }
            }
        }
    }
}
