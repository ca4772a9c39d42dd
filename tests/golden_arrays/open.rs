//! Opening a golden array over real files, as the daemon does.

use super::golden::Golden;
use futures::executor::block_on;
use palisade::array::{
    Array, AssembleOptions, Candidate, MemberRef, MemberState, Report, ScrubDetails, ScrubStart,
};
use palisade::env::real::{Runtime, RuntimeOptions};
use palisade::error::{Error, Result};
use palisade::member::FileOpener;
use palisade::observe::Silent;
use palisade::stripe::ScrubMode;
use palisade::task::supervise;
use serde::Serialize;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An array that runs.
pub struct Opened {
    runtime: Runtime,
    array: Arc<Array>,
}

impl Opened {
    /// Starts the array of the members in this folder. Nothing is rebuilt yet.
    pub fn start(golden: &Golden, folder: &Path) -> Result<Self> {
        let runtime = Runtime::start(RuntimeOptions::default()).unwrap();
        let options = AssembleOptions {
            env: runtime.env(),
            unopened: Vec::new(),
            opener: Arc::new(FileOpener::default()),
            observer: Arc::new(Silent),
            member_deadline: Duration::from_secs(60),
            probe_interval: Duration::from_millis(200),
            staging_bytes: 16 << 20,
            checksum_cache_bytes: 16 << 20,
            max_rebuild_rate: None,
            discard: palisade::array::Discard::default(),
        };
        let id = golden.uuid;
        let path = |name: &String| folder.join(name).to_str().unwrap().to_owned();
        let paths: Vec<String> = golden.members.iter().map(|m| path(&m.name)).collect();
        let started = runtime.remote(0).call(move || async move {
            let mut candidates = Vec::new();
            for path in paths {
                candidates.push(Candidate { backend: options.opener.open(&path).await?, path });
            }
            Array::assemble(id, candidates, options).await
        });
        match block_on(started).unwrap() {
            Ok(array) => Ok(Self { runtime, array }),
            Err(e) => {
                runtime.stop();
                Err(e)
            }
        }
    }

    fn on<T, F, Fut>(&self, make: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(Arc<Array>) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let array = Arc::clone(&self.array);
        block_on(self.runtime.remote(0).call(move || make(array))).unwrap()
    }

    /// Its state and rows, as the golden file has them.
    pub fn status(&self) -> (String, Vec<String>) {
        let Report { state, members, .. } = self.array.report();
        let row = |m: &palisade::array::MemberReport| {
            let seat = m.seat().map_or_else(|| "spare".to_owned(), |seat| MemberRef::from(seat).to_string());
            // Where a lost member was is nobody's concern.
            let file = Path::new(&m.path).file_name().filter(|_| m.state != MemberState::Missing);
            let file = file.map_or("-", |name| name.to_str().unwrap());
            format!("{seat} {file} {}", text(&m.state))
        };
        (text(&state), members.iter().map(row).collect())
    }

    /// The whole volume.
    pub fn read(&self) -> Vec<u8> {
        let read = |array: Arc<Array>| async move {
            let volume = array.volume();
            let (size, mut all) = (volume.info().size_bytes, Vec::new());
            while (all.len() as u64) < size {
                let len = (1 << 20).min(size - all.len() as u64);
                volume
                    .read(all.len() as u64, len)
                    .await?
                    .iter()
                    .for_each(|piece| all.extend_from_slice(piece));
            }
            Ok::<_, Error>(all)
        };
        self.on(read).unwrap()
    }

    /// How many stripes of replacements are filled, and how many are to be.
    pub fn filled(&self) -> Vec<(u64, u64)> {
        let roster = self.array.roster();
        let targets = roster.slots.iter().filter_map(|slot| slot.target.as_ref());
        targets.map(|target| (target.rebuilt.filled(), target.rebuilt.stripes())).collect()
    }

    /// Lets it do what is to be done, until every replacement is filled.
    pub fn supervise(&self) {
        self.on(|array| async move { supervise(&array) });
        self.wait("the replacements are filled", |r| {
            r.members.iter().all(|m| m.state != MemberState::Rebuilding)
        });
    }

    /// Runs a scrub to its end.
    pub fn scrub(&self, mode: ScrubMode) -> ScrubDetails {
        let start = ScrubStart { mode, max_rate_bytes_per_s: None };
        let started = self.array.start_scrub(start, None).unwrap();
        self.wait("the scrub ends", |r| r.scrub.last.as_ref().is_some_and(|s| s.number == started.number));
        self.array.scrub_record().last.unwrap()
    }

    fn wait(&self, what: &str, done: impl Fn(&Report) -> bool) {
        let begin = Instant::now();
        while !done(&self.array.report()) {
            assert!(begin.elapsed() < Duration::from_secs(60), "in vain: {what}: {:?}", self.array.report());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn stop(self) {
        self.on(|array| async move { array.stop().await }).unwrap();
        self.crash();
    }

    /// Ends it as a crash of the process does.
    pub fn crash(self) {
        let Self { runtime, array } = self;
        drop(array);
        runtime.stop();
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
}
