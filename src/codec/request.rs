//! Checks of what callers ask: numbers in range and told once, lengths equal.

use crate::error::{Error, ErrorKind, Result};

/// A set of shard numbers, `0 .. 256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct ShardSet([u64; 4]);

impl ShardSet {
    /// Adds a number; says whether it was new (a number beyond 255 never is).
    pub(super) fn insert(&mut self, number: usize) -> bool {
        let bit = 1 << (number % 64);
        match self.0.get_mut(number / 64) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    /// Whether the number is in it.
    pub(super) fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}

/// The numbers as a set; refuses those not below `limit` and those told twice.
pub(super) fn distinct(
    what: &str,
    numbers: impl IntoIterator<Item = usize>,
    limit: usize,
) -> Result<ShardSet> {
    let mut set = ShardSet::default();
    for number in numbers {
        if number >= limit {
            return Err(invalid(format!("{what} {number} does not exist: there are {limit}")));
        }
        if !set.insert(number) {
            return Err(invalid(format!("{what} {number} is given twice")));
        }
    }
    Ok(set)
}

/// Refuses buffers of unequal length.
pub(super) fn equal_lengths(lengths: impl IntoIterator<Item = usize>) -> Result<()> {
    let mut lengths = lengths.into_iter();
    let Some(first) = lengths.next() else { return Ok(()) };
    match lengths.find(|&len| len != first) {
        Some(other) => Err(invalid(format!("shards of unequal length: {first} and {other} bytes"))),
        None => Ok(()),
    }
}

/// An `InvalidInput` error.
pub(super) fn invalid(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, what)
}
