//! Making an array of blank devices.

use super::ledger::{self, Identity};
use super::{Candidate, CreateSpec, Devices};
use crate::env::{Env, join_all};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Areas, Entry, Features, JournalMembers, JournalState, MAX_ENTRIES, Membership, Role};
use crate::geometry::Shape;
use crate::journal;
use crate::member::Member;
use crate::mutation::{Protection, without};
use crate::units::{
    ArrayId, BLOCK_BYTES, Epoch, EventCount, JournalIndex, Lineage, MemberId, Slot, format_size,
};
use std::sync::Arc;
use std::time::Duration;

/// Formatting has no client waiting: a member may take its time.
pub(super) const FORMAT_DEADLINE: Duration = Duration::from_secs(120);
const MAX_NAME_BYTES: usize = 64;

/// What an array of these members comes to.
struct Layout {
    areas: Areas,
    journal: Option<JournalMembers>,
    capacity_bytes: u64,
}

/// Checks everything that can be checked before a byte is written, then formats.
pub(super) async fn create(env: &Env, spec: &CreateSpec, devices: &Devices) -> Result<ArrayId> {
    let layout = check(spec, devices)?;
    let volume_bytes = spec.size_bytes.unwrap_or(layout.capacity_bytes);
    let identity = Identity {
        array: ArrayId::from_random(env.random_id()),
        name: spec.name.clone(),
        created_unix_s: env.unix_seconds(),
        shape: spec.shape,
        volume_bytes,
        areas: layout.areas,
        journal_members: layout.journal,
        features: Features { incompat: incompat(layout.journal.is_some()), ..Features::default() },
    };
    let new = |c: &Candidate| {
        let id = MemberId::from_random(env.random_id());
        let data = identity.areas.data_offset;
        Arc::new(Member::new(env.clone(), id, c.path.clone(), Arc::clone(&c.backend), FORMAT_DEADLINE, data))
    };
    let slots: Vec<Arc<Member>> = devices.members.iter().map(new).collect();
    let spares: Vec<Arc<Member>> = devices.spares.iter().map(new).collect();
    let bear: Vec<Arc<Member>> = devices.journal.iter().map(new).collect();
    let blanked = join_all(slots.iter().map(|m| blank(m, &identity))).await;
    blanked.into_iter().collect::<Result<()>>()?;
    let membership = membership(env, &slots, &spares, &bear);
    let all = slots.iter().chain(&spares).chain(&bear);
    let formatted = join_all(all.map(|m| async {
        let superblock = identity.superblock(m.id(), m.size_bytes(), &membership, 1);
        ledger::format(m, &superblock).await.map_err(|e| e.member(m.path()))?;
        let seat = membership.entry(m.id()).and_then(|e| e.role.seat());
        if seat.is_some() {
            let place = identity.checkpoints(seat);
            journal::clear(m, place).await.map_err(|e| e.member(m.path()))?;
            journal::format(m, identity.array, place).await.map_err(|e| e.member(m.path()))?;
        }
        m.flush().await.map_err(|e| e.member(m.path()))
    }));
    formatted.await.into_iter().collect::<Result<()>>()?;
    Ok(identity.array)
}

fn incompat(journal_members: bool) -> u64 {
    let all = Features::JOURNAL | Features::CHECKSUMS;
    if journal_members { all | Features::JOURNAL_MEMBERS } else { all }
}

fn check(spec: &CreateSpec, devices: &Devices) -> Result<Layout> {
    let Devices { members, spares, journal } = devices;
    let bad = |what: String| Error::new(ErrorKind::InvalidInput, what);
    let width = spec.shape.width();
    if spec.name.is_empty() || spec.name.len() > MAX_NAME_BYTES {
        return Err(bad(format!("an array's name has 1 to {MAX_NAME_BYTES} bytes")));
    }
    if members.len() != width {
        let (k, m) = (spec.shape.data(), spec.shape.parity());
        let given = members.len();
        let hint = match given > width {
            true => "attach the others as spares with --spare",
            false => "name more members, or choose a smaller --data or --parity",
        };
        return Err(bad(format!("{k}+{m} needs exactly {width} members, {given} given")).hint(hint));
    }
    let others = spares.len() + journal.len();
    if members.len() + others > MAX_ENTRIES {
        let room = MAX_ENTRIES - width;
        return Err(bad(format!("at most {room} spares and journal members fit beside {width} members")));
    }
    let own = plan_journal(&spec.shape, journal)?;
    let minimum = match own {
        Some(_) => Areas::minimum_bytes_without_journal(&spec.shape),
        None => Areas::minimum_bytes(&spec.shape),
    };
    for c in members.iter().chain(spares) {
        let size = c.backend.size_bytes();
        if size < minimum {
            let what = format!(
                "too small: {} where at least {} are needed",
                format_size(size),
                format_size(minimum)
            );
            return Err(bad(what).member(&c.path));
        }
    }
    let smallest = members.iter().map(|c| c.backend.size_bytes()).min().unwrap_or(0);
    let areas = match own {
        Some(_) => Areas::plan_without_journal(smallest, &spec.shape)?,
        None => Areas::plan(smallest, &spec.shape)?,
    };
    let layout = Layout { areas, journal: own, capacity_bytes: areas.capacity_bytes(&spec.shape) };
    if let Some(c) = spares.iter().find(|c| c.backend.size_bytes() < layout.areas.required_bytes()) {
        let need = format_size(layout.areas.required_bytes());
        return Err(bad(format!("too small for a spare: {need} are needed")).member(&c.path));
    }
    if let Some(size) = spec.size_bytes {
        if size == 0 || size % BLOCK_BYTES != 0 {
            return Err(bad(format!("a volume of {size} bytes is not a positive multiple of 4 KiB")));
        }
        if size > layout.capacity_bytes {
            let (want, have) = (format_size(size), format_size(layout.capacity_bytes));
            return Err(bad(format!("a volume of {want} does not fit: the capacity is {have}"))
                .hint("use larger members, or a smaller --size"));
        }
    }
    Ok(layout)
}

/// The journal that these members can bear; none if there are none.
fn plan_journal(shape: &Shape, journal: &[Candidate]) -> Result<Option<JournalMembers>> {
    let sizes = journal.iter().map(|c| (c.backend.size_bytes(), &c.path));
    let Some((smallest, path)) = sizes.min_by_key(|(size, _)| *size) else { return Ok(None) };
    let (given, needed) = (journal.len(), shape.parity() + 1);
    let count = u8::try_from(given).ok().filter(|_| given >= needed).ok_or_else(|| {
        let what = format!("a journal of its own needs at least {needed} members, {given} given");
        let why =
            format!("{} of any kind may be lost, and one with the journal must be left", shape.parity());
        Error::new(ErrorKind::InvalidInput, what).hint(why)
    })?;
    JournalMembers::plan(count, smallest).map(Some).map_err(|e| e.member(path))
}

/// Makes the member's epoch map blank, and frees the space of its tables and data where that can be had. Not
/// that of its journal: what is there of another array does not count, and a file need not find it again.
async fn blank(member: &Arc<Member>, identity: &Identity) -> Result<()> {
    if without(Protection::BlankAtFirst) {
        return Ok(());
    }
    let areas = &identity.areas;
    let end = areas.data_offset + areas.stripes * identity.shape.chunk_bytes();
    let done = match member.punch_only(areas.checksum_offset, end - areas.checksum_offset).await {
        Ok(()) => journal::clear(member, identity.checkpoints(None)).await,
        Err(e) if e.kind() == ErrorKind::Unsupported => ledger::clear(member, identity, None).await,
        failed => failed,
    };
    done.map_err(|e| e.member(member.path()))
}

fn membership(env: &Env, slots: &[Arc<Member>], spares: &[Arc<Member>], bear: &[Arc<Member>]) -> Membership {
    let entry = |member: &Arc<Member>, role| Entry {
        member: member.id(),
        role,
        rebuilt: Vec::new(),
        lost_at: EventCount(0),
        lost_epoch: Epoch(0),
        taken_out: false,
    };
    let owners = (0..).map(Slot).zip(slots).map(|(slot, m)| entry(m, Role::InSync(slot)));
    let spares = spares.iter().map(|m| entry(m, Role::Spare));
    let bear = (0..).map(JournalIndex).zip(bear);
    let bear = bear.map(|(index, m)| entry(m, Role::Journal(index, JournalState::InSync)));
    Membership {
        event_count: EventCount(1),
        lineage: Lineage::from_random(env.random_id()),
        previous: Vec::new(),
        clean: true,
        discarded: false,
        epoch: Epoch(1),
        entries: owners.chain(spares).chain(bear).collect(),
    }
}
