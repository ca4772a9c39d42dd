//! A row whose parity, with its checksum, is older than its data, and no journal to tell: what a power cut leaves
//! now and then, made on purpose.

#![allow(dead_code, reason = "the test's, not the tool's")]

use super::discard::{Change, carry_out, of};
use super::rot::superblock_of;
use super::run::STEP_LIMIT;
use super::scenario::{JournalOn, Scenario};
use super::world::{Check, World};
use palisade::env::sim::{Prng, SimEnv, Simulation};
use palisade::geometry::Shape;
use palisade::member::sim::Crash;
use palisade::units::{BLOCK_BYTES, Slot};

const BLOCKS: u64 = 64;

/// Makes such a row, discards the journal, and reads the row's idle block with its member lost.
pub fn torn_row() -> Check {
    let mut sim = Simulation::new(7).step_limit(STEP_LIMIT);
    let harness = sim.handle();
    sim.run(run(harness)).map_err(|stuck| stuck.to_string())?
}

async fn run(harness: SimEnv) -> Check {
    let shape = Shape::new(2, 1, BLOCK_BYTES).unwrap();
    let (scenario, journal, random) = (Scenario::Discard, JournalOn::Own(1), Prng::new(7));
    let bytes = BLOCKS * BLOCK_BYTES;
    let mut world = World::with_shape(&harness, random, scenario, journal, shape, bytes).await?;
    write(&world, 1, 0, BLOCKS).await?;
    world.whole().await?;
    // Of stripe 0 blocks 0 and 1 are in slots 0 and 1, and parity is in slot 2.
    let path = |world: &World, slot| World::in_sync(&world.report(), Slot(slot)).unwrap().path.clone();
    let (idle, parity) = (path(&world, 1), path(&world, 2));
    let before = world.disks.image(&parity).unwrap();
    write(&world, 2, 0, 1).await?;
    world.whole().await?;
    write(&world, 3, BLOCKS - 1, 1).await?;
    world.crash(Crash::Kill);
    let disk = world.disks.get(&parity).unwrap();
    let areas = superblock_of(&disk).unwrap().areas;
    for (offset, len) in [(areas.data_offset, 4096), (areas.checksum_offset, 4096)] {
        disk.scribble(offset, &before.peek(offset, len));
    }
    drop(world.take_journals());
    world.discard = world.new_journals();
    world.assemble().await.map_err(|e| e.report())?;
    world.discard.clear();
    world.stop().await?;
    drop(world.disks.detach(&idle));
    world.assemble().await.map_err(|e| e.report())?;
    let volume = world.running().array.volume();
    let read = world.running().process.call(async move { volume.read(BLOCK_BYTES, BLOCK_BYTES).await });
    let bytes = read.await.unwrap().map_err(|e| e.report())?.concat();
    match bytes == of(1, 1) {
        true => Ok(()),
        false => Err(format!("the idle block became {:02x?}", &bytes[..16])),
    }
}

async fn write(world: &World, value: u32, first: u64, count: u64) -> Check {
    let volume = world.running().array.volume();
    let change = Change::Write { durable: true };
    let written = world.running().process.call(async move {
        carry_out(&*volume, change, value, first * BLOCK_BYTES, count * BLOCK_BYTES).await
    });
    written.await.unwrap().map_err(|e| e.report())
}
