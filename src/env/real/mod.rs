//! The real environment: executor threads of ours, the system's clock, files and sockets.
//!
//! Owns: the executor, its two ways of doing I/O (io_uring; epoll with worker threads), sockets
//! and listeners.
//! Callers may rely on: a task stays on its thread; an operation whose future is dropped keeps its
//! buffers until the kernel is done with them; one system call a turn carries all operations.
//! Must never: be used by the engine directly, which sees only `Env` and traits.

mod busy_poll;
mod driver;
mod environment;
mod executor;
mod inbox;
mod io;
mod listener;
mod op;
mod pool;
mod portable;
mod process;
mod runtime;
mod socket;
mod task;
mod timers;
mod uring;

pub(crate) use io::{local_buffers, offload, punch, read_at, sync, write_at};
pub use listener::Listener;
pub(crate) use pool::Line;
pub(crate) use process::{ENDING_PAUSE, ENDING_TRIES};
pub use runtime::{IoKind, Remote, Runtime, RuntimeOptions};
pub use socket::Socket;
