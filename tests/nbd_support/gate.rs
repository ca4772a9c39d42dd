//! Sessions with usual exports, and a volume that waits, fails and counts on command.

use super::{Peer, export, exports_of, start, test_env};
use bytes::Bytes;
use palisade::env::{Env, LocalFuture};
use palisade::error::{Error, ErrorKind, Result};
use palisade::export::{Durability, Extent, MemoryVolume, ReadOnly, Volume, VolumeInfo, ZeroOptions};
use palisade::nbd::Limits;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Larger than 32 bits can say.
pub const SIZE: u64 = 8 << 30;

pub fn memory() -> Arc<MemoryVolume> {
    Arc::new(MemoryVolume::new(SIZE))
}

/// Runs a session of one peer with an export "disk" and a read-only one "rom".
pub fn session<F: AsyncFnOnce(Peer, Env)>(limits: Limits, volume: Arc<dyn Volume>, talk: F) -> Result<()> {
    let (env, runner) = test_env();
    let exports = exports_of(vec![export("disk", volume.clone()), export("rom", Arc::new(ReadOnly(volume)))]);
    runner.run(async {
        let (stream, ended) = start(&exports, &env, &limits, 1 << 16);
        talk(Peer::new(stream), env.clone()).await;
        exports.wait_idle().await;
        ended.borrow_mut().take().expect("the connection ended")
    })
}

/// A volume that waits, fails and counts on command.
pub struct Gate {
    inner: MemoryVolume,
    /// Reads of this offset wait until it is changed.
    pub blocked: Mutex<Option<u64>>,
    pub failure: Mutex<Option<ErrorKind>>,
    pub started: AtomicUsize,
    env: Env,
}

impl Gate {
    pub fn new(env: &Env) -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryVolume::new(64 << 20),
            blocked: Mutex::new(None),
            failure: Mutex::new(None),
            started: AtomicUsize::new(0),
            env: env.clone(),
        })
    }

    async fn pass(&self, offset: u64) -> Result<()> {
        self.started.fetch_add(1, Ordering::SeqCst);
        while *self.blocked.lock().unwrap() == Some(offset) {
            self.env.sleep(Duration::from_millis(1)).await;
        }
        match *self.failure.lock().unwrap() {
            Some(kind) => Err(Error::new(kind, "the gate is shut").at(offset)),
            None => Ok(()),
        }
    }
}

impl Volume for Gate {
    fn info(&self) -> VolumeInfo {
        self.inner.info()
    }
    fn read(&self, offset: u64, len: u64) -> LocalFuture<'_, Result<Vec<Bytes>>> {
        Box::pin(async move {
            self.pass(offset).await?;
            self.inner.read(offset, len).await
        })
    }
    fn write(&self, offset: u64, data: Bytes, durability: Durability) -> LocalFuture<'_, Result<()>> {
        assert_eq!(data.as_ptr() as usize % 4096, 0, "payloads are page-aligned");
        Box::pin(async move {
            self.pass(offset).await?;
            self.inner.write(offset, data, durability).await
        })
    }
    fn write_zeroes(&self, offset: u64, len: u64, options: ZeroOptions) -> LocalFuture<'_, Result<()>> {
        Box::pin(async move {
            self.pass(offset).await?;
            self.inner.write_zeroes(offset, len, options).await
        })
    }
    fn discard(&self, offset: u64, len: u64, durability: Durability) -> LocalFuture<'_, Result<()>> {
        Box::pin(async move {
            self.pass(offset).await?;
            self.inner.discard(offset, len, durability).await
        })
    }
    fn flush(&self) -> LocalFuture<'_, Result<()>> {
        Box::pin(self.pass(u64::MAX))
    }
    fn status(&self, offset: u64, len: u64) -> LocalFuture<'_, Result<Vec<Extent>>> {
        self.inner.status(offset, len)
    }
}
