//! Running something on an executor thread and waiting for it on this one.

use crate::env::real::Remote;
use crate::error::{Error, ErrorKind, Result};
use std::future::Future;
use std::sync::mpsc;

/// Runs what `make` makes on the executor thread; must not be called on one.
pub fn run_on<T, F, Fut>(remote: &Remote, make: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<T>> + 'static,
{
    let (send, receive) = mpsc::sync_channel(1);
    remote.spawn(move || async move {
        // A receiver that is gone wants no answer.
        let _ = send.try_send(make().await);
    });
    receive.recv().unwrap_or_else(|_| Err(Error::new(ErrorKind::ShuttingDown, "the executor thread ended")))
}
