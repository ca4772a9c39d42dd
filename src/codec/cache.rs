//! Decode coefficients of recent loss patterns, so that a degraded read inverts no matrix.

use super::coefficients::Coefficients;
use super::request::ShardSet;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// About how many bytes of coefficients are kept.
const KEEP_BYTES: usize = 1 << 20;
const MAX_PATTERNS: usize = 1024;

/// Which shards are read, and which are computed of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pattern {
    pub(super) from: ShardSet,
    pub(super) wanted: ShardSet,
}

/// A bounded map from loss pattern to coefficients; the longest unused one makes room.
pub(super) struct DecodeCache {
    max_patterns: usize,
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    uses: u64,
    patterns: BTreeMap<Pattern, Entry>,
}

struct Entry {
    coefficients: Arc<Coefficients>,
    last_use: u64,
}

impl DecodeCache {
    /// A cache for patterns of up to `pattern_bytes` coefficients.
    pub(super) fn new(pattern_bytes: usize) -> Self {
        let max_patterns = (KEEP_BYTES / pattern_bytes.max(1)).clamp(1, MAX_PATTERNS);
        Self { max_patterns, recent: Mutex::default() }
    }

    /// The coefficients of this pattern, if they are kept.
    pub(super) fn get(&self, pattern: &Pattern) -> Option<Arc<Coefficients>> {
        let recent = &mut *self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = recent.patterns.get_mut(pattern)?;
        recent.uses += 1;
        entry.last_use = recent.uses;
        Some(entry.coefficients.clone())
    }

    /// Keeps the coefficients of this pattern.
    pub(super) fn put(&self, pattern: Pattern, coefficients: Arc<Coefficients>) {
        let recent = &mut *self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.patterns.len() >= self.max_patterns && !recent.patterns.contains_key(&pattern) {
            let oldest = recent.patterns.iter().min_by_key(|(_, entry)| entry.last_use).map(|(p, _)| *p);
            oldest.map(|p| recent.patterns.remove(&p));
        }
        recent.uses += 1;
        recent.patterns.insert(pattern, Entry { coefficients, last_use: recent.uses });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(number: usize) -> Pattern {
        let mut from = ShardSet::default();
        from.insert(number);
        Pattern { from, wanted: ShardSet::default() }
    }

    #[test]
    fn the_longest_unused_pattern_makes_room() {
        let cache = DecodeCache::new(KEEP_BYTES / 3);
        let some = Arc::new(Coefficients::from_rows(&[&[1]]));
        for number in 0..3 {
            cache.put(pattern(number), some.clone());
        }
        assert!(cache.get(&pattern(0)).is_some());
        cache.put(pattern(3), some);
        let kept: Vec<bool> = (0..4).map(|n| cache.get(&pattern(n)).is_some()).collect();
        assert_eq!(kept, [true, false, true, true]);
    }
}
