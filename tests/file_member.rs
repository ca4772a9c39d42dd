//! Members that are files or devices: every test of I/O runs on io_uring (where the kernel lets
//! us) and on the portable driver, through the page cache and around it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use futures::FutureExt;
use futures::executor::block_on;
use palisade::env::Env;
use palisade::env::real::{IoKind, Runtime, RuntimeOptions};
use palisade::error::ErrorKind;
use palisade::member::{
    Backend, FileBackend, FileOpener, OpenOptions, Opener, Persistence, Presence, Span, create_image,
    identity, is_mounted,
};
use std::fs::File;
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const SIZE: u64 = 8 << 20;

struct Image {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn image() -> Image {
    // Not in /tmp, which may be a tmpfs.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("member.img");
    create_image(&path, SIZE).unwrap();
    Image { _dir: dir, path }
}

fn block(fill: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| fill.wrapping_add(u8::try_from(i % 241).unwrap())).collect()
}

/// Runs a test on both drivers, direct and buffered.
fn on_all<Fut: Future<Output = ()>>(
    test: impl Fn(Env, Arc<FileBackend>, PathBuf) -> Fut + Copy + Send + 'static,
) {
    for io in [IoKind::Auto, IoKind::Portable] {
        for direct in [true, false] {
            let image = image();
            let runtime =
                Runtime::start(RuntimeOptions { io, keep_bytes: 64 << 20, ..RuntimeOptions::default() })
                    .unwrap();
            let options = OpenOptions { direct, ..OpenOptions::default() };
            let backend = Arc::new(FileBackend::open(&image.path, options).unwrap());
            println!("on {}, direct: {}", runtime.io_description(), backend.is_direct());
            assert!(direct || !backend.is_direct());
            let (env, path) = (runtime.env(), image.path.clone());
            let ended = runtime.remote(0).call(move || async move { test(env, backend, path).await });
            block_on(ended).unwrap();
            runtime.stop();
        }
    }
}

async fn read(env: &Env, backend: &FileBackend, offset: u64, len: usize) -> Vec<u8> {
    let (result, buffer) = backend.read(offset, env.buffers().take(len)).await;
    result.unwrap();
    buffer.to_vec()
}

#[test]
fn what_was_written_is_read_back_in_either_persistence() {
    on_all(|env, backend, path| async move {
        for (at, persistence) in [(0, Persistence::Cached), (1 << 20, Persistence::Synced)] {
            let mut one = env.buffers().take(64 << 10);
            one.copy_from_slice(&block(1, 64 << 10));
            let mut two = env.buffers().take(8 << 10);
            two.copy_from_slice(&block(2, 8 << 10));
            backend.write(at, vec![one.freeze(), two.freeze()], persistence).await.unwrap();
            let got = read(&env, &backend, at, 72 << 10).await;
            assert!(got[..64 << 10] == block(1, 64 << 10) && got[64 << 10..] == block(2, 8 << 10));
        }
        backend.flush().await.unwrap();
        let mut first = [0; 4096];
        File::open(path).unwrap().read_exact_at(&mut first, 0).unwrap();
        assert_eq!(first[..], block(1, 4096));
    });
}

#[test]
fn pieces_unaligned_in_memory_and_length_arrive_whole() {
    on_all(|env, backend, _| async move {
        let bytes = Bytes::from(block(3, 1 << 20));
        let odd = bytes.slice(1..1 + (12 << 10));
        backend.write(4096, vec![odd.clone()], Persistence::Cached).await.unwrap();
        assert!(read(&env, &backend, 4096, 12 << 10).await == odd);
        // Thousands of crumbs, more than one call takes, which together are whole blocks.
        let crumbs: Vec<_> = (0..8192).map(|i| bytes.slice(i * 100..i * 100 + 100)).collect();
        let whole = bytes.slice(0..819_200);
        backend.write(1 << 20, crumbs, Persistence::Cached).await.unwrap();
        assert!(read(&env, &backend, 1 << 20, 819_200).await == whole);
        let pages: Vec<_> = (0..1500_usize)
            .map(|i| {
                let mut page = env.buffers().take(4096);
                page.fill(u8::try_from(i % 251).unwrap());
                page.freeze()
            })
            .collect();
        let whole: Vec<u8> = pages.iter().flatten().copied().collect();
        backend.write(0, pages, Persistence::Cached).await.unwrap();
        assert!(read(&env, &backend, 0, 1500 * 4096).await == whole);
    });
}

#[test]
fn io_outside_the_member_or_of_broken_blocks_is_refused_with_the_place() {
    on_all(|env, backend, path| async move {
        let (result, buffer) = backend.read(SIZE - 4096, env.buffers().take(8192)).await;
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfRange);
        assert_eq!(error.member_path(), path.to_str());
        assert_eq!(buffer.len(), 8192);
        let over = backend.write(u64::MAX - 4095, vec![Bytes::from(vec![0; 4096])], Persistence::Cached);
        assert_eq!(over.await.unwrap_err().kind(), ErrorKind::OutOfRange);
        let crooked = backend.write(0, vec![Bytes::from("abc")], Persistence::Cached).await;
        assert_eq!(crooked.unwrap_err().kind(), ErrorKind::InvalidInput);
        // The file shrinks behind our back: never a success for bytes that were not there.
        File::options().write(true).open(&path).unwrap().set_len(12288).unwrap();
        let error = backend.read(8192, env.buffers().take(16384)).await.0.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("at byte 12288"), "{error}");
    });
}

#[test]
fn a_punched_range_reads_as_zeroes_and_shows_as_a_hole() {
    on_all(|env, backend, _| async move {
        let mut data = env.buffers().take(1 << 20);
        data.fill(7);
        backend.write(1 << 20, vec![data.freeze()], Persistence::Synced).await.unwrap();
        backend.punch((1 << 20) + 65536, 131_072).await.unwrap();
        let got = read(&env, &backend, 1 << 20, 1 << 20).await;
        assert!(got[..65536].iter().all(|b| *b == 7));
        assert!(got[65536..196_608].iter().all(|b| *b == 0));
        assert!(got[196_608..].iter().all(|b| *b == 7));
        let span = |len_bytes, hole| Span { len_bytes, hole };
        let spans = backend.spans(4096, (4 << 20) - 4096).await.unwrap();
        let expected = [
            span((1 << 20) - 4096, true),
            span(65536, false),
            span(131_072, true),
            span((1 << 20) - 196_608, false),
            span(2 << 20, true),
        ];
        assert_eq!(spans, expected);
        assert_eq!(backend.spans(0, 0).await.unwrap(), []);
        assert_eq!(backend.punch(0, 0).await.ok(), Some(()));
    });
}

#[test]
fn many_operations_at_once_each_get_their_own_bytes() {
    on_all(|env, backend, _| async move {
        let writes = (0..1024_u64).map(|i| {
            let mut page = env.buffers().take(4096);
            page.copy_from_slice(&block(u8::try_from(i % 199).unwrap(), 4096));
            backend.write(i * 4096, vec![page.freeze()], Persistence::Cached)
        });
        for result in futures::future::join_all(writes).await {
            result.unwrap();
        }
        let reads = (0..1024_u64).map(|i| backend.read(i * 4096, env.buffers().take(4096)));
        for (i, (result, buffer)) in futures::future::join_all(reads).await.into_iter().enumerate() {
            result.unwrap();
            assert!(buffer[..] == block(u8::try_from(i % 199).unwrap(), 4096), "block {i}");
        }
    });
}

#[test]
fn a_dropped_read_keeps_its_buffer_until_the_device_has_answered() {
    on_all(|env, backend, _| async move {
        let mut data = env.buffers().take(4 << 20);
        data.fill(0xAB);
        backend.write(0, vec![data.freeze()], Persistence::Synced).await.unwrap();
        for _ in 0..50 {
            let buffer = env.buffers().take(1 << 20);
            let address = buffer.as_ptr() as usize;
            let mut read = backend.read(0, buffer);
            // Polled once, so that it is under way, and dropped.
            assert!((&mut read).now_or_never().is_none());
            drop(read);
            let other = env.buffers().take_zeroed(1 << 20);
            assert_ne!(other.as_ptr() as usize, address, "given out while the device fills it");
            env.sleep(Duration::from_micros(300)).await;
            assert!(other.iter().all(|b| *b == 0), "an abandoned read wrote to another's buffer");
        }
    });
}

#[test]
fn a_second_open_is_refused_and_names_the_holder() {
    let image = image();
    let first = FileBackend::open(&image.path, OpenOptions::default()).unwrap();
    let error = FileBackend::open(&image.path, OpenOptions::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Busy);
    let holder = format!("process {}", std::process::id());
    assert!(error.to_string().contains(&holder), "{error}");
    assert!(error.next_step().is_some());
    let link = image.path.with_file_name("link");
    std::os::unix::fs::symlink(&image.path, &link).unwrap();
    assert_eq!(FileBackend::open(&link, OpenOptions::default()).err().unwrap().kind(), ErrorKind::Busy);
    assert_eq!(identity(&link).unwrap(), first.identity());
    let look = OpenOptions { read_only: true, lock: false, direct: true };
    let reader = FileBackend::open(&image.path, look).unwrap();
    drop(first);
    FileBackend::open(&image.path, OpenOptions::default()).unwrap();
    drop(reader);
}

#[test]
fn a_lock_of_the_kind_qemu_takes_is_respected_too() {
    let image = image();
    let file = File::options().read(true).write(true).open(&image.path).unwrap();
    let range = libc::flock {
        l_type: i16::try_from(libc::F_RDLCK).unwrap(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap(),
        l_start: 100,
        l_len: 1,
        l_pid: 0,
    };
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_OFD_SETLK(&range)).unwrap();
    let error = FileBackend::open(&image.path, OpenOptions::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Busy);
    drop(file);
    FileBackend::open(&image.path, OpenOptions::default()).unwrap();
}

#[test]
fn the_lock_outlives_the_backend_while_a_write_is_under_way() {
    for io in [IoKind::Auto, IoKind::Portable] {
        let image = image();
        let path = image.path.clone();
        let runtime =
            Runtime::start(RuntimeOptions { io, keep_bytes: 64 << 20, ..RuntimeOptions::default() }).unwrap();
        let env = runtime.env();
        let ended = runtime.remote(0).call(move || async move {
            let backend = FileBackend::open(&path, OpenOptions::default()).unwrap();
            let data = env.buffers().take_zeroed(4 << 20).freeze();
            let mut write = backend.write(0, vec![data], Persistence::Synced);
            assert!((&mut write).now_or_never().is_none());
            drop(write);
            drop(backend);
            let busy = FileBackend::open(&path, OpenOptions::default()).err().unwrap();
            assert_eq!(busy.kind(), ErrorKind::Busy, "unlocked under a write that still runs");
            while FileBackend::open(&path, OpenOptions::default()).is_err() {
                env.sleep(Duration::from_millis(1)).await;
            }
        });
        block_on(ended).unwrap();
    }
}

#[test]
fn probe_sees_deletion_truncation_replacement_and_moving() {
    on_all(|_, backend, path| async move {
        let gone = |text: &str| Presence::Gone(text.into());
        assert_eq!(backend.probe().await.unwrap(), Presence::Present);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(4 << 20).unwrap();
        let shrunk = format!("the file shrank from {SIZE} to {} bytes", 4 << 20);
        assert_eq!(backend.probe().await.unwrap(), gone(&shrunk));
        file.set_len(SIZE).unwrap();
        assert_eq!(backend.probe().await.unwrap(), Presence::Present);
        let aside = path.with_file_name("aside");
        std::fs::rename(&path, &aside).unwrap();
        assert_eq!(backend.probe().await.unwrap(), gone("the file is no longer at its path"));
        create_image(&path, SIZE).unwrap();
        assert_eq!(backend.probe().await.unwrap(), gone("another file is at its path"));
        std::fs::rename(&aside, &path).unwrap();
        assert_eq!(backend.probe().await.unwrap(), Presence::Present);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(backend.probe().await.unwrap(), gone("the file was deleted"));
    });
}

#[test]
fn what_cannot_be_a_member_is_refused_with_its_reason() {
    let kind_of =
        |path: &str| FileBackend::open(Path::new(path), OpenOptions::default()).err().unwrap().kind();
    assert_eq!(kind_of("/"), ErrorKind::InvalidInput);
    assert_eq!(kind_of("/dev/null"), ErrorKind::InvalidInput);
    assert_eq!(kind_of("/nowhere/at/all"), ErrorKind::NotFound);
    let image = image();
    assert_eq!(create_image(&image.path, SIZE).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(is_mounted(&image.path).unwrap(), None);
    std::fs::write(image.path.with_file_name("odd"), vec![1; 5000]).unwrap();
    let odd = FileBackend::open(&image.path.with_file_name("odd"), OpenOptions::default()).unwrap();
    assert_eq!(odd.size_bytes(), 4096);
}

#[test]
fn a_read_only_backend_changes_nothing() {
    let image = image();
    let runtime =
        Runtime::start(RuntimeOptions { keep_bytes: 1 << 20, ..RuntimeOptions::default() }).unwrap();
    let path = image.path.clone();
    let ended = runtime.remote(0).call(move || async move {
        let options = OpenOptions { read_only: true, ..OpenOptions::default() };
        let opener = FileOpener::new(options);
        let backend = opener.open(path.to_str().unwrap()).await.unwrap();
        let write = backend.write(0, vec![Bytes::from(vec![1; 4096])], Persistence::Cached).await;
        assert_eq!(write.unwrap_err().kind(), ErrorKind::ReadOnly);
        assert_eq!(backend.punch(0, 4096).await.unwrap_err().kind(), ErrorKind::ReadOnly);
        // A reader's lock is shared with readers, and keeps writers out.
        opener.open(path.to_str().unwrap()).await.unwrap();
        let writer = FileOpener::default().open(path.to_str().unwrap()).await;
        assert_eq!(writer.err().unwrap().kind(), ErrorKind::Busy);
    });
    block_on(ended).unwrap();
}

/// A loop device over an image, where this user may make one.
struct Loop(String);

impl Loop {
    fn over(path: &Path) -> Option<Self> {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(path).output().ok()?;
        let name = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| Self(name.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[test]
fn a_block_device_is_held_exclusively_and_known_by_its_number() {
    let image = image();
    let Some(device) = Loop::over(&image.path) else {
        println!("skipped: no loop devices for this user here");
        return;
    };
    let path = PathBuf::from(&device.0);
    let used = is_mounted(&image.path).unwrap().unwrap();
    assert_eq!(used, format!("attached to {}, not mounted", device.0));
    assert_eq!(is_mounted(&path).unwrap(), None);
    for io in [IoKind::Auto, IoKind::Portable] {
        let runtime =
            Runtime::start(RuntimeOptions { io, keep_bytes: 16 << 20, ..RuntimeOptions::default() }).unwrap();
        let (env, path) = (runtime.env(), path.clone());
        let ended = runtime.remote(0).call(move || async move {
            let backend = FileBackend::open(&path, OpenOptions::default()).unwrap();
            assert_eq!((backend.size_bytes(), backend.is_direct()), (SIZE, true));
            assert_eq!(identity(&path).unwrap(), backend.identity());
            let second = FileBackend::open(&path, OpenOptions::default()).err().unwrap();
            assert_eq!(second.kind(), ErrorKind::Busy, "{second}");
            let data = Bytes::from(block(5, 64 << 10));
            backend.write(SIZE - (64 << 10), vec![data.clone()], Persistence::Synced).await.unwrap();
            assert!(read(&env, &backend, SIZE - (64 << 10), 64 << 10).await == data);
            backend.flush().await.unwrap();
            let spans = backend.spans(0, SIZE).await.unwrap();
            assert_eq!(spans, [Span { len_bytes: SIZE, hole: false }]);
            match backend.punch(SIZE - (64 << 10), 4096).await {
                Ok(()) => assert!(read(&env, &backend, SIZE - (64 << 10), 4096).await == [0; 4096]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
            }
            assert_eq!(backend.probe().await.unwrap(), Presence::Present);
        });
        block_on(ended).unwrap();
    }
}
