//! The bytes of a simulated disk, and its volatile write cache.
//!
//! ```text
//!   reads see:   cache (pages with pending changes)  over  stable
//!   write   ->   pending list + cache
//!   flush   ->   the pending changes it covers are applied to stable, in order
//!   power cut -> each 512-byte sector becomes its stable value or that of any pending change to
//!                it (but none older than a synced one); the cache is empty
//! ```
//!
//! Pages that were never written, or punched, take no memory and read as zeroes.

use crate::env::sim::Prng;
use crate::member::Span;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const SECTOR: u64 = 512;
const PAGE: u64 = 4096;
const PAGE_BYTES: usize = 4096;

/// Shared with copies of the media until one of them changes it.
type Page = Arc<[u8; PAGE_BYTES]>;

/// One write or punch.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub offset: u64,
    pub len: u64,
    /// What is written; zeroes and a hole if none.
    pub pieces: Option<Vec<Bytes>>,
    /// Durable once answered.
    pub synced: bool,
}

#[derive(Clone)]
struct Pending {
    number: u64,
    change: Change,
}

#[derive(Clone, Default)]
pub(super) struct Media {
    stable: BTreeMap<u64, Page>,
    cache: BTreeMap<u64, Option<Page>>,
    pending: Vec<Pending>,
    next_number: u64,
    /// The cache holds what a failed flush gave up.
    only_cached: bool,
}

impl Media {
    /// Takes a change into the cache; reads see it from now on.
    pub fn apply(&mut self, change: Change) {
        let mut sectors = change.sectors().peekable();
        for page in change.pages() {
            if change.pieces.is_none() {
                self.cache.insert(page, None);
                continue;
            }
            let slot = self.cache.entry(page).or_insert_with(|| self.stable.get(&page).cloned());
            while let Some((sector, data)) = sectors.next_if(|(s, _)| s * SECTOR / PAGE == page) {
                put_sector(slot, sector, data);
            }
        }
        drop(sectors);
        self.next_number += 1;
        self.pending.push(Pending { number: self.next_number, change });
    }

    /// Takes only some sectors of a change, each with probability one half.
    pub fn apply_torn(&mut self, change: &Change, random: &mut Prng) {
        let kept: Vec<_> = change
            .sectors()
            .filter(|_| random.chance(500))
            .map(|(sector, data)| (sector, Bytes::copy_from_slice(data)))
            .collect();
        for (sector, data) in kept {
            let (offset, len) = (sector * SECTOR, SECTOR);
            self.apply(Change { offset, len, pieces: Some(vec![data]), synced: false });
        }
    }

    /// The number of the newest change: what a flush that begins now will cover.
    pub fn newest(&self) -> u64 {
        self.next_number
    }

    /// Makes every change up to `number` durable.
    pub fn flush(&mut self, number: u64) {
        let pending = std::mem::take(&mut self.pending);
        for p in pending {
            if p.number > number {
                self.pending.push(p);
            } else {
                apply_stable(&mut self.stable, &p.change, |_| true);
            }
        }
        if self.pending.is_empty() && !self.only_cached {
            self.cache.clear();
        }
    }

    /// A flush failed: the changes it covered will never be made durable by a later one, though
    /// they are seen until the power goes.
    pub fn fail_flush(&mut self, number: u64) {
        let before = self.pending.len();
        self.pending.retain(|p| p.number > number);
        self.only_cached |= self.pending.len() < before;
    }

    /// Fills `out` with what a reader sees at `offset`.
    pub fn read(&self, offset: u64, out: &mut [u8]) {
        let mut page = offset / PAGE;
        let mut skip = usize::try_from(offset % PAGE).unwrap_or(0);
        let mut rest = out;
        while !rest.is_empty() {
            let (now, later) = rest.split_at_mut(rest.len().min(PAGE_BYTES - skip));
            let len = now.len();
            match self.page(page).and_then(|p| p.get(skip..skip + len)) {
                Some(bytes) => now.copy_from_slice(bytes),
                None => now.fill(0),
            }
            (rest, skip, page) = (later, 0, page + 1);
        }
    }

    fn page(&self, page: u64) -> Option<&Page> {
        match self.cache.get(&page) {
            Some(cached) => cached.as_ref(),
            None => self.stable.get(&page),
        }
    }

    /// Which parts of a range have memory behind them.
    pub fn spans(&self, offset: u64, len: u64) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for page in offset / PAGE..(offset + len).div_ceil(PAGE) {
            let hole = self.page(page).is_none();
            match spans.last_mut() {
                Some(last) if last.hole == hole => last.len_bytes += PAGE,
                _ => spans.push(Span { len_bytes: PAGE, hole }),
            }
        }
        spans
    }

    /// Changes bytes on the media itself, durably and behind the cache's back.
    pub fn scribble(&mut self, offset: u64, bytes: &[u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            let index = usize::try_from(at % PAGE).unwrap_or(0);
            let cached = self.cache.get_mut(&(at / PAGE)).and_then(Option::as_mut);
            let stable = self.stable.entry(at / PAGE).or_insert_with(zero_page);
            for page in [Some(stable), cached].into_iter().flatten() {
                if let Some(b) = Arc::make_mut(page).get_mut(index) {
                    *b = *byte;
                }
            }
        }
    }

    /// The power goes: unflushed changes survive as the seed wills.
    pub fn power_cut(&mut self, random: &mut Prng) {
        let pending = std::mem::take(&mut self.pending);
        self.cache.clear();
        self.only_cached = false;
        let rate = random.pick(&[0, 1000, 500, 800]).copied().unwrap_or(0);
        // Half of the cuts keep or lose whole changes, half of them pick sector by sector.
        if random.chance(500) {
            for p in pending {
                if p.change.synced || random.chance(rate) {
                    apply_stable(&mut self.stable, &p.change, |_| true);
                }
            }
            return;
        }
        let mut choices: BTreeMap<u64, Vec<Option<usize>>> = BTreeMap::new();
        for (index, p) in pending.iter().enumerate() {
            for sector in p.change.offset / SECTOR..(p.change.offset + p.change.len) / SECTOR {
                let list = choices.entry(sector).or_insert_with(|| vec![None]);
                if p.change.synced {
                    list.clear();
                }
                list.push(Some(index));
            }
        }
        let winners: BTreeMap<u64, usize> = choices
            .into_iter()
            .filter_map(|(sector, list)| Some((sector, (*random.pick(&list)?)?)))
            .collect();
        for (index, p) in pending.iter().enumerate() {
            apply_stable(&mut self.stable, &p.change, |sector| winners.get(&sector) == Some(&index));
        }
    }
}

impl Change {
    fn pages(&self) -> std::ops::Range<u64> {
        self.offset / PAGE..(self.offset + self.len).div_ceil(PAGE)
    }

    /// Every sector with its new bytes.
    fn sectors(&self) -> impl Iterator<Item = (u64, &[u8])> {
        const ZEROES: &[u8] = &[0; 512];
        let written = self.pieces.iter().flatten().flat_map(|piece| piece.chunks(ZEROES.len()));
        let punched = self.pieces.is_none().then_some(ZEROES).into_iter().cycle();
        let count = usize::try_from(self.len / SECTOR).unwrap_or(0);
        (self.offset / SECTOR..).zip(written.chain(punched).take(count))
    }
}

fn zero_page() -> Page {
    Arc::new([0; PAGE_BYTES])
}

fn put_sector(slot: &mut Option<Page>, sector: u64, data: &[u8]) {
    let start = usize::try_from(sector * SECTOR % PAGE).unwrap_or(0);
    let page = Arc::make_mut(slot.get_or_insert_with(zero_page));
    if let Some(to) = page.get_mut(start..start + data.len()) {
        to.copy_from_slice(data);
    }
}

fn apply_stable(stable: &mut BTreeMap<u64, Page>, change: &Change, keep: impl Fn(u64) -> bool) {
    let mut sectors = change.sectors().peekable();
    for page in change.pages() {
        let mut slot = stable.remove(&page);
        let mut whole = true;
        while let Some((sector, data)) = sectors.next_if(|(s, _)| s * SECTOR / PAGE == page) {
            let kept = keep(sector);
            whole &= kept;
            // A page of which nothing was ever kept stays a hole, so does one punched whole.
            if kept && (change.pieces.is_some() || slot.is_some()) {
                put_sector(&mut slot, sector, data);
            }
        }
        if let Some(page_now) = slot.filter(|_| change.pieces.is_some() || !whole) {
            stable.insert(page, page_now);
        }
    }
}
