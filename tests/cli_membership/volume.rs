//! What was written to a volume over NBD, and whether it is there.

use bytes::Bytes;
use futures::channel::oneshot;
use futures::executor::block_on;
use palisade::env::real::{Runtime, RuntimeOptions, Socket};
use palisade::error::{Error, Result};
use palisade::export::Durability;
use palisade::nbd::client::{Client, Options};
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

pub const BLOCK: usize = 4096;
pub const BLOCKS: usize = 3072;

/// Of a block the version last answered, and one that was under way when the daemon died.
type Versions = (u64, Option<u64>);

/// Knows what the volume holds. Clones share what they know.
#[derive(Clone)]
pub struct Volume {
    socket: PathBuf,
    blocks: Arc<Mutex<Vec<Versions>>>,
    version: Arc<Mutex<u64>>,
}

fn content(block: usize, version: u64) -> Vec<u8> {
    if version == 0 {
        return vec![0; BLOCK];
    }
    let mut x = (block as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ version << 32;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()
    };
    (0..BLOCK / 8).flat_map(|_| next()).collect()
}

impl Volume {
    pub fn new(socket: PathBuf) -> Self {
        let blocks = Arc::new(Mutex::new(vec![(0, None); BLOCKS]));
        Self { socket, blocks, version: Arc::default() }
    }

    fn connected<T, F, Fut>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Self, Client) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + 'static,
    {
        let runtime = Runtime::start(RuntimeOptions::default())?;
        let (env, this) = (runtime.env(), self.clone());
        let (send, receive) = oneshot::channel();
        runtime.remote(0).spawn(move || async move {
            let work = async {
                let stream = Socket::connect_unix(&this.socket).await?;
                let options = Options { export: "tank".into(), ..Options::default() };
                let client = Client::connect(stream, env, &options).await?;
                work(this, client).await
            };
            drop(send.send(work.await));
        });
        let done = block_on(receive).unwrap();
        runtime.stop();
        done
    }

    /// Writes runs of blocks, one after the other, with a version of their own; until an error. In the
    /// end they are flushed.
    pub fn write(&self, runs: impl IntoIterator<Item = (usize, usize)> + Send + 'static) -> Result<()> {
        self.connected(move |this, client| async move {
            for (first, count) in runs {
                let version = this.begin(first, count);
                let bytes: Vec<u8> = (first..first + count).flat_map(|b| content(b, version)).collect();
                client.write((first * BLOCK) as u64, Bytes::from(bytes), Durability::Volatile).await?;
                this.done(first, count, version);
            }
            client.flush().await
        })
    }

    fn begin(&self, first: usize, count: usize) -> u64 {
        let mut version = self.version.lock().unwrap();
        *version += 1;
        self.blocks.lock().unwrap()[first..first + count].iter_mut().for_each(|b| b.1 = Some(*version));
        *version
    }

    fn done(&self, first: usize, count: usize, version: u64) {
        self.blocks.lock().unwrap()[first..first + count].fill((version, None));
    }

    /// All of it, anew.
    #[track_caller]
    pub fn fill(&self) {
        self.write((0..BLOCKS).step_by(64).map(|first| (first, 64))).unwrap();
    }

    /// Here and there, some in whole stripes and most not.
    #[track_caller]
    pub fn scatter(&self, seed: usize) {
        self.write(scattered(seed, 40)).unwrap();
    }

    /// Reads it all. What was under way is known from then on.
    #[track_caller]
    pub fn holds_everything(&self) {
        let read = self.connected(|_, client| async move {
            let mut all = Vec::new();
            for first in (0..BLOCKS).step_by(64) {
                all.extend_from_slice(&client.read((first * BLOCK) as u64, (64 * BLOCK) as u64).await?);
            }
            Ok::<Vec<u8>, Error>(all)
        });
        let all = read.unwrap();
        let mut blocks = self.blocks.lock().unwrap();
        for ((block, bytes), versions) in all.chunks(BLOCK).enumerate().zip(blocks.iter_mut()) {
            let (sure, maybe) = *versions;
            let found = [Some(sure), maybe].into_iter().flatten().find(|v| content(block, *v) == bytes);
            let Some(found) = found else {
                let older = (0..sure).rev().find(|v| content(block, *v) == bytes);
                panic!("block {block} is not of version {sure} (or {maybe:?}) but of {older:?}");
            };
            *versions = (found, None);
        }
    }

    /// What it holds now, to return to.
    pub fn remember(&self) -> Vec<Versions> {
        self.blocks.lock().unwrap().clone()
    }

    /// It holds what it held then.
    pub fn went_back_to(&self, then: Vec<Versions>) {
        *self.blocks.lock().unwrap() = then;
    }
}

/// Runs of blocks, the same for the same seed.
pub fn scattered(seed: usize, count: usize) -> Vec<(usize, usize)> {
    let mut x = seed as u64 * 2 + 1;
    let mut draw = |below: usize| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(x >> 33).unwrap() % below
    };
    let mut run = || match draw(5) {
        0 => (draw(BLOCKS / 32 - 1) * 32, 32),
        _ => (draw(BLOCKS - 4), 1 + draw(3)),
    };
    (0..count).map(|_| run()).collect()
}
