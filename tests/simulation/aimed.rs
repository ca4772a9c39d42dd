//! Scripts, each aimed at one protection: the few requests, the one moment of the crash, the writes lost with it and
//! the members missing after it that show what it is for. Runs that draw all of that meet them rarely, or never.
//!
//! A seed's script is the seed's remainder; where in the volume, on whom and how long after what is drawn.

use super::io::Request;
use super::scenario::{JournalOn, Scenario};
use super::world::{Check, Running, World};
use palisade::env::Environment;
use palisade::env::sim::{Prng, SimEnv};
use palisade::geometry::Shape;
use palisade::units::BLOCK_BYTES;
use std::time::Duration;

/// A script. Each is described where it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    Replaced,
    Released,
    Mended,
    Marked,
    Misdirected,
    Foreign,
    Passed,
    Unsettled,
    Decided,
    LostBlock,
    BareRow,
    Forgotten,
    Unrecorded,
    Doubted,
    Acting,
    GivenUp,
    Refused,
    ImageByCheckpoint,
    ImageByMap,
    ImageReturns,
    ImageByEvent,
    Reused,
    Outdated,
    LostRead,
    Between,
    Unknown,
    Unfilled,
    Scrubbed,
    Degraded,
    Joined,
    Hidden,
    Unwritten,
}

impl Aim {
    pub const ALL: [Self; 32] = [
        Self::Replaced,
        Self::Released,
        Self::Mended,
        Self::Marked,
        Self::Misdirected,
        Self::Foreign,
        Self::Passed,
        Self::Unsettled,
        Self::Decided,
        Self::LostBlock,
        Self::BareRow,
        Self::Forgotten,
        Self::Unrecorded,
        Self::Doubted,
        Self::Acting,
        Self::GivenUp,
        Self::Refused,
        Self::ImageByCheckpoint,
        Self::ImageByMap,
        Self::ImageReturns,
        Self::ImageByEvent,
        Self::Reused,
        Self::Outdated,
        Self::LostRead,
        Self::Between,
        Self::Unknown,
        Self::Unfilled,
        Self::Scrubbed,
        Self::Degraded,
        Self::Joined,
        Self::Hidden,
        Self::Unwritten,
    ];

    /// The script of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let all = Self::ALL.len() as u64;
        Self::ALL[usize::try_from(seed % all).unwrap()]
    }

    /// The seeds of a script, in order.
    #[allow(dead_code, reason = "the proofs'")]
    pub fn seeds(self) -> impl Iterator<Item = u64> {
        let all = Self::ALL.len() as u64;
        (self as u64..)
            .step_by(Self::ALL.len())
            .inspect(move |seed| debug_assert!(*seed % all == self as u64))
    }

    pub fn journal(self) -> JournalOn {
        if self == Self::Marked { JournalOn::Own(1) } else { JournalOn::Slots }
    }

    /// Data and parity chunks, bytes of a chunk, stripes.
    fn shape(self) -> (u8, u8, u64, u64) {
        match self {
            Self::Replaced => (2, 1, 256 << 10, 4),
            Self::Misdirected | Self::Hidden => (1, 1, 8192, 24),
            Self::Mended | Self::Passed => (4, 1, 4096, 24),
            Self::GivenUp => (3, 1, 4096, 24),
            Self::LostBlock | Self::BareRow => (2, 1, 32 << 10, 160),
            Self::Forgotten | Self::Unrecorded => (2, 1, 4096, 1536),
            Self::Reused => (2, 1, 4096, 2400),
            Self::Doubted => (2, 1, 64 << 10, 1700),
            Self::LostRead => (2, 2, 8192, 24),
            Self::Between => (2, 1, 16 << 10, 24),
            _ => (2, 1, 8192, 24),
        }
    }

    /// The world of the script.
    pub async fn world(self, harness: &SimEnv, random: Prng) -> Check<World> {
        let (data, parity, chunk, stripes) = self.shape();
        let shape = Shape::new(data, parity, chunk).map_err(|e| e.report())?;
        let bytes = stripes * shape.stripe_bytes();
        World::with_shape(harness, random, Scenario::Aimed, self.journal(), shape, bytes).await
    }

    pub async fn run(self, world: &mut World) -> Check {
        match self {
            Self::Replaced => world.replaced_content().await,
            Self::Released => world.released_by_an_older_flush().await,
            Self::Mended => world.mended_shards_lost().await,
            Self::Marked => world.frame_of_a_new_member().await,
            Self::Misdirected => world.misdirected_frame().await,
            Self::Foreign => world.foreign_checkpoint().await,
            Self::Passed => world.table_passed_over().await,
            Self::Unsettled => world.opened_before_home_is_durable().await,
            Self::Decided => world.opened_again_after_a_crash().await,
            Self::LostBlock => world.row_beyond_repair(false).await,
            Self::BareRow => world.row_beyond_repair(true).await,
            Self::Forgotten => world.filled_and_then_redone().await,
            Self::Unrecorded => world.filled_without_checksums().await,
            Self::Doubted => world.read_after_a_failed_flush().await,
            Self::Acting => world.acted_upon_before_recorded().await,
            Self::GivenUp => world.change_given_up().await,
            Self::Refused => world.written_with_too_few().await,
            Self::ImageByCheckpoint => world.image_known_by_its_checkpoint(false).await,
            Self::ImageByEvent => world.image_known_by_its_checkpoint(true).await,
            Self::Reused => world.ring_reused().await,
            Self::Outdated => world.parity_from_before_a_change().await,
            Self::Between => world.zeroes_between_blocks().await,
            Self::LostRead => world.read_of_a_member_lost_meanwhile().await,
            Self::ImageByMap => world.image_known_by_its_map().await,
            Self::Unknown => world.returns_without_a_checksum().await,
            Self::Unfilled => world.killed_without_a_checksum().await,
            Self::Scrubbed => world.scrubbed_and_killed().await,
            Self::Degraded => world.whole_with_a_member_lost().await,
            Self::Joined => world.filled_as_tables_go_home().await,
            Self::ImageReturns => world.image_of_a_lost_member().await,
            Self::Hidden => world.frame_behind_a_torn_one().await,
            Self::Unwritten => world.released_before_it_was_written().await,
        }?;
        world.drain().await
    }
}

impl World {
    /// Every stripe written, everything home, the journal empty.
    pub async fn all_written(&mut self) -> Check {
        self.fill(self.volume_bytes).await?;
        self.start_afresh().await
    }

    /// Stops and starts.
    pub async fn start_afresh(&mut self) -> Check {
        self.stop().await?;
        self.assemble().await.map_err(|e| format!("does not start again: {}", e.report()))
    }

    /// Starts after a crash and looks at every byte.
    pub async fn start_and_look(&mut self, when: &str) -> Check {
        self.assemble().await.map_err(|e| format!("does not start {when}: {}", e.report()))?;
        self.verify_volume(when).await
    }

    /// Writes something aside: the first write of all is recorded on all members before it is answered.
    pub async fn in_use(&mut self) -> Check {
        let last = self.volume_bytes / BLOCK_BYTES - 1;
        self.write_blocks(last, 1, true).await
    }

    /// Begins to write some blocks.
    pub fn begin_write(&self, block: u64, blocks: u64, durable: bool) {
        let Running { process, array } = self.running();
        let (offset, len) = (block * BLOCK_BYTES, blocks * BLOCK_BYTES);
        let write = Request::Write { offset, len, durable, aligned: true };
        self.io.start(&process, &array.volume(), write, Duration::ZERO);
    }

    /// Writes some blocks.
    pub async fn write_blocks(&self, block: u64, blocks: u64, durable: bool) -> Check {
        self.begin_write(block, blocks, durable);
        self.drain().await
    }

    /// A flush that is waited for to its end.
    pub async fn flush_now(&self) -> Check {
        let Running { process, array } = self.running();
        let tick = self.io.model.borrow_mut().tick();
        let volume = array.volume();
        match process.call(async move { volume.flush().await }).await {
            Some(Ok(())) => self.io.model.borrow_mut().flushed(tick),
            Some(Err(e)) => return Err(format!("flush failed: {}", e.report())),
            None => {}
        }
        Ok(())
    }

    /// Some stripe of the volume.
    pub fn any_stripe(&mut self) -> u64 {
        self.random.below(self.volume_bytes / self.io.stripe_bytes)
    }

    /// The number of a block of the volume: of a stripe's data shard, in a row.
    pub fn block_of(&self, stripe: u64, shard: usize, row: u64) -> u64 {
        let chunk = self.shape.chunk_bytes();
        (stripe * self.io.stripe_bytes + shard as u64 * chunk) / BLOCK_BYTES + row
    }

    /// The slots but some, in random order.
    pub fn other_disks(&mut self, but: &[&str]) -> Check<Vec<String>> {
        let mut paths = self.shape.slots().map(|slot| self.path_of(slot)).collect::<Check<Vec<_>>>()?;
        paths.retain(|path| !but.contains(&path.as_str()));
        self.random.shuffle(&mut paths);
        Ok(paths)
    }

    /// Lets time pass without a request.
    pub async fn idle(&self, ms: u64) -> Check {
        self.harness.sleep(Duration::from_millis(ms)).await;
        self.verdict()
    }
}
