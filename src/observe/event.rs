//! The events.

use super::Finding;
use crate::units::{EventCount, JournalIndex, MemberId, Seat, Slot};
use serde::Serialize;

/// Something that happened and that an operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// The array is being served.
    ArrayStarted {
        /// Event count of this start.
        event_count: EventCount,
        /// Slots, and seats of the journal, without a current member.
        lost: Vec<Seat>,
        /// Whether the last stop was clean.
        clean: bool,
    },
    /// The array was stopped in order.
    ArrayStopped,
    /// A member was marked faulty; the survivors know it durably.
    MemberFaulty {
        /// Its slot, or its place among the members that bear the journal.
        seat: Seat,
        /// Its path.
        path: String,
        /// Why, for a person.
        reason: String,
    },
    /// A member fails but may not be kicked, because data would become unreadable without it.
    MemberSuspect {
        /// Its slot, or its place among the members that bear the journal.
        seat: Seat,
        /// Its path.
        path: String,
        /// Why, for a person.
        reason: String,
    },
    /// A suspect member answers again.
    MemberRecovered {
        /// Its slot, or its place among the members that bear the journal.
        seat: Seat,
        /// Its path.
        path: String,
    },
    /// A member that was lost is taken back, and filled with what it lacks.
    MemberReturned {
        /// Its seat.
        seat: Seat,
        /// Its path now.
        path: String,
    },
    /// A member could not read something that was then reconstructed.
    ReadRepaired {
        /// Its slot.
        slot: Slot,
        /// Byte offset on the member.
        offset_bytes: u64,
        /// Length in bytes.
        len_bytes: u64,
    },
    /// A rebuild onto a member began or was resumed.
    RebuildStarted {
        /// The slot being rebuilt.
        slot: Slot,
        /// The member it is rebuilt onto.
        member: MemberId,
        /// Its path.
        path: String,
        /// Whether it came from the spares.
        spare: bool,
    },
    /// A rebuild ended and the slot is in sync.
    RebuildFinished {
        /// The slot.
        slot: Slot,
        /// Its path.
        path: String,
    },
    /// A rebuild could not read some stripes (more than `m` shards unreadable) and tries them again.
    RebuildBlocked {
        /// How many stripes are left.
        stripes: u64,
    },
    /// Blocks that a rebuild cannot restore do not hold up the rest: they cannot be read until they are
    /// written anew.
    RebuildGaveUp {
        /// How many.
        blocks: u64,
    },
    /// A new member takes the frames of the journal, and lacks older ones that are needed.
    JournalFilling {
        /// Its number.
        index: JournalIndex,
        /// Its path.
        path: String,
    },
    /// That member has every frame that is needed: it is in sync.
    JournalFilled {
        /// Its number.
        index: JournalIndex,
        /// Its path.
        path: String,
    },
    /// A journal all of whose members were gone was thrown away, and others bear a new one.
    JournalDiscarded {
        /// The last stop was in order: nothing was lost with it.
        clean: bool,
    },
    /// After that every stripe is checked before the array is served.
    StripesChecked {
        /// How many are done.
        done: u64,
        /// Of how many.
        total: u64,
    },
    /// That check ended. Counted in blocks but for the last.
    StripesProven {
        /// Of the volume: did not match their checksums, and were restored.
        restored: u64,
        /// Of the volume: cannot be read until they are written again.
        lost: u64,
        /// Of parity: made anew.
        parity: u64,
        /// Stripes in which the blocks of a missing member rest on parity that nothing proves.
        unproven: u64,
    },
    /// A scrub began, or goes on after a restart.
    ScrubStarted {
        /// Its number.
        number: u64,
        /// It writes anew what it finds damaged, and does not only tell.
        repair: bool,
        /// It had begun before the restart.
        resumed: bool,
    },
    /// A scrub found a damaged block. Only the first thousand of a scrub are told one by one.
    ScrubFinding(Finding),
    /// A scrub ended.
    ScrubFinished {
        /// Its number.
        number: u64,
        /// It was cancelled before it had seen everything.
        cancelled: bool,
        /// Damaged blocks.
        found: u64,
        /// Damaged blocks that were repaired.
        repaired: u64,
        /// Bytes of the volume that cannot be restored.
        unrepairable_bytes: u64,
    },
    /// A device that was given as a member takes no part.
    DeviceRefused {
        /// Its path.
        path: String,
        /// Why, for a person.
        reason: String,
    },
    /// A spare was attached.
    SpareAdded {
        /// Its path.
        path: String,
    },
    /// A member left the array.
    MemberRemoved {
        /// Its path.
        path: String,
    },
}

/// Where events go.
pub trait Observer: Send + Sync {
    /// Takes note; must not block.
    fn event(&self, event: Event);
}

/// An observer that takes no note.
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _event: Event) {}
}
