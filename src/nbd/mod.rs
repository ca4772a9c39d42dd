//! The NBD wire protocol: a server from bytes to [`Volume`](crate::export::Volume), and a client.
//!
//! Owns: handshake, framing, validation of requests, errno, bounds on what a peer can cost.
//! Callers may rely on: no byte a peer sends panics, hangs another connection or allocates beyond
//! [`Limits`]; a request reaches the volume only if it is valid; requests of a connection run
//! concurrently on the thread that serves it; a request taken up is finished even if the peer goes.
//! Must never: know RAID, open a socket, or hop threads on a request's way.
//!
//! Source: `doc/proto.md` of NetworkBlockDevice/nbd, and its branch `extension-ext-header`.

pub mod client;
mod connection;
mod errno;
mod exports;
mod handshake;
mod inbox;
mod limits;
mod options;
mod outbox;
mod perform;
mod pulse;
mod reply;
mod request;
mod serve;
mod wire;

pub use exports::{Export, ExportUse, Exports};
pub use limits::Limits;
pub use serve::serve;
