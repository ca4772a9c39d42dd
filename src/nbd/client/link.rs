//! What the tasks of one client connection share: requests waiting for replies, bytes to send.

use super::handshake::ExportInfo;
use crate::env::{Buffer, Env, Stream};
use crate::error::{Error, ErrorKind, Result};
use crate::export::Extent;
use crate::nbd::errno::Errno;
use crate::nbd::outbox::Outbox;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// What a request is answered with besides success or failure.
pub(super) enum Expect {
    Nothing,
    /// Data of `buffer.len()` bytes at `offset`. The buffer is `None` while data is received into
    /// it; `filled` counts the bytes that came.
    Data {
        offset: u64,
        len: u64,
        buffer: Option<Buffer>,
        filled: u64,
    },
    Extents(Vec<Extent>),
}

/// A request sent, or about to be.
pub(super) struct Pending {
    pub expect: Expect,
    pub offset: u64,
    /// The first error chunk of the reply.
    pub error: Option<(Errno, String)>,
    done: bool,
    abandoned: bool,
    waker: Option<Waker>,
}

/// One connection in transmission.
pub(super) struct Link {
    pub stream: Rc<dyn Stream>,
    pub env: Env,
    pub info: ExportInfo,
    pub pending: RefCell<Slab<Pending>>,
    pub outbox: RefCell<Outbox>,
    writer: Cell<Option<Waker>>,
    /// No more requests; the writer ends once all is sent.
    pub finishing: Cell<bool>,
    /// Why no reply will come any more.
    failure: RefCell<Option<(ErrorKind, String)>>,
}

impl Link {
    pub fn new(stream: Rc<dyn Stream>, env: Env, info: ExportInfo) -> Self {
        Self {
            stream,
            env,
            info,
            pending: RefCell::default(),
            outbox: RefCell::default(),
            writer: Cell::new(None),
            finishing: Cell::new(false),
            failure: RefCell::default(),
        }
    }

    pub fn check_alive(&self) -> Result<()> {
        match &*self.failure.borrow() {
            Some((kind, what)) => Err(Error::new(*kind, what.clone())),
            None if self.finishing.get() => {
                Err(Error::new(ErrorKind::ShuttingDown, "this connection was closed"))
            }
            None => Ok(()),
        }
    }

    /// Ends the connection: every request under way fails with this error.
    pub fn fail(&self, error: &Error) {
        self.failure.borrow_mut().get_or_insert_with(|| (error.kind(), error.report()));
        self.stream.close();
        self.pending.borrow_mut().retain(|_, pending| {
            pending.waker.take().into_iter().for_each(Waker::wake);
            !pending.abandoned
        });
        self.wake_writer();
    }

    /// Registers a request; the key is its cookie.
    pub fn begin(&self, expect: Expect, offset: u64) -> usize {
        let pending = Pending { expect, offset, error: None, done: false, abandoned: false, waker: None };
        self.pending.borrow_mut().insert(pending)
    }

    /// Notes that the reply to a request is complete.
    pub fn finish(&self, key: usize) {
        let mut all = self.pending.borrow_mut();
        let Some(pending) = all.get_mut(key) else { return };
        pending.done = true;
        pending.waker.take().into_iter().for_each(Waker::wake);
        if pending.abandoned {
            all.remove(key);
        }
    }

    /// Whether a reply to this request is still awaited.
    pub fn awaits(&self, key: usize) -> bool {
        self.pending.borrow().get(key).is_some_and(|p| !p.done)
    }

    /// Waits for the reply to a request.
    pub async fn reply(&self, key: usize) -> Result<Expect> {
        let waiting = Waiting { link: self, key: Some(key) };
        waiting.reply().await
    }

    pub fn wake_writer(&self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    /// Sends what is queued until the connection ends.
    pub async fn write(&self) {
        loop {
            poll_fn(|cx| {
                let dead = self.finishing.get() || self.failure.borrow().is_some();
                if dead || !self.outbox.borrow().is_empty() {
                    return Poll::Ready(());
                }
                self.writer.set(Some(cx.waker().clone()));
                Poll::Pending
            })
            .await;
            let (batch, _) = self.outbox.borrow_mut().take();
            if batch.is_empty() || self.failure.borrow().is_some() {
                return;
            }
            if let Err(e) = self.stream.send(batch).await {
                return self.fail(&Error::io("cannot send to the server", e));
            }
        }
    }
}

/// A request somebody waits for; leaves an abandoned entry behind if it is dropped too early.
struct Waiting<'a> {
    link: &'a Link,
    key: Option<usize>,
}

impl Waiting<'_> {
    async fn reply(mut self) -> Result<Expect> {
        let Some(key) = self.key else { return self.link.check_alive().map(|()| Expect::Nothing) };
        poll_fn(|cx| {
            let mut all = self.link.pending.borrow_mut();
            let done = all.get(key).is_none_or(|p| p.done);
            if done || self.link.failure.borrow().is_some() {
                return Poll::Ready(());
            }
            if let Some(pending) = all.get_mut(key) {
                pending.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
        self.key = None;
        let pending = self.link.pending.borrow_mut().try_remove(key);
        match pending {
            Some(Pending { done: true, error: None, expect, .. }) => Ok(expect),
            Some(Pending { done: true, error: Some((errno, message)), offset, .. }) => {
                Err(errno.into_error(&message).at(offset))
            }
            _ => {
                self.link.check_alive()?;
                Err(Error::new(ErrorKind::Protocol, "the reply to a request was lost"))
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut all = self.link.pending.borrow_mut();
        match all.get_mut(key) {
            Some(pending) if !pending.done => pending.abandoned = true,
            Some(_) => drop(all.remove(key)),
            None => {}
        }
    }
}
