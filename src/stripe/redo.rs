//! After a crash: doing again what the journal holds.

use super::engine::Stripes;
use super::gather::Want;
use super::lock::Mode;
use super::torn::Shreds;
use crate::env::join_all;
use crate::error::Result;
use crate::journal::{Redo, Replayed};
use crate::units::{BLOCK_BYTES, StripeIndex};
use bytes::Bytes;
use std::sync::Arc;

/// Stripes worked on side by side.
const SIDE_BY_SIDE: usize = 64;

impl Stripes {
    /// Brings the members to where the journal says they are, and stages what is not home. Call
    /// before anything else uses the stripes. `frames` are those the journal was read from.
    pub async fn redo(self: &Arc<Self>, replayed: Replayed, frames: Vec<u64>) -> Result<()> {
        let Replayed { staged, redo, resync, .. } = replayed;
        let redo: Vec<(u64, Redo)> = redo.into_iter().collect();
        for some in redo.chunks(SIDE_BY_SIDE) {
            let work = some.iter().map(|(stripe, redo)| async move {
                let stripe = StripeIndex(*stripe);
                let _guard = self.locks.lock(stripe, Mode::Exclusive).await;
                self.store_whole(stripe, self.shreds(redo)).await
            });
            join_all(work).await.into_iter().collect::<Result<()>>()?;
        }
        let resync: Vec<u64> = resync.into_iter().collect();
        for some in resync.chunks(SIDE_BY_SIDE) {
            let work = some.iter().map(|stripe| self.reencode(StripeIndex(*stripe)));
            join_all(work).await.into_iter().collect::<Result<()>>()?;
        }
        for (block, staged) in staged {
            self.staging.put(block, staged);
        }
        self.journal.home(frames);
        self.flush().await
    }

    fn shreds(&self, redo: &Redo) -> Shreds {
        let data = redo.data.iter().map(|(block, bytes)| {
            let (chunk, row) = self.place_of(*block);
            (chunk, row, bytes.clone())
        });
        let parity = redo.parity.iter().map(|((shard, row_block), bytes)| {
            (usize::from(*shard), u64::from(*row_block) * BLOCK_BYTES, bytes.clone())
        });
        data.chain(parity).collect()
    }

    /// Computes all parity of a stripe from its data. With data lost there is nothing to be done:
    /// the stripe was being written whole, so that none of its blocks was idle.
    async fn reencode(self: &Arc<Self>, stripe: StripeIndex) -> Result<()> {
        let _guard = self.locks.lock(stripe, Mode::Exclusive).await;
        let roster = self.writable_roster()?;
        let (k, chunk) = (self.shape.data(), self.shape.chunk_bytes());
        let wants: Vec<Want> = (0..k).map(|shard| Want { stripe, shard, rows: 0..chunk }).collect();
        let got: Result<Vec<Bytes>> = self.gather(&roster, &wants).await.into_iter().collect();
        let Ok(data) = got else { return Ok(()) };
        let mut parity: Vec<_> = (k..self.shape.width()).map(|_| self.buffer(chunk)).collect();
        let inputs: Vec<&[u8]> = data.iter().map(|b| &b[..]).collect();
        let mut outputs: Vec<(usize, &mut [u8])> =
            parity.iter_mut().map(|b| &mut b[..]).enumerate().collect();
        self.codec.encode(&inputs, &mut outputs)?;
        let shreds = (k..).zip(parity).map(|(shard, bytes)| (shard, 0, bytes.freeze())).collect();
        self.store_whole(stripe, shreds).await
    }
}
