//! The loop all vector engines share.
//!
//! Problem: parity must be computed at the speed of memory, so an input byte should be loaded once,
//! and an output byte stored once.
//! Idea: for a block of up to `max_rows` outputs keep the sums of one column (some vectors) in
//! registers while running over the inputs:
//!
//! ```text
//!                 column (V vectors)
//!   input 0   ....[##]......   -- times each row's factor --+
//!   input 1   ....[##]......   -----------------------------+--> sums[row][0..V] in registers
//!   input k-1 ....[##]......   -----------------------------+         |
//!   output r  ....[##]......   <---------------------- one store -----+
//! ```
//!
//! The wider a column, the fewer times a factor is looked up; but its sums must fit the registers.
//! So each engine says how wide for how many rows: `rows: [1 => 4, ..]`.
//!
//! More outputs than `max_rows` take several passes, over pieces of [`TILE`] bytes so that the
//! inputs of the later passes come from the cache.
//!
//! It is a macro because a function compiled for an instruction set inlines only helpers compiled
//! for the same one, which a trait can't express. Each engine file gives `zero`, `load`, `store`,
//! `add`, `factor` (what to keep of a coefficient), `split` (what to prepare of a vector) and
//! `multiply`. Slices are cut with checked methods throughout; what is unsafe is only the load and
//! store of a whole array in each engine file, and entering the code after the CPU was asked.

/// Bytes per pass when there are more outputs than one pass takes.
pub(super) const TILE: usize = 4096;

/// The `V` vectors of `N` bytes at `at`, if they are all there.
#[inline(always)]
pub(super) fn whole<const V: usize, const N: usize>(bytes: &[u8], at: usize) -> Option<&[[u8; N]; V]> {
    bytes.get(at..)?.as_chunks().0.first_chunk()
}

/// The same to be written.
#[inline(always)]
pub(super) fn whole_mut<const V: usize, const N: usize>(
    bytes: &mut [u8],
    at: usize,
) -> Option<&mut [[u8; N]; V]> {
    bytes.get_mut(at..)?.as_chunks_mut().0.first_chunk_mut()
}

/// The bytes at `at` up to the end, filled up with zeros.
pub(super) fn padded<const V: usize, const N: usize>(bytes: &[u8], at: usize) -> [[u8; N]; V] {
    let mut column = [[0; N]; V];
    column.as_flattened_mut().iter_mut().zip(bytes.iter().skip(at)).for_each(|(c, b)| *c = *b);
    column
}

/// Defines `$engine` and its loop; see the head of this file.
macro_rules! vector_engine {
    (
        $(#[$doc:meta])*
        $engine:ident, $name:literal, features: $features:literal, detect: $detect:expr,
        vector: $vector:ty, bytes: $bytes:literal, max_rows: $max_rows:literal,
        rows: [$($rows:literal => $width:literal),*]
    ) => {
        use super::contract::{Engine, checked_len};
        use super::kernel::{TILE, padded, whole, whole_mut};
        use crate::codec::Coefficients;

        $(#[$doc])*
        pub(super) struct $engine(());

        impl $engine {
            /// The engine, if this CPU runs it.
            pub(super) fn detect() -> Option<Self> {
                $detect.then_some(Self(()))
            }
        }

        impl Engine for $engine {
            fn name(&self) -> &'static str {
                $name
            }

            fn combine(
                &self,
                matrix: &Coefficients,
                inputs: &[&[u8]],
                outputs: &mut [&mut [u8]],
                accumulate: bool,
            ) {
                let len = checked_len(matrix, inputs, outputs);
                let tile = if outputs.len() > $max_rows { TILE } else { len.max(1) };
                for from in (0..len).step_by(tile) {
                    let range = from..len.min(from + tile);
                    for (block, rows) in outputs.chunks_mut($max_rows).enumerate() {
                        let first = block * $max_rows;
                        match rows.len() {
                            $($rows => if let Some(rows) = rows.first_chunk_mut::<$rows>() {
                                // SAFETY: `detect` alone makes this type, and it found the features.
                                unsafe {
                                    pass::<$rows, $width>(matrix, first, inputs, rows, range.clone(), accumulate);
                                }
                            })*
                            _ => {}
                        }
                    }
                }
            }
        }

        /// Computes `outputs`, rows `first ..` of the matrix, in `range`.
        #[target_feature(enable = $features)]
        fn pass<const R: usize, const V: usize>(
            matrix: &Coefficients,
            first: usize,
            inputs: &[&[u8]],
            outputs: &mut [&mut [u8]; R],
            range: std::ops::Range<usize>,
            accumulate: bool,
        ) {
            let mut at = range.start;
            while at + V * $bytes <= range.end {
                let columns = inputs.iter().map_while(|input| whole::<V, $bytes>(input, at));
                let mut sums = [[zero(); V]; R];
                if accumulate {
                    for (sum, output) in sums.iter_mut().zip(outputs.iter()) {
                        let Some(old) = whole(output, at) else { return };
                        *sum = load_column(old);
                    }
                }
                let factors = matrix.by_input().map_while(|f| f.get(first..)?.first_chunk::<R>());
                for (column, factors) in columns.zip(factors) {
                    add_products(&mut sums, load_column(column), factors);
                }
                for (sum, output) in sums.iter().zip(outputs.iter_mut()) {
                    let Some(target) = whole_mut(output, at) else { return };
                    store_column(target, sum);
                }
                at += V * $bytes;
            }
            if at < range.end {
                last_column::<R, V>(matrix, first, inputs, outputs, at, accumulate);
            }
        }

        /// The rest of the slices, shorter than a column, through padded copies.
        #[target_feature(enable = $features)]
        fn last_column<const R: usize, const V: usize>(
            matrix: &Coefficients,
            first: usize,
            inputs: &[&[u8]],
            outputs: &mut [&mut [u8]; R],
            at: usize,
            accumulate: bool,
        ) {
            let mut sums = [[zero(); V]; R];
            if accumulate {
                for (sum, output) in sums.iter_mut().zip(outputs.iter()) {
                    *sum = load_column(&padded(output, at));
                }
            }
            let factors = matrix.by_input().map_while(|f| f.get(first..)?.first_chunk::<R>());
            for (input, factors) in inputs.iter().zip(factors) {
                add_products(&mut sums, load_column(&padded(input, at)), factors);
            }
            for (sum, output) in sums.iter().zip(outputs.iter_mut()) {
                let mut column = [[0; $bytes]; V];
                store_column(&mut column, sum);
                output.iter_mut().skip(at).zip(column.as_flattened()).for_each(|(o, c)| *o = *c);
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn add_products<const R: usize, const V: usize>(
            sums: &mut [[$vector; V]; R],
            column: [$vector; V],
            factors: &[u8; R],
        ) {
            let mut halves = [split(zero()); V];
            for (halves, vector) in halves.iter_mut().zip(column) {
                *halves = split(vector);
            }
            for (sums, &c) in sums.iter_mut().zip(factors) {
                let factor = factor(c);
                for (sum, halves) in sums.iter_mut().zip(halves) {
                    *sum = add(*sum, multiply(factor, halves));
                }
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn load_column<const V: usize>(column: &[[u8; $bytes]; V]) -> [$vector; V] {
            let mut vectors = [zero(); V];
            for (vector, bytes) in vectors.iter_mut().zip(column) {
                *vector = load(bytes);
            }
            vectors
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn store_column<const V: usize>(column: &mut [[u8; $bytes]; V], sums: &[$vector; V]) {
            for (bytes, sum) in column.iter_mut().zip(sums) {
                store(bytes, *sum);
            }
        }
    };
}
