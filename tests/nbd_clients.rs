//! The NBD server against the clients people use: libnbd's tools and Python binding, qemu, fio.
//! They are installed by the README's second command; a missing one fails its test.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use palisade::env::real::{IoKind, Listener, Runtime, RuntimeOptions, Socket};
use palisade::export::{MemoryVolume, ReadOnly, Volume};
use palisade::nbd::{Export, Exports, Limits, serve};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const SIZE: u64 = 64 << 20;

/// Exports "disk" (writable) and "rom" (the same, read-only) on a unix and a TCP socket.
struct Server {
    runtime: Runtime,
    exports: Arc<Exports>,
    dir: tempfile::TempDir,
    tcp: String,
}

impl Server {
    fn start(threads: usize, io: IoKind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime =
            Runtime::start(RuntimeOptions { threads, io, keep_bytes: 64 << 20, ..RuntimeOptions::default() })
                .unwrap();
        let exports = Exports::new();
        let volume: Arc<dyn Volume> = Arc::new(MemoryVolume::new(SIZE));
        let rom = Arc::new(ReadOnly(volume.clone()));
        let export =
            |name: &str, volume| Export { name: name.into(), description: format!("a {name}"), volume };
        exports.add(export("disk", volume)).unwrap();
        exports.add(export("rom", rom)).unwrap();
        let unix = Listener::unix(&dir.path().join("nbd.sock")).unwrap();
        let inet = Listener::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let tcp = inet.local_addr_text();
        for listener in [unix, inet] {
            let remotes: Vec<_> = (0..threads).map(|n| runtime.remote(n)).collect();
            let (env, exports) = (runtime.env(), exports.clone());
            runtime.remote(0).spawn(move || async move {
                for remote in remotes.iter().cycle() {
                    let Ok(fd) = listener.accept().await else { return };
                    let (exports, env) = (exports.clone(), env.clone());
                    remote.spawn(move || async move {
                        // A client that breaks off is no failure of the server.
                        let _ = serve(Socket::from_fd(fd), exports, env, Limits::default()).await;
                    });
                }
            });
        }
        Self { runtime, exports, dir, tcp }
    }

    fn unix(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.dir.path().join("nbd.sock").display())
    }

    fn tcp(&self, export: &str) -> String {
        format!("nbd://{}/{export}", self.tcp)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn stop(self) {
        self.exports.shutdown();
        let exports = self.exports.clone();
        let idle = self.runtime.remote(0).call(move || async move { exports.wait_idle().await });
        futures_wait(idle);
        assert_eq!(self.exports.connections(), 0);
        self.runtime.stop();
    }
}

/// Blocks until another thread has sent.
fn futures_wait<T>(mut receiver: futures::channel::oneshot::Receiver<T>) -> T {
    loop {
        match receiver.try_recv().expect("the task ran to its end") {
            Some(value) => return value,
            None => std::thread::sleep(std::time::Duration::from_millis(2)),
        }
    }
}

/// Runs a command; its output, or the whole story if it fails.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {}\n{out}\n{err}", output.status);
    out
}

/// A file with data, a hole, and data that ends unaligned.
fn image(path: &Path) {
    let mut bytes = vec![0u8; usize::try_from(SIZE).unwrap()];
    let mut seed = 1u32;
    let end = bytes.len() - 12_345;
    for (at, byte) in bytes.iter_mut().enumerate() {
        let hole = (8 << 20..24 << 20).contains(&at);
        if at < end && !hole {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (seed >> 24) as u8;
        }
    }
    std::fs::write(path, bytes).unwrap();
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

const BOTH: [IoKind; 2] = [IoKind::Auto, IoKind::Portable];

#[test]
fn nbdinfo_sees_the_exports_and_what_they_can_do() {
    let server = Server::start(2, IoKind::Auto);
    for uri in [server.unix("disk"), server.tcp("disk")] {
        let info: serde_json::Value = serde_json::from_str(&run("nbdinfo", &["--json", &uri])).unwrap();
        let export = &info["exports"][0];
        assert_eq!(export["export-name"], "disk");
        assert_eq!(export["description"], "a disk");
        assert_eq!(export["export-size"], SIZE);
        assert_eq!(info["structured"], true);
        assert_eq!(export["contexts"][0], "base:allocation");
        for can in ["cache", "df", "fast_zero", "flush", "fua", "multi_conn", "trim", "zero"] {
            assert_eq!(export[format!("can_{can}")], true, "{can}");
        }
        assert_eq!(export["is_read_only"], false);
        assert_eq!(export["block_size_minimum"], 1);
        assert_eq!(export["block_size_preferred"], 4096);
        assert_eq!(export["block_size_maximum"], 32 << 20);
    }
    let list: serde_json::Value =
        serde_json::from_str(&run("nbdinfo", &["--list", "--json", &server.unix("")])).unwrap();
    let names: Vec<_> =
        list["exports"].as_array().unwrap().iter().map(|e| e["export-name"].clone()).collect();
    assert_eq!(names, ["disk", "rom"]);
    assert_eq!(list["exports"][1]["is_read_only"], true);
    assert_eq!(run("nbdinfo", &["--size", &server.unix("rom")]).trim(), SIZE.to_string());
    let map: serde_json::Value =
        serde_json::from_str(&run("nbdinfo", &["--map", "--json", &server.unix("disk")])).unwrap();
    assert_eq!((&map[0]["length"], &map[0]["type"]), (&SIZE.into(), &3.into()));
    server.stop();
}

#[test]
fn nbdcopy_brings_every_byte_there_and_back() {
    for io in BOTH {
        let server = Server::start(2, io);
        let (source, back) = (server.file("source"), server.file("back"));
        image(&source);
        for (uri, requests) in [(server.unix("disk"), "16"), (server.tcp("disk"), "64")] {
            let (connections, requests) = ("--connections=4", format!("--requests={requests}"));
            run("nbdcopy", &[connections, &requests, "--flush", path(&source), &uri]);
            run("nbdcopy", &[connections, &requests, &uri, path(&back)]);
            assert!(std::fs::read(&source).unwrap() == std::fs::read(&back).unwrap(), "{uri} {io:?}");
            run("nbdcopy", &["--synchronous", &uri.replace("disk", "rom"), path(&back)]);
            assert!(std::fs::read(&source).unwrap() == std::fs::read(&back).unwrap(), "{uri} {io:?}");
        }
        server.stop();
    }
}

#[test]
fn qemu_converts_compares_and_maps() {
    let server = Server::start(1, IoKind::Auto);
    let source = server.file("source");
    image(&source);
    for uri in [server.unix("disk"), server.tcp("disk")] {
        let info = run("qemu-img", &["info", "--output=json", &uri]);
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["virtual-size"], SIZE);
        run("qemu-img", &["convert", "-n", "-m", "8", "-W", "-f", "raw", "-O", "raw", path(&source), &uri]);
        run("qemu-img", &["compare", "-f", "raw", "-F", "raw", path(&source), &uri]);
        let map = run("qemu-img", &["map", "--output=json", &uri]);
        let map: serde_json::Value = serde_json::from_str(&map).unwrap();
        let hole = map.as_array().unwrap().iter().find(|e| e["start"] == 8 << 20).unwrap().clone();
        assert_eq!((&hole["length"], &hole["zero"]), (&(16 << 20).into(), &true.into()), "{map}");
    }
    server.stop();
}

#[test]
fn qemu_io_writes_through_zeroes_and_discards() {
    let server = Server::start(1, IoKind::Auto);
    let uri = server.unix("disk");
    let io = |commands: &[&str]| {
        let mut args = vec!["-f", "raw"];
        commands.iter().for_each(|c| args.extend(["-c", c]));
        args.push(&uri);
        let out = run("qemu-io", &args);
        assert!(!out.contains("failed"), "{out}");
        assert!(!out.contains("verification"), "{out}");
    };
    io(&[
        "write -f -P 0x5a 0 1M",
        "write -P 0x33 1000 77",
        "flush",
        "read -P 0x33 1000 77",
        "read -P 0x5a 1077 1000",
        "write -z 512K 128K",
        "write -z -u 256K 64K",
        "read -P 0 512K 128K",
        "read -P 0 256K 64K",
        "read -P 0x5a 320K 192K",
        "discard 0 1M",
        "aio_write -P 0x11 2M 8M",
        "aio_write -P 0x12 10M 8M",
        "aio_flush",
        "read -P 0x11 2M 8M",
        "read -P 0x12 10M 8M",
    ]);
    server.stop();
}

#[test]
fn fio_verifies_what_it_wrote() {
    for io in BOTH {
        let server = Server::start(2, io);
        for (bs, depth) in [("4k", "16"), ("1m", "4"), ("512-70k", "8")] {
            let range = if bs.contains('-') { "--bsrange" } else { "--bs" };
            let unaligned = if bs.contains('-') { "--bs_unaligned" } else { "--norandommap=0" };
            let uri = format!("--uri={}", server.unix("disk"));
            let block = format!("{range}={bs}");
            let depth = format!("--iodepth={depth}");
            run(
                "fio",
                &[
                    "--name=verify",
                    "--ioengine=nbd",
                    &uri,
                    "--rw=randwrite",
                    &block,
                    unaligned,
                    &depth,
                    "--size=24m",
                    "--verify=crc32c",
                    "--do_verify=1",
                    "--verify_state_save=0",
                    "--verify_fatal=1",
                    "--fsync=64",
                ],
            );
        }
        server.stop();
    }
}

#[test]
fn libnbd_from_python_gets_each_errno_and_the_session_goes_on() {
    let server = Server::start(1, IoKind::Auto);
    let script = r#"
import nbd, sys, errno
disk, rom = sys.argv[1:]
def connect(uri, structured=True):
    h = nbd.NBD()
    h.set_request_structured_replies(structured)
    if structured: h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    h.set_strict_mode(0)
    h.connect_uri(uri)
    assert h.get_structured_replies_negotiated() == structured
    return h
def fails(code, call, *args, **kw):
    try: call(*args, **kw)
    except nbd.Error as e: assert e.errnum == code, (e.errno, code, str(e))
    else: raise AssertionError("no error from %s%r" % (call, args))
for structured in (True, False):
    h = connect(disk, structured)
    size = h.get_size()
    h.pwrite(b'a' * 4096, 4096, nbd.CMD_FLAG_FUA)
    if structured: assert h.pread(8192, 0, nbd.CMD_FLAG_DF)[4096:] == b'a' * 4096
    fails(errno.EINVAL, h.pread, 512, size)
    fails(errno.EINVAL, h.pread, 512, size - 1)
    fails(errno.ENOSPC, h.pwrite, b'x' * 512, size - 1)
    fails(errno.ENOSPC, h.zero, 512, size)
    fails(errno.EINVAL, h.trim, 512, size)
    fails(errno.EINVAL, h.cache, 512, size)
    fails(errno.EINVAL, h.pread, 512, 0, 1 << 9)
    fails(errno.EINVAL, h.pwrite, b'x' * 512, 0, nbd.CMD_FLAG_DF)
    fails(errno.ENOTSUP, h.zero, 100, 1, nbd.CMD_FLAG_FAST_ZERO)
    h.zero(4096, 4096, nbd.CMD_FLAG_NO_HOLE)
    h.zero(65536, 65536, nbd.CMD_FLAG_FAST_ZERO)
    h.cache(4096, 0)
    h.flush(nbd.CMD_FLAG_FUA)
    assert h.pread(4096, 4096) == bytes(4096)
    extents = []
    def got(context, offset, entries, err): extents.append(entries); return 0
    if structured:
        h.block_status(1 << 20, 0, got)
        assert extents[-1] == [65536, 0, (1 << 20) - 65536, 3], extents
        h.block_status(1 << 20, 0, got, nbd.CMD_FLAG_REQ_ONE)
        assert extents[-1] == [65536, 0], extents
        fails(errno.EINVAL, h.block_status, 512, size, got)
    else:
        fails(errno.EINVAL, h.block_status, 512, 0, got)
    pending = [(i, nbd.Buffer(4096)) for i in range(200)]
    cookies = [h.aio_pread(buf, i * 4096) for i, buf in pending]
    while h.aio_in_flight() > 0: h.poll(-1)
    assert all(h.aio_command_completed(c) for c in cookies)
    h.shutdown()
    r = connect(rom, structured)
    assert r.is_read_only()
    fails(errno.EPERM, r.pwrite, b'x' * 5000, 0)
    fails(errno.EPERM, r.zero, 512, 0)
    fails(errno.EPERM, r.trim, 512, 0)
    assert len(r.pread(5000, 1)) == 5000
    r.shutdown()
h = nbd.NBD()
try: h.connect_uri(disk.replace('/disk', '/nope'))
except nbd.Error as e: assert 'no such export' in str(e) or e.errnum == errno.ENOENT, str(e)
else: raise AssertionError('connected to an export that does not exist')
"#;
    run("/usr/bin/python3", &["-c", script, &server.unix("disk"), &server.tcp("rom")]);
    server.stop();
}

#[test]
fn nbdfuse_shows_the_export_as_a_file() {
    let server = Server::start(1, IoKind::Auto);
    let mount = server.file("mount");
    std::fs::create_dir(&mount).unwrap();
    let file = mount.join("disk");
    let mut fuse = Command::new("nbdfuse").args([path(&file), &server.unix("disk")]).spawn().unwrap();
    while !file.exists() {
        assert!(fuse.try_wait().unwrap().is_none(), "nbdfuse ended early");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let source = server.file("source");
    image(&source);
    let bytes = std::fs::read(&source).unwrap();
    let target = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    std::io::Write::write_all(&mut &target, &bytes).unwrap();
    target.sync_all().unwrap();
    drop(target);
    let same = std::fs::read(&file).unwrap() == bytes;
    run("fusermount3", &["-u", path(&mount)]);
    assert!(fuse.wait().unwrap().success());
    assert!(same, "what was written is read back");
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", path(&source), &server.unix("disk")]);
    server.stop();
}

#[test]
fn a_shutdown_with_busy_clients_ends_in_time_for_all() {
    let server = Server::start(2, IoKind::Auto);
    let script = r#"
import nbd, sys, errno
h = nbd.NBD(); h.connect_uri(sys.argv[1])
print("connected", flush=True)
try:
    while True: h.pwrite(b'z' * 65536, 0)
except nbd.Error as e:
    known = (errno.ESHUTDOWN, errno.ENOTCONN, errno.EPIPE, errno.ECONNRESET, errno.EINVAL, 0)
    assert e.errnum in known, (e.errnum, str(e))
"#;
    let uri = server.unix("disk");
    let spawn = || {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", script, &uri]).stdout(std::process::Stdio::piped()).spawn().unwrap()
    };
    let mut clients = [spawn(), spawn(), spawn()];
    for client in &mut clients {
        let mut line = [0; 10];
        std::io::Read::read_exact(client.stdout.as_mut().unwrap(), &mut line).unwrap();
    }
    server.stop();
    for mut client in clients {
        assert!(client.wait().unwrap().success());
    }
}
