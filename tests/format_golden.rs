//! Superblocks as they were once written must open for ever, and no byte may be wrong unseen.
//!
//! The files in `tests/golden` are never regenerated for a format version that has been released:
//! a difference means the format changed. A new one is written by
//! `PALISADE_WRITE_GOLDEN=1 cargo test --test format_golden`, which leaves existing files alone.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use palisade::error::ErrorKind;
use palisade::format::*;
use palisade::geometry::Shape;
use palisade::units::{ArrayId, Epoch, EventCount, JournalIndex, Lineage, MemberId, Slot, StripeIndex};
use proptest::prelude::*;
use std::path::PathBuf;

fn member(n: u8) -> MemberId {
    MemberId::from_random([n; 16])
}

fn lineage(n: u8) -> Lineage {
    Lineage::from_random([0xA0 + n; 16])
}

fn ancestor(n: u8, write_count: u64) -> Ancestor {
    Ancestor { lineage: lineage(n), write_count }
}

fn range(start: u64, count: u64) -> StripeRange {
    StripeRange { start: StripeIndex(start), count }
}

fn entry(n: u8, role: Role) -> Entry {
    Entry {
        member: member(n),
        role,
        rebuilt: Vec::new(),
        lost_at: EventCount(0),
        lost_epoch: Epoch(0),
        taken_out: false,
    }
}

/// Just created: 4+2, all in sync.
fn fresh() -> Superblock {
    let shape = Shape::new(4, 2, 64 << 10).unwrap();
    let areas = Areas::plan(256 << 20, &shape).unwrap();
    Superblock {
        array: ArrayId::from_random([0x51; 16]),
        member: member(1),
        name: "tank".to_owned(),
        created_unix_s: 1_760_000_000,
        shape,
        layout: Layout::Rotating,
        code: Code::ReedSolomon,
        volume_bytes: areas.capacity_bytes(&shape),
        member_bytes: 256 << 20,
        areas,
        journal: None,
        write_count: 0,
        membership: Membership {
            event_count: EventCount(1),
            lineage: lineage(0),
            previous: Vec::new(),
            clean: true,
            discarded: false,
            epoch: Epoch(0),
            entries: (0..6).map(|slot| entry(slot + 1, Role::InSync(Slot(slot)))).collect(),
        },
        features: Features::default(),
    }
}

/// In the middle of things: one member lost, two being filled, a spare.
fn rebuilding() -> Superblock {
    let mut sb = Superblock { member_bytes: (256 << 20) + (1 << 20), write_count: 41, ..fresh() };
    sb.name = "Größe über alles: 磁盘 1".to_owned();
    sb.volume_bytes = 512 << 20;
    sb.features = Features { compat: 0x8000_0000_0000_0001, ro_compat: 0, incompat: 0 };
    sb.membership.event_count = EventCount(17);
    sb.membership.lineage = lineage(3);
    sb.membership.previous = vec![ancestor(2, 90), ancestor(1, 12), ancestor(0, 7)];
    sb.membership.clean = false;
    sb.membership.entries[2].role = Role::Faulty(Slot(2));
    sb.membership.entries[2].lost_at = EventCount(12);
    sb.membership.entries[2].taken_out = true;
    let filled = vec![range(0, 100), range(100, 20), range(500, 1), range(3000, 500)];
    sb.membership.entries.push(Entry { rebuilt: filled, ..entry(7, Role::Rebuilding(Slot(2))) });
    sb.membership.entries.push(entry(8, Role::Rebuilding(Slot(5))));
    sb.membership.entries.push(entry(9, Role::Spare));
    sb
}

/// Everything at its limit: 253+2, every entry, every former lineage, an unknown `ro_compat` bit.
fn widest() -> Superblock {
    let shape = Shape::new(253, 2, 16 << 20).unwrap();
    let areas = Areas::plan(20 << 40, &shape).unwrap();
    let mut sb = Superblock { shape, areas, member_bytes: 20 << 40, write_count: u64::MAX, ..fresh() };
    sb.name = "x".repeat(MAX_NAME_BYTES);
    sb.volume_bytes = areas.capacity_bytes(&shape);
    sb.features.ro_compat = 1 << 63;
    sb.membership.event_count = EventCount(u64::MAX);
    sb.membership.previous = (1..=8).map(|n| ancestor(n, u64::MAX - u64::from(n))).collect();
    sb.membership.entries = (0..MAX_ENTRIES)
        .map(|n| {
            let member = MemberId::from_bytes((n as u128 + 1).to_le_bytes());
            let role = u8::try_from(n).ok().filter(|slot| *slot < 255);
            let role = role.map_or(Role::Spare, |slot| Role::InSync(Slot(slot)));
            let rebuilt = (0..4).map(|i| range(i * 2, 1)).collect();
            Entry {
                member,
                role,
                rebuilt,
                lost_at: EventCount(n as u64),
                lost_epoch: Epoch(0),
                taken_out: false,
            }
        })
        .collect();
    sb
}

/// With checksums, in its seventh epoch, one member lost in the fifth.
fn epochs() -> Superblock {
    let mut sb = fresh();
    sb.features.incompat = Features::JOURNAL | Features::CHECKSUMS;
    sb.membership.epoch = Epoch(7);
    sb.membership.event_count = EventCount(9);
    sb.membership.entries[3].role = Role::Faulty(Slot(3));
    sb.membership.entries[3].lost_at = EventCount(6);
    sb.membership.entries[3].lost_epoch = Epoch(5);
    sb
}

/// The journal on three members of its own, of which this is one; another was lost and is being replaced.
fn journal_member() -> Superblock {
    let shape = Shape::new(4, 2, 64 << 10).unwrap();
    let areas = Areas::plan_without_journal(256 << 20, &shape).unwrap();
    let journal = JournalMembers::plan(3, 64 << 20).unwrap();
    let volume_bytes = areas.capacity_bytes(&shape);
    let mut sb =
        Superblock { member_bytes: 64 << 20, areas, journal: Some(journal), volume_bytes, ..fresh() };
    sb.features.incompat = Features::JOURNAL | Features::CHECKSUMS | Features::JOURNAL_MEMBERS;
    sb.member = member(10);
    sb.membership.epoch = Epoch(3);
    let bears = |n, index, state| entry(n, Role::Journal(JournalIndex(index), state));
    let lost = Entry { lost_at: EventCount(1), lost_epoch: Epoch(2), ..bears(8, 1, JournalState::Faulty) };
    let others = [bears(7, 0, JournalState::InSync), lost, bears(9, 1, JournalState::Filling)];
    sb.membership.entries.extend(others);
    sb.membership.entries.push(bears(10, 2, JournalState::InSync));
    sb
}

fn states() -> [(&'static str, Superblock); 5] {
    [
        ("fresh", fresh()),
        ("rebuilding", rebuilding()),
        ("widest", widest()),
        ("epochs", epochs()),
        ("journal_member", journal_member()),
    ]
}

fn golden_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.bin"))
}

#[test]
fn superblocks_written_long_ago_open_and_would_be_written_the_same_today() {
    for (name, expected) in states() {
        let path = golden_path(name);
        if std::env::var_os("PALISADE_WRITE_GOLDEN").is_some() && !path.exists() {
            std::fs::write(&path, expected.encode().unwrap()).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), SUPERBLOCK_BYTES);
        assert_eq!(Superblock::parse(&bytes).unwrap(), expected, "{name}");
        assert!(expected.encode().unwrap() == bytes, "{name} is encoded differently than it was");
    }
}

#[test]
fn fields_lie_where_the_document_says() {
    let bytes = std::fs::read(golden_path("rebuilding")).unwrap();
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!(&bytes[0..8], b"PALISADE");
    assert_eq!(u64_at(8), 28672 << 32 | 1);
    assert_eq!(u64_at(24), 0x8000_0000_0000_0001);
    assert_eq!(bytes[48..64], rebuilding().array.to_bytes());
    assert_eq!(bytes[64..80], rebuilding().member.to_bytes());
    assert_eq!(u64_at(80), rebuilding().name.len() as u64);
    assert_eq!(&bytes[88..92], "Grö".as_bytes());
    assert_eq!(u64_at(152), 1_760_000_000);
    assert_eq!(bytes[160..164], [4, 2, 1, 1]);
    assert_eq!(u64_at(168), 64 << 10);
    assert_eq!(u64_at(176), 512 << 20);
    assert_eq!(u64_at(184), 257 << 20);
    assert_eq!(u64_at(192), 41);
    assert_eq!(u64_at(200), 64 << 10);
    assert_eq!(u64_at(264), rebuilding().areas.tail_offset);
    assert_eq!(u64_at(272), 17);
    assert_eq!(bytes[296..304], [0, 0, 3, 0, 9, 0, 0, 0]);
    assert_eq!(u64_at(304), 0);
    let lost = 1792 + 2 * 96;
    assert_eq!(bytes[lost + 16..lost + 24], [2, 2, 0, 1, 0, 0, 0, 0]);
    assert_eq!(u64_at(lost + 24), 12);
    let filling = 1792 + 6 * 96;
    assert_eq!(bytes[filling + 16..filling + 24], [3, 2, 4, 0, 0, 0, 0, 0]);
    assert_eq!(u64_at(filling + 32 + 3 * 16), 3000);

    let bytes = std::fs::read(golden_path("journal_member")).unwrap();
    assert_eq!(bytes[40..48], [7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[208..216], [0, 0x20, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[512..516], [3, 0, 0, 0]);
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!((u64_at(520), u64_at(528)), (64 << 10, 63 << 20));
    for (place, role) in [(6, [5, 0]), (7, [6, 1]), (8, [7, 1]), (9, [5, 2])] {
        assert_eq!(bytes[1792 + place * 96 + 16..][..2], role);
    }

    let bytes = std::fs::read(golden_path("epochs")).unwrap();
    assert_eq!(bytes[40..48], [3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[440..448], [7, 0, 0, 0, 0, 0, 0, 0]);
    let lost = 1792 + 3 * 96;
    assert_eq!(bytes[lost + 16..lost + 24], [2, 3, 0, 0, 5, 0, 0, 0]);
}

#[test]
fn an_array_from_before_the_epoch_map_has_epoch_zero_and_no_checksums() {
    for name in ["fresh", "rebuilding", "widest"] {
        let sb = Superblock::parse(&std::fs::read(golden_path(name)).unwrap()).unwrap();
        assert!(!sb.features.has_checksums(), "{name}");
        assert_eq!(sb.membership.epoch, Epoch(0), "{name}");
        assert!(sb.membership.entries.iter().all(|e| e.lost_epoch == Epoch(0)), "{name}");
    }
    assert!(epochs().features.has_checksums() && epochs().features.has_journal());
}

#[test]
fn a_superblock_that_does_not_say_where_its_journal_is_is_refused() {
    let good = journal_member();
    let refused = |sb: &Superblock| assert_eq!(sb.encode().unwrap_err().kind(), ErrorKind::InvalidInput);
    refused(&Superblock { journal: None, ..good.clone() });
    refused(&Superblock { areas: fresh().areas, ..good.clone() });
    refused(&Superblock { features: epochs().features, ..good.clone() });
    let few = JournalMembers { count: 2, ..good.journal.unwrap() };
    refused(&Superblock { journal: Some(few), ..good.clone() });
    // What a member needs depends on what it is.
    refused(&Superblock { member: member(1), ..good.clone() });
    for (at, bytes) in [(512, &[0, 0, 0, 0][..]), (512, &[0, 1, 0, 0]), (520, &[0; 8]), (528, &[0; 8])] {
        assert_eq!(Superblock::parse(&forged(&good, at, bytes)).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn any_single_wrong_byte_is_refused() {
    let good = rebuilding().encode().unwrap();
    let mut bytes = good.clone();
    for at in 0..good.len() {
        bytes[at] ^= 1 << (at % 8);
        let error = Superblock::parse(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
        bytes[at] = good[at];
    }
}

#[test]
fn a_truncated_superblock_is_refused() {
    let good = rebuilding().encode().unwrap();
    for len in 0..good.len() {
        assert!(Superblock::parse(&good[..len]).is_err(), "{len} bytes");
    }
}

/// Changes bytes of a superblock and makes its checksum right again.
fn forged(sb: &Superblock, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut slot = sb.encode().unwrap();
    slot[at..at + bytes.len()].copy_from_slice(bytes);
    slot[16..20].fill(0);
    let crc = crc32c(&slot);
    slot[16..20].copy_from_slice(&crc.to_le_bytes());
    slot
}

#[test]
fn what_a_newer_build_wrote_is_unsupported_and_never_corrupt() {
    for (at, bytes, says) in [
        (8, &[2][..], "version 2"),
        (40, &[0b1_1000], "incompat 3, 4"),
        (162, &[2], "layout 2"),
        (163, &[9], "code 9"),
        (164, &[0, 32], "blocks of 8192"),
    ] {
        let error = Superblock::parse(&forged(&fresh(), at, bytes)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let read_only = Superblock::parse(&forged(&fresh(), 32, &[4])).unwrap();
    assert!(read_only.must_stay_read_only());
    assert!(!Superblock::parse(&forged(&fresh(), 24, &[4])).unwrap().must_stay_read_only());
}

#[test]
fn fields_that_make_no_sense_are_refused_though_the_checksum_is_right() {
    for (at, bytes) in [
        (48, &[0; 16][..]),            // no array identity
        (64, &[0; 16]),                // no member identity
        (80, &[0]),                    // no name
        (80, &[65]),                   // a name longer than its field
        (88, &[0xFF]),                 // a name that is not UTF-8
        (88, &[0x1B]),                 // a name that would steer a terminal
        (160, &[0]),                   // no data chunks
        (161, &[255]),                 // too wide
        (168, &[1]),                   // an odd chunk
        (176, &[1]),                   // a volume of odd size
        (176, &[0, 0, 0, 0, 0, 0, 1]), // a volume larger than the array
        (184, &[1]),                   // a member of odd size
        (187, &[8]),                   // a member smaller than its areas
        (200, &[0; 8]),                // a journal over the superblock
        (256, &[0; 8]),                // no stripes
        (256, &[0xFF; 8]),             // stripes without end
        (296, &[2]),                   // neither clean nor dirty
        (298, &[9]),                   // too many lineages
        (300, &[25, 1]),               // too many members
        (300, &[7]),                   // an entry of zeroes
        (440, &[0, 0, 0, 0x80]),       // an epoch beyond the last
        (1792 + 16, &[9]),             // an unknown role
        (1792 + 17, &[6]),             // a slot that does not exist
        (1792 + 17, &[1]),             // a slot with two owners
        (1792 + 18, &[5]),             // too many ranges
        (1792 + 20, &[1]),             // lost in an epoch that has not begun
    ] {
        let parsed = Superblock::parse(&forged(&fresh(), at, bytes));
        let error = parsed.expect_err(&format!("byte {at} = {bytes:?} was believed"));
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

#[test]
fn what_would_not_be_read_back_is_not_written() {
    let refused = |change: fn(&mut Superblock)| {
        let mut sb = widest();
        change(&mut sb);
        assert_eq!(sb.encode().unwrap_err().kind(), ErrorKind::InvalidInput);
    };
    refused(|sb| sb.name.push('x'));
    refused(|sb| sb.name.clear());
    refused(|sb| sb.member_bytes = 1 << 20);
    refused(|sb| sb.volume_bytes += 4096);
    refused(|sb| sb.membership.entries.push(entry(200, Role::Spare)));
    refused(|sb| sb.membership.previous.push(ancestor(9, 0)));
    refused(|sb| sb.membership.epoch = Epoch(Epoch::MAX.0 + 1));
    refused(|sb| sb.membership.entries[0].lost_epoch = Epoch(1));
    refused(|sb| sb.membership.entries[0].rebuilt.push(range(100, 1)));
    refused(|sb| sb.features.incompat = 8);
}

#[test]
fn the_newest_copy_wins_and_unreadable_ones_are_passed_over() {
    let at = |event: u64, write: u64| {
        let mut sb = Superblock { write_count: write, ..fresh() };
        sb.membership.event_count = EventCount(event);
        sb
    };
    let torn = || Superblock::parse(&MAGIC);
    let blank = || Superblock::parse(&[0; SUPERBLOCK_BYTES]);
    let copies = || [torn(), Ok(at(3, 9)), blank(), Ok(at(4, 2)), Ok(at(4, 7)), Ok(at(2, 99))];
    assert_eq!(pick_newest(copies().into_iter()).unwrap(), at(4, 7));
    assert_eq!(pick_newest(copies().into_iter().rev()).unwrap(), at(4, 7));

    let kind = |copies: Vec<palisade::error::Result<Superblock>>| {
        pick_newest(copies.into_iter()).unwrap_err().kind()
    };
    assert_eq!(kind(vec![]), ErrorKind::NotFound);
    assert_eq!(kind(vec![blank(), blank()]), ErrorKind::NotFound);
    assert_eq!(kind(vec![blank(), torn(), blank()]), ErrorKind::Corrupt);
    let newer_build = || Superblock::parse(&forged(&fresh(), 40, &[8]));
    assert_eq!(kind(vec![Ok(at(9, 9)), newer_build()]), ErrorKind::Unsupported);
    let other = Superblock { member: member(77), ..fresh() };
    assert_eq!(kind(vec![Ok(fresh()), Ok(other)]), ErrorKind::Foreign);
}

#[test]
fn the_four_copies_lie_at_head_and_tail_and_the_newest_is_never_written_over() {
    let size = 256 << 20;
    let tail = size - (64 << 10);
    let offsets = [4 << 10, 32 << 10, tail + (4 << 10), tail + (32 << 10)];
    assert_eq!(Superblock::slot_offsets(size), offsets);
    assert_eq!(Superblock::slot_offsets(size + 4095), offsets);
    let (a, b) = ([offsets[0], offsets[2]], [offsets[1], offsets[3]]);
    let next = |counts: [Option<u64>; 4]| {
        let copies = counts.map(|count| match count {
            Some(write_count) => Ok(Superblock { write_count, ..fresh() }),
            None => Superblock::parse(&[]),
        });
        Superblock::write_offsets(size, &copies)
    };
    assert_eq!(next([Some(6), Some(7), Some(6), Some(7)]), a);
    assert_eq!(next([Some(8), Some(7), Some(8), Some(7)]), b);
    // One was torn: it is written again.
    assert_eq!(next([Some(6), None, Some(6), None]), b);
    assert_eq!(next([None, Some(6), Some(7), None]), b, "the newest is at the tail only");
    assert_eq!(next([None, Some(6), None, None]), a);
    let _ = Superblock::slot_offsets(0);
}

prop_compose! {
    fn any_superblock()(
        data in 1u8..=60, parity in 1u8..=20, chunk in 12u32..=20, member_bytes in 64u64 << 20..1 << 50,
        name in "[a-zA-Z0-9äöü_.-]{1,32}", ids in any::<[u8; 16]>(), numbers in any::<[u64; 4]>(),
        previous in prop::collection::vec(any::<([u8; 16], u64)>(), 0..=MAX_PREVIOUS),
        roles in prop::collection::vec((0u8..5, 0u64..1000), 80), spares in 0u8..20,
        clean in any::<bool>(), epoch in 0..=Epoch::MAX.0,
    ) -> Superblock {
        let shape = Shape::new(data, parity, 1 << chunk).unwrap();
        let member_bytes = member_bytes / 4096 * 4096;
        let areas = Areas::plan(member_bytes, &shape).unwrap();
        let mut entries = Vec::new();
        for (slot, (role, lost)) in shape.slots().zip(roles) {
            let rebuilt = (0..u64::from(role)).map(|i| range(i * 3, 2)).take(MAX_RANGES).collect();
            let role = if role % 2 == 0 { Role::InSync(slot) } else { Role::Faulty(slot) };
            let lost_at = EventCount(lost);
            let lost_epoch = Epoch(u32::try_from(lost).unwrap().min(epoch));
            entries.push(Entry { lost_at, lost_epoch, ..entry(slot.0, role) });
            if lost % 3 == 0 {
                entries.push(Entry { rebuilt, ..entry(100 + slot.0, Role::Rebuilding(slot)) });
            }
        }
        entries.extend((0..spares).map(|n| entry(200 + n, Role::Spare)));
        let most = areas.capacity_bytes(&shape).min(1 << 62) / 4096;
        Superblock {
            array: ArrayId::from_random(ids),
            name,
            created_unix_s: numbers[0],
            shape,
            volume_bytes: (numbers[1] % most + 1) * 4096,
            member_bytes,
            areas,
            journal: None,
            write_count: numbers[2],
            membership: Membership {
                event_count: EventCount(numbers[3]),
                lineage: Lineage::from_random(ids),
                previous: previous.into_iter().map(|(id, write_count)| Ancestor { lineage: Lineage::from_bytes(id), write_count }).collect(),
                clean,
                discarded: !clean && numbers[2] % 2 == 1,
                epoch: Epoch(epoch),
                entries,
            },
            ..fresh()
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(sb in any_superblock()) {
        let bytes = sb.encode().unwrap();
        prop_assert_eq!(bytes.len(), SUPERBLOCK_BYTES);
        prop_assert_eq!(Superblock::parse(&bytes).unwrap(), sb);
    }

    #[test]
    fn random_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..SUPERBLOCK_BYTES)) {
        prop_assert!(Superblock::parse(&bytes).is_err());
    }

    #[test]
    fn random_fields_under_a_right_checksum_never_panic(
        at in 20usize..SUPERBLOCK_BYTES - 64, bytes in prop::collection::vec(any::<u8>(), 1..64),
    ) {
        if let Ok(sb) = Superblock::parse(&forged(&rebuilding(), at, &bytes)) {
            prop_assert_eq!(Superblock::parse(&sb.encode().unwrap()).unwrap(), sb);
        }
    }
}
