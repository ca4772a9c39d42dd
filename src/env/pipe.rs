//! A connected pair of streams in memory, for tests and fuzzing: bounded, single-threaded.

use super::{Buffer, LocalFuture, Stream};
use bytes::{Buf, Bytes};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Poll, Waker};

#[derive(Default)]
struct Direction {
    bytes: VecDeque<u8>,
    capacity: usize,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Direction {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// One end of a [`pipe`]. Dropping it closes both directions; the peer may still receive what
/// was sent before.
pub struct Pipe {
    incoming: Rc<RefCell<Direction>>,
    outgoing: Rc<RefCell<Direction>>,
}

/// Two connected ends; each direction holds at most `capacity` bytes on the way.
pub fn pipe(capacity: usize) -> (Pipe, Pipe) {
    let make = || Rc::new(RefCell::new(Direction { capacity: capacity.max(1), ..Default::default() }));
    let (a, b) = (make(), make());
    (Pipe { incoming: a.clone(), outgoing: b.clone() }, Pipe { incoming: b, outgoing: a })
}

impl Pipe {
    /// Closes the sending direction only: the peer receives the rest, then 0.
    pub fn finish_sending(&self) {
        let mut out = self.outgoing.borrow_mut();
        out.closed = true;
        out.wake();
    }
}

impl Stream for Pipe {
    fn recv(&self, mut buffer: Buffer, range: Range<usize>) -> LocalFuture<'_, (io::Result<usize>, Buffer)> {
        Box::pin(async move {
            let result = poll_fn(|cx| {
                let mut incoming = self.incoming.borrow_mut();
                let Some(space) = buffer.get_mut(range.clone()).filter(|s| !s.is_empty()) else {
                    return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
                };
                if incoming.bytes.is_empty() {
                    if incoming.closed {
                        return Poll::Ready(Ok(0));
                    }
                    incoming.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                let count = io::Read::read(&mut incoming.bytes, space);
                incoming.wake();
                Poll::Ready(count)
            })
            .await;
            (result, buffer)
        })
    }

    fn send(&self, pieces: Vec<Bytes>) -> LocalFuture<'_, io::Result<()>> {
        Box::pin(async move {
            for mut piece in pieces {
                poll_fn(|cx| {
                    let mut out = self.outgoing.borrow_mut();
                    while !piece.is_empty() {
                        if out.closed {
                            return Poll::Ready(Err(io::Error::from(io::ErrorKind::BrokenPipe)));
                        }
                        let room = out.capacity.saturating_sub(out.bytes.len());
                        if room == 0 {
                            out.writer = Some(cx.waker().clone());
                            return Poll::Pending;
                        }
                        let count = room.min(piece.len());
                        out.bytes.extend(piece.iter().take(count));
                        piece.advance(count);
                        if let Some(reader) = out.reader.take() {
                            reader.wake();
                        }
                    }
                    Poll::Ready(Ok(()))
                })
                .await?;
            }
            Ok(())
        })
    }

    fn close(&self) {
        for direction in [&self.incoming, &self.outgoing] {
            let mut direction = direction.borrow_mut();
            direction.closed = true;
            direction.wake();
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.close();
    }
}
