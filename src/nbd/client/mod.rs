//! An NBD client over any stream.
//!
//! Owns: the client's half of the handshake, matching replies to requests.
//! Callers may rely on: a [`Client`] may be cloned and used by many tasks of its thread at once,
//! their requests are pipelined; a server that breaks the protocol is an error for all of them;
//! a request whose future is dropped may or may not be carried out.
//! Must never: trust a length or an offset in a reply.

mod handshake;
mod link;
mod replies;
mod requests;

pub use handshake::{ExportInfo, Headers, Options};
pub use requests::Client;
