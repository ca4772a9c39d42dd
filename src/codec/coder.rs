//! Encode, reconstruct, update: requests checked, coefficients found, bytes left to the engine.

use super::cache::{DecodeCache, Pattern};
use super::coefficients::Coefficients;
use super::engine::{Engine, best_engine};
use super::matrix::Matrix;
use super::request::{distinct, equal_lengths, invalid};
use super::xor::xor_into;
use crate::error::{Error, ErrorKind, Result};
use std::fmt;
use std::sync::Arc;

/// Shards are numbered `0 .. k` (data), `k .. k + m` (parity) and there are at most this many.
const MAX_SHARDS: usize = 255;

/// A Reed-Solomon code of `k` data and `m` parity shards; clone freely, share between threads.
#[derive(Clone)]
pub struct Codec(Arc<Code>);

struct Code {
    data: usize,
    parity: usize,
    engine: Arc<dyn Engine>,
    matrix: Matrix,
    /// All parity of all data.
    encode: Coefficients,
    /// Per data shard, its share in all parity.
    update: Vec<Coefficients>,
    decode: DecodeCache,
}

impl Codec {
    /// The code of `data` + `parity` shards, with the best engine for this CPU.
    pub fn new(data: usize, parity: usize) -> Result<Self> {
        Self::with_engine(data, parity, best_engine())
    }

    /// The code of `data` + `parity` shards, with this engine.
    pub fn with_engine(data: usize, parity: usize, engine: Arc<dyn Engine>) -> Result<Self> {
        let fits = data >= 1 && parity >= 1 && data.checked_add(parity).is_some_and(|n| n <= MAX_SHARDS);
        let refuse = || {
            invalid(format!("no code of {data} data and {parity} parity shards"))
                .hint("use at least 1 data and 1 parity shard, and at most 255 shards together")
        };
        let matrix = if fits { Matrix::systematic(data, parity) } else { None }.ok_or_else(refuse)?;
        let rows: Vec<&[u8]> = (data..data + parity).filter_map(|r| matrix.row(r)).collect();
        let update = (0..data)
            .map(|d| {
                let column: Vec<&[u8]> = rows.iter().filter_map(|row| row.get(d..=d)).collect();
                Coefficients::from_rows(&column)
            })
            .collect();
        let encode = Coefficients::from_rows(&rows);
        let decode = DecodeCache::new(data * parity);
        Ok(Self(Arc::new(Code { data, parity, engine, matrix, encode, update, decode })))
    }

    /// The engine in use, for reports.
    pub fn engine_name(&self) -> &'static str {
        self.0.engine.name()
    }

    /// Computes the listed parity shards (`parity[j].0` in `0 .. m`) of all `k` data shards.
    pub fn encode(&self, data: &[&[u8]], parity: &mut [(usize, &mut [u8])]) -> Result<()> {
        let code = &*self.0;
        if data.len() != code.data {
            return Err(invalid(format!("{} data shards given, the code has {}", data.len(), code.data)));
        }
        distinct("parity shard", parity.iter().map(|p| p.0), code.parity)?;
        equal_lengths(data.iter().map(|d| d.len()).chain(parity.iter().map(|p| p.1.len())))?;
        code.with_rows(&code.encode, parity, |coefficients, outputs| {
            code.combine(coefficients, data, outputs, false);
        });
        Ok(())
    }

    /// Computes every shard listed in `missing` (data or parity, numbered `0 .. k + m`) from the
    /// first `k` of those `present`, by number.
    pub fn reconstruct(&self, present: &[(usize, &[u8])], missing: &mut [(usize, &mut [u8])]) -> Result<()> {
        let code = &*self.0;
        let shards = code.data + code.parity;
        distinct("present shard", present.iter().map(|p| p.0), shards)?;
        let wanted = distinct("missing shard", missing.iter().map(|m| m.0), shards)?;
        if let Some((both, _)) = present.iter().find(|p| wanted.contains(p.0)) {
            return Err(invalid(format!("shard {both} is both present and missing")));
        }
        equal_lengths(present.iter().map(|p| p.1.len()).chain(missing.iter().map(|m| m.1.len())))?;
        if present.len() < code.data {
            let (have, need) = (present.len(), code.data);
            return Err(Error::new(
                ErrorKind::Failed,
                format!("only {have} of the {need} shards needed are left"),
            ));
        }
        let mut used = present.to_vec();
        used.sort_unstable_by_key(|p| p.0);
        used.truncate(code.data);
        let from = distinct("present shard", used.iter().map(|p| p.0), shards)?;

        let mut ordered: Vec<(usize, &mut [u8])> = missing.iter_mut().map(|(n, b)| (*n, &mut **b)).collect();
        ordered.sort_unstable_by_key(|m| m.0);
        let (numbers, mut outputs): (Vec<usize>, Vec<&mut [u8]>) = ordered.into_iter().unzip();
        let (sources, inputs): (Vec<usize>, Vec<&[u8]>) = used.into_iter().unzip();
        let coefficients = code.decode_coefficients(Pattern { from, wanted }, &sources, &numbers)?;
        code.combine(&coefficients, &inputs, &mut outputs, false);
        Ok(())
    }

    /// A small write: adds to each listed parity shard what changing data shard `data_shard` by
    /// `delta` (old XOR new) changes in it.
    pub fn update(&self, data_shard: usize, delta: &[u8], parity: &mut [(usize, &mut [u8])]) -> Result<()> {
        let code = &*self.0;
        let column = code.update.get(data_shard);
        let column = column.ok_or_else(|| invalid(format!("data shard {data_shard} does not exist")))?;
        distinct("parity shard", parity.iter().map(|p| p.0), code.parity)?;
        equal_lengths(parity.iter().map(|p| p.1.len()).chain([delta.len()]))?;
        code.with_rows(column, parity, |coefficients, outputs| {
            code.combine(coefficients, &[delta], outputs, true);
        });
        Ok(())
    }
}

impl Code {
    /// Calls `run` with the rows of `all` (one per parity shard) that `parity` lists, in its order.
    fn with_rows(
        &self,
        all: &Coefficients,
        parity: &mut [(usize, &mut [u8])],
        run: impl FnOnce(&Coefficients, &mut [&mut [u8]]),
    ) {
        let is_all = parity.len() == self.parity && parity.iter().enumerate().all(|(i, p)| p.0 == i);
        let (numbers, mut outputs): (Vec<usize>, Vec<&mut [u8]>) =
            parity.iter_mut().map(|(n, b)| (*n, &mut **b)).unzip();
        if is_all {
            run(all, &mut outputs);
        } else {
            run(&all.select(&numbers), &mut outputs);
        }
    }

    /// The coefficients that compute the shards `wanted` of the shards `sources`, both ascending.
    /// The cache is asked and told under its lock; the matrix is inverted outside it.
    fn decode_coefficients(
        &self,
        pattern: Pattern,
        sources: &[usize],
        wanted: &[usize],
    ) -> Result<Arc<Coefficients>> {
        if let Some(kept) = self.decode.get(&pattern) {
            return Ok(kept);
        }
        let row = |n: &usize| self.matrix.row(*n);
        let generator: Vec<Vec<u8>> = sources.iter().filter_map(row).map(<[u8]>::to_vec).collect();
        let inverse = Matrix::from_rows(generator).inverted().ok_or_else(|| {
            // Any k rows of this matrix are independent; an error all the same rather than a panic.
            Error::new(ErrorKind::Failed, "these shards do not determine the data")
        })?;
        let rows: Vec<Vec<u8>> = wanted.iter().filter_map(row).map(|r| inverse.row_times(r)).collect();
        let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        let coefficients = Arc::new(Coefficients::from_rows(&rows));
        self.decode.put(pattern, coefficients.clone());
        Ok(coefficients)
    }

    fn combine(&self, matrix: &Coefficients, inputs: &[&[u8]], outputs: &mut [&mut [u8]], accumulate: bool) {
        match inputs {
            [original] if matrix.is_copy() => {
                for output in outputs {
                    if accumulate {
                        xor_into(output, original);
                    } else {
                        output.copy_from_slice(original);
                    }
                }
            }
            _ => self.engine.combine(matrix, inputs, outputs, accumulate),
        }
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Codec({}+{}, {})", self.0.data, self.0.parity, self.engine_name())
    }
}
