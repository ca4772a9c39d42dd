//! What a read of the volume may answer.
//!
//! Every 4 KiB block has a base (what is known durable) and layers on top: one for each write that
//! is under way, not known durable, or of unknown outcome. A tick counts events. A layer with
//! ticks `(start, end)` is *displaced* for a reader once a definite layer over the same bytes began
//! after its end and ended before the reader began. A byte may be any value not displaced:
//!
//! ```text
//!   write A   |-------|
//!   write B        |-------|                 A and B overlap: either may win
//!   write C                     |----|       displaces both
//!   read                    |-----------|    may answer A, B or C; neither base
//! ```
//!
//! - A crash makes writes under way indefinite: they may or may not have happened, and displace
//!   nothing. A power cut makes every answered write indefinite that is not durable.
//! - A read that finds one of several possible values, with no write under way, settles it.
//! - A discard is indefinite from the start: each byte reads as before or as zero.
//! - Blocks of whole stripes that were being rewritten in a crash, and whose home was touched by then, are
//!   in doubt until they are written again: their read may fail (P4). Stripes that were made zero are not:
//!   nothing at home is written for that.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

const BLOCK: u64 = 4096;
const BLOCK_LEN: usize = 4096;
const NEVER: u64 = u64::MAX;

/// The number of a change, for its end and for messages.
pub type ChangeId = u32;

/// No change of ours: what a reader saw.
const SEEN: ChangeId = 0;

#[derive(Clone)]
struct Layer {
    id: ChangeId,
    start: u64,
    end: u64,
    durable: bool,
    definite: bool,
    /// Answered with an error; or what a reader saw, and it may have been such a change.
    failed: bool,
    /// What the disks had done when it began.
    mark: u64,
    /// The whole change: start and end in the volume.
    range: (u64, u64),
    from: usize,
    to: usize,
    /// Bytes of `from..to`; zeroes if none.
    data: Option<Bytes>,
}

#[derive(Clone, Default)]
struct Block {
    /// Zeroes if none.
    base: Option<Box<[u8; BLOCK_LEN]>>,
    /// Its stripe was being rewritten whole in a crash, and it was not written since: its read may fail.
    doubted: bool,
    /// When that was, if what ended it is not durable: a power cut brings the doubt back.
    doubted_at: Option<u64>,
    layers: Vec<Layer>,
}

/// How a change ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Answered.
    Done,
    /// Answered and durable.
    Durable,
    /// Answered with an error: happened or not.
    Failed,
}

/// The model of a volume.
#[derive(Clone)]
pub struct Model {
    blocks: Vec<Block>,
    tick: u64,
    next_id: ChangeId,
    under_way: BTreeMap<ChangeId, Vec<usize>>,
    /// Operations of the disks so far, as last told.
    mark: u64,
    /// What a reader sees does not tell what becomes of changes that failed.
    failed_may_come: bool,
    /// Ticks of the reads under way: what they may still answer is not forgotten.
    readers: BTreeSet<u64>,
}

impl Layer {
    fn touches(&self, from: usize, to: usize) -> bool {
        self.from < to && from < self.to
    }

    /// Not known to be as it was asked for if the machine goes down now. One that failed may be
    /// half done until a flush was answered, which leaves nothing half done.
    fn at_risk(&self, power_cut: bool) -> bool {
        self.end == NEVER || !self.durable && (power_cut || self.failed)
    }

    /// Whether it has these bytes at `at`.
    fn is(&self, at: usize, bytes: &[u8]) -> bool {
        match &self.data {
            Some(data) => data[at - self.from..at - self.from + bytes.len()] == *bytes,
            None => bytes.iter().all(|b| *b == 0),
        }
    }
}

impl Model {
    pub fn new(volume_bytes: u64) -> Self {
        let blocks = (0..volume_bytes / BLOCK).map(|_| Block::default()).collect();
        Self {
            blocks,
            tick: 1,
            next_id: 1,
            under_way: BTreeMap::new(),
            mark: 0,
            failed_may_come: false,
            readers: BTreeSet::new(),
        }
    }

    /// A read begins; [`Self::end_read`] must follow, whatever it answers.
    pub fn begin_read(&mut self) -> u64 {
        let tick = self.tick();
        self.readers.insert(tick);
        tick
    }

    pub fn end_read(&mut self, tick: u64) {
        self.readers.remove(&tick);
    }

    /// The disks were asked for so many operations so far.
    pub fn disks_are_at(&mut self, operations: u64) {
        self.mark = operations;
    }

    /// Changes that failed may come about later, whatever is read meanwhile: so it is while more members fail
    /// than may.
    pub fn let_failed_come(&mut self, so: bool) {
        self.failed_may_come = so;
    }

    fn horizon(&self) -> u64 {
        self.readers.first().copied().unwrap_or(NEVER)
    }

    pub fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    pub fn next_id(&self) -> ChangeId {
        self.next_id
    }

    /// A write of `data`, or of zeroes; a discard is an indefinite write of zeroes.
    pub fn begin(&mut self, offset: u64, len: u64, data: Option<&Bytes>, discard: bool) -> ChangeId {
        let id = self.next_id;
        self.next_id += 1;
        let (start, mark) = (self.tick(), self.mark);
        let mut touched = Vec::new();
        for (index, from, to, at) in parts(offset, len) {
            let data = data.map(|d| d.slice(at..at + (to - from)));
            let (definite, range) = (!discard, (offset, offset + len));
            self.blocks[index].layers.push(Layer {
                id,
                start,
                end: NEVER,
                durable: false,
                definite,
                failed: false,
                mark,
                range,
                from,
                to,
                data,
            });
            touched.push(index);
        }
        self.under_way.insert(id, touched);
        id
    }

    pub fn end(&mut self, id: ChangeId, ending: Ending) {
        let end = self.tick();
        let horizon = self.horizon();
        for index in self.under_way.remove(&id).unwrap() {
            let block = &mut self.blocks[index];
            let layer = block.layers.iter_mut().find(|l| l.id == id).unwrap();
            layer.end = end;
            layer.durable = ending == Ending::Durable;
            layer.failed = ending == Ending::Failed;
            layer.definite &= !layer.failed;
            let written = layer.definite && layer.to - layer.from == BLOCK_LEN;
            block.doubted &= !written;
            if written && layer.durable {
                block.doubted_at = None;
            }
            block.prune(horizon);
        }
    }

    /// A flush that began at `tick` was answered.
    pub fn flushed(&mut self, tick: u64) {
        let horizon = self.horizon();
        for block in &mut self.blocks {
            if block.layers.is_empty() {
                continue;
            }
            let covered = |l: &&mut Layer| l.end < tick && !(l.id == SEEN && l.failed);
            block.layers.iter_mut().filter(covered).for_each(|l| l.durable = true);
            let since = block.doubted_at.unwrap_or(0);
            let whole = |l: &Layer| l.definite && l.to - l.from == BLOCK_LEN;
            if block.layers.iter().any(|l| l.durable && l.start > since && whole(l)) {
                block.doubted_at = None;
            }
            block.prune(horizon);
        }
    }

    /// The process was killed, and with `power_cut` the caches are gone too.
    pub fn crash(&mut self, power_cut: bool) {
        let now = self.tick();
        self.under_way.clear();
        self.readers.clear();
        for layer in self.blocks.iter_mut().flat_map(|b| &mut b.layers) {
            if layer.end == NEVER {
                layer.end = now;
                layer.definite = false;
            }
            // Nobody promised to keep what failed, even if a reader saw it: a flush is about what
            // was answered.
            if (power_cut || layer.failed) && !layer.durable {
                layer.definite = false;
            }
        }
        self.tick();
    }

    /// The machine goes down, or already did: puts the blocks of every whole stripe in doubt that
    /// a change at risk rewrote. `touched` says whether the home of a stripe, by its number, was asked to
    /// change after an operation of the disks.
    pub fn doubt(&mut self, power_cut: bool, stripe_bytes: u64, touched: impl Fn(u64, u64) -> bool) {
        let now = self.tick();
        for (index, block) in self.blocks.iter_mut().enumerate() {
            let start = index as u64 * BLOCK / stripe_bytes * stripe_bytes;
            let whole = |l: &Layer| l.range.0 <= start && l.range.1 >= start + stripe_bytes;
            let rewrites = |l: &Layer| l.data.is_some() && whole(l) && touched(start / stripe_bytes, l.mark);
            let torn = block.layers.iter().any(|l| l.at_risk(power_cut) && rewrites(l));
            block.doubted |= torn || power_cut && block.doubted_at.is_some();
            if block.doubted {
                block.doubted_at = Some(now);
            }
        }
    }

    /// More of the row of a block is lost than parity can replace: reading it may fail until it is written.
    pub fn give_up(&mut self, block: u64) {
        let now = self.tick();
        let block = &mut self.blocks[usize::try_from(block).unwrap()];
        (block.doubted, block.doubted_at) = (true, Some(now));
    }

    /// Whether reads of the whole range must succeed.
    pub fn must_read(&self, offset: u64, len: u64) -> bool {
        !parts(offset, len).any(|(index, ..)| self.blocks[index].doubted)
    }

    /// The blocks in doubt, as offsets in the volume.
    pub fn doubted(&self) -> Vec<u64> {
        let blocks = self.blocks.iter().enumerate().filter(|(_, b)| b.doubted);
        blocks.map(|(index, _)| index as u64 * BLOCK).collect()
    }

    /// Checks what a read that began at `tick` answered.
    pub fn check(&mut self, tick: u64, offset: u64, answer: &[u8]) -> Result<(), String> {
        let now = self.tick();
        let settles = !self.failed_may_come;
        for (index, from, to, at) in parts(offset, answer.len() as u64) {
            let found = &answer[at..at + (to - from)];
            self.blocks[index].check((tick, now), settles, from, found).map_err(|(at, why)| {
                let at_volume = index as u64 * BLOCK + at as u64;
                format!("at volume byte {at_volume} (block {index}): {why}")
            })?;
        }
        Ok(())
    }
}

impl Block {
    /// Drops layers that can never show again and folds what is settled into the base.
    fn prune(&mut self, horizon: u64) {
        let layers = &self.layers;
        let hidden = |w: &Layer| {
            layers.iter().any(|x| {
                x.durable
                    && x.definite
                    && x.start > w.end
                    && x.end < horizon
                    && x.from <= w.from
                    && x.to >= w.to
            })
        };
        let keep: Vec<bool> = layers.iter().map(|w| !hidden(w)).collect();
        let mut keep = keep.into_iter();
        self.layers.retain(|_| keep.next().unwrap());
        loop {
            let others = |me: usize| self.layers.iter().enumerate().filter(move |(i, _)| *i != me);
            let settled = |(me, w): (usize, &Layer)| {
                let first = !others(me).any(|(_, x)| x.touches(w.from, w.to) && x.start < w.end);
                (w.durable && w.definite && w.end < horizon && first).then_some(me)
            };
            let Some(index) = self.layers.iter().enumerate().find_map(settled) else { return };
            let w = self.layers.remove(index);
            let base = self.base.get_or_insert_with(|| Box::new([0; BLOCK_LEN]));
            match &w.data {
                Some(data) => base[w.from..w.to].copy_from_slice(data),
                None => base[w.from..w.to].fill(0),
            }
        }
    }

    fn check(
        &mut self,
        (start, now): (u64, u64),
        settles: bool,
        from: usize,
        found: &[u8],
    ) -> Result<(), (usize, String)> {
        let to = from + found.len();
        let mut cuts: Vec<usize> = self.layers.iter().flat_map(|l| [l.from, l.to]).collect();
        cuts.extend([from, to]);
        cuts.retain(|c| (from..=to).contains(c));
        cuts.sort_unstable();
        cuts.dedup();
        let mut settled = Vec::new();
        for pair in cuts.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            let part = &found[a - from..b - from];
            let relevant: Vec<&Layer> = self.layers.iter().filter(|l| l.touches(a, b)).collect();
            let displaced = |end: u64| relevant.iter().any(|x| x.definite && x.start > end && x.end < start);
            let possible: Vec<&Layer> = relevant.iter().copied().filter(|w| !displaced(w.end)).collect();
            let base_possible = !displaced(0);
            let quiet = relevant.iter().all(|l| l.end < start);
            // A block changes as a whole: what no change divides is of one origin.
            let is_base = || base_possible && self.base_is(a, part);
            if !(is_base() || possible.iter().any(|w| w.is(a, part))) {
                let at = a + self.first_wrong(a, part, &possible, base_possible);
                let unit = (at / 16 * 16).max(from);
                let why = self.explain(unit, &found[unit - from..], &possible, base_possible);
                return Err((at, why));
            }
            if quiet && possible.len() + usize::from(base_possible) > 1 {
                let failed = possible.iter().any(|l| l.failed);
                if failed && !settles {
                    continue;
                }
                settled.push((a, b, Bytes::copy_from_slice(part), failed));
            }
        }
        for (from, to, data, failed) in settled {
            let data = Some(data);
            self.layers.push(Layer {
                id: SEEN,
                start: now,
                end: now,
                durable: false,
                definite: true,
                failed,
                mark: 0,
                range: (0, 0),
                from,
                to,
                data,
            });
        }
        Ok(())
    }

    /// Whether the base holds these bytes at `at`.
    fn base_is(&self, at: usize, bytes: &[u8]) -> bool {
        match &self.base {
            Some(base) => base[at..at + bytes.len()] == *bytes,
            None => bytes.iter().all(|b| *b == 0),
        }
    }

    /// How far into `bytes`, found at `at`, the one goes that agrees longest with them.
    fn first_wrong(&self, at: usize, bytes: &[u8], possible: &[&Layer], base: bool) -> usize {
        let agree = |i: &usize| {
            let head = &bytes[..=*i];
            (base && self.base_is(at, head)) || possible.iter().any(|w| w.is(at, head))
        };
        (0..bytes.len()).find(|i| !agree(i)).unwrap_or(0)
    }

    fn explain(&self, at: usize, found: &[u8], possible: &[&Layer], base: bool) -> String {
        let allowed: Vec<String> = possible
            .iter()
            .map(|w| format!("change {}{}", w.id, if w.definite { "" } else { " (may or may not be)" }))
            .chain(base.then(|| match &self.base {
                None => "never written: zero".to_owned(),
                Some(b) => format!("durable value ({})", describe(&b[at..])),
            }))
            .collect();
        format!("found {}; allowed: {}", describe(found), allowed.join(", "))
    }
}

/// `(block, from, to, offset in the range)` of every block in a range.
fn parts(offset: u64, len: u64) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let at = offset + done;
        let from = at % BLOCK;
        let to = (from + len - done).min(BLOCK);
        let part = (at / BLOCK, from, to, done);
        done += to - from;
        let narrow = |x: u64| usize::try_from(x).unwrap();
        Some((narrow(part.0), narrow(part.1), narrow(part.2), narrow(part.3)))
    })
}

/// Bytes that say which change wrote them where, in every 16-byte unit of the volume:
/// 4 bytes change, 4 bytes unit, 8 bytes hash of both.
pub fn content(id: ChangeId, offset: u64, len: u64) -> Vec<u8> {
    let first = offset / 16;
    let units = (offset + len).div_ceil(16) - first;
    let mut bytes: Vec<u8> = (first..first + units).flat_map(|unit| unit_bytes(id, unit)).collect();
    bytes.drain(..usize::try_from(offset % 16).unwrap());
    bytes.truncate(usize::try_from(len).unwrap());
    bytes
}

fn unit_bytes(id: ChangeId, unit: u64) -> [u8; 16] {
    let unit32 = u32::try_from(unit).unwrap();
    let mut hash = (u64::from(id) << 32 | u64::from(unit32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ hash >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&id.to_le_bytes());
    bytes[4..8].copy_from_slice(&unit32.to_le_bytes());
    bytes[8..].copy_from_slice(&hash.to_le_bytes());
    bytes
}

/// Says whose bytes these are, if they begin a unit of [`content`] somewhere near.
fn describe(bytes: &[u8]) -> String {
    let short = &bytes[..bytes.len().min(8)];
    if bytes.iter().take(16).all(|b| *b == 0) {
        return "zeroes".into();
    }
    for skip in 0..16.min(bytes.len()) {
        let Some(unit) = bytes.get(skip..skip + 16) else { break };
        let id = u32::from_le_bytes(unit[..4].try_into().unwrap());
        let number = u32::from_le_bytes(unit[4..8].try_into().unwrap());
        if unit == unit_bytes(id, u64::from(number)) {
            let home = u64::from(number) * 16;
            return format!("bytes of change {id} meant for volume byte {home} (seen {skip} bytes on)");
        }
    }
    format!("{short:02x?}, which nobody wrote")
}

#[cfg(test)]
mod tests;
