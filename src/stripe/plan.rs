//! How to bring new data and parity of some rows to the members (pure).
//!
//! For rows in which the chunks `D` are overwritten there are three ways to the new parity:
//!
//! ```text
//!   read-modify-write   read D and the parity        parity ^= coefficient * (old ^ new)
//!   reconstruct-write   read the idle data           parity = encode(new and idle data)
//!   reconstruct         read any k shards            restore the lost idle data, then encode
//! ```
//!
//! The first needs every chunk of D and the parity it updates, the second every idle chunk; the
//! third works whenever the rows can be read at all. The cheapest possible one is taken; on a tie
//! reconstruct-write, which also mends parity that was wrong.

/// How to obtain the new parity of a segment, and what to read for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// No parity shard is left: write the data.
    DataOnly,
    /// Every data chunk is new: nothing to read.
    Full,
    /// Read these shards: D and all live parity.
    ReadModifyWrite(Vec<usize>),
    /// Read these idle data shards.
    ReconstructWrite(Vec<usize>),
    /// Read these k shards, restore the other data.
    Reconstruct(Vec<usize>),
    /// Fewer than k shards can be read.
    Impossible,
}

/// What a plan is made of.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// k.
    pub data: usize,
    /// The overwritten data chunks, ascending.
    pub dirty: &'a [usize],
    /// By shard: can it be read?
    pub readable: &'a [bool],
    /// By shard: will it be written?
    pub writable: &'a [bool],
}

/// Chooses the cheapest possible way.
pub fn choose(q: &Question<'_>) -> Plan {
    let width = q.readable.len();
    let live_parity: Vec<usize> = (q.data..width).filter(|i| q.writable[*i]).collect();
    let idle: Vec<usize> = (0..q.data).filter(|i| !q.dirty.contains(i)).collect();
    if idle.is_empty() {
        return Plan::Full;
    }
    if live_parity.is_empty() && q.dirty.iter().all(|i| q.writable[*i]) {
        return Plan::DataOnly;
    }
    let mut ways = Vec::with_capacity(2);
    if idle.iter().all(|i| q.readable[*i]) {
        ways.push(Plan::ReconstructWrite(idle));
    }
    let old: Vec<usize> = q.dirty.iter().copied().chain(live_parity).collect();
    if old.iter().all(|i| q.readable[*i]) {
        ways.push(Plan::ReadModifyWrite(old));
    }
    let present: Vec<usize> = (0..width).filter(|i| q.readable[*i]).take(q.data).collect();
    let last = if present.len() == q.data { Plan::Reconstruct(present) } else { Plan::Impossible };
    ways.into_iter().min_by_key(|w| w.reads().len()).unwrap_or(last)
}

impl Plan {
    /// The shards to read.
    pub fn reads(&self) -> &[usize] {
        match self {
            Self::ReadModifyWrite(s) | Self::ReconstructWrite(s) | Self::Reconstruct(s) => s,
            Self::DataOnly | Self::Full | Self::Impossible => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every shape up to 4+3, every set of dirty chunks, every set of readable and writable shards.
    #[test]
    fn every_plan_can_be_carried_out_and_none_is_missed() {
        for (k, m) in [(1, 1), (1, 3), (2, 1), (3, 2), (4, 3)] {
            let n: usize = k + m;
            for (lost, unreadable) in (0..1u32 << n).flat_map(|a| (0..1u32 << n).map(move |b| (a, b))) {
                let writable: Vec<bool> = (0..n).map(|i| lost >> i & 1 == 0).collect();
                let readable: Vec<bool> = (0..n).map(|i| writable[i] && unreadable >> i & 1 == 0).collect();
                for set in 1..1u32 << k {
                    let dirty: Vec<usize> = (0..k).filter(|i| set >> i & 1 == 1).collect();
                    check(&Question { data: k, dirty: &dirty, readable: &readable, writable: &writable });
                }
            }
        }
    }

    fn check(q: &Question<'_>) {
        let plan = choose(q);
        let enough = q.readable.iter().filter(|r| **r).count() >= q.data;
        assert!(plan.reads().iter().all(|i| q.readable[*i]), "{q:?} {plan:?}");
        match &plan {
            Plan::Full => assert_eq!(q.dirty.len(), q.data),
            Plan::DataOnly => assert!(q.writable[q.data..].iter().all(|w| !w)),
            Plan::ReadModifyWrite(old) => assert!(old.len() > q.dirty.len(), "{q:?}"),
            Plan::ReconstructWrite(idle) => assert_eq!(idle.len() + q.dirty.len(), q.data),
            Plan::Reconstruct(shards) => assert_eq!(shards.len(), q.data),
            Plan::Impossible => assert!(!enough, "{q:?}"),
        }
    }

    #[test]
    fn the_cheaper_way_is_taken() {
        let all = [true; 6];
        fn q<'a>(dirty: &'a [usize], all: &'a [bool]) -> Question<'a> {
            Question { data: 4, dirty, readable: all, writable: all }
        }
        assert_eq!(choose(&q(&[0], &all)), Plan::ReconstructWrite(vec![1, 2, 3]));
        assert_eq!(choose(&q(&[0, 1, 3], &all)), Plan::ReconstructWrite(vec![2]));
        let wide = [true; 10];
        let q = Question { data: 8, dirty: &[2], readable: &wide, writable: &wide };
        assert_eq!(choose(&q), Plan::ReadModifyWrite(vec![2, 8, 9]));
    }
}
