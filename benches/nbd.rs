//! A round trip over NBD: a request of our client through a unix socket to our server, and its answer.
//! Once to a volume in memory, which is what the front end costs, and once to an array.
//!
//! Client and server each have a thread of their own, as two processes would; only the server's looks for
//! completions before it sleeps.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot run should stop")]

mod bench_array;

use bench_array::{BLOCK, BenchArray, USED, criterion, folder, on, start_threads};
use criterion::{Criterion, Throughput};
use futures::future::try_join_all;
use palisade::env::real::{Listener, Runtime, RuntimeOptions, Socket};
use palisade::error::Result;
use palisade::export::{Durability, MemoryVolume, Volume};
use palisade::nbd::client::{Client, Options};
use palisade::nbd::{Export, Exports, Limits, serve};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many blocks are written, again and again: what goes home is not what is measured.
const HOT: u64 = 64;

#[derive(Clone, Copy, PartialEq)]
enum Request {
    Read,
    Write,
}

/// Serves a volume to everybody who connects.
fn start_server(runtime: &Runtime, volume: Arc<dyn Volume>, socket: &Path) {
    let exports = Exports::new();
    exports.add(Export { name: "bench".into(), description: "measured".into(), volume }).unwrap();
    let (listener, env, remote) = (Listener::unix(socket).unwrap(), runtime.env(), runtime.remote(0));
    runtime.remote(0).spawn(move || async move {
        while let Ok(fd) = listener.accept().await {
            let (exports, env) = (Arc::clone(&exports), env.clone());
            remote.spawn(move || async move {
                serve(Socket::from_fd(fd), exports, env, Limits::default()).await.unwrap();
            });
        }
    });
}

/// How long `count` requests take over a connection of their own, `at_once` of them always under way
/// together.
fn time(runtime: &Runtime, socket: PathBuf, request: Request, at_once: u64, count: u64) -> Duration {
    let env = runtime.env();
    on(&runtime.remote(0), move || async move {
        let stream = Socket::connect_unix(&socket).await.unwrap();
        let options = Options { export: "bench".into(), ..Options::default() };
        let client = Client::connect(stream, env.clone(), &options).await.unwrap();
        let data = env.buffers().take_zeroed(usize::try_from(BLOCK).unwrap()).freeze();
        let begin = Instant::now();
        let lines = (0..at_once).map(|line| {
            let (client, data) = (&client, &data);
            async move {
                for turn in 0..count / at_once {
                    match request {
                        Request::Read => {
                            let block = (turn * at_once + line) * 7919 % (USED / BLOCK);
                            client.read(block * BLOCK, BLOCK).await?;
                        }
                        Request::Write => {
                            let at = (turn * at_once + line) % HOT * (USED / HOT);
                            client.write(at, data.clone(), Durability::Volatile).await?;
                        }
                    }
                }
                Ok(())
            }
        });
        let done: Result<Vec<()>> = try_join_all(lines).await;
        let took = begin.elapsed();
        done.unwrap();
        client.disconnect().await.unwrap();
        took
    })
}

fn round_trips(criterion: &mut Criterion, name: &str, client: &Runtime, socket: &Path) {
    let mut group = criterion.benchmark_group(format!("NBD round trip, {name}"));
    group.throughput(Throughput::Elements(1));
    for (what, request) in [("read", Request::Read), ("write", Request::Write)] {
        for at_once in [1, 16] {
            group.bench_function(format!("{what} 4 KiB, {at_once} at once"), |b| {
                b.iter_custom(|count| {
                    // As many as make whole rounds; the time is what the count asked for takes.
                    let rounded = count.next_multiple_of(at_once);
                    let took = time(client, socket.to_owned(), request, at_once, rounded);
                    took.mul_f64(count as f64 / rounded as f64)
                });
            });
        }
    }
    group.finish();
}

fn main() {
    let mut criterion = criterion();
    let client = Runtime::start(RuntimeOptions::default()).unwrap();
    let sockets = folder();

    let server = start_threads();
    let socket = sockets.path().join("memory");
    start_server(&server, Arc::new(MemoryVolume::new(USED)), &socket);
    round_trips(&mut criterion, "a volume in memory", &client, &socket);
    server.stop();

    let bench = BenchArray::start();
    let socket = sockets.path().join("array");
    start_server(&bench.runtime, bench.array.volume(), &socket);
    round_trips(&mut criterion, "an array", &client, &socket);
    bench.stop();
    client.stop();
    criterion.final_summary();
}
