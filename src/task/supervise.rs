//! One task at a time: replacements first, for redundancy is worth most; then scrubs.

use super::{rebuild, scrub};
use crate::array::Array;
use std::sync::Arc;
use std::time::Duration;

/// How often to look whether there is something to do.
const ROUND: Duration = Duration::from_millis(100);
/// How long to wait after a task failed.
const RETRY: Duration = Duration::from_secs(1);

/// Runs background work for an array until it stops. Call on an executor thread.
pub fn supervise(array: &Arc<Array>) {
    let array = Arc::clone(array);
    let env = array.env().clone();
    env.spawn(Box::pin(async move {
        while !array.switch().stopping() {
            let failed = round(&array).await;
            array.switch().report(None);
            array.waits().watch(false);
            array.env().sleep(if failed { RETRY } else { ROUND }).await;
        }
    }));
}

async fn round(array: &Arc<Array>) -> bool {
    let roster = array.roster();
    if roster.refuse_writes.is_some() {
        return false;
    }
    if roster.slots.iter().any(|s| s.target.is_some()) {
        return rebuild::rebuild(array).await.is_err();
    }
    if array.scrubs().task().is_some() {
        return scrub::scrub(array).await.is_err();
    }
    false
}
