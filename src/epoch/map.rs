//! The map in memory.
//!
//! The epoch is a number that rises whenever everything changed so far is home, durably, on every
//! member that counts (but not more than about once a second). A stripe's stamp is the epoch of its
//! last change. So a member that is lost lacks at most the stripes with later stamps than the last
//! such moment, however many members come and go; the same tells a backup or a replica what it lacks.
//!
//! Pages nobody wrote to are not held in memory: a fresh array of any size costs next to nothing.

use crate::format::{PAGE_BYTES, PAGE_ENTRIES, PageKind, SECTORS_PER_PAGE, encode_page};
use crate::integrity::{Home, Pinned};
use crate::mutation::{Protection, without};
use crate::units::{ArrayId, Epoch, StripeIndex};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

const ALLOCATED: u32 = 1 << 31;

/// What the map says of a stripe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Written since it was made or last zeroed; otherwise it reads as zeroes.
    pub allocated: bool,
    /// The epoch of its last change; 0 if never changed.
    pub epoch: Epoch,
}

impl Stamp {
    fn encode(self) -> u32 {
        (self.epoch.0 & !ALLOCATED) | if self.allocated { ALLOCATED } else { 0 }
    }

    pub(super) fn decode(entry: u32) -> Self {
        Self { allocated: entry & ALLOCATED != 0, epoch: Epoch(entry & !ALLOCATED) }
    }
}

struct Page {
    entries: [AtomicU32; PAGE_ENTRIES],
    generations: [AtomicU32; SECTORS_PER_PAGE],
}

impl Default for Page {
    fn default() -> Self {
        Self {
            entries: std::array::from_fn(|_| AtomicU32::new(0)),
            generations: std::array::from_fn(|_| AtomicU32::new(0)),
        }
    }
}

/// The epoch map of an array.
pub struct EpochMap {
    array: ArrayId,
    offset: u64,
    stripes: u64,
    pages: Vec<OnceLock<Box<Page>>>,
    changed: Mutex<BTreeMap<u64, Home>>,
    /// A stripe was allocated, and no page begun since. Changed under the lock of `changed`.
    has_new: AtomicBool,
    now: AtomicU32,
    durable: AtomicU32,
}

impl EpochMap {
    /// A map in which nothing is allocated, which lies at `offset` on each member.
    pub fn new(array: ArrayId, offset: u64, stripes: u64) -> Self {
        let pages = usize::try_from(stripes.div_ceil(PAGE_ENTRIES as u64)).unwrap_or(usize::MAX);
        Self {
            array,
            offset,
            stripes,
            pages: (0..pages).map(|_| OnceLock::new()).collect(),
            changed: Mutex::default(),
            has_new: AtomicBool::default(),
            now: AtomicU32::new(1),
            durable: AtomicU32::new(0),
        }
    }

    /// Where a page lies on each member.
    pub fn offset_of(&self, page: u64) -> u64 {
        self.offset + page * PAGE_BYTES
    }

    /// What is known of a stripe.
    pub fn stamp(&self, stripe: StripeIndex) -> Stamp {
        let (page, entry) = place(stripe);
        let page = self.pages.get(page).and_then(|p| p.get());
        let entry = page.and_then(|p| p.entries.get(entry)).map_or(0, |e| e.load(Ordering::Acquire));
        Stamp::decode(entry)
    }

    /// Whether a stripe was written since it was made or last zeroed.
    pub fn is_allocated(&self, stripe: StripeIndex) -> bool {
        self.stamp(stripe).allocated
    }

    /// A stripe was changed, by the frame that `pin` keeps. Call with its lock held, when members
    /// have the change.
    pub fn note(&self, stripe: StripeIndex, allocated: bool, pin: Option<&Pinned>) {
        if stripe.0 >= self.stripes {
            return;
        }
        let pin = pin.filter(|_| !without(Protection::EpochsKeepFrame)).cloned();
        let mut changed = self.changed();
        if allocated && !self.is_allocated(stripe) {
            self.has_new.store(true, Ordering::Relaxed);
        }
        self.put(stripe, Stamp { allocated, epoch: self.now() });
        changed.entry(place(stripe).0 as u64).or_default().change(pin);
    }

    pub(super) fn put(&self, stripe: StripeIndex, stamp: Stamp) {
        let (page, entry) = place(stripe);
        let Some(page) = self.pages.get(page).filter(|_| stripe.0 < self.stripes) else { return };
        let Some(entry) = page.get_or_init(Box::default).entries.get(entry) else { return };
        entry.store(stamp.encode(), Ordering::Release);
    }

    pub(super) fn set_generation(&self, page: u64, sector: usize, generation: u32) {
        let page = usize::try_from(page).ok().and_then(|p| self.pages.get(p));
        if let Some(found) = page.and_then(|p| p.get_or_init(Box::default).generations.get(sector)) {
            found.store(generation, Ordering::Relaxed);
        }
    }

    /// The present epoch.
    pub fn now(&self) -> Epoch {
        Epoch(self.now.load(Ordering::Acquire))
    }

    /// The last epoch of which every change is home, durably, on every member that counts.
    pub fn durable(&self) -> Epoch {
        Epoch(self.durable.load(Ordering::Acquire))
    }

    /// Everything of epochs up to `epoch` is home durably.
    pub fn settled(&self, epoch: Epoch) {
        self.durable.fetch_max(epoch.0, Ordering::AcqRel);
    }

    /// Goes on to the next epoch; answers the one that ends.
    fn raise(&self) -> Epoch {
        // Under the lock: whoever notes a change has done so with the old epoch or does with the new.
        let _changed = self.changed();
        let now = self.now.load(Ordering::Acquire);
        self.now.store((now + 1).min(ALLOCATED - 1), Ordering::Release);
        Epoch(now)
    }

    /// Goes on after a start, later than any epoch in the map; what is older than `floor` is known to
    /// be home.
    pub(super) fn begin_after(&self, floor: Epoch) {
        let last = self.latest().0.max(floor.0).min(ALLOCATED - 2);
        self.now.store(last + 1, Ordering::Release);
        self.durable.store(floor.0.saturating_sub(1), Ordering::Release);
    }

    /// Ends an epoch, unless one that ended is not known to be home yet: so that whoever has seen an
    /// epoch begin has everything of the last but one before it. Answers the epoch that will be known
    /// to be home once everything changed so far is.
    pub fn end_epoch(&self) -> Epoch {
        let now = self.now();
        match now.0.checked_sub(1) {
            Some(ended) if ended > self.durable().0 => Epoch(ended),
            _ => self.raise(),
        }
    }

    /// Ends the epoch, everything being home durably.
    pub fn all_is_home(&self) {
        let ended = self.raise();
        self.settled(ended);
    }

    /// The first epoch of a stripe of the page of which a member whose own map is `own` knows something
    /// else; none if it knows the same.
    pub fn first_difference(&self, own: &Self, page: u64) -> Option<Epoch> {
        let first = page * PAGE_ENTRIES as u64;
        let stripes = (first..first + PAGE_ENTRIES as u64).map(StripeIndex);
        let differing = stripes.filter(|s| self.stamp(*s) != own.stamp(*s));
        differing.map(|s| self.stamp(s).epoch).min()
    }

    /// The epoch of the latest change.
    pub fn latest(&self) -> Epoch {
        let entries = self.pages.iter().filter_map(OnceLock::get).flat_map(|p| &p.entries);
        Epoch(entries.map(|e| Stamp::decode(e.load(Ordering::Relaxed)).epoch.0).max().unwrap_or(0))
    }

    /// The pages that anything was ever written to.
    pub fn present_pages(&self) -> Vec<u64> {
        (0..).zip(&self.pages).filter(|(_, p)| p.get().is_some()).map(|(index, _)| index).collect()
    }

    /// Pages that are not home.
    pub fn not_home(&self) -> usize {
        self.changed().len()
    }

    /// Begins to bring changed pages home: for each its number, its bytes, and the pin to keep. Also
    /// whether there are stripes in them that may not be allocated in what is home.
    pub fn begin(&self) -> (Vec<(u64, Bytes, Option<Pinned>)>, bool) {
        let mut changed = self.changed();
        let begin = |(page, home): (&u64, &mut Home)| {
            let pin = home.begin()?;
            self.raise_generations(*page);
            Some((*page, self.bytes(*page)?, pin))
        };
        let pages = changed.iter_mut().filter_map(begin).collect();
        (pages, self.has_new.swap(false, Ordering::Relaxed))
    }

    /// A page is home, or (`Err` with its pin) is not.
    pub fn page_is_home(&self, page: u64, done: Result<(), Option<Pinned>>) {
        let mut changed = self.changed();
        let Some(home) = changed.get_mut(&page) else { return };
        match done {
            Ok(()) => home.done(),
            Err(pin) => {
                self.has_new.store(true, Ordering::Relaxed);
                home.change(pin);
            }
        }
        if home.is_same() {
            changed.remove(&page);
        }
    }

    /// Has a page written home although nothing changed: a member differs.
    pub(super) fn rewrite(&self, page: u64) {
        self.changed().entry(page).or_default().change(None);
    }

    /// A page as it is now, to be written to one member alone: it counts more than what others have,
    /// which may lack the latest changes. `None` if nothing was ever written to it.
    pub fn copy(&self, index: u64) -> Option<Bytes> {
        let _changed = self.changed();
        self.raise_generations(index);
        self.bytes(index)
    }

    /// A page as it is stored; `None` if nothing was ever written to it.
    fn bytes(&self, index: u64) -> Option<Bytes> {
        let page = self.page(index)?;
        let entries: [u32; PAGE_ENTRIES] = load(&page.entries);
        let kind = PageKind::Epochs(self.array);
        Some(Bytes::copy_from_slice(&encode_page(kind, index, &load(&page.generations), &entries)))
    }

    /// What is written next counts more than what was written before.
    fn raise_generations(&self, index: u64) {
        let kept = |_: &&AtomicU32| !without(Protection::EpochGeneration);
        for generation in self.page(index).iter().flat_map(|page| &page.generations).filter(kept) {
            generation.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn page(&self, index: u64) -> Option<&Page> {
        Some(self.pages.get(usize::try_from(index).ok()?)?.get()?)
    }

    fn changed(&self) -> MutexGuard<'_, BTreeMap<u64, Home>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load<const N: usize>(from: &[AtomicU32; N]) -> [u32; N] {
    std::array::from_fn(|i| from.get(i).map_or(0, |value| value.load(Ordering::Acquire)))
}

fn place(stripe: StripeIndex) -> (usize, usize) {
    let entries = PAGE_ENTRIES as u64;
    let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    (index(stripe.0 / entries), index(stripe.0 % entries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Sector, decode_page};

    fn map() -> EpochMap {
        EpochMap::new(ArrayId::from_bytes([1; 16]), 0, 5000)
    }

    #[test]
    fn a_stripe_is_stamped_with_the_epoch_of_its_last_change() {
        let map = map();
        assert_eq!(map.stamp(StripeIndex(4999)), Stamp::default());
        map.note(StripeIndex(4999), true, None);
        assert_eq!(map.raise(), Epoch(1));
        map.note(StripeIndex(7), true, None);
        map.note(StripeIndex(8), true, None);
        map.note(StripeIndex(8), false, None);
        let stamp = |s| (map.stamp(StripeIndex(s)).allocated, map.stamp(StripeIndex(s)).epoch.0);
        assert_eq!(
            [stamp(4999), stamp(7), stamp(8), stamp(9)],
            [(true, 1), (true, 2), (false, 2), (false, 0)]
        );
        assert_eq!(map.present_pages(), [0, 4]);
        map.note(StripeIndex(5000), true, None);
        assert_eq!(stamp(5000), (false, 0), "there is no such stripe");
    }

    #[test]
    fn maps_differ_from_the_first_epoch_on_that_one_lacks() {
        let (map, own) = (map(), map());
        for stripe in [1, 2, 3] {
            map.note(StripeIndex(stripe), true, None);
            own.note(StripeIndex(stripe), true, None);
        }
        assert_eq!(map.first_difference(&own, 0), None);
        map.raise();
        map.note(StripeIndex(2), true, None);
        map.raise();
        map.note(StripeIndex(3), false, None);
        map.note(StripeIndex(4000), true, None);
        assert_eq!(map.first_difference(&own, 0), Some(Epoch(2)));
        assert_eq!((map.first_difference(&own, 1), map.first_difference(&own, 3)), (None, Some(Epoch(3))));
        own.note(StripeIndex(1500), true, None);
        assert_eq!(map.first_difference(&own, 1), Some(Epoch(0)), "what nobody else has says nothing good");
    }

    #[test]
    fn an_epoch_does_not_begin_before_the_last_but_one_is_home() {
        let map = map();
        assert_eq!((map.end_epoch(), map.now()), (Epoch(1), Epoch(2)));
        assert_eq!((map.end_epoch(), map.now()), (Epoch(1), Epoch(2)), "the first is not known to be home");
        map.settled(Epoch(1));
        assert_eq!((map.end_epoch(), map.now()), (Epoch(2), Epoch(3)));
        map.all_is_home();
        assert_eq!((map.durable(), map.now()), (Epoch(3), Epoch(4)));
    }

    #[test]
    fn a_copy_of_a_page_counts_more_than_what_others_have_of_it() {
        let map = map();
        map.note(StripeIndex(1), true, None);
        let generations = |bytes: &[u8]| -> Vec<u32> {
            let sectors = decode_page(PageKind::Epochs(map.array), 0, bytes).unwrap();
            let generation = |sector| match sector {
                Sector::Good { generation, .. } => generation,
                other => panic!("{other:?}"),
            };
            sectors.into_iter().map(generation).collect()
        };
        let others = map.begin().0.remove(0).1;
        map.note(StripeIndex(2), true, None);
        let copy = map.copy(0).unwrap();
        assert!(generations(&copy).iter().zip(generations(&others)).all(|(copy, other)| *copy > other));
        assert_eq!(map.copy(7), None, "nothing was written there");
    }

    #[test]
    fn a_changed_page_is_not_home_until_it_was_written_as_it_is() {
        let map = map();
        map.note(StripeIndex(1), true, None);
        map.note(StripeIndex(2000), true, None);
        let (begun, has_new) = map.begin();
        assert!(has_new);
        assert_eq!(begun.iter().map(|(page, ..)| *page).collect::<Vec<_>>(), [0, 1]);
        let (begun_again, has_new) = map.begin();
        assert!(begun_again.is_empty() && !has_new, "they are on their way");
        map.note(StripeIndex(2), true, None);
        map.page_is_home(0, Ok(()));
        map.page_is_home(1, Err(None));
        assert_eq!(map.not_home(), 2);
        for (page, ..) in map.begin().0 {
            map.page_is_home(page, Ok(()));
        }
        assert_eq!(map.not_home(), 0);
    }
}
