//! Looking at a member without locking or changing it.

use super::devices;
use super::executor::run_on;
use crate::env::real::{Runtime, RuntimeOptions};
use crate::env::{Env, deadline};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Entry, JournalState, Role, SUPERBLOCK_BYTES, Superblock, pick_newest};
use crate::member::{Backend, FileBackend, FileOpener, OpenOptions, Opener};
use crate::units::{ArrayId, EventCount, JournalIndex, Lineage, MemberId, Slot};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Changes and locks nothing.
const LOOKING: OpenOptions = OpenOptions { read_only: true, lock: false, direct: true };
/// Nothing is kept: it is over soon.
const KEEP_BYTES: usize = 0;

/// What the superblock of a member says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExamineReport {
    /// Where it is.
    pub path: String,
    /// Size of the file or device.
    pub size_bytes: u64,
    /// Name of its array.
    pub array_name: String,
    /// Identity of its array.
    pub array_uuid: ArrayId,
    /// Identity of the member.
    pub member_uuid: MemberId,
    /// What it is: `slot 3`, `journal-0`, `spare`.
    pub role: String,
    /// Its slot, if it has one.
    pub slot: Option<Slot>,
    /// Its number, if it bears the journal and nothing else.
    pub journal: Option<JournalIndex>,
    /// How many members bear the journal and nothing else; 0 if those of the slots bear it.
    pub journal_members: u8,
    /// Event count it knows.
    pub event_count: EventCount,
    /// History it took part in last.
    pub lineage: Lineage,
    /// Histories before that one, newest first.
    pub past_lineages: Vec<Lineage>,
    /// Whether it was stopped in order.
    pub clean: bool,
    /// When the array was created, seconds since 1970.
    pub created_unix_s: u64,
    /// k.
    pub data: u8,
    /// m.
    pub parity: u8,
    /// Chunk in bytes.
    pub chunk_bytes: u64,
    /// Volume size in bytes.
    pub volume_bytes: u64,
    /// Format version and features, in words.
    pub format: String,
    /// Areas in the order they lie.
    pub areas: Vec<AreaReport>,
    /// Every copy of the superblock.
    pub copies: Vec<CopyReport>,
    /// The membership table it carries.
    pub members: Vec<SlotReport>,
}

/// One area of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AreaReport {
    /// `journal`, `checksums`, `epoch map`, `data`.
    pub name: String,
    /// First byte.
    pub offset_bytes: u64,
    /// Length in bytes.
    pub len_bytes: u64,
}

/// One copy of the superblock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// First byte on the member.
    pub offset_bytes: u64,
    /// Event count, if the copy is valid.
    pub event_count: Option<EventCount>,
    /// Why it is not valid.
    pub problem: Option<String>,
}

/// One row of the membership table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlotReport {
    /// Slot; none for a spare, and for one that bears the journal.
    pub slot: Option<Slot>,
    /// Its number, if it bears the journal and nothing else.
    pub journal: Option<JournalIndex>,
    /// The member that owns it.
    pub uuid: MemberId,
    /// Its state, in words.
    pub state: String,
}

/// Reads the superblocks of a file or device; locks nothing, changes nothing.
pub fn examine(path: &Path) -> Result<ExamineReport> {
    let runtime = Runtime::start(RuntimeOptions { keep_bytes: KEEP_BYTES, ..RuntimeOptions::default() })?;
    let (env, path): (Env, PathBuf) = (runtime.env(), path.to_owned());
    let text = path.display().to_string();
    let looked = run_on(&runtime.remote(0), move || async move {
        let backend = FileBackend::open(&path, LOOKING)?;
        look(&backend, &env).await
    });
    runtime.stop();
    looked.map_err(|e| if e.member_path().is_some() { e } else { e.member(text) })
}

async fn look(backend: &dyn Backend, env: &Env) -> Result<ExamineReport> {
    let size = backend.size_bytes();
    let mut copies = Vec::new();
    for offset in Superblock::slot_offsets(size) {
        copies.push((offset, read_copy(backend, env, offset).await));
    }
    let rows = copies.iter().map(|(offset, copy)| copy_row(*offset, copy)).collect();
    match pick_newest(copies.into_iter().map(|(_, copy)| copy)) {
        Ok(newest) => Ok(report(backend.path(), size, &newest, rows)),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(no_member(backend, env).await),
        Err(e) => Err(e),
    }
}

/// Which member of which array a file or device is; locks nothing, changes nothing. `Timeout` if it has not
/// answered after `limit`.
pub(super) async fn identify(path: &str, env: &Env, limit: Duration) -> Result<(ArrayId, MemberId)> {
    let looked = deadline(env, limit, async {
        // On a worker thread: one that hangs must not hold up this one.
        let backend = FileOpener::new(LOOKING).open(path).await?;
        let mut copies = Vec::new();
        for offset in Superblock::slot_offsets(backend.size_bytes()) {
            copies.push(read_copy(&*backend, env, offset).await);
        }
        pick_newest(copies.into_iter()).map(|s| (s.array, s.member))
    });
    looked.await.unwrap_or_else(|| Err(Error::new(ErrorKind::Timeout, "does not answer").member(path)))
}

async fn read_copy(backend: &dyn Backend, env: &Env, offset: u64) -> Result<Superblock> {
    if offset + SUPERBLOCK_BYTES as u64 > backend.size_bytes() {
        return Err(Error::new(ErrorKind::NotFound, "lies beyond the end"));
    }
    let (read, buffer) = backend.read(offset, env.buffers().take(SUPERBLOCK_BYTES)).await;
    read?;
    Superblock::parse(&buffer)
}

async fn no_member(backend: &dyn Backend, env: &Env) -> Error {
    let what = match devices::holds(backend, env).await {
        Ok(found) if found.is_empty() => {
            "is no palisade member; nothing else was recognised either".to_owned()
        }
        Ok(found) => format!("is no palisade member; it holds {}", found.join(" and ")),
        Err(e) => format!("is no palisade member, and cannot be read well: {}", e.report()),
    };
    Error::new(ErrorKind::NotFound, what)
}

fn copy_row(offset_bytes: u64, copy: &Result<Superblock>) -> CopyReport {
    match copy {
        Ok(s) => CopyReport { offset_bytes, event_count: Some(s.membership.event_count), problem: None },
        Err(e) => CopyReport { offset_bytes, event_count: None, problem: Some(e.report()) },
    }
}

fn report(path: &str, size_bytes: u64, s: &Superblock, copies: Vec<CopyReport>) -> ExamineReport {
    let narrow = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
    let own = s.membership.entry(s.member);
    ExamineReport {
        path: path.to_owned(),
        size_bytes,
        array_name: s.name.clone(),
        array_uuid: s.array,
        member_uuid: s.member,
        role: own.map_or_else(|| "no longer a member".to_owned(), role),
        slot: own.and_then(|e| e.role.slot()),
        journal: own.and_then(|e| e.role.journal()),
        journal_members: s.journal.map_or(0, |journal| journal.count),
        event_count: s.membership.event_count,
        lineage: s.membership.lineage,
        past_lineages: s.membership.previous.iter().map(|a| a.lineage).collect(),
        clean: s.membership.clean,
        created_unix_s: s.created_unix_s,
        data: narrow(s.shape.data()),
        parity: narrow(s.shape.parity()),
        chunk_bytes: s.shape.chunk_bytes(),
        volume_bytes: s.volume_bytes,
        format: format_text(s),
        areas: areas(s, own),
        copies,
        members: s.membership.entries.iter().map(row).collect(),
    }
}

fn format_text(s: &Superblock) -> String {
    let f = s.features;
    format!(
        "version 1, features compat {:#x} ro_compat {:#x} incompat {:#x}",
        f.compat, f.ro_compat, f.incompat
    )
}

fn areas(s: &Superblock, own: Option<&Entry>) -> Vec<AreaReport> {
    let (areas, chunk_bytes) = (&s.areas, s.shape.chunk_bytes());
    let area =
        |name: &str, offset_bytes, len_bytes| AreaReport { name: name.to_owned(), offset_bytes, len_bytes };
    if let (Some(journal), Some(_)) = (&s.journal, own.and_then(|e| e.role.journal())) {
        return vec![area("journal", journal.offset, journal.len)];
    }
    let journal = if s.journal.is_some() { "checkpoints" } else { "journal" };
    vec![
        area(journal, areas.journal_offset, areas.journal_len),
        area("checksums", areas.checksum_offset, areas.checksum_len),
        area("epoch map", areas.epoch_offset, areas.epoch_len),
        area("data", areas.data_offset, areas.stripes.saturating_mul(chunk_bytes)),
    ]
}

fn row(entry: &Entry) -> SlotReport {
    let state = match entry.role {
        Role::InSync(_) | Role::Journal(_, JournalState::InSync) => "in-sync",
        Role::Faulty(_) | Role::Journal(_, JournalState::Faulty) => "faulty",
        Role::Rebuilding(_) | Role::Journal(_, JournalState::Filling) => "rebuilding",
        Role::Spare => "spare",
    };
    let (slot, journal) = (entry.role.slot(), entry.role.journal());
    SlotReport { slot, journal, uuid: entry.member, state: state.to_owned() }
}

fn role(entry: &Entry) -> String {
    let seat = entry.role.seat().map_or_else(|| "spare".to_owned(), |seat| seat.to_string());
    match entry.role {
        Role::Rebuilding(_) | Role::Journal(_, JournalState::Filling) => format!("{seat}, rebuilding"),
        role if role.is_faulty() => format!("{seat}, faulty"),
        _ => seat,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Areas, Code, Features, Layout, Membership};
    use crate::geometry::Shape;
    use crate::units::Epoch;
    use std::os::unix::fs::FileExt;

    const SIZE: u64 = 64 << 20;

    fn superblock() -> Superblock {
        let shape = Shape::new(2, 1, 65536).unwrap();
        let areas = Areas::plan(SIZE, &shape).unwrap();
        let id = |n| MemberId::from_bytes([n; 16]);
        let entry = |n: u8| Entry {
            member: id(n + 1),
            role: Role::InSync(Slot(n)),
            rebuilt: Vec::new(),
            lost_at: EventCount(0),
            lost_epoch: Epoch(0),
            taken_out: false,
        };
        Superblock {
            array: ArrayId::from_bytes([9; 16]),
            member: id(2),
            name: "tank".into(),
            created_unix_s: 1,
            shape,
            layout: Layout::Rotating,
            code: Code::ReedSolomon,
            volume_bytes: areas.capacity_bytes(&shape),
            member_bytes: SIZE,
            areas,
            journal: None,
            write_count: 4,
            membership: Membership {
                event_count: EventCount(4),
                lineage: Lineage::from_bytes([3; 16]),
                previous: Vec::new(),
                clean: true,
                discarded: false,
                epoch: Epoch(1),
                entries: (0..3).map(entry).collect(),
            },
            features: Features::default(),
        }
    }

    #[test]
    fn a_member_is_known_by_any_copy_that_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        let file = std::fs::File::create_new(&path).unwrap();
        file.set_len(SIZE).unwrap();
        let superblock = superblock();
        let [.., tail] = Superblock::slot_offsets(SIZE);
        file.write_all_at(&superblock.encode().unwrap(), tail).unwrap();
        let report = examine(&path).unwrap();
        assert_eq!((report.array_name.as_str(), report.role.as_str()), ("tank", "slot 1"));
        assert_eq!((report.event_count, report.clean, report.members.len()), (EventCount(4), true, 3));
        let valid: Vec<_> = report.copies.iter().filter(|c| c.problem.is_none()).collect();
        assert_eq!(valid.len(), 1);
        assert_eq!(valid[0].offset_bytes, tail);
        assert!(serde_json::to_string(&report).unwrap().contains("\"array_name\":\"tank\""));
    }

    #[test]
    fn what_is_no_member_is_said_to_be_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        let mut bytes = vec![0u8; 1 << 20];
        bytes[4086..4096].copy_from_slice(b"SWAPSPACE2");
        std::fs::write(&path, &bytes).unwrap();
        let e = examine(&path).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound);
        assert!(
            e.to_string().contains("is no palisade member; it holds") && e.to_string().contains("swap"),
            "{e}"
        );
        std::fs::write(&path, b"tiny").unwrap();
        examine(&path).unwrap_err();
        assert!(examine(&dir.path().join("none")).is_err());
    }
}
