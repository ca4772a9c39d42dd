//! Serves volumes in memory over NBD, to measure and probe the front end by itself:
//! `nbd_memory SOCKET SIZE_BYTES [THREADS] [auto|io_uring|portable]`.

use palisade::env::real::{IoKind, Listener, Runtime, RuntimeOptions, Socket};
use palisade::export::MemoryVolume;
use palisade::nbd::{Export, Exports, Limits, serve};
use std::path::Path;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, socket, size, rest @ ..] = &args[..] else {
        return Err("usage: nbd_memory SOCKET SIZE_BYTES [THREADS] [auto|io_uring|portable]".into());
    };
    let threads = rest.first().map_or(Ok(1), |t| t.parse())?;
    let io: IoKind = rest.get(1).map_or("auto", |s| s).parse()?;
    let runtime =
        Runtime::start(RuntimeOptions { threads, io, keep_bytes: 256 << 20, ..RuntimeOptions::default() })?;
    let exports = Exports::new();
    let volume = Arc::new(MemoryVolume::new(size.parse()?));
    exports.add(Export { name: "memory".into(), description: "a volume in memory".into(), volume })?;
    let listener = Listener::unix(Path::new(socket))?;
    println!("serving on {} with {}", listener.local_addr_text(), runtime.io_description());
    let remotes: Vec<_> = (0..threads).map(|n| runtime.remote(n)).collect();
    let env = runtime.env();
    let accepting = runtime.remote(0).call(move || async move {
        for remote in remotes.iter().cycle() {
            let Ok(fd) = listener.accept().await else { return };
            let (exports, env) = (exports.clone(), env.clone());
            remote.spawn(move || async move {
                if let Err(e) = serve(Socket::from_fd(fd), exports, env, Limits::default()).await {
                    eprintln!("connection: {}", e.report());
                }
            });
        }
    });
    std::thread::park();
    drop(accepting);
    Ok(())
}
