//! A tiny executor, a hand-written NBD peer, volumes for tests. Shared with the fuzz target.
#![allow(dead_code, unused_imports, missing_docs, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod executor;
mod gate;
mod peer;

pub use executor::{TestEnv, test_env};
pub use gate::{Gate, SIZE, memory, session};
pub use peer::{Chunk, OPTION_MAGIC, Peer, Request, Style, contexts, go};

use palisade::env::{Env, Pipe, pipe};
use palisade::export::Volume;
use palisade::nbd::{Export, Exports, Limits, serve};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

pub fn export(name: &str, volume: Arc<dyn Volume>) -> Export {
    Export { name: name.into(), description: format!("the volume {name}"), volume }
}

pub fn exports_of(list: Vec<Export>) -> Arc<Exports> {
    let exports = Exports::new();
    list.into_iter().for_each(|e| exports.add(e).unwrap());
    exports
}

/// How a served connection ended, once it has.
pub type Ended = Rc<RefCell<Option<palisade::error::Result<()>>>>;

/// Spawns a server for one end of a pipe and returns the other.
pub fn start(exports: &Arc<Exports>, env: &Env, limits: &Limits, capacity: usize) -> (Pipe, Ended) {
    let (here, there) = pipe(capacity);
    let ended: Ended = Rc::default();
    let (exports, task_env, limits, end) = (exports.clone(), env.clone(), limits.clone(), ended.clone());
    env.spawn(Box::pin(async move {
        let result = serve(there, exports, task_env, limits).await;
        *end.borrow_mut() = Some(result);
    }));
    (here, ended)
}
