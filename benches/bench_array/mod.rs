//! An array to measure: 4+2 over files in memory, run as the daemon runs one that is not configured further.
//! Where the members cost nothing, what is left is what the engine costs.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use criterion::Criterion;
use futures::executor::block_on;
use palisade::array::{Array, AssembleOptions, Candidate, CreateSpec, Devices, Discard, MemberRef, Report};
use palisade::daemon::Config;
use palisade::env::real::{Remote, Runtime, RuntimeOptions};
use palisade::error::{Error, Result};
use palisade::export::{Durability, Volume};
use palisade::geometry::Shape;
use palisade::member::{FileOpener, create_image};
use palisade::observe::Silent;
use palisade::task::supervise;
use palisade::units::{ArrayId, Slot};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub const BLOCK: u64 = 4096;
pub const CHUNK: u64 = 64 << 10;
/// What of the volume is used.
pub const USED: u64 = 64 << 20;
const MEMBER: u64 = 256 << 20;
/// More than the members can ever take.
const ROOM: u64 = 6 * MEMBER;

/// Files in memory, as long as there is enough of it.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let room = nix::sys::statvfs::statvfs(memory).map_or(0, |s| s.blocks_available() * s.fragment_size());
    if room > ROOM {
        return tempfile::tempdir_in(memory).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    println!("/dev/shm is too small: the members are in {}, and that disk counts", folder.path().display());
    folder
}

/// What the daemon has if nobody says otherwise.
fn config() -> Config {
    Config::new("bench", ArrayId::NIL, Vec::new())
}

/// Threads as the daemon starts them.
pub fn start_threads() -> Runtime {
    let Config { threads, io, buffer_bytes, busy_poll_us, .. } = config();
    let keep_bytes = usize::try_from(buffer_bytes).unwrap();
    let busy_poll = Duration::from_micros(busy_poll_us);
    Runtime::start(RuntimeOptions { threads: threads.count(), io, keep_bytes, busy_poll }).unwrap()
}

/// Short runs, of which the fastest and slowest say how noisy the machine is.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args()
}

/// An array that runs.
pub struct BenchArray {
    pub runtime: Runtime,
    pub array: Arc<Array>,
    pub shape: Shape,
    /// How often something was measured: the next time begins behind it.
    turn: AtomicU64,
    folder: TempDir,
}

impl BenchArray {
    /// Makes and starts it, with every setting as the daemon has it, and fills what is used.
    pub fn start() -> Self {
        let (folder, shape) = (folder(), Shape::new(4, 2, CHUNK).unwrap());
        let runtime = start_threads();
        let Config { staging_bytes, checksum_cache_bytes, .. } = config();
        println!("4+2, chunks of 64 KiB, in {}, by {}", folder.path().display(), runtime.io_description());
        let paths: Vec<_> = (0..shape.width()).map(|n| folder.path().join(format!("d{n}"))).collect();
        paths.iter().for_each(|path| create_image(path, MEMBER).unwrap());
        let options = AssembleOptions {
            env: runtime.env(),
            unopened: Vec::new(),
            opener: Arc::new(FileOpener::default()),
            observer: Arc::new(Silent),
            member_deadline: Duration::from_millis(config().member_deadline_ms),
            probe_interval: Duration::from_millis(config().probe_interval_ms),
            staging_bytes,
            checksum_cache_bytes,
            max_rebuild_rate: None,
            discard: Discard::default(),
        };
        let array = on(&runtime.remote(0), move || async move {
            let mut members = Vec::new();
            for path in paths {
                let path = path.display().to_string();
                members.push(Candidate { backend: options.opener.open(&path).await?, path });
            }
            let spec = CreateSpec { name: "bench".into(), shape, size_bytes: None };
            let devices = Devices { members: members.clone(), ..Devices::default() };
            let id = Array::create(&options.env, &spec, &devices).await?;
            let array = Array::assemble(id, members, options).await?;
            supervise(&array);
            Ok::<_, Error>(array)
        });
        let this = Self { runtime, array: array.unwrap(), shape, turn: AtomicU64::new(0), folder };
        this.fill();
        this
    }

    fn fill(&self) {
        let (volume, env) = (self.array.volume(), self.runtime.env());
        let filled = on(&self.runtime.remote(0), move || async move {
            for at in (0..USED).step_by(1 << 20) {
                let mut bytes = env.buffers().take(1 << 20);
                bytes.iter_mut().zip(at..).for_each(|(b, n)| *b = (n / 509 % 251).to_le_bytes()[0]);
                volume.write(at, bytes.freeze(), Durability::Durable).await?;
            }
            Ok::<_, Error>(())
        });
        filled.unwrap();
        self.settle();
    }

    /// Until everything is home.
    pub fn settle(&self) {
        self.wait("all is home", |report| report.clean);
    }

    fn wait(&self, what: &str, done: impl Fn(&Report) -> bool) {
        let begin = Instant::now();
        while !done(&self.array.report()) {
            assert!(begin.elapsed() < Duration::from_secs(60), "in vain: {what}: {:?}", self.array.report());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Takes a member out.
    pub fn lose(&self, slot: u8) {
        let array = Arc::clone(&self.array);
        let fail = move || async move { array.fail(&MemberRef::Slot(Slot(slot))).await };
        on(&self.runtime.remote(0), fail).unwrap();
        self.settle();
    }

    /// How long `count` operations take, one after another, where requests run.
    pub fn time<F: Future<Output = Result<()>>>(
        &self,
        count: u64,
        operation: impl Fn(Arc<dyn Volume>, u64) -> F + Send + 'static,
    ) -> Duration {
        let (volume, first) = (self.array.volume(), self.turn.fetch_add(count, Ordering::Relaxed));
        on(&self.runtime.remote(0), move || async move {
            let begin = Instant::now();
            for turn in first..first + count {
                operation(Arc::clone(&volume), turn).await.unwrap();
            }
            begin.elapsed()
        })
    }

    /// Ends it.
    pub fn stop(self) {
        let array = Arc::clone(&self.array);
        on(&self.runtime.remote(0), move || async move { array.stop().await }).unwrap();
        let Self { runtime, array, folder, .. } = self;
        drop(array);
        runtime.stop();
        folder.close().unwrap();
    }
}

/// Runs something on an executor thread and waits for it.
pub fn on<T, F, Fut>(remote: &Remote, make: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    block_on(remote.call(make)).unwrap()
}
