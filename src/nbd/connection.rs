//! The transmission phase of one connection.
//!
//! Problem: many requests of one connection run at once, replies must not interleave on the wire,
//! one send should carry many of them, and nothing may wake another thread or grow without bound.
//!
//! Idea: one task polls four parts in the order in which a request passes them, so that requests
//! that came in one receive and finish at once are answered with one send:
//!
//! ```text
//!   reader --jobs--> worker (requests under way) --outbox--> writer        watchdog
//!     ^                                                        |           (stalled peers)
//!     +------------- room: requests and bytes held <-----------+
//! ```
//!
//! The parts share a [`Session`] and wait for each other in [`Session::until`], which registers
//! no waker: whoever changes what an earlier part may wait for calls [`Session::stir`], and all
//! are polled again before the task sleeps.
//!
//! Limits: a request holds its room (bytes of payload, of reply, or of what it takes to write zeroes)
//! from the moment its header is accepted until its reply is sent, so a client that does not read its
//! replies stops being read.

use super::errno::Errno;
use super::exports::Guest;
use super::inbox::Inbox;
use super::limits::Limits;
use super::outbox::Outbox;
use super::perform::perform;
use super::pulse::Pulse;
use super::reply::{self, Address, Answer};
use super::request::{Command, Payload, RawRequest, Refusal, Rules, check, status_in_payload};
use super::wire::cmd;
use crate::env::{Env, Stream};
use crate::error::{Error, ErrorKind, Result};
use crate::export::Volume;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::select;
use futures::stream::FuturesUnordered;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

/// Turns of the parts before other tasks of the thread get theirs.
const TURNS: usize = 16;
/// Payloads up to this length are copied out of the inbox, so that one receive brings many.
const SMALL_PAYLOAD_BYTES: usize = 16 << 10;

/// Most bytes that an array holds at once to write zeroes for one request: it does so in steps.
const ZERO_BYTES: u64 = 4 << 20;

/// A request on its way to the volume.
struct Job {
    to: Address,
    command: Command,
    payload: Bytes,
    cost: u64,
}

/// What the parts of a connection share.
struct Session<'a> {
    rules: Rules,
    limits: &'a Limits,
    guest: &'a Guest,
    pulse: Rc<Pulse>,
    jobs: RefCell<VecDeque<Job>>,
    outbox: RefCell<Outbox>,
    /// Requests given to the volume and not finished.
    running: Cell<usize>,
    held_requests: Cell<usize>,
    held_bytes: Cell<u64>,
    /// No more requests will come.
    read_all: Cell<bool>,
    /// No more replies will come.
    worked_all: Cell<bool>,
    /// The peer gets nothing more; requests under way are still finished.
    lost: Cell<bool>,
    stirred: Cell<bool>,
}

/// Serves requests until the client leaves; see the head of this file.
#[expect(clippy::too_many_arguments, reason = "called once; each is a thing of its own")]
pub(super) async fn transmit(
    stream: &Rc<dyn Stream>,
    inbox: Inbox,
    guest: &Guest,
    volume: &dyn Volume,
    rules: Rules,
    pulse: Rc<Pulse>,
    env: &Env,
    limits: &Limits,
) -> Result<()> {
    let session = Session {
        rules,
        limits,
        guest,
        pulse,
        jobs: RefCell::default(),
        outbox: RefCell::default(),
        running: Cell::new(0),
        held_requests: Cell::new(0),
        held_bytes: Cell::new(0),
        read_all: Cell::new(false),
        worked_all: Cell::new(false),
        lost: Cell::new(false),
        stirred: Cell::new(false),
    };
    session.run(stream, inbox, volume, env).await
}

impl Session<'_> {
    async fn run(&self, stream: &Rc<dyn Stream>, inbox: Inbox, volume: &dyn Volume, env: &Env) -> Result<()> {
        let mut reader = pin!(self.read_requests(inbox, env));
        let mut worker = pin!(self.work(volume));
        let mut writer = pin!(self.write_replies(&**stream));
        let mut watchdog = pin!(self.watch(env));
        let mut result = Ok(());
        poll_fn(|cx| {
            self.guest.waker.register(cx.waker());
            for _ in 0..TURNS {
                self.stirred.set(false);
                if !self.read_all.get()
                    && let Poll::Ready(read) = reader.as_mut().poll(cx)
                {
                    self.read_all.set(true);
                    result = read;
                }
                if !self.worked_all.get() && worker.as_mut().poll(cx).is_ready() {
                    self.worked_all.set(true);
                }
                if !self.lost.get() {
                    match writer.as_mut().poll(cx) {
                        Poll::Ready(Ok(())) => return Poll::Ready(()),
                        Poll::Ready(Err(e)) => self.lose(&**stream, &mut result, e),
                        Poll::Pending => {}
                    }
                }
                if !self.lost.get() && watchdog.as_mut().poll(cx).is_ready() {
                    let stalled =
                        Error::new(ErrorKind::Timeout, "the client stalled in the middle of a message");
                    self.lose(&**stream, &mut result, stalled);
                }
                if self.lost.get() && self.worked_all.get() {
                    return Poll::Ready(());
                }
                if self.guest.exports.is_shutting_down() && self.is_idle() && !self.read_all.replace(true) {
                    continue;
                }
                if !self.stirred.get() {
                    return Poll::Pending;
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        result
    }

    /// Ends when the peer has stalled, or has not taken its last replies after a shutdown.
    async fn watch(&self, env: &Env) -> Error {
        let stalled = pin!(self.pulse.stalled(env, self.limits.stall_timeout));
        let too_late = pin!(async {
            self.until(|s| s.guest.exports.is_shutting_down()).await;
            env.sleep(self.limits.shutdown_grace).await;
            if self.running.get() > 0 {
                // Replies still to come have not been kept waiting by the peer: it has as long for them.
                self.until(|s| s.running.get() == 0).await;
                env.sleep(self.limits.shutdown_grace).await;
            }
        });
        select(stalled, too_late).await;
        Error::new(ErrorKind::Timeout, "the client stalled in the middle of a message")
    }

    /// Gives up on the peer.
    fn lose(&self, stream: &dyn Stream, result: &mut Result<()>, error: Error) {
        self.lost.set(true);
        self.read_all.set(true);
        if result.is_ok() {
            *result = Err(error);
        }
        stream.close();
        self.stir();
    }

    fn stir(&self) {
        self.stirred.set(true);
    }

    /// Waits for a condition that another part brings about.
    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        poll_fn(|_| if condition(self) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Nothing taken up is unanswered.
    fn is_idle(&self) -> bool {
        let working = self.running.get() > 0 || !self.jobs.borrow().is_empty();
        !working && self.outbox.borrow().is_empty() && !self.pulse.sending.get()
    }

    // Reader.

    async fn read_requests(&self, mut inbox: Inbox, env: &Env) -> Result<()> {
        let framing = self.rules.framing;
        let header_bytes = framing.request_bytes();
        while inbox.fill(header_bytes, false).await? {
            let Some(raw) = RawRequest::parse(framing, inbox.bytes()) else {
                return Err(Error::new(ErrorKind::Protocol, "the client sent no request where one was due"));
            };
            inbox.consume(header_bytes);
            if raw.kind == cmd::DISC {
                return Ok(());
            }
            self.read_request(&raw, &mut inbox, env).await?;
        }
        Ok(())
    }

    async fn read_request(&self, raw: &RawRequest, inbox: &mut Inbox, env: &Env) -> Result<()> {
        let (mut payload, mut checked) = check(raw, &self.rules);
        if self.guest.exports.is_shutting_down() {
            checked = Err(Refusal { errno: Errno::SHUTDOWN, why: "the server is shutting down" });
            if let Payload::Keep(len) = payload {
                payload = Payload::Skip(len as u64);
            }
        }
        let cost = match (&payload, &checked) {
            (Payload::Keep(len), _) => *len as u64,
            (_, Ok(Command::Read { len, .. })) => *len,
            (_, Ok(Command::Zero { len, .. })) => (*len).min(ZERO_BYTES),
            (_, Ok(Command::Status { .. } | Command::StatusInPayload { .. })) => reply::MAX_STATUS_BYTES,
            _ => 0,
        };
        self.take_room(cost).await;
        let payload = match payload {
            Payload::None => Bytes::new(),
            Payload::Keep(len) => receive_payload(inbox, env, len).await?,
            Payload::Skip(len) => {
                inbox.skip(len).await?;
                Bytes::new()
            }
            Payload::TooLong => {
                return Err(Error::new(ErrorKind::Protocol, "the client sent a payload far too long"));
            }
        };
        if let Ok(Command::StatusInPayload { offset, one }) = checked {
            checked = status_in_payload(offset, one, &payload, &self.rules);
        }
        let to = Address { cookie: raw.cookie, offset: raw.offset };
        match checked {
            Ok(command) => self.jobs.borrow_mut().push_back(Job { to, command, payload, cost }),
            Err(refusal) => self.answer(to, Answer::Error(refusal.errno, refusal.why.to_owned()), cost),
        }
        Ok(())
    }

    /// Waits until the connection may hold one more request of `cost` bytes.
    async fn take_room(&self, cost: u64) {
        let limits = self.limits;
        self.until(|s| {
            let fits = s.held_bytes.get().saturating_add(cost) <= limits.max_inflight_bytes_per_connection;
            let few = s.held_requests.get() < limits.max_inflight_requests_per_connection;
            s.held_requests.get() == 0 || (few && fits)
        })
        .await;
        self.held_requests.set(self.held_requests.get() + 1);
        self.held_bytes.set(self.held_bytes.get() + cost);
    }

    // Worker.

    async fn work(&self, volume: &dyn Volume) {
        let start = |job: Job| async move {
            let answer = perform(volume, job.command, job.payload).await;
            (job.to, answer, job.cost)
        };
        let mut running = FuturesUnordered::new();
        poll_fn(|cx| {
            while let Some(job) = self.jobs.borrow_mut().pop_front() {
                running.push(start(job));
            }
            while let Poll::Ready(Some((to, answer, cost))) = running.poll_next_unpin(cx) {
                self.answer(to, answer, cost);
            }
            self.running.set(running.len());
            if self.read_all.get() && running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn answer(&self, to: Address, answer: Answer, cost: u64) {
        let mut outbox = self.outbox.borrow_mut();
        reply::write(&mut outbox, self.rules.framing, to, answer);
        outbox.end_reply(cost);
    }

    // Writer.

    async fn write_replies(&self, stream: &dyn Stream) -> Result<()> {
        loop {
            self.until(|s| s.worked_all.get() || !s.outbox.borrow().is_empty()).await;
            let (batch, bytes) = self.outbox.borrow_mut().take();
            if batch.is_empty() {
                return Ok(());
            }
            self.pulse.sending.set(true);
            let sent = stream.send(batch).await;
            self.pulse.sending.set(false);
            self.pulse.sent.set(self.pulse.sent.get() + 1);
            sent.map_err(|e| Error::io("cannot send to the client", e))?;
            self.outbox.borrow_mut().sent(bytes, |cost| {
                self.held_requests.set(self.held_requests.get() - 1);
                self.held_bytes.set(self.held_bytes.get() - cost);
            });
            self.stir();
        }
    }
}

/// Receives a payload into an aligned buffer of its own, large ones without a copy.
async fn receive_payload(inbox: &mut Inbox, env: &Env, len: usize) -> Result<Bytes> {
    if len == 0 {
        return Ok(Bytes::new());
    }
    if len <= SMALL_PAYLOAD_BYTES {
        inbox.fill(len, true).await?;
    }
    let buffer = env.buffers().take(len);
    Ok(inbox.read_into(buffer, 0, len).await?.freeze())
}
