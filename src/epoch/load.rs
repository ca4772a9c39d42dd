//! Reading the map back.
//!
//! Every member in sync has the same map, but a page may be damaged on one, or may not have
//! reached another before a crash. Of each sector the copy of the highest generation counts; what
//! differed then is still in the journal, or was lost by the device, so that pages that differ are
//! written home anew. A sector that is damaged on every member is taken for allocated: then the
//! checksums decide what can be read.
//!
//! An epoch begins when everything of the last but one is home on every member that counts. So one that
//! lacks a change older than the two latest epochs is not what it was: somebody put an older image of it
//! back, or it forgot what it had flushed.

use super::map::{EpochMap, Stamp};
use crate::env::join_all;
use crate::error::ErrorKind;
use crate::format::{
    PAGE_BYTES, PAGE_ENTRIES, PageKind, SECTOR_ENTRIES, SECTORS_PER_PAGE, Sector, decode_page,
};
use crate::member::{Member, Span};
use crate::mutation::{Protection, without};
use crate::units::{ArrayId, Epoch, StripeIndex};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Pages read at once.
const BATCH: u64 = 256;

/// Pages of one member that are not holes; `None` for one that cannot be read.
type Copy = BTreeMap<u64, Option<[Sector; SECTORS_PER_PAGE]>>;

/// What the members say.
pub struct Loaded {
    /// The map; it begins in an epoch after all in it and the floor.
    pub map: EpochMap,
    /// By their place among the members: those that lack what they must have.
    pub behind: Vec<usize>,
    /// Those that did not answer in time, and have no say.
    pub silent: Vec<usize>,
}

/// The map as `members` (those in sync) have it. What changed before the epoch `floor` is home.
pub async fn load(
    array: ArrayId,
    stripes: u64,
    offset: u64,
    members: &[Arc<Member>],
    floor: Epoch,
) -> Loaded {
    let map = EpochMap::new(array, offset, stripes);
    let pages = stripes.div_ceil(PAGE_ENTRIES as u64);
    let copies = join_all(members.iter().map(|m| read(m, array, offset, pages))).await;
    let spoken: Vec<&Copy> = copies.iter().flatten().collect();
    let mut present: Vec<u64> = spoken.iter().flat_map(|c| c.keys().copied()).collect();
    present.sort_unstable();
    present.dedup();
    for page in present {
        for sector in 0..SECTORS_PER_PAGE {
            merge(&map, &spoken, page, sector, floor);
        }
    }
    let settled = map.latest().0.saturating_sub(1);
    let is_behind = |copy: &Copy| {
        let lacks = |(page, sector)| lacks(&map, copy, page, sector, Epoch(settled));
        map.present_pages().into_iter().flat_map(|p| (0..SECTORS_PER_PAGE).map(move |s| (p, s))).any(lacks)
    };
    let places = |of: &dyn Fn(&Option<Copy>) -> bool| {
        copies.iter().enumerate().filter(|(_, c)| of(c)).map(|(i, _)| i).collect::<Vec<_>>()
    };
    let behind = places(&|copy| copy.as_ref().is_some_and(is_behind) && !without(Protection::ImageByMap));
    let silent = places(&|copy| copy.is_none());
    map.begin_after(floor);
    Loaded { map, behind, silent }
}

/// What one member says of a sector; `None` if it cannot be read.
fn said(copy: &Copy, page: u64, sector: usize) -> Option<(u32, [u32; SECTOR_ENTRIES])> {
    const NEVER: [u32; SECTOR_ENTRIES] = [0; SECTOR_ENTRIES];
    match copy.get(&page) {
        None => Some((0, NEVER)),
        Some(None) => None,
        Some(Some(sectors)) => match sectors.get(sector) {
            Some(Sector::Good { generation, entries }) => Some((*generation, *entries)),
            Some(Sector::Blank) => Some((0, NEVER)),
            Some(Sector::Bad) | None => None,
        },
    }
}

/// Whether a member does not have something in a sector that changed before the epoch `settled`.
fn lacks(map: &EpochMap, copy: &Copy, page: u64, sector: usize, settled: Epoch) -> bool {
    let Some((_, entries)) = said(copy, page, sector) else { return false };
    let known = (first_of(page, sector)..).map(|stripe| map.stamp(StripeIndex(stripe)));
    known.zip(entries).any(|(known, own)| known.epoch < settled && known != Stamp::decode(own))
}

fn first_of(page: u64, sector: usize) -> u64 {
    page * PAGE_ENTRIES as u64 + (sector * SECTOR_ENTRIES) as u64
}

/// One member's map, as far as it can be read; `None` if it does not answer in time, lest each page takes
/// the whole deadline.
async fn read(member: &Arc<Member>, array: ArrayId, offset: u64, pages: u64) -> Option<Copy> {
    let mut copy = Copy::new();
    let spans = match member.spans(offset, pages * PAGE_BYTES).await {
        Err(e) if e.kind() == ErrorKind::Timeout => return None,
        Err(_) => vec![Span { len_bytes: pages * PAGE_BYTES, hole: false }],
        Ok(spans) => spans,
    };
    let mut at = 0;
    for span in spans {
        let end = at + span.len_bytes;
        if !span.hole {
            let mut page = at / PAGE_BYTES;
            while page < end.div_ceil(PAGE_BYTES) {
                let count = BATCH.min(end.div_ceil(PAGE_BYTES) - page);
                read_pages(member, array, offset, page, count, &mut copy).await?;
                page += count;
            }
        }
        at = end;
    }
    Some(copy)
}

async fn read_pages(
    member: &Arc<Member>,
    array: ArrayId,
    offset: u64,
    first: u64,
    count: u64,
    copy: &mut Copy,
) -> Option<()> {
    let len = |pages: u64| usize::try_from(pages * PAGE_BYTES).unwrap_or(0);
    let mut parts = Vec::new();
    match member.read(offset + first * PAGE_BYTES, len(count)).await {
        Ok(bytes) => parts.push((first, Some(bytes))),
        Err(e) if e.kind() == ErrorKind::Timeout => return None,
        // One bad page must not cost the others.
        Err(_) => {
            for page in first..first + count {
                match member.read(offset + page * PAGE_BYTES, len(1)).await {
                    Err(e) if e.kind() == ErrorKind::Timeout => return None,
                    read => parts.push((page, read.ok())),
                }
            }
        }
    }
    for (first, bytes) in parts {
        let Some(bytes) = bytes else {
            copy.insert(first, None);
            continue;
        };
        for (page, bytes) in (first..).zip(bytes.chunks_exact(len(1))) {
            let sectors = decode_page(PageKind::Epochs(array), page, bytes).ok();
            if sectors.is_none_or(|s| s.iter().any(|s| !matches!(s, Sector::Blank))) {
                copy.insert(page, sectors);
            }
        }
    }
    Some(())
}

/// Puts what the members say of one sector into the map.
fn merge(map: &EpochMap, copies: &[&Copy], page: u64, sector: usize, floor: Epoch) {
    let said: Vec<Option<(u32, [u32; SECTOR_ENTRIES])>> =
        copies.iter().map(|copy| said(copy, page, sector)).collect();
    let first = first_of(page, sector);
    let newest = said.iter().flatten().max_by_key(|(generation, _)| *generation);
    match newest {
        Some((generation, entries)) => {
            for (stripe, entry) in (first..).zip(entries).filter(|(_, e)| **e != 0) {
                map.put(StripeIndex(stripe), Stamp::decode(*entry));
            }
            map.set_generation(page, sector, *generation);
        }
        None => {
            for stripe in first..first + SECTOR_ENTRIES as u64 {
                map.put(StripeIndex(stripe), Stamp { allocated: true, epoch: floor });
            }
        }
    }
    if said.iter().any(|s| s.as_ref() != newest) {
        map.rewrite(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Environment;
    use crate::env::sim::Simulation;
    use crate::format::encode_page;
    use crate::member::{Opener, SimDisks};
    use crate::units::MemberId;
    use std::time::Duration;

    const PAGES: u64 = 600;
    const LIMIT: Duration = Duration::from_secs(1);

    #[test]
    fn a_member_that_hangs_costs_its_deadline_once_and_has_no_say() {
        let mut sim = Simulation::new(1);
        let harness = sim.handle();
        let disks = SimDisks::new(&harness);
        let array = ArrayId::from_bytes([7; 16]);
        for name in ["/a", "/b"] {
            let disk = disks.create(name, PAGES * PAGE_BYTES);
            for page in 0..PAGES {
                let entries = [1 << 31 | 5; PAGE_ENTRIES];
                let bytes = encode_page(PageKind::Epochs(array), page, &[1; SECTORS_PER_PAGE], &entries);
                disk.scribble(page * PAGE_BYTES, &bytes);
            }
        }
        let process = harness.new_process();
        let done = sim.run(async {
            let mut members = Vec::new();
            for (name, n) in [("/a", 1), ("/b", 2)] {
                let backend = disks.opener(&process).open(name).await.unwrap();
                let id = MemberId::from_bytes([n; 16]);
                let member = Member::new(process.env(), id, name.to_owned(), backend, LIMIT, 0);
                members.push(Arc::new(member));
            }
            disks.get("/b").unwrap().hang();
            let begin = harness.now();
            let stripes = PAGES * PAGE_ENTRIES as u64;
            let loaded = process.call(async move { load(array, stripes, 0, &members, Epoch(0)).await });
            (loaded.await.unwrap(), harness.now().since(begin))
        });
        let (loaded, took) = done.unwrap();
        assert_eq!((loaded.silent, loaded.behind), (vec![1], vec![]));
        assert!(loaded.map.is_allocated(StripeIndex(600_000)));
        assert!(took < LIMIT * 2, "{took:?}");
    }
}
