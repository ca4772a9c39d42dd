//! Matrices over GF(2^8), and the one that defines the code.
//!
//! Idea: number the shards `r = 0 .. n` and let `V` be the `n x k` Vandermonde matrix `V[r][c] =
//! r^c`. Any `k` of its rows are independent (all `r` differ), so any `k` shards determine the
//! data. Multiplying by the inverse of its top `k x k` square turns the top into the identity -
//! data shards are stored as they are - and keeps every choice of `k` rows independent:
//!
//! ```text
//!              | 1 0 0 |   shard 0 = data 0
//!   V * top^-1 | 0 1 0 |   shard 1 = data 1
//!            = | 0 0 1 |   shard 2 = data 2
//!              | p p p |   shard 3 = parity 0
//!              | p p p |   shard 4 = parity 1
//! ```
//!
//! Limits: `n <= 256` rows can differ; palisade uses up to 255. Never replace this by a bare
//! Vandermonde under an identity: that one is singular for some losses.
//! Source: J. Plank, Y. Ding, "Note: Correction to the 1997 Tutorial on Reed-Solomon Coding", 2003.

use super::field;

/// A dense matrix, row by row; rows have equal length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Matrix(Vec<Vec<u8>>);

impl Matrix {
    /// The generator of the code: `data + parity` rows of `data` coefficients, identity on top.
    /// `None` if the shape has no such matrix (no data, or more than 256 rows).
    pub(super) fn systematic(data: usize, parity: usize) -> Option<Self> {
        let points = (0..data + parity).map(u8::try_from).collect::<Result<Vec<u8>, _>>().ok()?;
        let vandermonde: Vec<Vec<u8>> =
            points.iter().map(|&r| (0..data).map(|c| field::power(r, c)).collect()).collect();
        let top = Self(vandermonde.iter().take(data).cloned().collect());
        let top = top.inverted()?;
        Some(Self(vandermonde.iter().map(|row| top.row_times(row)).collect()))
    }

    /// The matrix of these rows.
    pub(super) fn from_rows(rows: Vec<Vec<u8>>) -> Self {
        Self(rows)
    }

    /// Row `r`, or nothing.
    pub(super) fn row(&self, r: usize) -> Option<&[u8]> {
        self.0.get(r).map(Vec::as_slice)
    }

    /// `row * self`: the combination of this matrix's rows that `row` names.
    pub(super) fn row_times(&self, row: &[u8]) -> Vec<u8> {
        let width = self.0.first().map_or(0, Vec::len);
        let mut sum = vec![0; width];
        for (&factor, own) in row.iter().zip(&self.0) {
            add_multiple(&mut sum, factor, own);
        }
        sum
    }

    /// The inverse of a square matrix by Gauss and Jordan, or `None` if it has none.
    pub(super) fn inverted(&self) -> Option<Self> {
        let size = self.0.len();
        let mut left = self.0.clone();
        let mut right: Vec<Vec<u8>> =
            (0..size).map(|r| (0..size).map(|c| u8::from(r == c)).collect()).collect();
        for d in 0..size {
            let pivot_row = (d..size).find(|&r| left[r][d] != 0)?;
            left.swap(d, pivot_row);
            right.swap(d, pivot_row);
            let scale = field::invert(left[d][d]);
            scale_row(&mut left[d], scale);
            scale_row(&mut right[d], scale);
            let (left_pivot, right_pivot) = (left[d].clone(), right[d].clone());
            for r in (0..size).filter(|&r| r != d) {
                let factor = left[r][d];
                add_multiple(&mut left[r], factor, &left_pivot);
                add_multiple(&mut right[r], factor, &right_pivot);
            }
        }
        Some(Self(right))
    }
}

fn scale_row(row: &mut [u8], factor: u8) {
    if factor != 1 {
        row.iter_mut().for_each(|x| *x = field::multiply(*x, factor));
    }
}

fn add_multiple(sum: &mut [u8], factor: u8, row: &[u8]) {
    if factor != 0 {
        sum.iter_mut().zip(row).for_each(|(s, &x)| *s ^= field::multiply(factor, x));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_of_the_generator_is_the_identity() {
        for (k, m) in [(1, 1), (4, 2), (10, 4), (200, 55), (1, 254), (254, 1)] {
            let matrix = Matrix::systematic(k, m).unwrap();
            for r in 0..k {
                let unit: Vec<u8> = (0..k).map(|c| u8::from(r == c)).collect();
                assert_eq!(matrix.row(r).unwrap(), unit);
            }
            assert!(matrix.row(k + m - 1).is_some());
            assert!(matrix.row(k + m).is_none());
        }
    }

    #[test]
    fn a_singular_matrix_has_no_inverse() {
        assert_eq!(Matrix(vec![vec![1, 2], vec![2, 4]]).inverted(), None);
        assert_eq!(Matrix(vec![vec![0, 1], vec![1, 0]]).inverted().unwrap().0, [[0, 1], [1, 0]]);
    }
}
