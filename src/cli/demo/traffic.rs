//! Bytes to and from the volume, through our own NBD client over the array's unix socket.

use super::pattern::Pattern;
use super::stage::NAME;
use crate::cli::interrupt::Interrupt;
use crate::env::real::{Runtime, RuntimeOptions, Socket};
use crate::env::{Env, join_all};
use crate::error::{Error, ErrorKind, Result};
use crate::export::Durability;
use crate::nbd::client::{Client, Options};
use crate::units::BLOCK_BYTES;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{TryRecvError, sync_channel};
use std::time::Duration;

/// Requests under way at once.
const QUEUE: usize = 8;
const KEEP_BYTES: usize = 32 << 20;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What to do with the pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Write what the pattern says, then flush.
    Write,
    /// Read and compare with what the pattern says.
    Check,
}

/// A client with a thread of its own.
pub struct Traffic {
    runtime: Runtime,
    socket: PathBuf,
    stop: Arc<AtomicBool>,
}

struct Work {
    client: Client,
    env: Env,
    pattern: Arc<Pattern>,
    pieces: Vec<Range<usize>>,
    next: Cell<usize>,
    direction: Direction,
    stop: Arc<AtomicBool>,
}

impl Traffic {
    /// To be made after [`Interrupt`], whose signals its thread must not get.
    pub fn new(socket: &Path) -> Result<Self> {
        let runtime = Runtime::start(RuntimeOptions { keep_bytes: KEEP_BYTES, ..RuntimeOptions::default() })?;
        Ok(Self { runtime, socket: socket.to_owned(), stop: Arc::new(AtomicBool::new(false)) })
    }

    /// Carries these ranges of blocks. `None` if Ctrl-C ended it.
    pub fn carry(
        &self,
        direction: Direction,
        pattern: &Arc<Pattern>,
        pieces: Vec<Range<usize>>,
        interrupt: &Interrupt,
    ) -> Result<Option<()>> {
        let (send, receive) = sync_channel(1);
        let (env, socket) = (self.runtime.env(), self.socket.clone());
        let (pattern, stop) = (Arc::clone(pattern), Arc::clone(&self.stop));
        self.runtime.remote(0).spawn(move || async move {
            let carried = carry(&socket, env, pattern, pieces, direction, stop).await;
            // Who went away wants no answer.
            let _ = send.try_send(carried);
        });
        loop {
            match receive.try_recv() {
                Ok(carried) => return carried.map(Some),
                Err(TryRecvError::Disconnected) => {
                    return Err(Error::new(ErrorKind::ShuttingDown, "the NBD client's thread ended"));
                }
                Err(TryRecvError::Empty) if interrupt.within(LOOK_EVERY) => {
                    self.stop.store(true, Ordering::Relaxed);
                    return Ok(None);
                }
                Err(TryRecvError::Empty) => {}
            }
        }
    }

    /// Ends the thread.
    pub fn end(self) {
        self.runtime.stop();
    }
}

async fn carry(
    socket: &Path,
    env: Env,
    pattern: Arc<Pattern>,
    pieces: Vec<Range<usize>>,
    direction: Direction,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let stream = Socket::connect_unix(socket)
        .await
        .map_err(|e| Error::io(format!("cannot connect to {}", socket.display()), e))?;
    let options = Options { export: NAME.to_owned(), ..Options::default() };
    let client = Client::connect(stream, env.clone(), &options).await?;
    let work = Work { client, env, pattern, pieces, next: Cell::new(0), direction, stop };
    let workers: Vec<_> = (0..QUEUE).map(|_| work.run()).collect();
    join_all(workers).await.into_iter().collect::<Result<()>>()?;
    if direction == Direction::Write {
        work.client.flush().await?;
    }
    work.client.disconnect().await
}

impl Work {
    /// One of several workers that take piece after piece.
    async fn run(&self) -> Result<()> {
        let room = RefCell::new(Vec::new());
        while let Some(piece) = self.take() {
            let offset_bytes = piece.start as u64 * BLOCK_BYTES;
            let len_bytes = piece.len() as u64 * BLOCK_BYTES;
            match self.direction {
                Direction::Write => {
                    let len = usize::try_from(len_bytes).unwrap_or(usize::MAX);
                    let mut buffer = self.env.buffers().take(len);
                    self.pattern.fill(piece.start, &mut buffer);
                    self.client.write(offset_bytes, buffer.freeze(), Durability::Volatile).await?;
                }
                Direction::Check => {
                    let bytes = self.client.read(offset_bytes, len_bytes).await?;
                    let wrong = self.pattern.first_difference(piece.start, &bytes, &mut room.borrow_mut());
                    if let Some(at) = wrong {
                        return Err(Error::new(ErrorKind::Corrupt, "the volume is not what was written")
                            .array(NAME)
                            .at(at));
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&self) -> Option<Range<usize>> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let next = self.next.get();
        self.next.set(next + 1);
        self.pieces.get(next).cloned()
    }
}
