//! What an engine promises.

use crate::codec::Coefficients;

/// Computes linear combinations of byte slices over GF(2^8).
pub trait Engine: Send + Sync {
    /// A short name for reports: `"gfni-avx512"`.
    fn name(&self) -> &'static str;

    /// `outputs[r] = sum over i of matrix[r][i] * inputs[i]`, or `^=` when `accumulate`. All slices
    /// have the same length, any length; the matrix has a row per output and a factor per input.
    ///
    /// # Panics
    /// If the shapes don't fit (`Codec` never lets such a request through).
    fn combine(&self, matrix: &Coefficients, inputs: &[&[u8]], outputs: &mut [&mut [u8]], accumulate: bool);
}

/// Refuses misfitting shapes; returns the common length.
pub(super) fn checked_len(matrix: &Coefficients, inputs: &[&[u8]], outputs: &[&mut [u8]]) -> usize {
    let len = outputs.first().map_or(0, |o| o.len());
    assert_eq!(matrix.outputs(), outputs.len(), "one row per output");
    assert!(outputs.is_empty() || matrix.inputs() == inputs.len(), "one factor per input");
    assert!(outputs.iter().all(|o| o.len() == len), "outputs of unequal length");
    assert!(outputs.is_empty() || inputs.iter().all(|i| i.len() == len), "inputs of unequal length");
    len
}
