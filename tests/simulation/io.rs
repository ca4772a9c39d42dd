//! Requests against the volume, each checked against the model.

use super::model::{Ending, Model, content};
use bytes::Bytes;
use palisade::env::sim::{Prng, SimEnv};
use palisade::env::{Environment, deadline};
use palisade::error::Error;
use palisade::export::{Durability, Extent, Volume, ZeroOptions};
use palisade::member::SimDisks;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The longest any request may take, whatever fails meanwhile (P8): a few member deadlines.
const LONGEST: Duration = Duration::from_secs(20);

/// What requests share.
pub struct Io {
    pub model: RefCell<Model>,
    pub failures: RefCell<Vec<String>>,
    /// Requests may fail: more members are lost than parity can replace.
    pub errors_allowed: Cell<bool>,
    pub under_way: Cell<usize>,
    pub requests: Cell<u64>,
    pub refused: Cell<u64>,
    pub stripe_bytes: u64,
    /// Those of the machine, which count their operations.
    disks: SimDisks,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub enum Request {
    Read { offset: u64, len: u64 },
    Write { offset: u64, len: u64, durable: bool, aligned: bool },
    Zero { offset: u64, len: u64, no_hole: bool, durable: bool },
    Discard { offset: u64, len: u64 },
    Status { offset: u64, len: u64 },
    Flush,
}

impl Request {
    /// The bytes it touches: offset and length.
    fn range(self) -> (u64, u64) {
        match self {
            Self::Read { offset, len }
            | Self::Write { offset, len, .. }
            | Self::Zero { offset, len, .. }
            | Self::Discard { offset, len }
            | Self::Status { offset, len } => (offset, len),
            Self::Flush => (0, 0),
        }
    }

    /// A random request to a volume, often near others so that they meet.
    pub fn random(random: &mut Prng, volume_bytes: u64, stripe_bytes: u64, hot: u64) -> Self {
        let (offset, len) = random_range(random, volume_bytes, stripe_bytes, hot);
        match random.below(100) {
            0..38 => Self::Read { offset, len },
            38..78 => Self::Write { offset, len, durable: random.chance(150), aligned: random.chance(700) },
            78..83 => Self::Zero { offset, len, no_hole: random.chance(400), durable: random.chance(150) },
            83..87 => Self::Discard { offset, len },
            87..92 => Self::Status { offset, len },
            _ => Self::Flush,
        }
    }
}

/// A range that is tiny, a block, some blocks, a stripe, or several; aligned or not.
fn random_range(random: &mut Prng, volume: u64, stripe: u64, hot: u64) -> (u64, u64) {
    let unit = *random.pick(&[1, 512, 4096, 4096, 4096, stripe]).unwrap();
    let longest = match random.below(10) {
        0..3 => 4096,
        3..7 => 65536,
        7..9 => stripe,
        _ => stripe * 3,
    };
    let len = random.between(1, longest).next_multiple_of(unit).min(volume);
    let span = volume - len;
    let around =
        if random.chance(600) { hot.saturating_sub(random.below(stripe)) } else { random.below(span + 1) };
    let offset = around.min(span) / unit * unit;
    (offset, len)
}

impl Io {
    pub fn new(model: Model, stripe_bytes: u64, disks: &SimDisks) -> Rc<Self> {
        Rc::new(Self {
            model: RefCell::new(model),
            failures: RefCell::default(),
            errors_allowed: Cell::new(false),
            under_way: Cell::new(0),
            requests: Cell::new(0),
            refused: Cell::new(0),
            stripe_bytes,
            disks: disks.clone(),
        })
    }

    pub fn fail(&self, message: String) {
        self.failures.borrow_mut().push(message);
    }

    /// Starts a request as a task of the array's process.
    pub fn start(
        self: &Rc<Self>,
        process: &SimEnv,
        volume: &Arc<dyn Volume>,
        request: Request,
        delay: Duration,
    ) {
        let (io, env, volume) = (Rc::clone(self), process.clone(), Arc::clone(volume));
        self.under_way.set(self.under_way.get() + 1);
        process.spawn(Box::pin(async move {
            env.sleep(delay).await;
            let begin = env.now();
            env.note(&[7], || format!("begin {request:?}"));
            io.perform(&env, &*volume, request).await;
            let took = env.now().since(begin);
            env.note(&[8], || format!("end   {request:?} after {took:?}"));
            if took > LONGEST && !io.errors_allowed.get() {
                io.fail(format!("{request:?} took {took:?}, longer than {LONGEST:?}"));
            }
            io.requests.set(io.requests.get() + 1);
            io.under_way.set(io.under_way.get() - 1);
        }));
    }

    async fn perform(&self, env: &SimEnv, volume: &dyn Volume, request: Request) {
        let (offset, len) = request.range();
        self.model.borrow_mut().disks_are_at(self.disks.operations());
        let in_doubt = !self.model.borrow().must_read(offset, len);
        let result = match request {
            Request::Read { offset, len } => self.read(volume, offset, len).await,
            Request::Write { offset, len, durable, aligned } => {
                self.write(env, volume, (offset, len), durable, aligned).await
            }
            Request::Zero { offset, len, no_hole, durable } => {
                // Without holes they are written like other bytes.
                let zeroes = no_hole.then(|| Bytes::from(vec![0; usize::try_from(len).unwrap()]));
                let id = self.model.borrow_mut().begin(offset, len, zeroes.as_ref(), false);
                let durability = durability(durable);
                let options = ZeroOptions { durability, no_hole, fast_only: false };
                self.ended(id, durable, volume.write_zeroes(offset, len, options).await)
            }
            Request::Discard { offset, len } => {
                let id = self.model.borrow_mut().begin(offset, len, None, true);
                self.ended(id, false, volume.discard(offset, len, Durability::Volatile).await)
            }
            Request::Status { offset, len } => self.status(volume, offset, len).await,
            Request::Flush => {
                let tick = self.model.borrow_mut().tick();
                // Some clients go away before the answer; nobody else may notice.
                let patience = match env.now().0.as_micros() % 4 {
                    0 => Duration::from_micros(80),
                    _ => Duration::from_secs(3600),
                };
                let result = deadline(&env.env(), patience, volume.flush()).await;
                if let Some(Ok(())) = result {
                    self.model.borrow_mut().flushed(tick);
                }
                result.unwrap_or(Ok(()))
            }
        };
        let excused = self.errors_allowed.get() || in_doubt;
        match result {
            Ok(()) => {}
            Err(_) if excused => self.refused.set(self.refused.get() + 1),
            Err(e) => self.fail(format!("{request:?} failed: {}", e.report())),
        }
    }

    fn ended(&self, id: u32, durable: bool, result: Result<(), Error>) -> Result<(), Error> {
        let ending = match (&result, durable) {
            (Ok(()), true) => Ending::Durable,
            (Ok(()), false) => Ending::Done,
            (Err(_), _) => Ending::Failed,
        };
        self.model.borrow_mut().end(id, ending);
        result
    }

    pub async fn read(&self, volume: &dyn Volume, offset: u64, len: u64) -> Result<(), Error> {
        let tick = self.model.borrow_mut().begin_read();
        let answer = volume.read(offset, len).await;
        if let Ok(pieces) = &answer {
            self.check_read(tick, offset, len, &pieces.concat());
        }
        self.model.borrow_mut().end_read(tick);
        answer.map(drop)
    }

    fn check_read(&self, tick: u64, offset: u64, len: u64, answer: &[u8]) {
        if answer.len() as u64 != len {
            self.fail(format!("read {offset}+{len} answered {} bytes", answer.len()));
        } else if let Err(why) = self.model.borrow_mut().check(tick, offset, answer) {
            self.fail(format!("read {offset}+{len} wrong {why}"));
        }
    }

    async fn write(
        &self,
        env: &SimEnv,
        volume: &dyn Volume,
        (offset, len): (u64, u64),
        durable: bool,
        aligned: bool,
    ) -> Result<(), Error> {
        let id = self.model.borrow().next_id();
        let plain = Bytes::from(content(id, offset, len));
        let given = if aligned {
            let mut buffer = env.buffers().take(plain.len());
            buffer.copy_from_slice(&plain);
            buffer.freeze()
        } else {
            plain.clone()
        };
        let id = self.model.borrow_mut().begin(offset, len, Some(&plain), false);
        env.note(&[u64::from(id), offset, len], || format!("change {id} is a write {offset}+{len}"));
        self.ended(id, durable, volume.write(offset, given, durability(durable)).await)
    }

    /// Whatever is announced as zero must read as zero; the answer must tile the range's start.
    async fn status(&self, volume: &dyn Volume, offset: u64, len: u64) -> Result<(), Error> {
        let tick = self.model.borrow_mut().begin_read();
        let extents = volume.status(offset, len).await;
        if let Ok(extents) = &extents {
            self.check_status(tick, offset, len, extents);
        }
        self.model.borrow_mut().end_read(tick);
        extents.map(drop)
    }

    fn check_status(&self, tick: u64, offset: u64, len: u64, extents: &[Extent]) {
        let total: u64 = extents.iter().map(|e| e.len_bytes).sum();
        if total == 0 || total > len || extents.iter().any(|e| e.len_bytes == 0) {
            self.fail(format!("status of {offset}+{len} covers {total} bytes: {extents:?}"));
            return;
        }
        let mut at = offset;
        for extent in extents {
            if extent.zero {
                let zeroes = vec![0; usize::try_from(extent.len_bytes).unwrap()];
                if let Err(why) = self.model.borrow_mut().check(tick, at, &zeroes) {
                    self.fail(format!("status says {at}+{} is zero: wrong {why}", extent.len_bytes));
                }
            }
            at += extent.len_bytes;
        }
    }
}

fn durability(durable: bool) -> Durability {
    if durable { Durability::Durable } else { Durability::Volatile }
}
