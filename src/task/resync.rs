//! Recomputing all parity after an unclean stop, in address order.

use super::pace::Pace;
use crate::array::{Array, Progress, TaskKind};
use crate::env::join_all;
use crate::error::Result;
use crate::units::StripeIndex;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of one member that one run reads.
const RUN_BYTES: u64 = 1 << 20;
/// Runs under way side by side.
const SIDE_BY_SIDE: u64 = 2;
/// How often progress is made durable.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Goes on from where parity is not known to match. Returns early if a member is lost, for then
/// a stripe cannot be read whole, or if the task must end.
pub(super) async fn resync(array: &Arc<Array>) -> Result<()> {
    let mut pace = Pace::new(array, TaskKind::Resync);
    let mut saved = array.env().now();
    let stripes = array.stripes();
    let chunk = stripes.shape().chunk_bytes();
    let per_run = (RUN_BYTES / chunk).max(1);
    let total = array.stripe_count();
    while let Some(from) = stripes.resync_from() {
        if from.0 >= total {
            array.save_resync(None).await?;
            stripes.set_resync_from(None);
            return Ok(());
        }
        let to = (from.0 + per_run * SIDE_BY_SIDE).min(total);
        let bytes = (to - from.0) * chunk;
        if !pace.admit(array, bytes).await {
            return array.save_resync(Some(from)).await;
        }
        array.switch().set_busy(true);
        let firsts = (from.0..to).step_by(usize::try_from(per_run).unwrap_or(1));
        let runs = firsts.map(|s| stripes.resync_run(StripeIndex(s), per_run.min(to - s)));
        let done: Result<Vec<_>> = join_all(runs).await.into_iter().collect();
        array.switch().set_busy(false);
        done?;
        stripes.set_resync_from(Some(StripeIndex(to)));
        array.switch().report(Some(Progress {
            kind: TaskKind::Resync,
            slots: Vec::new(),
            done_bytes: to * chunk,
            total_bytes: total * chunk,
            rate_bytes_per_s: pace.moved(array, bytes),
        }));
        if array.env().now().since(saved) >= SAVE_EVERY {
            array.save_resync(Some(StripeIndex(to))).await?;
            saved = array.env().now();
        }
    }
    Ok(())
}
