//! The coefficients of one combination of shards.

/// `outputs x inputs` factors. Stored by input, so that an engine reads the factors of one input
/// for neighbouring outputs in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coefficients {
    outputs: usize,
    inputs: usize,
    by_input: Box<[u8]>,
}

impl Coefficients {
    /// The combination whose output `r` is the sum over `i` of `rows[r][i]` times input `i`. Rows
    /// shorter than the first are filled up with zeros.
    pub fn from_rows(rows: &[&[u8]]) -> Self {
        let inputs = rows.first().map_or(0, |row| row.len());
        let by_input =
            (0..inputs).flat_map(|i| rows.iter().map(move |row| row.get(i).copied().unwrap_or(0))).collect();
        Self { outputs: rows.len(), inputs, by_input }
    }

    /// How many outputs it has.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// How many inputs it has.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The factor of one input in one output (zero outside the matrix).
    pub fn get(&self, output: usize, input: usize) -> u8 {
        if output >= self.outputs {
            return 0;
        }
        self.by_input.get(input * self.outputs + output).copied().unwrap_or(0)
    }

    /// Per input, its factors in all outputs.
    pub fn by_input(&self) -> impl Iterator<Item = &[u8]> {
        self.by_input.chunks_exact(self.outputs.max(1))
    }

    /// The combination of only these outputs, in this order.
    pub(super) fn select(&self, outputs: &[usize]) -> Self {
        let by_input = self
            .by_input()
            .flat_map(|factors| outputs.iter().map(|&o| factors.get(o).copied().unwrap_or(0)))
            .collect();
        Self { outputs: outputs.len(), inputs: self.inputs, by_input }
    }

    /// Whether every output is a copy of the only input (a mirror).
    pub(super) fn is_copy(&self) -> bool {
        self.inputs == 1 && self.by_input.iter().all(|&c| c == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_found_by_output_and_by_input() {
        let c = Coefficients::from_rows(&[&[1, 2, 3], &[4, 5, 6]]);
        assert_eq!((c.outputs(), c.inputs()), (2, 3));
        assert_eq!((c.get(0, 2), c.get(1, 0), c.get(2, 0), c.get(0, 3)), (3, 4, 0, 0));
        assert_eq!(c.by_input().collect::<Vec<_>>(), [[1, 4], [2, 5], [3, 6]]);
        assert_eq!(c.select(&[1]), Coefficients::from_rows(&[&[4, 5, 6]]));
        assert!(!c.is_copy());
        assert!(Coefficients::from_rows(&[&[1], &[1]]).is_copy());
    }
}
