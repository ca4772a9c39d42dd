//! The checksum tables of all members.

use super::table::{Common, InUse, Table};
use crate::env::join_all;
use crate::error::Error;
use crate::format::PAGE_BYTES;
use crate::member::Member;
use crate::units::MemberId;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// What is kept in memory of a table at least, in pages.
const LEAST_PAGES: u64 = 16;

/// A member that did not take what was to be written home.
pub struct Unwritten {
    /// Which.
    pub member: Arc<Member>,
    /// Why.
    pub error: Error,
}

/// The checksums of an array, within a bound of memory that only what is not home yet exceeds.
pub struct Integrity {
    tables: RwLock<BTreeMap<MemberId, Arc<Table>>>,
    common: Arc<Common>,
}

impl Integrity {
    /// Tables that lie at `offset` on each of `width` members, in about `cache_bytes` of memory.
    pub fn new(offset: u64, width: usize, cache_bytes: u64, in_use: InUse) -> Self {
        let share = (cache_bytes / PAGE_BYTES / width.max(1) as u64).max(LEAST_PAGES);
        let limit = usize::try_from(share).unwrap_or(usize::MAX);
        let common = Arc::new(Common { offset, limit, in_use, gaps: AtomicUsize::default() });
        Self { tables: RwLock::default(), common }
    }

    /// The table of a member. One that was opened anew after it failed goes on with what is in
    /// memory: nothing was written without it.
    pub fn table(&self, member: &Arc<Member>) -> Arc<Table> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = tables.get(&member.id()) {
            table.rebind(member);
            return Arc::clone(table);
        }
        drop(tables);
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Table::new(member, &self.common));
        Arc::clone(tables.entry(member.id()).or_insert_with(new))
    }

    /// Forgets a member's table: it is to be read anew.
    pub fn forget(&self, member: MemberId) {
        let gone = self.tables.write().unwrap_or_else(PoisonError::into_inner).remove(&member);
        gone.iter().for_each(|table| table.forget());
    }

    /// Members and their blocks of which a table turned out not to know some that are in use, each told once.
    /// Only the other members know what belongs there.
    pub fn take_gaps(&self) -> Vec<(MemberId, Range<u64>)> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let of_table = |(id, table): (&MemberId, &Arc<Table>)| {
            let id = *id;
            table.take_gaps().into_iter().map(move |blocks| (id, blocks))
        };
        tables.iter().flat_map(of_table).collect()
    }

    /// Whether there are any.
    pub fn has_gaps(&self) -> bool {
        self.common.gaps.load(Ordering::Acquire) > 0
    }

    /// Pages that are not home.
    pub fn not_home(&self) -> usize {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.values().map(|t| t.not_home()).sum()
    }

    /// Brings every changed page home, to those who are `members` now; what was known of others is forgotten.
    /// Do not drop half-way, nor run twice at once.
    pub async fn write_home(&self, members: impl FnOnce() -> Vec<Arc<Member>>) -> Vec<Unwritten> {
        let (members, tables): (_, Vec<Arc<Table>>) = {
            let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
            // Asked only now: whoever has a table by now counts by now.
            let members = members();
            let others = tables.extract_if(.., |id, _| members.iter().all(|m| m.id() != *id));
            others.for_each(|(_, table)| table.forget());
            let tables = tables.values().cloned().collect();
            (members, tables)
        };
        members.iter().for_each(|member| drop(self.table(member)));
        let unwritten = join_all(tables.iter().map(|t| t.write_home())).await.into_iter().flatten();
        let of = |id: MemberId| members.iter().find(|m| m.id() == id).cloned();
        unwritten.filter_map(|(id, error)| Some(Unwritten { member: of(id)?, error })).collect()
    }
}
