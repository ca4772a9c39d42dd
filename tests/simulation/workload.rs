//! The work of a sweep: what is hard for a replay, then small, unaligned and whole-stripe changes
//! with flushes and idle times between them, on a volume so small that they meet.

use super::hard::{self, alone};
use super::io::Request;
use super::world::{Check, World};
use palisade::env::Environment;
use palisade::env::sim::Prng;
use palisade::geometry::Shape;
use std::time::Duration;

/// Random bursts of requests in one workload.
const BURSTS: u64 = 6;

/// One step of a workload.
pub enum Step {
    /// Requests that overlap, each after a delay.
    Burst(Vec<(Request, Duration)>),
    /// Time for background work, and to be marked clean.
    Idle(Duration),
}

/// The workload that a generator's state names, on a volume of which `written` stripes were
/// written before.
pub fn steps(random: &mut Prng, shape: &Shape, volume_bytes: u64, written: u64) -> Vec<Step> {
    let all = volume_bytes / shape.stripe_bytes();
    let mut steps = hard::steps(random, shape.stripe_bytes(), written..all);
    for _ in 0..BURSTS {
        let count = random.between(1, 4);
        let burst = (0..count).map(|_| {
            let delay = Duration::from_micros(random.below(400));
            (request(random, shape.stripe_bytes(), volume_bytes), delay)
        });
        steps.push(Step::Burst(burst.collect()));
        match random.below(100) {
            0..30 => steps.push(alone(Request::Flush)),
            30..40 => steps.push(Step::Idle(Duration::from_millis(2500))),
            _ => {}
        }
    }
    steps.push(Step::Idle(Duration::from_millis(2500)));
    steps
}

fn request(random: &mut Prng, stripe: u64, volume: u64) -> Request {
    let durable = random.chance(200);
    let block = random.below(volume / 4096) * 4096;
    let blocks = |count: u64| (block, (count * 4096).min(volume - block));
    match random.below(100) {
        0..45 => {
            let (offset, len) = blocks(random.between(1, 3));
            Request::Write { offset, len, durable, aligned: random.chance(500) }
        }
        45..65 => {
            let offset = block + random.below(4096);
            let len = random.between(1, 9000).min(volume - offset);
            Request::Write { offset, len, durable, aligned: false }
        }
        65..80 => {
            let (offset, len) = stripes(random, stripe, volume);
            Request::Write { offset, len, durable, aligned: true }
        }
        80..84 => {
            let (offset, len) = blocks(2);
            Request::Zero { offset, len, no_hole: random.chance(500), durable }
        }
        84..88 => {
            let (offset, len) = stripes(random, stripe, volume);
            Request::Zero { offset, len, no_hole: random.chance(300), durable }
        }
        88..93 => {
            let (offset, len) = stripes(random, stripe, volume);
            Request::Discard { offset, len }
        }
        _ => Request::Flush,
    }
}

fn stripes(random: &mut Prng, stripe: u64, volume: u64) -> (u64, u64) {
    let first = random.below(volume / stripe);
    let count = random.between(1, 2).min(volume / stripe - first);
    (first * stripe, count * stripe)
}

impl World {
    /// Gives every block of the first `len` bytes a durable value of its own, so that idle blocks
    /// are told from others.
    pub async fn fill(&mut self, len: u64) -> Check {
        let whole = Request::Write { offset: 0, len, durable: false, aligned: true };
        self.carry_out(&[whole, Request::Flush].map(alone)).await
    }

    /// Carries out a workload to its end or until the process dies.
    pub async fn carry_out(&mut self, steps: &[Step]) -> Check {
        let running = self.running();
        let volume = running.array.volume();
        for step in steps {
            if running.process.is_dead() {
                break;
            }
            match step {
                Step::Idle(time) => self.harness.sleep(*time).await,
                Step::Burst(requests) => {
                    for (request, delay) in requests {
                        self.io.start(&running.process, &volume, *request, *delay);
                    }
                    self.drain_or_die().await?;
                }
            }
        }
        self.verdict()
    }

    /// Waits until every request is answered, or there is nobody left to answer.
    async fn drain_or_die(&self) -> Check {
        let process = self.running().process;
        let begin = self.harness.now();
        while self.io.under_way.get() > 0 && !process.is_dead() {
            self.harness.sleep(Duration::from_micros(200)).await;
            if self.harness.now().since(begin) > Duration::from_secs(300) {
                return Err(format!("{} requests hang; {}", self.io.under_way.get(), self.describe()));
            }
        }
        self.verdict()
    }
}
