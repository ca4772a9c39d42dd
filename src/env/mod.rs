//! What the engine is handed by its surroundings: time, timers, spawning, random bytes, buffers,
//! and byte streams.
//!
//! Owns: the traits, the buffer pool, and the environments: `real` (io_uring or portable) and
//! `sim` (one thread, virtual time, a seed).
//! Callers may rely on: futures stay on the thread that spawned them; dropping a future cancels
//! it without touching memory the kernel still uses.
//! Must never: know a member, a stripe or a protocol.

mod buffer;
mod combine;
mod environment;
mod pipe;
pub mod real;
mod stream;

pub mod sim;

pub use buffer::{Buffer, BufferPool};
pub use combine::{LocalFuture, deadline, join_all};
pub use environment::{Env, Environment, Moment};
pub use pipe::{Pipe, pipe};
pub use stream::Stream;
