//! What a golden volume holds: of each 512 bytes the versions they may be.
//!
//! All 8-byte words of a version of a block are the same. So blocks, their parity and the journal's
//! shards of them are short to write down, and a block in another's place is seen.

use std::collections::BTreeSet;
use std::ops::Range;

pub const SECTOR: u64 = 512;
const SECTORS_PER_BLOCK: u64 = 8;

/// A version of a sector; 0 is zeroes.
pub type Version = u32;

/// The word that the sectors of a version of a block are made of.
fn word(sector: u64, version: Version) -> [u8; 8] {
    if version == 0 {
        return [0; 8];
    }
    // SplitMix64: no two blocks or versions are alike.
    let mut z =
        (sector / SECTORS_PER_BLOCK + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(version) << 56;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_be_bytes()
}

/// The bytes of a range of sectors in a version.
pub fn bytes(sectors: Range<u64>, version: Version) -> Vec<u8> {
    sectors.flat_map(|sector| word(sector, version).repeat(64)).collect()
}

/// Of each sector of the volume, the versions it may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content(Vec<BTreeSet<Version>>);

impl Content {
    pub fn zeroes(volume_bytes: u64) -> Self {
        Self((0..volume_bytes / SECTOR).map(|_| BTreeSet::from([0])).collect())
    }

    pub fn volume_bytes(&self) -> u64 {
        self.0.len() as u64 * SECTOR
    }

    fn of(&mut self, sectors: Range<u64>) -> impl Iterator<Item = &mut BTreeSet<Version>> {
        let count = usize::try_from(sectors.end - sectors.start).unwrap();
        self.0.iter_mut().skip(usize::try_from(sectors.start).unwrap()).take(count)
    }

    /// What the range holds, of which each sector has one version; the lowest of them, if it has more.
    pub fn bytes(&self, sectors: Range<u64>) -> Vec<u8> {
        let first = usize::try_from(sectors.start).unwrap();
        let versions = sectors.clone().zip(self.0.iter().skip(first));
        let version = |versions: &BTreeSet<Version>| *versions.first().unwrap();
        versions.flat_map(|(sector, v)| bytes(sector..sector + 1, version(v))).collect()
    }

    /// The range may hold this version from now on.
    pub fn may_become(&mut self, sectors: Range<u64>, version: Version) {
        self.of(sectors).for_each(|versions| {
            versions.insert(version);
        });
    }

    /// The range holds this version and no other.
    pub fn is(&mut self, sectors: Range<u64>, version: Version) {
        self.of(sectors).for_each(|versions| *versions = BTreeSet::from([version]));
    }

    /// The first sector that holds nothing it may hold, as a sentence.
    pub fn complaint(&self, volume: &[u8]) -> Option<String> {
        if volume.len() as u64 != self.volume_bytes() {
            return Some(format!("{} bytes instead of {}", volume.len(), self.volume_bytes()));
        }
        let sectors = (0..).zip(volume.chunks(512)).zip(&self.0);
        let mut wrong = sectors.filter(|((sector, bytes), versions)| {
            let is = |version: &Version| bytes.chunks(8).all(|w| w == word(*sector, *version));
            !versions.iter().any(is)
        });
        let ((sector, bytes), versions) = wrong.next()?;
        let found = bytes.get(..8)?;
        Some(format!("sector {sector} begins with {found:02x?}, which is none of its versions {versions:?}"))
    }

    /// Of the versions that sectors may be of, those that they are of count.
    pub fn is_now(&mut self, volume: &[u8]) {
        for ((sector, bytes), versions) in (0..).zip(volume.chunks(512)).zip(&mut self.0) {
            versions.retain(|version| bytes.chunks(8).all(|w| w == word(sector, *version)));
        }
    }

    /// As lines `holds FIRST COUNT VERSION[|VERSION...]`.
    pub fn lines(&self) -> Vec<String> {
        let runs = self.0.chunk_by(|a, b| a == b);
        let mut at = 0;
        let line = |run: &[BTreeSet<Version>]| {
            let versions: Vec<String> = run[0].iter().map(Version::to_string).collect();
            at += run.len();
            format!("holds {} {} {}", at - run.len(), run.len(), versions.join("|"))
        };
        runs.map(line).collect()
    }

    /// Takes what one of the lines says behind its first word.
    pub fn take(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let [first, count, versions] = words[..] else { panic!("holds {line}") };
        let (first, count): (u64, u64) = (first.parse().unwrap(), count.parse().unwrap());
        let versions: BTreeSet<Version> = versions.split('|').map(|v| v.parse().unwrap()).collect();
        self.of(first..first + count).for_each(|all| all.clone_from(&versions));
    }
}
