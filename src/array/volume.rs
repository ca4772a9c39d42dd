//! The array as a front end sees it.

use super::activity::Activity;
use super::waits::Waits;
use crate::env::{Env, LocalFuture};
use crate::error::{Error, ErrorKind, Result};
use crate::export::{Durability, Extent, Volume, VolumeInfo, ZeroOptions};
use crate::geometry::split;
use crate::member::Persistence;
use crate::mutation::{Protection, without};
use crate::stripe::Stripes;
use crate::units::StripeIndex;
use bytes::Bytes;
use futures::channel::oneshot;
use std::future::Future;
use std::sync::Arc;

/// What writing zeroes is cut into, in bytes, where it cannot be punched.
const ZERO_STEP: u64 = 4 << 20;

/// Stripes given back before it is looked again whether the array is to stop.
const STRIPES_STEP: u64 = 4096;

/// The data path's entrance.
pub(super) struct ArrayVolume {
    pub env: Env,
    pub stripes: Arc<Stripes>,
    pub activity: Arc<Activity>,
    pub waits: Arc<Waits>,
    pub size_bytes: u64,
}

impl ArrayVolume {
    fn check(&self, offset: u64, len: u64) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.size_bytes => Ok(()),
            _ => Err(Error::new(
                ErrorKind::OutOfRange,
                format!("{len} bytes end beyond the volume's {} bytes", self.size_bytes),
            )
            .at(offset)),
        }
    }

    /// Runs a change to its end even if the asker goes away: half a stripe write would leave
    /// parity behind data.
    async fn to_the_end<F>(&self, work: impl FnOnce(Arc<Stripes>) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + 'static,
    {
        let activity = Arc::clone(&self.activity);
        let (sender, receiver) = oneshot::channel();
        let work = work(Arc::clone(&self.stripes));
        self.env.spawn(Box::pin(async move {
            let done = match activity.enter().await {
                Ok(_ticket) => work.await,
                Err(e) => Err(e),
            };
            // Nobody may be waiting any more.
            drop(sender.send(done));
        }));
        let gone = || Error::new(ErrorKind::ShuttingDown, "the executor is stopping");
        receiver.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn persistence(durability: Durability) -> Persistence {
    match durability {
        Durability::Volatile => Persistence::Cached,
        Durability::Durable => Persistence::Synced,
    }
}

/// A range cut into whole stripes and the parts before and after them: `(offset, len)`.
struct Cut {
    first: StripeIndex,
    stripes: u64,
    parts: Vec<(u64, u64)>,
}

fn cut(stripes: &Stripes, offset: u64, len: u64) -> Cut {
    let shape = stripes.shape();
    let mut found = Cut { first: StripeIndex(0), stripes: 0, parts: Vec::new() };
    for piece in split(shape, offset, len) {
        if piece.is_full(shape) {
            if found.stripes == 0 {
                found.first = piece.stripe;
            }
            found.stripes += 1;
        } else {
            found.parts.push((offset + piece.request_offset, piece.len));
        }
    }
    found
}

impl Volume for ArrayVolume {
    fn info(&self) -> VolumeInfo {
        let stripe = self.stripes.shape().stripe_bytes();
        VolumeInfo {
            size_bytes: self.size_bytes,
            preferred_bytes: 4096,
            optimal_bytes: u32::try_from(stripe).unwrap_or(u32::MAX),
            read_only: false,
        }
    }

    fn read(&self, offset_bytes: u64, len_bytes: u64) -> LocalFuture<'_, Result<Vec<Bytes>>> {
        Box::pin(async move {
            self.check(offset_bytes, len_bytes)?;
            match len_bytes {
                0 => Ok(Vec::new()),
                _ => {
                    let _timer = self.waits.timer(&self.env);
                    self.stripes.read(offset_bytes, len_bytes).await
                }
            }
        })
    }

    fn write(&self, offset_bytes: u64, data: Bytes, durability: Durability) -> LocalFuture<'_, Result<()>> {
        Box::pin(async move {
            self.check(offset_bytes, data.len() as u64)?;
            if data.is_empty() {
                return Ok(());
            }
            let persistence = persistence(durability);
            let _timer = self.waits.timer(&self.env);
            self.to_the_end(|s| async move { s.write(offset_bytes, data, persistence).await }).await
        })
    }

    fn write_zeroes(
        &self,
        offset_bytes: u64,
        len_bytes: u64,
        options: ZeroOptions,
    ) -> LocalFuture<'_, Result<()>> {
        Box::pin(async move {
            self.check(offset_bytes, len_bytes)?;
            let mut cut = cut(&self.stripes, offset_bytes, len_bytes);
            if options.no_hole {
                cut = Cut { first: StripeIndex(0), stripes: 0, parts: vec![(offset_bytes, len_bytes)] };
            }
            if options.fast_only && !cut.parts.is_empty() {
                let what = "only whole stripes are zeroed faster than by writing";
                return Err(Error::new(ErrorKind::Unsupported, what));
            }
            let persistence = persistence(options.durability);
            let (env, activity) = (self.env.clone(), Arc::clone(&self.activity));
            self.to_the_end(|s| async move {
                zero(&env, &s, &activity, cut, persistence).await?;
                match persistence {
                    Persistence::Synced => s.flush_answered().await,
                    Persistence::Cached => Ok(()),
                }
            })
            .await
        })
    }

    fn discard(
        &self,
        offset_bytes: u64,
        len_bytes: u64,
        durability: Durability,
    ) -> LocalFuture<'_, Result<()>> {
        Box::pin(async move {
            self.check(offset_bytes, len_bytes)?;
            // Parts of stripes are left as they are: a discard is a hint.
            let cut = cut(&self.stripes, offset_bytes, len_bytes);
            if cut.stripes == 0 {
                return Ok(());
            }
            let activity = Arc::clone(&self.activity);
            self.to_the_end(|s| async move {
                give_back(&s, &activity, &cut).await?;
                match durability {
                    Durability::Durable => s.flush_answered().await,
                    Durability::Volatile => Ok(()),
                }
            })
            .await
        })
    }

    fn flush(&self) -> LocalFuture<'_, Result<()>> {
        if without(Protection::FlushMembers) {
            return Box::pin(async { Ok(()) });
        }
        Box::pin(self.stripes.flush_answered())
    }

    fn status(&self, offset_bytes: u64, len_bytes: u64) -> LocalFuture<'_, Result<Vec<Extent>>> {
        Box::pin(async move {
            self.check(offset_bytes, len_bytes)?;
            match len_bytes {
                0 => Ok(Vec::new()),
                _ => Ok(self.stripes.status(offset_bytes, len_bytes)),
            }
        })
    }
}

/// In steps: an array that is to stop waits for one of them, not for all of a large request.
async fn zero(
    env: &Env,
    stripes: &Arc<Stripes>,
    activity: &Activity,
    cut: Cut,
    persistence: Persistence,
) -> Result<()> {
    for &(offset, len) in &cut.parts {
        let longest = usize::try_from(len.min(ZERO_STEP)).unwrap_or(0);
        let zeroes = env.buffers().take_zeroed(longest).freeze();
        let mut done = 0;
        while done < len {
            let now = (len - done).min(ZERO_STEP);
            let piece = zeroes.slice(..usize::try_from(now).unwrap_or(longest));
            stripes.write(offset + done, piece, persistence).await?;
            done += now;
            activity.may_go_on(done < len)?;
        }
    }
    give_back(stripes, activity, &cut).await
}

/// Zeroes the whole stripes of a cut, in steps, too.
async fn give_back(stripes: &Arc<Stripes>, activity: &Activity, cut: &Cut) -> Result<()> {
    let mut done = 0;
    while done < cut.stripes {
        let now = (cut.stripes - done).min(STRIPES_STEP);
        stripes.zero_run(StripeIndex(cut.first.0 + done), now).await?;
        done += now;
        activity.may_go_on(done < cut.stripes)?;
    }
    Ok(())
}
