//! The admin conversation: what can be asked of a running array, over HTTP/1.1 and JSON on its
//! control socket, so that `curl --unix-socket` speaks it as well as our own client.
//!
//! Owns: the messages and their version, the server on the control socket, the client.
//! Callers may rely on: a request is checked whole before the array sees it; a garbage, slow or
//! greedy client costs bounded memory and disturbs nobody else.
//! Must never: know an array's insides, or take part in the data path: it holds only an `Admin`.

mod client;
mod message;
mod route;
mod server;

pub use client::Client;
pub use message::{
    AddBody, Admin, AppliedBody, ErrorBody, ErrorText, MemberBody, MemberRefBody, OkBody, ReplaceBody, Reply,
    Request, Version,
};
pub use server::Server;
