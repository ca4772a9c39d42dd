//! A connected, ordered byte stream: a socket, or a pipe in memory for tests and fuzzing.

use super::{Buffer, LocalFuture};
use bytes::Bytes;
use std::io;
use std::ops::Range;

/// A connected byte stream, used from one thread. Receiving and sending may overlap; two receives
/// or two sends may not.
pub trait Stream {
    /// Receives at least one byte into `buffer[range]` and says how many; 0 means the peer closed.
    /// The buffer comes back in every case.
    fn recv(&self, buffer: Buffer, range: Range<usize>) -> LocalFuture<'_, (io::Result<usize>, Buffer)>;

    /// Sends every byte of every piece, in order.
    fn send(&self, pieces: Vec<Bytes>) -> LocalFuture<'_, io::Result<()>>;

    /// Closes both directions; a receive under way ends with 0 or an error.
    fn close(&self);
}
