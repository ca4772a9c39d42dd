//! The membership table: who owns which slot, who holds what, and in which history.

use super::bytes::{Reader, Writer};
use super::journal_members::JournalMembers;
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::Shape;
use crate::units::{Epoch, EventCount, JournalIndex, Lineage, MemberId, Seat, Slot, StripeIndex};
use std::collections::HashSet;

/// Most entries of a membership table: 255 slots, with room for replacements and spares.
pub const MAX_ENTRIES: usize = 280;
/// Most former lineages kept.
pub const MAX_PREVIOUS: usize = 8;
/// Most rebuilt ranges kept per entry.
pub const MAX_RANGES: usize = 4;

pub(super) const ENTRY_BYTES: usize = 96;
const NO_SLOT: u8 = 0xFF;

/// A run of stripes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StripeRange {
    /// First stripe.
    pub start: StripeIndex,
    /// Number of stripes, at least 1.
    pub count: u64,
}

/// What a member is to the array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Owns the slot and holds every write.
    InSync(Slot),
    /// Owns the slot and missed writes.
    Faulty(Slot),
    /// Is being filled, to own the slot.
    Rebuilding(Slot),
    /// Attached, no slot.
    Spare,
    /// Bears the journal and nothing else.
    Journal(JournalIndex, JournalState),
}

/// What a member is that bears the journal and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalState {
    /// Has every frame that is needed.
    InSync,
    /// Missed frames.
    Faulty,
    /// Takes new frames, and lacks older ones that are needed.
    Filling,
}

impl Role {
    /// The slot, if it has one.
    pub fn slot(self) -> Option<Slot> {
        match self {
            Self::InSync(slot) | Self::Faulty(slot) | Self::Rebuilding(slot) => Some(slot),
            Self::Spare | Self::Journal(..) => None,
        }
    }

    /// Its number among those that bear the journal and nothing else, if it is one.
    pub fn journal(self) -> Option<JournalIndex> {
        match self {
            Self::Journal(index, _) => Some(index),
            Self::InSync(_) | Self::Faulty(_) | Self::Rebuilding(_) | Self::Spare => None,
        }
    }

    /// What it serves, if anything.
    pub fn seat(self) -> Option<Seat> {
        match self {
            Self::Journal(index, _) => Some(Seat::Journal(index)),
            role => role.slot().map(Seat::Slot),
        }
    }

    /// Whether it has everything of its slot, or of the journal.
    pub fn is_in_sync(self) -> bool {
        matches!(self, Self::InSync(_) | Self::Journal(_, JournalState::InSync))
    }

    /// Whether it missed something, and is used no more.
    pub fn is_faulty(self) -> bool {
        matches!(self, Self::Faulty(_) | Self::Journal(_, JournalState::Faulty))
    }

    /// Whether it is to take a seat once it has everything.
    fn is_being_filled(self) -> bool {
        matches!(self, Self::Rebuilding(_) | Self::Journal(_, JournalState::Filling))
    }

    fn code(self) -> u8 {
        match self {
            Self::InSync(_) => 1,
            Self::Faulty(_) => 2,
            Self::Rebuilding(_) => 3,
            Self::Spare => 4,
            Self::Journal(_, JournalState::InSync) => 5,
            Self::Journal(_, JournalState::Faulty) => 6,
            Self::Journal(_, JournalState::Filling) => 7,
        }
    }

    fn from_code(code: u8, slot: u8) -> Result<Self> {
        match (code, slot) {
            (1, slot) => Ok(Self::InSync(Slot(slot))),
            (2, slot) => Ok(Self::Faulty(Slot(slot))),
            (3, slot) => Ok(Self::Rebuilding(Slot(slot))),
            (4, NO_SLOT) => Ok(Self::Spare),
            (4, slot) => Err(corrupt(format!("a spare claims slot {slot}"))),
            (5, index) => Ok(Self::Journal(JournalIndex(index), JournalState::InSync)),
            (6, index) => Ok(Self::Journal(JournalIndex(index), JournalState::Faulty)),
            (7, index) => Ok(Self::Journal(JournalIndex(index), JournalState::Filling)),
            (code, _) => Err(corrupt(format!("a member has unknown role {code}"))),
        }
    }
}

/// A history that the present one goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ancestor {
    /// Its identity.
    pub lineage: Lineage,
    /// The write count of the superblocks it ended with. A member that carries a later one of this
    /// lineage was part of a history that went on otherwise.
    pub write_count: u64,
}

/// One member in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who.
    pub member: MemberId,
    /// What it is to the array.
    pub role: Role,
    /// Stripes already filled while rebuilding; sorted, disjoint, at most [`MAX_RANGES`].
    pub rebuilt: Vec<StripeRange>,
    /// The event at which it was lost; 0 if never.
    pub lost_at: EventCount,
    /// It lacks no change of earlier epochs, at most the array's epoch; 0 if never lost.
    pub lost_epoch: Epoch,
    /// An admin took it out: only an admin takes it back.
    pub taken_out: bool,
}

/// The membership of an array, as every live member records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Raised durably at each change.
    pub event_count: EventCount,
    /// Identity of the present history.
    pub lineage: Lineage,
    /// Histories before it, newest first, at most [`MAX_PREVIOUS`].
    pub previous: Vec<Ancestor>,
    /// The array was stopped in order; nothing is under way.
    pub clean: bool,
    /// The journal was thrown away and a new one has not begun yet: no frame and no checkpoint counts, and
    /// unless the last stop was in order parity may not match the data.
    pub discarded: bool,
    /// Of epochs before this one every change is home on every member that counts. From 1 to
    /// [`Epoch::MAX`].
    pub epoch: Epoch,
    /// Everyone who belongs to the array, at most [`MAX_ENTRIES`].
    pub entries: Vec<Entry>,
}

impl Membership {
    /// The entry of a member.
    pub fn entry(&self, member: MemberId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.member == member)
    }

    /// Writes everything but the entries; [`Self::check`] came before.
    pub(super) fn encode_head(&self, out: &mut Writer) {
        out.u64(self.event_count.0);
        out.put(&self.lineage.to_bytes());
        out.u8(u8::from(self.clean));
        out.u8(u8::from(self.discarded));
        out.u8(u8::try_from(self.previous.len()).unwrap_or(u8::MAX));
        out.u8(0);
        out.u32(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        out.u64(0);
        for place in 0..MAX_PREVIOUS {
            out.put(&self.previous.get(place).map_or(Lineage::NIL, |a| a.lineage).to_bytes());
        }
        out.u32(self.epoch.0);
        out.u32(0);
        for place in 0..MAX_PREVIOUS {
            out.u64(self.previous.get(place).map_or(0, |a| a.write_count));
        }
    }

    pub(super) fn encode_entries(&self, out: &mut Writer) {
        for entry in &self.entries {
            entry.encode(out);
        }
    }

    /// Reads everything but the entries; says how many there are.
    pub(super) fn decode_head(input: &mut Reader<'_>) -> Result<(Self, usize)> {
        let event_count = EventCount(input.u64()?);
        let lineage = Lineage::from_bytes(input.array()?);
        let clean = flag(input.u8()?, "clean")?;
        let discarded = flag(input.u8()?, "discarded")?;
        let previous_count = usize::from(input.u8()?);
        input.skip(1)?;
        let entry_count = usize::try_from(input.u32()?).unwrap_or(usize::MAX);
        input.skip(8)?;
        if previous_count > MAX_PREVIOUS || entry_count > MAX_ENTRIES {
            return Err(corrupt(format!("{previous_count} former lineages and {entry_count} members")));
        }
        let mut previous = Vec::with_capacity(previous_count);
        for place in 0..MAX_PREVIOUS {
            let lineage = Lineage::from_bytes(input.array()?);
            if place < previous_count {
                previous.push(Ancestor { lineage, write_count: 0 });
            }
        }
        let epoch = Epoch(input.u32()?);
        input.skip(4)?;
        for place in 0..MAX_PREVIOUS {
            let write_count = input.u64()?;
            if let Some(ancestor) = previous.get_mut(place) {
                ancestor.write_count = write_count;
            }
        }
        let head = Self { event_count, lineage, previous, clean, discarded, epoch, entries: Vec::new() };
        Ok((head, entry_count))
    }

    pub(super) fn decode_entries(&mut self, count: usize, input: &mut Reader<'_>) -> Result<()> {
        self.entries = (0..count).map(|_| Entry::decode(input)).collect::<Result<_>>()?;
        Ok(())
    }

    /// Whether the table makes sense for this shape, number of stripes, and journal members if the
    /// array has any.
    pub(super) fn check(&self, shape: &Shape, stripes: u64, journal: Option<&JournalMembers>) -> Result<()> {
        if self.entries.len() > MAX_ENTRIES {
            return Err(corrupt(format!("{} members, at most {MAX_ENTRIES} fit", self.entries.len())));
        }
        if self.previous.len() > MAX_PREVIOUS {
            return Err(corrupt(format!("{} former lineages", self.previous.len())));
        }
        if self.epoch > Epoch::MAX {
            return Err(corrupt(format!("epoch {} is beyond the last", self.epoch)));
        }
        let mut members = HashSet::new();
        let mut owned = HashSet::new();
        for entry in &self.entries {
            entry.check(shape, stripes, journal)?;
            if entry.lost_epoch > self.epoch {
                let (member, lost) = (entry.member, entry.lost_epoch);
                return Err(corrupt(format!(
                    "member {member} was lost in epoch {lost}, after {}",
                    self.epoch
                )));
            }
            if !members.insert(entry.member) {
                return Err(corrupt(format!("member {} is listed twice", entry.member)));
            }
            // A seat may have one owner and, beside it, one member being filled.
            if let Some(seat) = entry.role.seat()
                && !owned.insert((seat, entry.role.is_being_filled()))
            {
                return Err(corrupt(format!("{seat} has two owners")));
            }
        }
        Ok(())
    }
}

impl Entry {
    fn encode(&self, out: &mut Writer) {
        out.put(&self.member.to_bytes());
        out.u8(self.role.code());
        out.u8(match self.role.seat() {
            Some(Seat::Slot(slot)) => slot.0,
            Some(Seat::Journal(index)) => index.0,
            None => NO_SLOT,
        });
        out.u8(u8::try_from(self.rebuilt.len()).unwrap_or(u8::MAX));
        out.u8(u8::from(self.taken_out));
        out.u32(self.lost_epoch.0);
        out.u64(self.lost_at.0);
        for place in 0..MAX_RANGES {
            let (start, count) = self.rebuilt.get(place).map_or((0, 0), |range| (range.start.0, range.count));
            out.u64(start);
            out.u64(count);
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self> {
        let member = MemberId::from_bytes(input.array()?);
        let role = Role::from_code(input.u8()?, input.u8()?)?;
        let ranges = usize::from(input.u8()?);
        let taken_out = flag(input.u8()?, "taken out")?;
        let lost_epoch = Epoch(input.u32()?);
        let lost_at = EventCount(input.u64()?);
        if ranges > MAX_RANGES {
            return Err(corrupt(format!("member {member} has {ranges} rebuilt ranges")));
        }
        let mut rebuilt = Vec::with_capacity(ranges);
        for place in 0..MAX_RANGES {
            let range = StripeRange { start: StripeIndex(input.u64()?), count: input.u64()? };
            if place < ranges {
                rebuilt.push(range);
            }
        }
        Ok(Self { member, role, rebuilt, lost_at, lost_epoch, taken_out })
    }

    fn check(&self, shape: &Shape, stripes: u64, journal: Option<&JournalMembers>) -> Result<()> {
        let bad = |what: String| Err(corrupt(format!("member {} {what}", self.member)));
        if self.member.is_nil() {
            return bad("has no identity".to_owned());
        }
        if let Some(slot) = self.role.slot()
            && slot.index() >= shape.width()
        {
            return bad(format!("claims slot {slot} of {}", shape.width()));
        }
        if let Role::Journal(index, _) = self.role {
            let count = journal.map_or(0, |j| usize::from(j.count));
            if index.index() >= count {
                return bad(format!("claims journal-{index}, of {count}"));
            }
            if !self.rebuilt.is_empty() {
                return bad("bears the journal and has rebuilt stripes".to_owned());
            }
        }
        if self.rebuilt.len() > MAX_RANGES {
            return bad(format!("has {} rebuilt ranges", self.rebuilt.len()));
        }
        let mut free_from = 0;
        for range in &self.rebuilt {
            let end = range.start.0.checked_add(range.count).filter(|end| *end <= stripes);
            match end {
                Some(end) if range.count > 0 && range.start.0 >= free_from => free_from = end,
                _ => return bad("has rebuilt ranges that are empty, overlap or lie outside".to_owned()),
            }
        }
        Ok(())
    }
}

fn flag(byte: u8, name: &str) -> Result<bool> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(corrupt(format!("flag {name} is {byte}"))),
    }
}

fn corrupt(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, format!("membership is impossible: {}", what.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> MemberId {
        MemberId::from_bytes([n; 16])
    }

    fn entry(n: u8, role: Role) -> Entry {
        Entry {
            member: id(n),
            role,
            rebuilt: Vec::new(),
            lost_at: EventCount(0),
            lost_epoch: Epoch(0),
            taken_out: false,
        }
    }

    fn check(entries: Vec<Entry>) -> Result<()> {
        let table = Membership {
            event_count: EventCount(1),
            lineage: Lineage::from_bytes([9; 16]),
            previous: Vec::new(),
            clean: true,
            discarded: false,
            epoch: Epoch(1),
            entries,
        };
        let journal = JournalMembers::plan(2, 64 << 20).unwrap();
        table.check(&Shape::new(2, 1, 4096).unwrap(), 100, Some(&journal))
    }

    fn with_ranges(ranges: &[(u64, u64)]) -> Vec<Entry> {
        let rebuilt = ranges.iter().map(|(s, count)| StripeRange { start: StripeIndex(*s), count: *count });
        vec![Entry { rebuilt: rebuilt.collect(), ..entry(1, Role::Rebuilding(Slot(0))) }]
    }

    #[test]
    fn a_slot_has_one_owner_and_at_most_one_member_being_filled() {
        let (sync, faulty, filling) =
            (Role::InSync(Slot(1)), Role::Faulty(Slot(1)), Role::Rebuilding(Slot(1)));
        assert!(check(vec![entry(1, sync), entry(2, filling), entry(3, Role::Spare)]).is_ok());
        assert!(check(vec![entry(1, faulty), entry(2, filling), entry(3, Role::InSync(Slot(2)))]).is_ok());
        assert!(check(vec![entry(3, Role::Spare), entry(4, Role::Spare)]).is_ok());
        assert!(check(vec![entry(1, sync), entry(2, faulty)]).is_err());
        assert!(check(vec![entry(1, filling), entry(2, filling)]).is_err());
    }

    #[test]
    fn journal_members_have_numbers_of_their_own_below_their_count() {
        use JournalState::{Faulty, Filling, InSync};
        let journal = |n, index, state| entry(n, Role::Journal(JournalIndex(index), state));
        let slots = || vec![entry(8, Role::InSync(Slot(0))), entry(9, Role::InSync(Slot(1)))];
        let with = |more: Vec<Entry>| check(slots().into_iter().chain(more).collect());
        assert!(with(vec![journal(1, 0, InSync), journal(2, 1, Faulty), journal(3, 1, Filling)]).is_ok());
        assert!(with(vec![journal(1, 0, InSync), journal(2, 0, Faulty)]).is_err());
        assert!(with(vec![journal(1, 0, Filling), journal(2, 0, Filling)]).is_err());
        assert!(with(vec![journal(1, 2, InSync)]).is_err());
        let rebuilt = vec![StripeRange { start: StripeIndex(0), count: 1 }];
        assert!(with(vec![Entry { rebuilt, ..journal(1, 0, Filling) }]).is_err());
    }

    #[test]
    fn a_member_is_known_listed_once_and_in_a_slot_that_exists() {
        assert!(check(vec![entry(1, Role::Spare), entry(1, Role::InSync(Slot(0)))]).is_err());
        assert!(check(vec![entry(1, Role::InSync(Slot(3)))]).is_err());
        assert!(check(vec![entry(0, Role::Spare)]).is_err());
    }

    #[test]
    fn rebuilt_ranges_are_sorted_disjoint_and_inside() {
        assert!(check(with_ranges(&[(0, 10), (10, 5), (50, 50)])).is_ok());
        for bad in [
            &[(0, 10), (9, 1)][..],
            &[(5, 1), (0, 1)],
            &[(0, 0)],
            &[(99, 2)],
            &[(u64::MAX, 2)],
            &[(0, 1), (2, 1), (4, 1), (6, 1), (8, 1)],
        ] {
            assert!(check(with_ranges(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_member_was_lost_in_an_epoch_that_has_not_begun() {
        let lost_in =
            |epoch| check(vec![Entry { lost_epoch: Epoch(epoch), ..entry(1, Role::Faulty(Slot(0))) }]);
        assert!(lost_in(0).is_ok() && lost_in(1).is_ok());
        assert!(lost_in(2).is_err());
    }

    #[test]
    fn a_table_beyond_its_limit_is_refused() {
        let many = |count: usize| {
            let ids = (1..=count).map(|n| MemberId::from_bytes((n as u128).to_le_bytes()));
            ids.map(|member| Entry { member, ..entry(1, Role::Spare) }).collect()
        };
        assert!(check(many(MAX_ENTRIES)).is_ok());
        assert!(check(many(MAX_ENTRIES + 1)).is_err());
    }
}
