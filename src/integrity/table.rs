//! One member's checksum table: the pages of it that are in memory.
//!
//! ```text
//!            somebody needs it            read              evicted (only what is home)
//!   absent --------------------> loading ------> present ----------------------------> absent
//! ```
//!
//! While a page is being read everybody else who needs it waits, so that nobody ever puts an old
//! content of it over a newer one.

use super::block::UNKNOWN;
use super::home::Home;
use super::pin::Pinned;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{PAGE_BYTES, PAGE_ENTRIES, PageKind, SECTOR_ENTRIES, Sector, decode_page, encode_page};
use crate::member::{Member, Persistence};
use crate::mutation::{Protection, without};
use crate::units::MemberId;
use bytes::Bytes;
use futures::channel::oneshot;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A page that cannot be read is tried so often before it is given up.
const TRIES: usize = 4;
/// Pages written at once.
const BATCH: usize = 64;

/// No page has this number.
const NONE: u64 = u64::MAX;

type Entries = [u32; PAGE_ENTRIES];

struct Page {
    entries: Box<Entries>,
    home: Home,
    /// When it was last used, by the table's count.
    used: u64,
}

/// Ends the waiting of one who is to look again, or is told why not.
type Turn = oneshot::Sender<Result<()>>;

enum Place {
    Loading(Vec<Turn>),
    Present(Page),
}

#[derive(Default)]
struct Pages {
    places: BTreeMap<u64, Place>,
    uses: u64,
    not_home: usize,
    /// Pages that came back with blocks not known that are in use.
    gaps: Vec<u64>,
    /// It is to be read anew: nobody will ask this one for its gaps.
    forgotten: bool,
}

impl Pages {
    /// Lets go of the pages that were not used for longest, if they are home, until at most `most` are
    /// left; not of `keep`.
    fn evict(&mut self, most: usize, keep: u64) {
        let excess = self.places.len().saturating_sub(most);
        let idle = self.places.iter().filter_map(|(index, place)| match place {
            Place::Present(p) if p.home.is_same() && *index != keep => Some((p.used, *index)),
            _ => None,
        });
        let mut idle: Vec<(u64, u64)> = if excess > 0 { idle.collect() } else { Vec::new() };
        idle.sort_unstable();
        for (_, index) in idle.into_iter().take(excess) {
            self.places.remove(&index);
        }
    }
}

/// The table of one open member, which it does not keep open. Blocks are numbered from the start of its
/// data area.
pub struct Table {
    id: MemberId,
    member: Mutex<Weak<Member>>,
    pages: Mutex<Pages>,
    common: Arc<Common>,
}

/// What the tables of all members have in common.
pub(super) struct Common {
    /// Where each lies on its member.
    pub(super) offset: u64,
    /// About how many pages of each are kept in memory.
    pub(super) limit: usize,
    /// Whether a block is of a stripe that is allocated: what others say means nothing.
    pub(super) in_use: InUse,
    /// Pages that turned out to have lost blocks, and were not asked for since.
    pub(super) gaps: AtomicUsize,
}

/// Says of a block, numbered from the start of a data area, whether its stripe is allocated.
pub type InUse = Box<dyn Fn(u64) -> bool + Send + Sync>;

impl Table {
    /// The table of a member.
    pub(super) fn new(member: &Arc<Member>, common: &Arc<Common>) -> Self {
        let id = member.id();
        let (member, pages) = (Mutex::new(Arc::downgrade(member)), Mutex::default());
        Self { id, member, pages, common: Arc::clone(common) }
    }

    /// From now on the member is reached by this.
    pub(super) fn rebind(&self, member: &Arc<Member>) {
        let mut now = self.member.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::ptr::eq(now.as_ptr(), Arc::as_ptr(member)) {
            *now = Arc::downgrade(member);
        }
    }

    fn member(&self) -> Result<Arc<Member>> {
        let member = self.member.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        member.ok_or_else(|| Error::new(ErrorKind::Io, "the member is not open any more"))
    }

    /// The entries of `count` blocks from `first` on, if they are in memory.
    pub fn entries_at_hand(&self, first: u64, count: usize) -> Option<Vec<u32>> {
        let mut found = Vec::with_capacity(count);
        let here = |(page, range): (u64, Range<usize>)| {
            self.with(page, |p| found.extend(p.entries.get(range).into_iter().flatten()))
        };
        pieces(first, count).all(here).then_some(found)
    }

    /// The entries of `count` blocks from `first` on.
    pub async fn entries(&self, first: u64, count: usize) -> Result<Vec<u32>> {
        if let Some(found) = self.entries_at_hand(first, count) {
            return Ok(found);
        }
        let mut found = Vec::with_capacity(count);
        for (page, range) in pieces(first, count) {
            while !self.with(page, |p| found.extend(p.entries.get(range.clone()).into_iter().flatten())) {
                self.load(page, false).await?;
            }
        }
        Ok(found)
    }

    /// Enters blocks from `first` on, changed by the frame that `pin` keeps.
    pub async fn enter(&self, first: u64, entries: &[u32], pin: Option<&Pinned>) -> Result<()> {
        let mut rest = entries;
        for (page, range) in pieces(first, entries.len()) {
            let (now, later) = rest.split_at_checked(range.len()).unwrap_or((rest, &[]));
            rest = later;
            while !self.change(page, range.clone(), now, pin) {
                self.load(page, true).await?;
            }
        }
        Ok(())
    }

    /// The blocks, page by page, of which some were not known when they were read since the last
    /// time somebody asked.
    pub(super) fn take_gaps(&self) -> Vec<Range<u64>> {
        let mut pages = self.pages();
        let gaps = std::mem::take(&mut pages.gaps);
        self.common.gaps.fetch_sub(gaps.len(), Ordering::AcqRel);
        drop(pages);
        gaps.into_iter().map(|page| page * PAGE_ENTRIES as u64..(page + 1) * PAGE_ENTRIES as u64).collect()
    }

    /// Nobody asks for its gaps any more, though some may still be using it.
    pub(super) fn forget(&self) {
        self.pages().forgotten = true;
        self.take_gaps();
    }

    /// Those of `count` blocks from `first` on of which the member, asked again, says something else than
    /// what is in memory. Pages that are not home, or change meanwhile, are left out.
    pub async fn differing(&self, first: u64, count: usize) -> Vec<u64> {
        let mut found = Vec::new();
        for (page, range) in pieces(first, count) {
            let Some(known) = self.at_rest(page) else { continue };
            // Of a member that does not answer nothing is said here.
            let Ok((stored, _)) = self.read(page).await else { continue };
            if self.at_rest(page).as_ref() == Some(&known) {
                let blocks = (page * PAGE_ENTRIES as u64..).zip(known.iter().zip(&stored[..]));
                let these = blocks.skip(range.start).take(range.len());
                found.extend(these.filter(|(_, (known, stored))| known != stored).map(|(block, _)| block));
            }
        }
        found
    }

    /// Has the pages of `count` blocks from `first` on written home although nothing changed.
    pub fn rewrite(&self, first: u64, count: usize) {
        let mut pages = self.pages();
        for (page, _) in pieces(first, count) {
            let Some(Place::Present(found)) = pages.places.get_mut(&page) else { continue };
            let was_home = found.home.is_same();
            found.home.change(None);
            pages.not_home += usize::from(was_home);
        }
    }

    /// A page that is in memory and home.
    fn at_rest(&self, page: u64) -> Option<Box<Entries>> {
        match self.pages().places.get(&page) {
            Some(Place::Present(found)) if found.home.is_same() => Some(found.entries.clone()),
            _ => None,
        }
    }

    /// Pages that are not home.
    pub(super) fn not_home(&self) -> usize {
        self.pages().not_home
    }

    fn change(&self, page: u64, range: Range<usize>, now: &[u32], pin: Option<&Pinned>) -> bool {
        let mut pages = self.pages();
        let Some(Place::Present(found)) = pages.places.get_mut(&page) else { return false };
        let Some(entries) = found.entries.get_mut(range) else { return true };
        // Written home even if nothing changes: what was read of a member whose flush failed once may be gone.
        entries.copy_from_slice(now);
        let was_home = found.home.is_same();
        found.home.change(pin.cloned());
        pages.not_home += usize::from(was_home);
        true
    }

    /// Looks at a page that is present, and notes that it was used.
    fn with(&self, page: u64, look: impl FnOnce(&Page)) -> bool {
        let mut pages = self.pages();
        pages.uses += 1;
        let uses = pages.uses;
        let Some(Place::Present(found)) = pages.places.get_mut(&page) else { return false };
        found.used = uses;
        look(found);
        true
    }

    /// Makes a page present, or waits until somebody else has. A page that stays unreadable though
    /// the member answers otherwise is an error; or, if it is to be written anew, not known.
    async fn load(&self, page: u64, anew: bool) -> Result<()> {
        let waiting = {
            let mut pages = self.pages();
            match pages.places.get_mut(&page) {
                Some(Place::Present(_)) => return Ok(()),
                Some(Place::Loading(waiters)) => {
                    let (sender, receiver) = oneshot::channel();
                    waiters.push(sender);
                    Some(receiver)
                }
                None => {
                    pages.places.insert(page, Place::Loading(Vec::new()));
                    None
                }
            }
        };
        if let Some(turn) = waiting {
            // Loaded or given up: the caller looks again.
            return turn.await.unwrap_or(Ok(()));
        }
        let loading = Loading { table: self, page };
        let (entries, whole) = match self.read(page).await {
            Err(e) if e.kind() == ErrorKind::Timeout => {
                loading.fail(&e);
                return Err(e);
            }
            Err(e) if !anew => return Err(e),
            other => other.unwrap_or_else(|_| (Box::new([UNKNOWN; PAGE_ENTRIES]), false)),
        };
        let is_gap = |(block, entry): (u64, &u32)| *entry == UNKNOWN && (self.common.in_use)(block);
        let is_looked_at = !whole || !without(Protection::UnknownIsGap);
        if is_looked_at && (page * PAGE_ENTRIES as u64..).zip(entries.iter()).any(is_gap) {
            let mut pages = self.pages();
            if !pages.forgotten {
                pages.gaps.push(page);
                self.common.gaps.fetch_add(1, Ordering::AcqRel);
            }
        }
        self.insert(page, entries);
        drop(loading);
        Ok(())
    }

    fn insert(&self, page: u64, entries: Box<Entries>) {
        let mut pages = self.pages();
        pages.uses += 1;
        let used = pages.uses;
        let place = Place::Present(Page { entries, home: Home::Same, used });
        if let Some(Place::Loading(waiters)) = pages.places.insert(page, place) {
            wake(waiters);
        }
        if pages.places.len() > self.common.limit {
            // Some more at once, since all have to be looked at; not the one that somebody waits for.
            pages.evict(self.common.limit - self.common.limit / 16, page);
        }
    }

    /// A page as its member has it, and whether all of it is.
    async fn read(&self, page: u64) -> Result<(Box<Entries>, bool)> {
        let mut tries = 1;
        let member = self.member()?;
        let bytes = loop {
            match member.read(self.common.offset + page * PAGE_BYTES, 4096).await {
                Err(e) if tries == TRIES || e.kind() == ErrorKind::Timeout => return Err(e),
                Err(_) => tries += 1,
                Ok(bytes) => break bytes,
            }
        };
        let mut entries = Box::new([UNKNOWN; PAGE_ENTRIES]);
        let mut whole = true;
        let sectors = decode_page(self.kind(), page, &bytes)?;
        for (target, sector) in entries.chunks_exact_mut(SECTOR_ENTRIES).zip(sectors) {
            match sector {
                Sector::Good { entries, .. } => target.copy_from_slice(&entries),
                Sector::Blank | Sector::Bad => whole = false,
            }
        }
        Ok((entries, whole))
    }

    /// Writes every changed page home; says what could not be.
    pub(super) async fn write_home(&self) -> Option<(MemberId, Error)> {
        let mut failed = None;
        let changed: Vec<u64> = {
            let pages = self.pages();
            let dirty = |place: &Place| matches!(place, Place::Present(p) if p.home.is_dirty());
            pages.places.iter().filter(|(_, place)| dirty(place)).map(|(index, _)| *index).collect()
        };
        for some in changed.chunks(BATCH) {
            let writes = some.iter().map(|page| self.write(*page));
            for done in crate::env::join_all(writes).await {
                failed = done.err().or(failed);
            }
            if failed.is_some() {
                break;
            }
        }
        self.pages().evict(self.common.limit, NONE);
        failed.map(|error| (self.id, error))
    }

    async fn write(&self, page: u64) -> Result<()> {
        let begun = {
            let mut pages = self.pages();
            let Some(Place::Present(found)) = pages.places.get_mut(&page) else { return Ok(()) };
            let Some(pin) = found.home.begin() else { return Ok(()) };
            let bytes = encode_page(self.kind(), page, &[0; 8], &found.entries[..]);
            (pin, Bytes::copy_from_slice(&bytes))
        };
        let (pin, bytes) = begun;
        let offset = self.common.offset + page * PAGE_BYTES;
        let done = match self.member() {
            Ok(member) => member.write(offset, vec![bytes], Persistence::Cached).await,
            Err(e) => Err(e),
        };
        let mut pages = self.pages();
        let Some(Place::Present(found)) = pages.places.get_mut(&page) else { return done };
        match &done {
            Ok(()) => found.home.done(),
            Err(_) => found.home.change(pin.clone()),
        }
        let is_home = found.home.is_same();
        pages.not_home -= usize::from(is_home);
        drop(pages);
        // Let go only now, and not while the lock is held: it may be the last.
        drop(pin);
        done
    }

    fn kind(&self) -> PageKind {
        PageKind::Checksums(self.id)
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A page being read: forgotten if whoever reads it goes away.
struct Loading<'a> {
    table: &'a Table,
    page: u64,
}

impl Loading<'_> {
    /// The member does not answer: whoever waits would only ask it again, and wait as long once more.
    fn fail(&self, error: &Error) {
        for waiter in self.give_up() {
            let _ = waiter.send(Err(Error::new(error.kind(), error.what())));
        }
    }

    fn give_up(&self) -> Vec<Turn> {
        let mut pages = self.table.pages();
        let waiting = pages.places.get_mut(&self.page).and_then(|place| match place {
            Place::Loading(waiters) => Some(std::mem::take(waiters)),
            Place::Present(_) => None,
        });
        if waiting.is_some() {
            pages.places.remove(&self.page);
        }
        waiting.unwrap_or_default()
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        wake(self.give_up());
    }
}

fn wake(waiters: Vec<Turn>) {
    for waiter in waiters {
        // Who went away waits no more.
        let _ = waiter.send(Ok(()));
    }
}

/// The pages that `count` blocks from `first` on touch, and which of their entries.
fn pieces(first: u64, count: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
    let entries = PAGE_ENTRIES as u64;
    let end = first + count as u64;
    (first / entries..end.div_ceil(entries)).map(move |page| {
        let from = first.max(page * entries) - page * entries;
        let to = end.min((page + 1) * entries) - page * entries;
        let index = |at: u64| usize::try_from(at).unwrap_or(PAGE_ENTRIES);
        (page, index(from)..index(to))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(used: u64, home: Home) -> Place {
        Place::Present(Page { entries: Box::new([0; PAGE_ENTRIES]), home, used })
    }

    #[test]
    fn pages_that_were_not_used_for_longest_go_first_and_only_those_that_are_home() {
        let mut pages = Pages::default();
        let mut changed = Home::Same;
        changed.change(None);
        pages.places.insert(0, page(1, changed));
        pages.places.insert(1, Place::Loading(Vec::new()));
        for index in 2..8 {
            pages.places.insert(index, page(10 - index, Home::Same));
        }
        let left = |pages: &Pages| pages.places.keys().copied().collect::<Vec<_>>();
        pages.evict(8, NONE);
        assert_eq!(left(&pages).len(), 8, "there is room");
        pages.evict(5, 7);
        assert_eq!(left(&pages), [0, 1, 2, 3, 7], "7 was used least lately, and is needed");
        pages.evict(0, NONE);
        assert_eq!(left(&pages), [0, 1]);
    }
}
