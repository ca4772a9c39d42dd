//! The executor, its timers and its sockets: every test runs on io_uring (where the kernel lets
//! us) and on the portable driver.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::executor::block_on;
use futures::{FutureExt, StreamExt};
use palisade::env::real::{IoKind, Listener, Runtime, RuntimeOptions, Socket};
use palisade::env::{Env, Stream, deadline};
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Runs a test on both drivers.
fn on_both(threads: usize, test: impl Fn(&Runtime)) {
    for io in [IoKind::Auto, IoKind::Portable] {
        let runtime =
            Runtime::start(RuntimeOptions { threads, io, keep_bytes: 64 << 20, ..RuntimeOptions::default() })
                .unwrap();
        println!("on {}", runtime.io_description());
        test(&runtime);
        runtime.stop();
    }
}

fn pair() -> (OwnedFd, OwnedFd) {
    let (a, b) = UnixStream::pair().unwrap();
    (a.into(), b.into())
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 7 + (i >> 8) + seed) % 251).unwrap()).collect()
}

async fn recv_exactly(env: &Env, socket: &Socket, len: usize) -> Vec<u8> {
    let mut got = Vec::with_capacity(len);
    let mut buffer = env.buffers().take(256 << 10);
    while got.len() < len {
        let end = buffer.len().min(len - got.len());
        let (result, returned) = socket.recv(buffer, 0..end).await;
        buffer = returned;
        let count = result.unwrap();
        assert_ne!(count, 0, "closed after {} of {len} bytes", got.len());
        got.extend_from_slice(&buffer[..count]);
    }
    got
}

#[test]
fn a_thousand_tasks_all_run_to_their_end() {
    on_both(1, |runtime| {
        let env = runtime.env();
        let sum = block_on(runtime.remote(0).call(move || async move {
            let sum = Rc::new(RefCell::new(0));
            let (done, waiting) = mpsc::unbounded::<()>();
            for i in 0..1000 {
                let (sum, env2, done) = (Rc::clone(&sum), env.clone(), done.clone());
                env.spawn(Box::pin(async move {
                    env2.sleep(Duration::from_micros(i % 17)).await;
                    *sum.borrow_mut() += i;
                    drop(done);
                }));
            }
            drop(done);
            waiting.for_each(|()| async {}).await;
            *sum.borrow()
        }));
        assert_eq!(sum.unwrap(), 499_500);
    });
}

#[test]
fn a_wake_from_another_thread_reaches_a_sleeping_executor() {
    on_both(2, |runtime| {
        let (here, there) = (runtime.remote(0), runtime.remote(1));
        let total = block_on(here.call(move || async move {
            let mut total = 0;
            for i in 0..500_u32 {
                // Between calls this thread has nothing to do but sleep.
                total += there.call(move || async move { i }).await.unwrap();
            }
            total
        }));
        assert_eq!(total.unwrap(), 499 * 500 / 2);
    });
}

#[test]
fn wakes_from_many_plain_threads_are_never_lost() {
    on_both(1, |runtime| {
        let (sender, mut receiver) = mpsc::unbounded::<usize>();
        let counted = runtime.remote(0).call(move || async move {
            let mut sum = 0;
            while let Some(number) = receiver.next().await {
                sum += number;
            }
            sum
        });
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let sender = sender.clone();
                scope.spawn(move || {
                    for i in 0..5000 {
                        sender.unbounded_send(i).unwrap();
                        if i % 64 == 0 {
                            std::thread::yield_now();
                        }
                    }
                });
            }
        });
        drop(sender);
        assert_eq!(block_on(counted).unwrap(), 4 * 4999 * 5000 / 2);
    });
}

#[test]
fn no_sleep_ends_before_its_time_and_all_end() {
    on_both(1, |runtime| {
        let env = runtime.env();
        block_on(runtime.remote(0).call(move || async move {
            let sleeps = [30_u64, 10, 0, 20, 10].map(|ms| {
                let (env, limit) = (env.clone(), Duration::from_millis(ms));
                async move {
                    let began = env.now();
                    env.sleep(limit).await;
                    assert!(env.now().since(began) >= limit);
                }
            });
            futures::future::join_all(sleeps).await;
        }))
        .unwrap();
    });
}

#[test]
fn a_dropped_timer_wakes_nobody_and_the_others_still_fire() {
    on_both(1, |runtime| {
        let env = runtime.env();
        block_on(runtime.remote(0).call(move || async move {
            for _ in 0..100 {
                let long = env.sleep(Duration::from_secs(3600));
                let short = env.sleep(Duration::from_micros(50));
                futures::future::select(long, short).await;
            }
        }))
        .unwrap();
    });
}

#[test]
fn many_mebibytes_pass_both_ways_at_once_through_one_socket() {
    const LEN: usize = 24 << 20;
    on_both(2, |runtime| {
        let (a, b) = pair();
        let ends = [(0, a), (1, b)].map(|(seed, fd)| {
            let env = runtime.env();
            runtime.remote(seed).call(move || async move {
                let socket = Socket::from_fd(fd);
                let all = Bytes::from(pattern(LEN, seed));
                // One in three pieces is empty, and there are more than one call takes.
                let mut pieces = Vec::new();
                for start in (0..LEN).step_by(8 << 10) {
                    pieces.push(all.slice(start..LEN.min(start + 3000)));
                    pieces.push(Bytes::new());
                    pieces.push(all.slice(LEN.min(start + 3000)..LEN.min(start + (8 << 10))));
                }
                assert!(pieces.len() > 2048);
                let (sent, got) = futures::join!(socket.send(pieces), recv_exactly(&env, &socket, LEN));
                sent.unwrap();
                assert!(got == pattern(LEN, 1 - seed), "bytes arrived wrong");
            })
        });
        for end in ends {
            block_on(end).unwrap();
        }
    });
}

#[test]
fn close_ends_a_receive_under_way_on_both_sides() {
    on_both(1, |runtime| {
        let (a, b) = pair();
        let env = runtime.env();
        block_on(runtime.remote(0).call(move || async move {
            let (a, b) = (Socket::from_fd(a), Socket::from_fd(b));
            let take = || env.buffers().take(4096);
            let ((mine, _), (theirs, _), ()) =
                futures::join!(a.recv(take(), 0..4096), b.recv(take(), 0..4096), async {
                    env.sleep(Duration::from_millis(5)).await;
                    a.close();
                });
            assert!(matches!(mine, Ok(0) | Err(_)));
            assert_eq!(theirs.unwrap(), 0);
            assert!(b.send(vec![Bytes::from("x")]).await.is_err(), "sent to a closed peer");
        }))
        .unwrap();
    });
}

#[test]
fn a_buffer_is_not_reused_while_a_dropped_receive_may_still_fill_it() {
    on_both(1, |runtime| {
        let (a, b) = pair();
        let env = runtime.env();
        block_on(runtime.remote(0).call(move || async move {
            let (a, b) = (Socket::from_fd(a), Socket::from_fd(b));
            let buffer = env.buffers().take_zeroed(64 << 10);
            let address = buffer.as_ptr() as usize;
            {
                let mut receive = a.recv(buffer, 0..64 << 10).fuse();
                futures::select_biased! {
                    _ = receive => panic!("nothing was sent"),
                    () = env.sleep(Duration::from_millis(2)).fuse() => {}
                }
            }
            // The receive was abandoned in this very turn: the kernel has not let go yet.
            let other = env.buffers().take_zeroed(64 << 10);
            assert_ne!(other.as_ptr() as usize, address, "the pages were given out again");
            b.send(vec![Bytes::from(vec![0xEE; 4096])]).await.unwrap();
            env.sleep(Duration::from_millis(5)).await;
            assert!(other.iter().all(|b| *b == 0), "an abandoned receive wrote to another's buffer");
            // Once it ended, the pages come back, and the bytes are there for the next receive.
            let again: Vec<_> = (0..4).map(|_| env.buffers().take(64 << 10)).collect();
            assert!(again.iter().any(|b| b.as_ptr() as usize == address), "the pages are lost");
            let next = recv_exactly(&env, &a, 4096);
            let got = deadline(&env, Duration::from_secs(30), next).await;
            assert_eq!(got.expect("the abandoned receive took the bytes"), [0xEE; 4096]);
        }))
        .unwrap();
    });
}

#[test]
fn stop_drops_tasks_that_wait_for_ever() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    for io in [IoKind::Auto, IoKind::Portable] {
        let runtime = Runtime::start(RuntimeOptions {
            threads: 2,
            io,
            keep_bytes: 1 << 20,
            ..RuntimeOptions::default()
        })
        .unwrap();
        let dropped = Arc::new(AtomicUsize::new(0));
        let (a, b) = pair();
        let listening = Listener::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut pending = Vec::new();
        let (env, count) = (runtime.env(), Arc::clone(&dropped));
        pending.push(runtime.remote(0).call(move || async move {
            let _counted = Counted(count);
            Socket::from_fd(a).recv(env.buffers().take(4096), 0..4096).await.0.unwrap();
        }));
        let (env, count) = (runtime.env(), Arc::clone(&dropped));
        pending.push(runtime.remote(1).call(move || async move {
            let _counted = Counted(count);
            env.sleep(Duration::from_secs(3600)).await;
        }));
        let count = Arc::clone(&dropped);
        pending.push(runtime.remote(1).call(move || async move {
            let _counted = Counted(count);
            listening.accept().await.unwrap();
        }));
        // All three have begun once each thread has answered.
        block_on(runtime.remote(0).call(|| async {})).unwrap();
        block_on(runtime.remote(1).call(|| async {})).unwrap();
        let late = runtime.remote(0);
        runtime.stop();
        assert_eq!(dropped.load(Ordering::SeqCst), 3);
        for receiver in pending {
            assert_eq!(block_on(receiver), Err(oneshot::Canceled));
        }
        assert_eq!(block_on(late.call(|| async {})), Err(oneshot::Canceled), "ran on a stopped thread");
        drop(b);
    }
}

#[test]
fn a_task_that_panics_ends_alone() {
    on_both(1, |runtime| {
        let crashed = runtime.remote(0).call(|| async {
            assert!(std::hint::black_box(false), "on purpose");
        });
        assert_eq!(block_on(crashed), Err(oneshot::Canceled));
        assert_eq!(block_on(runtime.remote(0).call(|| async { 7 })), Ok(7));
    });
}

async fn echo_once(env: Env, listener: Listener) {
    let socket = Socket::from_fd(listener.accept().await.unwrap());
    let got = recv_exactly(&env, &socket, 5).await;
    socket.send(vec![Bytes::from(got)]).await.unwrap();
}

#[test]
fn tcp_and_unix_connections_are_accepted_on_one_thread_and_served() {
    on_both(2, |runtime| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let tcp = Listener::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = tcp.local_addr_text().parse().unwrap();
        let unix = Listener::unix(&path).unwrap();
        let servers = [tcp, unix].map(|listener| {
            let env = runtime.env();
            runtime.remote(0).call(move || echo_once(env, listener))
        });
        let (env, to) = (runtime.env(), path.clone());
        let client = runtime.remote(1).call(move || async move {
            for socket in [Socket::connect_tcp(address).await, Socket::connect_unix(&to).await] {
                let socket = socket.unwrap();
                socket.send(vec![Bytes::from("he"), Bytes::from("llo")]).await.unwrap();
                assert_eq!(recv_exactly(&env, &socket, 5).await, b"hello");
            }
            let nobody = Socket::connect_unix(&to.with_file_name("none")).await;
            assert_eq!(nobody.err().unwrap().kind(), std::io::ErrorKind::NotFound);
        });
        block_on(client).unwrap();
        for server in servers {
            block_on(server).unwrap();
        }
        assert!(!path.exists(), "the socket file stayed behind");
    });
}

#[test]
fn a_stale_socket_file_is_replaced_but_nothing_else_is() {
    use palisade::error::ErrorKind;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let listener = Listener::unix(&path).unwrap();
    assert_eq!(Listener::unix(&path).err().unwrap().kind(), ErrorKind::Busy);
    drop(listener);
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(Listener::unix(&path).err().unwrap().kind(), ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn where_io_uring_is_refused_auto_falls_back_and_says_so() {
    use seccompiler::{SeccompAction, SeccompFilter};
    let refused = libc_errno_eperm();
    let threads = std::thread::spawn(move || {
        let rules = [(libc::SYS_io_uring_setup, vec![])].into_iter().collect();
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let filter =
            SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(refused), arch).unwrap();
        let program: seccompiler::BpfProgram = filter.try_into().unwrap();
        seccompiler::apply_filter(&program).unwrap();
        // The threads a runtime starts inherit the filter.
        let runtime =
            Runtime::start(RuntimeOptions { threads: 2, keep_bytes: 1 << 20, ..RuntimeOptions::default() })
                .unwrap();
        assert_eq!(runtime.io_description(), "portable (io_uring refused: Operation not permitted)");
        assert_eq!(block_on(runtime.remote(1).call(|| async { 5 })), Ok(5));
        runtime.stop();
        let error = Runtime::start(RuntimeOptions {
            io: IoKind::Uring,
            keep_bytes: 1 << 20,
            ..RuntimeOptions::default()
        })
        .err()
        .unwrap();
        assert_eq!(error.kind(), palisade::error::ErrorKind::Permission);
        assert!(error.to_string().contains("Operation not permitted"), "{error}");
    });
    threads.join().unwrap();
}

fn libc_errno_eperm() -> u32 {
    u32::try_from(libc::EPERM).unwrap()
}
