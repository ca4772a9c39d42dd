//! What protects the data, each by a name, so that the simulation can do without it and see the loss.
//!
//! The engine asks [`without`] at the one place where a protection is made. In the program the answer
//! is a constant `false` and nothing is left of the question. Built for tests and examples (feature
//! `mutations`) a thread may take one protection away for a while. `docs/proofs.md` says of each what
//! then goes wrong, and how soon the simulation finds it.

/// Names each protection once; the text of its comment is what reports print.
macro_rules! protections {
    ($($(#[doc = $about:literal])+ $name:ident,)+) => {
        /// A protection: what the engine does, and a run without it does not.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Protection {
            $($(#[doc = $about])+ $name,)+
        }

        impl Protection {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// What the engine does, in a sentence.
            pub fn about(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($about),+).trim_ascii_start(),)+
                }
            }

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }
    };
}

protections! {
    // The journal.
    /// A frame takes the place of what a new member alone has from before a crash, before it counts.
    MarkBeforeCompletion,
    /// A write is answered only when its frame is on every member that counts.
    FrameBeforeAnswer,
    /// Frames are honoured in the order of the log.
    FramesInOrder,
    /// A member that could not take a frame no longer counts.
    FailedFrameWrite,
    /// A frame continues the chain only if it names the nonce of the one before.
    NonceChain,
    /// A frame that cannot be put together does not hide another one in its place.
    EveryFrameTried,
    /// A shard of a frame counts only if it matches its checksum.
    ShardChecksum,
    /// A frame, or a checkpoint page, counts only in the array it was written for.
    JournalOwner,
    /// A header of a frame, and a checkpoint page, counts only if it matches its checksum.
    HeaderChecksum,
    /// A shard counts only on the member of its slot.
    ShardSlot,
    /// A frame counts only where it was written.
    FramePlace,
    /// Shards that a member lacks are written anew after a crash.
    FramesMended,
    /// What was read back is made durable before the first byte goes home.
    FramesFlushed,
    /// A frame is released only by a flush that began after what it is needed for was written home.
    ReleaseByLaterFlush,
    /// A frame is released only when it was written, though nobody may need it any more.
    WrittenBeforeRelease,
    /// A content that was overwritten keeps its frame until the newer one's is durable.
    ReplacedKeepsFrame,
    /// Space of the ring is used again only when the checkpoint that frees it is durable.
    CheckpointDurable,
    /// A changed page of a checksum table keeps the frame that can change it again.
    SumsKeepFrame,
    /// A changed page of the epoch map keeps the frame that can change it again.
    EpochsKeepFrame,

    // Requests.
    /// A flush flushes the members.
    FlushMembers,
    /// A write with FUA flushes the members.
    FuaMembers,
    /// Who merges a part of a block with the rest keeps out whoever writes that block.
    MergeAlone,
    /// With a member lost, whole stripes go through the journal.
    DegradedInJournal,
    /// Space is punched only when the journal says durably that it is zero.
    ZeroBeforePunch,
    /// A member that does not answer a punch no longer counts.
    UnansweredPunch,
    /// A member whose flush failed is not read.
    DoubtAfterFlush,
    /// What is read of a member that no longer counts is not used.
    LostNotRead,
    /// A chunk is reconstructed under its stripe's lock.
    DegradedReadLock,
    /// What was read is compared with its checksum.
    BlockChecksum,

    // Bringing blocks home.
    /// New parity is in the journal before home is touched.
    ParityInJournal,
    /// The new parity's frame is durable before home is touched.
    WriteAheadFlush,
    /// Parity takes up the change of every block of a row.
    ParityDelta,
    /// A member that could not take a home write no longer counts.
    FailedHomeWrite,
    /// What too few members could take is kept and written later.
    TornKept,
    /// Nothing is reconstructed from the parity of a torn stripe.
    TornNotUsed,
    /// A block that was written again on its way home stays staged.
    NewerStaysStaged,
    /// What is written back as it was keeps its entry in the table.
    RestKeepsEntry,
    /// Blocks of a stripe that was unallocated become zero when it is first written.
    FreshIsZero,
    /// The journal says whether a stripe was unallocated before it was changed.
    FreshInJournal,
    /// Without parity a block of a lost member does not go home.
    LostStaysInJournal,
    /// Parity of a row that was changed without it becomes not known.
    BareParityUnknown,

    // Whole stripes.
    /// Stripes are open in the journal before they are written whole.
    OpenInJournal,
    /// The record that opens stripes is durable before they are touched.
    OpenFlush,
    /// The record that opens stripes has the checksums they will have.
    OpenChecksums,
    /// The record that opens stripes says which of their blocks do not change.
    SameInJournal,
    /// What went home of a stripe is durable before it is opened.
    SettledBeforeOpen,
    /// A row is completed from new parity only if no block was changed after it.
    ParityOfItsRow,
    /// What is lost of a torn row is entered as not known.
    LostIsUnknown,
    /// After the journal was discarded every stripe is checked before anybody is served.
    StripesProven,
    /// What a start made of a torn stripe is in the journal.
    DecidedInJournal,

    // Tables.
    /// A checksum depends on the slot.
    SlotInChecksum,
    /// A checksum depends on the block's number.
    BlockInChecksum,
    /// A sector of a table counts only if it matches its checksum.
    SectorChecksum,
    /// A sector of a table counts only in its own place.
    SectorPlace,
    /// A sector of a table counts only in the table it was written for.
    SectorOwner,
    /// Pages of the epoch map go home before their frames are released.
    EpochsHome,
    /// Of two copies of a sector of the epoch map the later one counts.
    EpochGeneration,
    /// What a page of a checksum table lost is restored before somebody relies on it.
    GapsFilled,
    /// Blocks that a page of a checksum table does not know are restored like those that it lost.
    UnknownIsGap,
    /// A scrub that has ended left the checksum tables home.
    TablesAfterScrub,
    /// The checksums of a stripe are durable before the epoch map says at home that it is allocated.
    TablesBeforeMap,
    /// Checksum tables go home to those who are members by then.
    TablesOfTheNew,

    // Replacements.
    /// A stripe is locked while it is rebuilt.
    RebuildLock,
    /// What a replay touches is filled anew in a replacement.
    RebuiltForgotten,
    /// What a member that comes back does not know of its own blocks is filled, too.
    UnknownFilled,
    /// A replacement counts only when no frame from before it was filled is needed.
    SettledOnto,
    /// A replacement gets the whole epoch map before it counts.
    EpochsToReplacement,
    /// A replacement gets a checkpoint before it counts.
    CheckpointToReplacement,
    /// Stripes are recorded as rebuilt only when their checksums are home.
    TablesBeforeProgress,
    /// A new array's epoch map is blank, whatever was there before.
    BlankAtFirst,

    // Membership.
    /// A change of members, and a start, raises the event count.
    EventRaised,
    /// A change is recorded twice before it is acted upon.
    TwoRounds,
    /// A change is recorded before it is acted upon.
    RecordBeforeActing,
    /// A superblock is flushed before it counts as written.
    SuperblockFlushed,
    /// A superblock is written beside the one before, not over it.
    SuperblockBeside,
    /// A superblock counts only if it matches its checksum.
    SuperblockChecksum,
    /// A start records the last change anew before it counts on.
    StartRecordsFirst,
    /// A start without some members begins a new lineage.
    NewLineage,
    /// Members of unrelated lineages are not joined.
    LineageCompared,
    /// A member that is two events behind is stale.
    StaleRefused,
    /// Of several members with one identity only the newest counts.
    NewestCopy,
    /// A change that was given up does not keep the array from starting.
    GivenUpChange,
    /// The return of the last suspect is recorded on all members.
    ReturnRecorded,
    /// A member whose superblock was overwritten no longer counts.
    OverwrittenNoticed,
    /// A member that cannot be spared is kept.
    LastIsKept,
    /// With too few members left writes are refused.
    BeyondRefused,
    /// The last member that bears the journal is kept.
    LastBearerKept,

    // Members that come back.
    /// A returning member lacks what its own epoch map lacks.
    OwnMapCompared,
    /// A member whose epoch map lacks what it must have is an older image of itself.
    ImageByMap,
    /// A member whose checkpoint is not one it can have is an older image of itself.
    ImageByCheckpoint,
}

/// Whether this thread does without a protection now: never in the program.
#[cfg(not(feature = "mutations"))]
#[inline(always)]
pub const fn without(_: Protection) -> bool {
    false
}

#[cfg(feature = "mutations")]
pub use switch::{Removed, without};

#[cfg(feature = "mutations")]
mod switch {
    use super::Protection;
    use std::cell::Cell;

    thread_local! {
        /// A bit for each.
        static REMOVED: Cell<u128> = const { Cell::new(0) };
    }

    /// Whether this thread does without a protection now: never in the program.
    #[inline]
    pub fn without(protection: Protection) -> bool {
        REMOVED.get() & bit(protection) != 0
    }

    fn bit(protection: Protection) -> u128 {
        1 << (protection as u32)
    }

    /// Protections taken away from this thread, until this is dropped.
    #[must_use = "it is back as soon as this is dropped"]
    pub struct Removed(());

    impl Removed {
        /// Takes these protections away, and gives any other one back.
        pub fn new(protections: &[Protection]) -> Self {
            REMOVED.set(protections.iter().fold(0, |all, p| all | bit(*p)));
            Self(())
        }
    }

    impl Drop for Removed {
        fn drop(&mut self) {
            REMOVED.set(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_away_unless_a_test_asks_and_only_from_its_own_thread() {
        let removed = || Protection::ALL.iter().filter(|p| without(**p)).count();
        assert_eq!(removed(), 0);
        let two = Removed::new(&[Protection::TwoRounds, Protection::ImageByCheckpoint]);
        assert!(without(Protection::TwoRounds) && without(Protection::ImageByCheckpoint));
        assert_eq!(removed(), 2);
        std::thread::scope(|scope| drop(scope.spawn(|| assert_eq!(removed(), 0)).join()));
        drop(two);
        assert_eq!(removed(), 0);
    }
}
