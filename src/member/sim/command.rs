//! What a test does to a disk: faults on command, and a look, or a hand, at its media.

use super::disk::{PAGE, SimDisk, pages};
use super::fault::{Commanded, FaultPlan, Trouble, WriteFate};
use std::ops::Range;

impl SimDisk {
    /// Sets the rates of random faults.
    pub fn set_plan(&self, plan: FaultPlan) {
        self.lock().plan = plan;
    }

    /// Makes reads fail.
    pub fn fail_reads(&self, trouble: Trouble) {
        self.lock().commanded.reads = trouble;
    }

    /// Makes writes and punches fail.
    pub fn fail_writes(&self, trouble: Trouble) {
        self.lock().commanded.writes = trouble;
    }

    /// Makes writes and punches fail without any effect, as if it had become read-only.
    pub fn refuse_writes(&self) {
        self.lock().commanded.refusing = true;
    }

    /// Makes flushes fail.
    pub fn fail_flushes(&self, trouble: Trouble) {
        self.lock().commanded.flushes = trouble;
    }

    /// Lets every operation wait until [`Self::release`].
    pub fn hang(&self) {
        self.lock().commanded.hanging = true;
    }

    /// Ends a hang.
    pub fn release(&self) {
        let mut state = self.lock();
        state.commanded.hanging = false;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for waiter in waiting {
            let _ = waiter.send(());
        }
    }

    /// Makes every operation take `factor` times as long; 1 is the usual.
    pub fn set_slow(&self, factor: u32) {
        self.lock().commanded.slow_factor = Some(factor);
    }

    /// Decides the fate of the next write that is not decided yet; it is answered with success.
    pub fn next_write(&self, fate: WriteFate) {
        self.lock().commanded.next_writes.push_back(fate);
    }

    /// From now on it refuses punches, as a device without discard does.
    pub fn keep_space(&self) {
        self.lock().keeps_space = true;
    }

    /// Unplugs the disk: every open handle is dead for good, its lock is gone.
    pub fn vanish(&self) {
        let mut state = self.lock();
        state.present = false;
        state.generation += 1;
        state.owner = None;
        drop(state);
        self.release();
    }

    /// Plugs it in again: it can be opened anew.
    pub fn come_back(&self) {
        self.lock().present = true;
    }

    /// It is without power for a moment: what was not flushed is there or not, as the seed wills.
    pub fn lose_power(&self) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.media.power_cut(&mut state.random);
    }

    /// Whether it is plugged in.
    pub fn is_present(&self) -> bool {
        self.lock().present
    }

    /// Whether somebody has it open whose handle is not dead.
    pub fn is_open(&self) -> bool {
        self.lock().owner.is_some()
    }

    /// Turns the pages of a range unreadable until they are written.
    pub fn spoil(&self, offset_bytes: u64, len_bytes: u64) {
        self.lock().unreadable_pages.extend(pages(offset_bytes, len_bytes));
    }

    /// Whether a page is unreadable.
    pub fn is_spoiled(&self) -> bool {
        !self.lock().unreadable_pages.is_empty()
    }

    /// Ends every commanded and planned fault; unreadable pages can be read again.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.plan = FaultPlan::default();
        state.commanded = Commanded::default();
        state.unreadable_pages.clear();
        drop(state);
        self.release();
    }

    /// What a reader with no faults would see.
    pub fn peek(&self, offset_bytes: u64, len_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0; len_bytes];
        self.lock().media.read(offset_bytes, &mut bytes);
        bytes
    }

    /// Offsets of the pages of a range that have memory behind them.
    pub fn written_pages(&self, range: Range<u64>) -> Vec<u64> {
        let mut at = range.start / PAGE * PAGE;
        let spans = self.lock().media.spans(at, range.end.saturating_sub(at));
        let mut written = Vec::new();
        for span in spans {
            let end = at + span.len_bytes;
            if !span.hole {
                written.extend((at..end).step_by(4096));
            }
            at = end;
        }
        written
    }

    /// Changes bytes on the media behind everybody's back.
    pub fn scribble(&self, offset_bytes: u64, bytes: &[u8]) {
        self.lock().media.scribble(offset_bytes, bytes);
    }

    /// Whether a write or punch of a range was asked for after the machine's operation of that number
    /// (see [`SimDisks::operations`]), by whatever array.
    pub fn was_touched(&self, range: Range<u64>, since: u64) -> bool {
        let pages = range.start / PAGE..range.end.div_ceil(PAGE);
        self.lock().touched.range(pages).any(|(_, number)| *number > since)
    }
}
