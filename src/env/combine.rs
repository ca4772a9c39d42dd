//! Small combinators over futures that every layer needs.

use super::Env;
use futures::future::{Either, select};
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

/// A boxed future that stays on its thread.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Runs futures side by side on this thread; results in order.
pub async fn join_all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    futures::future::join_all(futures).await
}

/// The future's output, or `None` once `limit` has passed; the future is then dropped.
pub async fn deadline<T>(env: &Env, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    match select(pin!(future), env.sleep(limit)).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(((), _)) => None,
    }
}
