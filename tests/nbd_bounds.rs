//! What one NBD client can cost, and how its connection ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod nbd_support;

use nbd_support::*;
use palisade::error::ErrorKind;
use palisade::export::Volume;
use palisade::nbd::{Exports, Limits};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[test]
fn a_slow_request_does_not_hold_up_the_ones_behind_it() {
    let (env, runner) = test_env();
    let gate = Gate::new(&env);
    let exports = exports_of(vec![export("disk", gate.clone())]);
    runner.run(async {
        *gate.blocked.lock().unwrap() = Some(0);
        let (stream, ended) = start(&exports, &env, &Limits::default(), 1 << 16);
        let peer = Peer::new(stream);
        peer.enter("disk", Style::Simple).await;
        let at = |cookie, offset| Request { cookie, offset, length: 4096, ..Default::default() };
        peer.request(Style::Simple, at(1, 0)).await;
        peer.request(Style::Simple, at(2, 4096)).await;
        assert_eq!(peer.chunk(Style::Simple, 4096).await.cookie, 2);
        // Requests under way are answered although the client said goodbye.
        peer.request(Style::Simple, Request { kind: 2, ..Default::default() }).await;
        env.sleep(Duration::from_secs(1)).await;
        assert!(ended.borrow().is_none());
        *gate.blocked.lock().unwrap() = None;
        assert_eq!(peer.chunk(Style::Simple, 4096).await.cookie, 1);
        assert!(peer.closed().await);
    });
}

#[test]
fn a_client_that_reads_no_replies_is_held_within_its_bounds_and_then_dropped() {
    let (env, runner) = test_env();
    let gate = Gate::new(&env);
    let exports = exports_of(vec![export("disk", gate.clone())]);
    let limits = Limits { max_inflight_bytes_per_connection: 1 << 20, ..Default::default() };
    runner.run(async {
        let (stream, ended) = start(&exports, &env, &limits, 64 << 10);
        let peer = Peer::new(stream);
        peer.enter("disk", Style::Simple).await;
        let read = Request { length: 256 << 10, ..Default::default() }.bytes(Style::Simple);
        peer.send(read.repeat(1000)).await;
        env.sleep(Duration::from_secs(1)).await;
        assert_eq!(gate.started.load(Ordering::SeqCst), 4, "1 MiB of replies of 256 KiB");
        assert_eq!(exports.connections(), 1);
        exports.wait_idle().await;
        let end = ended.borrow_mut().take().unwrap().unwrap_err();
        assert_eq!(end.kind(), ErrorKind::Timeout);
        assert!(env.now().0 <= Duration::from_secs(62));
    });
}

#[test]
fn requests_in_flight_are_bounded_in_number() {
    let (env, runner) = test_env();
    let gate = Gate::new(&env);
    *gate.blocked.lock().unwrap() = Some(0);
    let exports = exports_of(vec![export("disk", gate.clone())]);
    let limits = Limits { max_inflight_requests_per_connection: 10, ..Default::default() };
    runner.run(async {
        let (stream, _) = start(&exports, &env, &limits, 64 << 10);
        let peer = Peer::new(stream);
        peer.enter("disk", Style::Simple).await;
        peer.send(Request { length: 1, ..Default::default() }.bytes(Style::Simple).repeat(100)).await;
        env.sleep(Duration::from_secs(1)).await;
        assert_eq!(gate.started.load(Ordering::SeqCst), 10);
        *gate.blocked.lock().unwrap() = None;
        assert_eq!(peer.recv(1700).await.len(), 1700, "all are answered in the end");
        assert_eq!(gate.started.load(Ordering::SeqCst), 100);
    });
}

#[test]
fn a_client_that_stalls_is_dropped_and_an_idle_one_is_not() {
    // Nothing at all, half an option, half a payload, half a request header; then silence.
    let half_write = Request { kind: 1, length: 1 << 20, payload: &[1; 100], ..Default::default() };
    let cases: [(&str, bool, Vec<u8>); 4] = [
        ("no handshake", false, vec![]),
        ("half an option", false, b"IHAV".to_vec()),
        ("half a payload", true, half_write.bytes(Style::Simple)),
        ("half a header", true, half_write.bytes(Style::Simple)[..20].to_vec()),
    ];
    for (what, entered, bytes) in cases {
        let end = session(Limits::default(), memory(), async |peer, _| {
            if entered {
                peer.enter("disk", Style::Simple).await;
            } else {
                peer.greet(3).await;
            }
            peer.send(bytes).await;
            assert!(peer.closed().await, "{what}");
        });
        assert_eq!(end.unwrap_err().kind(), ErrorKind::Timeout, "{what}");
    }
    session(Limits::default(), memory(), async |peer, env| {
        peer.enter("disk", Style::Simple).await;
        env.sleep(Duration::from_secs(3600)).await;
        assert_eq!(peer.ask(Style::Simple, Request { length: 1, ..Default::default() }).await.error(), 0);
    })
    .unwrap();
}

#[test]
fn garbage_ends_only_its_own_connection_and_its_requests_are_finished() {
    let (env, runner) = test_env();
    let gate = Gate::new(&env);
    let exports = exports_of(vec![export("disk", gate.clone())]);
    runner.run(async {
        let (good, _) = start(&exports, &env, &Limits::default(), 1 << 16);
        let (bad, ended) = start(&exports, &env, &Limits::default(), 1 << 16);
        let (good, bad) = (Peer::new(good), Peer::new(bad));
        good.enter("disk", Style::Structured).await;
        bad.enter("disk", Style::Structured).await;
        assert_eq!(exports.in_use()[0].connections, 2);
        *gate.blocked.lock().unwrap() = Some(8192);
        let write = Request { kind: 1, offset: 8192, length: 4096, payload: &[7; 4096], cookie: 1, flags: 0 };
        bad.send([write.bytes(Style::Structured), vec![0xee; 40]].concat()).await;
        env.sleep(Duration::from_millis(50)).await;
        assert!(ended.borrow().is_none(), "the write is still under way");
        *gate.blocked.lock().unwrap() = None;
        assert_eq!(bad.chunk(Style::Structured, 0).await.error(), 0);
        assert!(bad.closed().await);
        let read = Request { offset: 8192, length: 4096, cookie: 3, ..Default::default() };
        assert_eq!(good.ask(Style::Structured, read).await.payload[8..], [7; 4096]);
        assert_eq!(exports.in_use()[0].connections, 1);
    });
}

#[test]
fn a_shutdown_finishes_what_is_under_way_refuses_the_rest_and_closes() {
    let (env, runner) = test_env();
    let gate = Gate::new(&env);
    let exports = exports_of(vec![export("disk", gate.clone())]);
    runner.run(async {
        let (busy, busy_end) = start(&exports, &env, &Limits::default(), 1 << 16);
        let (idle, idle_end) = start(&exports, &env, &Limits::default(), 1 << 16);
        let (haggling, _) = start(&exports, &env, &Limits::default(), 1 << 16);
        let (busy, idle, haggling) = (Peer::new(busy), Peer::new(idle), Peer::new(haggling));
        busy.enter("disk", Style::Structured).await;
        idle.enter("disk", Style::Structured).await;
        haggling.greet(3).await;
        *gate.blocked.lock().unwrap() = Some(4096);
        let read = Request { offset: 4096, length: 4096, cookie: 1, ..Default::default() };
        busy.request(Style::Structured, read).await;
        env.sleep(Duration::from_millis(10)).await;
        exports.shutdown();
        assert!(idle.closed().await);
        assert!(haggling.closed().await);
        assert!(idle_end.borrow_mut().take().unwrap().is_ok());
        let write = Request { kind: 1, length: 512, payload: &[1; 512], cookie: 2, ..Default::default() };
        assert_eq!(busy.ask(Style::Structured, write).await.error(), 108);
        *gate.blocked.lock().unwrap() = None;
        assert_eq!(busy.chunk(Style::Structured, 0).await.cookie, 1);
        assert!(busy.closed().await);
        exports.wait_idle().await;
        assert!(busy_end.borrow_mut().take().unwrap().is_ok());
        let (late, late_end) = start(&exports, &env, &Limits::default(), 1 << 16);
        assert!(Peer::new(late).closed().await);
        assert_eq!(late_end.borrow_mut().take().unwrap().unwrap_err().kind(), ErrorKind::ShuttingDown);
    });
}

#[test]
fn a_client_that_takes_no_replies_does_not_hold_up_a_shutdown() {
    let (env, runner) = test_env();
    let exports = exports_of(vec![export("disk", memory())]);
    runner.run(async {
        let (stream, ended) = start(&exports, &env, &Limits::default(), 4096);
        let peer = Peer::new(stream);
        peer.enter("disk", Style::Simple).await;
        peer.request(Style::Simple, Request { length: 1 << 20, ..Default::default() }).await;
        env.sleep(Duration::from_secs(1)).await;
        exports.shutdown();
        exports.wait_idle().await;
        assert_eq!(env.now().0, Duration::from_secs(6), "the grace after the shutdown");
        assert_eq!(ended.borrow_mut().take().unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    });
}

#[test]
fn a_reply_that_comes_long_after_a_shutdown_is_still_sent() {
    let (env, runner) = test_env();
    let gate = Gate::new(&env);
    let exports = exports_of(vec![export("disk", gate.clone())]);
    runner.run(async {
        let (stream, ended) = start(&exports, &env, &Limits::default(), 1 << 16);
        let peer = Peer::new(stream);
        peer.enter("disk", Style::Simple).await;
        *gate.blocked.lock().unwrap() = Some(4096);
        peer.request(Style::Simple, Request { offset: 4096, length: 4096, cookie: 1, ..Default::default() })
            .await;
        env.sleep(Duration::from_millis(10)).await;
        exports.shutdown();
        env.sleep(Duration::from_secs(10)).await;
        *gate.blocked.lock().unwrap() = None;
        assert_eq!(peer.chunk(Style::Simple, 4096).await.cookie, 1);
        assert!(peer.closed().await);
        exports.wait_idle().await;
        assert!(ended.borrow_mut().take().unwrap().is_ok());
    });
}

#[test]
fn requests_without_a_payload_count_what_they_hold() {
    let (env, runner) = test_env();
    let gate = Gate::new(&env);
    *gate.blocked.lock().unwrap() = Some(0);
    let exports = exports_of(vec![export("disk", gate.clone())]);
    let limits = Limits { max_inflight_bytes_per_connection: 1 << 20, ..Default::default() };
    runner.run(async {
        let (stream, _) = start(&exports, &env, &limits, 64 << 10);
        let peer = Peer::new(stream);
        peer.enter("disk", Style::Structured).await;
        let zero = Request { kind: 6, length: 512 << 10, ..Default::default() };
        peer.send(zero.bytes(Style::Structured).repeat(10)).await;
        env.sleep(Duration::from_secs(1)).await;
        assert_eq!(gate.started.load(Ordering::SeqCst), 2, "1 MiB of zeroes in pieces of 512 KiB");
    });
}

#[test]
fn connections_beyond_the_limit_are_closed_at_once() {
    let (env, runner) = test_env();
    let exports = exports_of(vec![export("disk", memory())]);
    let limits = Limits { max_connections: 2, ..Default::default() };
    runner.run(async {
        let (first, _) = start(&exports, &env, &limits, 1 << 16);
        let (second, _) = start(&exports, &env, &limits, 1 << 16);
        let (third, ended) = start(&exports, &env, &limits, 1 << 16);
        assert!(Peer::new(third).closed().await);
        assert_eq!(ended.borrow_mut().take().unwrap().unwrap_err().kind(), ErrorKind::Busy);
        drop(first);
        env.sleep(Duration::from_millis(1)).await;
        let (fourth, _) = start(&exports, &env, &limits, 1 << 16);
        Peer::new(fourth).greet(3).await;
        drop(second);
    });
}

#[test]
fn a_session_cut_at_any_byte_ends_and_whole_writes_before_the_cut_are_carried_out() {
    let mut bytes = 3u32.to_be_bytes().to_vec();
    let option = |option: u32, data: &[u8]| {
        let len = u32::try_from(data.len()).unwrap();
        [&OPTION_MAGIC.to_be_bytes()[..], &option.to_be_bytes(), &len.to_be_bytes(), data].concat()
    };
    bytes.extend(option(8, &[]));
    bytes.extend(option(10, &contexts("disk", &["base:allocation"])));
    bytes.extend(option(7, &go("disk", &[3])));
    let write = Request { kind: 1, length: 100, payload: &[5; 100], cookie: 1, ..Default::default() };
    bytes.extend(write.bytes(Style::Structured));
    let written_at = bytes.len();
    bytes.extend(Request { kind: 0, length: 100, cookie: 2, ..Default::default() }.bytes(Style::Structured));
    bytes.extend(Request { kind: 7, length: 100, cookie: 3, ..Default::default() }.bytes(Style::Structured));
    for cut in 0..=bytes.len() {
        let volume = memory();
        let (env, runner) = test_env();
        let exports: Arc<Exports> = exports_of(vec![export("disk", volume.clone())]);
        runner.run(async {
            let (stream, _) = start(&exports, &env, &Limits::default(), 1 << 16);
            let peer = Peer::new(stream);
            peer.send(&bytes[..cut]).await;
            peer.stream.finish_sending();
            while !peer.closed().await {}
            exports.wait_idle().await;
            let first = volume.read(0, 100).await.unwrap().concat();
            assert_eq!(first == [5; 100], cut >= written_at, "cut at {cut}");
        });
    }
}
