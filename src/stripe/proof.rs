//! What is to be believed of a row that a crash may have torn, without the journal (pure).
//!
//! ```text
//!   data blocks                       the row
//!   all match their checksums         keeps them; parity that is not what they give is made anew
//!   others, and what k shards give    gets those blocks back: parity that gives what was written matches
//!     matches their checksums
//!   else                              keeps what matches; the others, and all parity, become not known
//! ```
//!
//! Blocks of members that are missing have no checksum: what k shards give is taken for them unless others
//! contradict it.

use crate::error::Result;
use crate::integrity::UNKNOWN;
use bytes::Bytes;

/// A block of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Block {
    /// No member holds it.
    Absent,
    /// It matches its checksum.
    Good(Bytes),
    /// It does not, or cannot be read; what its checksum is, as far as that is known.
    Bad(u32),
}

/// A shard's number and its block.
type Shard = (usize, Bytes);

/// Makes wanted shards of k others, ascending.
type Restore<'a> = dyn Fn(&[Shard], &[usize]) -> Result<Vec<Bytes>> + 'a;

/// A row, and what can be computed of it.
pub(super) struct Row<'a> {
    /// By shard.
    pub blocks: &'a [Block],
    /// How many of them are data: k.
    pub data: usize,
    /// The checksum of a block of a shard.
    pub seal: &'a dyn Fn(usize, &[u8]) -> u32,
    /// From k shards, ascending, the wanted ones.
    pub restore: &'a Restore<'a>,
}

/// What becomes of a row.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// Shards to write, and what.
    pub write: Vec<Shard>,
    /// Shards that are not known from now on.
    pub unknown: Vec<usize>,
}

impl Row<'_> {
    /// Judges it.
    pub fn judge(&self) -> Result<Judged> {
        let good: Vec<Shard> = self.blocks.iter().enumerate().filter_map(known).collect();
        let missing: Vec<usize> = (0..self.data).filter(|shard| !self.is_good(*shard)).collect();
        if missing.is_empty() {
            return self.with_parity(&good, Vec::new());
        }
        let has_checksum = missing.iter().any(|shard| self.blocks[*shard] != Block::Absent);
        let mut fitting: Vec<Shard> = Vec::new();
        for from in self.choices(&good) {
            let restored: Vec<Shard> =
                missing.iter().copied().zip((self.restore)(&from, &missing)?).collect();
            let all_fit = restored.iter().all(|(s, bytes)| self.fits(*s, bytes) != Some(false));
            if all_fit && (has_checksum || self.agree(&good)?) {
                return self.with_parity(&good, restored);
            }
            for (shard, bytes) in restored {
                if self.fits(shard, &bytes) == Some(true) && fitting.iter().all(|(other, _)| *other != shard)
                {
                    fitting.push((shard, bytes));
                }
            }
        }
        if fitting.len() == missing.len() {
            // Each was given by another choice of parity.
            return self.with_parity(&good, fitting);
        }
        let lost = |shard: &usize| {
            let stays =
                *shard < self.data && (self.is_good(*shard) || fitting.iter().any(|(fit, _)| fit == shard));
            !stays && !matches!(self.blocks[*shard], Block::Absent | Block::Bad(UNKNOWN))
        };
        let unknown = (0..self.blocks.len()).filter(lost).collect();
        Ok(Judged { write: fitting, unknown })
    }

    fn is_good(&self, shard: usize) -> bool {
        matches!(self.blocks[shard], Block::Good(_))
    }

    /// Whether this is what was once written there; nobody knows that of a missing member's.
    fn fits(&self, shard: usize, bytes: &Bytes) -> Option<bool> {
        match self.blocks[shard] {
            Block::Bad(entry) => Some(entry != UNKNOWN && entry == (self.seal)(shard, bytes)),
            Block::Absent | Block::Good(_) => None,
        }
    }

    /// With the data that is good and that which was restored: what was restored, and parity where it is
    /// not what all that gives.
    fn with_parity(&self, good: &[Shard], restored: Vec<Shard>) -> Result<Judged> {
        let mut data: Vec<Shard> = good.iter().filter(|(shard, _)| *shard < self.data).cloned().collect();
        data.extend(restored.iter().cloned());
        data.sort_unstable_by_key(|(shard, _)| *shard);
        let parity: Vec<usize> = (self.data..self.blocks.len()).collect();
        let right = (self.restore)(&data, &parity)?;
        let differs = |(shard, right): &Shard| match &self.blocks[*shard] {
            Block::Good(bytes) => bytes != right,
            Block::Bad(_) => true,
            Block::Absent => false,
        };
        let held = restored.into_iter().filter(|(shard, _)| self.blocks[*shard] != Block::Absent);
        let write = held.chain(parity.into_iter().zip(right).filter(differs)).collect();
        Ok(Judged { write, unknown: Vec::new() })
    }

    /// Sets of k shards with all good data, and with parity of every number in some of them.
    fn choices(&self, good: &[Shard]) -> Vec<Vec<Shard>> {
        let (data, parity): (Vec<Shard>, Vec<Shard>) =
            good.iter().cloned().partition(|(shard, _)| *shard < self.data);
        let needed = self.data - data.len();
        if parity.len() < needed {
            return Vec::new();
        }
        let turned = |start: usize| {
            let some = parity.iter().cycle().skip(start).take(needed);
            let mut set: Vec<Shard> = data.iter().chain(some).cloned().collect();
            set.sort_unstable_by_key(|(shard, _)| *shard);
            set
        };
        (0..parity.len()).map(turned).collect()
    }

    /// Whether these, ascending and at least k, contradict each other in nothing.
    fn agree(&self, good: &[Shard]) -> Result<bool> {
        let (base, rest) = good.split_at(self.data);
        let numbers: Vec<usize> = rest.iter().map(|(shard, _)| *shard).collect();
        let right = (self.restore)(base, &numbers)?;
        Ok(rest.iter().zip(right).all(|((_, is), right)| *is == right))
    }
}

fn known((shard, block): (usize, &Block)) -> Option<Shard> {
    match block {
        Block::Good(bytes) => Some((shard, bytes.clone())),
        Block::Absent | Block::Bad(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::integrity::sum;
    use crate::units::Slot;

    fn seal(shard: usize, bytes: &[u8]) -> u32 {
        sum(Slot(u8::try_from(shard).unwrap()), 7, bytes)
    }

    fn restore(have: &[Shard], wanted: &[usize]) -> Result<Vec<Bytes>> {
        let present: Vec<(usize, &[u8])> = have.iter().map(|(s, b)| (*s, &b[..])).collect();
        let mut made = vec![vec![0; 64]; wanted.len()];
        let mut out: Vec<(usize, &mut [u8])> =
            wanted.iter().copied().zip(made.iter_mut().map(|b| &mut b[..])).collect();
        Codec::new(2, 2).unwrap().reconstruct(&present, &mut out)?;
        Ok(made.into_iter().map(Bytes::from).collect())
    }

    fn judge(blocks: &[Block]) -> Judged {
        Row { blocks, data: 2, seal: &seal, restore: &restore }.judge().unwrap()
    }

    /// The four blocks of a row of 2+2 with these data.
    fn row(first: u8, second: u8) -> Vec<Bytes> {
        let data: Vec<Shard> =
            [first, second].map(|b| Bytes::from(vec![b; 64])).into_iter().enumerate().collect();
        let parity = restore(&data, &[2, 3]).unwrap();
        data.into_iter().map(|(_, b)| b).chain(parity).collect()
    }

    fn good(bytes: &Bytes) -> Block {
        Block::Good(bytes.clone())
    }

    /// Does not match, where this was.
    fn bad(shard: usize, was: &Bytes) -> Block {
        Block::Bad(seal(shard, was))
    }

    #[test]
    fn data_that_matches_its_checksums_stays_and_parity_follows_it() {
        let (old, new) = (row(1, 2), row(3, 2));
        let whole: Vec<Block> = old.iter().map(good).collect();
        assert_eq!(judge(&whole), Judged::default());
        // Parity matches its own checksum, and goes with another row.
        let torn = [good(&old[0]), good(&old[1]), good(&new[2]), bad(3, &new[3])];
        let write = vec![(2, old[2].clone()), (3, old[3].clone())];
        assert_eq!(judge(&torn), Judged { write, unknown: vec![] });
        let torn = [good(&new[0]), good(&old[1]), Block::Absent, Block::Bad(UNKNOWN)];
        assert_eq!(judge(&torn), Judged { write: vec![(3, new[3].clone())], unknown: vec![] });
    }

    #[test]
    fn what_is_restored_is_believed_only_if_it_matches_its_checksum() {
        let (old, new) = (row(1, 2), row(3, 2));
        let rotten = [bad(0, &old[0]), good(&old[1]), good(&old[2]), good(&old[3])];
        assert_eq!(judge(&rotten), Judged { write: vec![(0, old[0].clone())], unknown: vec![] });
        // One parity is new and the other one is old: the one that gives what was written counts.
        for (first, second) in [(&new, &old), (&old, &new)] {
            let torn = [bad(0, &old[0]), good(&old[1]), good(&first[2]), good(&second[3])];
            let parity = if first[2] == old[2] { (3, old[3].clone()) } else { (2, old[2].clone()) };
            assert_eq!(judge(&torn), Judged { write: vec![(0, old[0].clone()), parity], unknown: vec![] });
        }
        let torn = [bad(0, &old[0]), good(&old[1]), good(&new[2]), good(&new[3])];
        assert_eq!(judge(&torn), Judged { write: vec![], unknown: vec![0, 2, 3] });
        let unknown = [Block::Bad(UNKNOWN), good(&old[1]), good(&old[2]), Block::Bad(UNKNOWN)];
        assert_eq!(judge(&unknown), Judged { write: vec![], unknown: vec![2] });
        let too_few = [bad(0, &old[0]), good(&old[1]), bad(2, &old[2]), bad(3, &old[3])];
        assert_eq!(judge(&too_few), Judged { write: vec![], unknown: vec![0, 2, 3] });
    }

    #[test]
    fn nothing_stands_in_for_a_missing_member_that_the_rest_contradicts() {
        let (old, new) = (row(1, 2), row(3, 2));
        let alike = [Block::Absent, good(&old[1]), good(&old[2]), good(&old[3])];
        assert_eq!(judge(&alike), Judged::default());
        let torn = [Block::Absent, good(&old[1]), good(&new[2]), good(&old[3])];
        assert_eq!(judge(&torn), Judged { write: vec![], unknown: vec![2, 3] });
        // Nothing speaks against it, and nothing for it.
        let alone = [Block::Absent, good(&old[1]), good(&old[2]), Block::Absent];
        assert_eq!(judge(&alone), Judged::default());
        // What it gives for another block is what was written: that is proof.
        let proven = [Block::Absent, bad(1, &old[1]), good(&old[2]), good(&old[3])];
        assert_eq!(judge(&proven), Judged { write: vec![(1, old[1].clone())], unknown: vec![] });
        let refuted = [Block::Absent, bad(1, &old[1]), good(&new[2]), good(&old[3])];
        assert_eq!(judge(&refuted), Judged { write: vec![], unknown: vec![1, 2, 3] });
    }
}
