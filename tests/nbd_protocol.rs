//! The NBD server's transmission phase against hand-written bytes: answers and refusals.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod nbd_support;

use nbd_support::*;
use palisade::error::ErrorKind;
use palisade::nbd::Limits;

const STYLES: [Style; 3] = [Style::Simple, Style::Structured, Style::Extended];
const WRITE_FLAG: [u16; 2] = [0, 1 << 5];

fn write_flag(style: Style) -> u16 {
    WRITE_FLAG[usize::from(style == Style::Extended)]
}

#[test]
fn each_refusal_has_its_errno_and_the_session_goes_on() {
    for style in STYLES {
        session(Limits::default(), memory(), async |peer, _| {
            peer.enter("disk", style).await;
            let w = write_flag(style);
            let long = vec![1; (32 << 20) + 1];
            let plain = |kind, offset, length| Request { kind, offset, length, ..Default::default() };
            let over = if style == Style::Simple { 22 } else { 75 };
            let cases = [
                ("unknown command", plain(99, 0, 0), 22),
                ("unknown flag", Request { flags: 1 << 9, ..plain(0, 0, 512) }, 22),
                ("flag of another command", Request { flags: 2, ..plain(0, 0, 512) }, 22),
                ("read past the end", plain(0, SIZE - 1, 2), 22),
                ("read far past the end", plain(0, u64::MAX, 512), 22),
                ("read too long", plain(0, 0, (32 << 20) + 1), over),
                ("trim past the end", plain(4, SIZE, 1), 22),
                ("cache past the end", plain(5, SIZE, 1), 22),
                ("zeroes past the end", plain(6, SIZE - 1, 2), 28),
                ("flush of a range", plain(3, 0, 512), 22),
                ("slow fast zero", Request { flags: 16, ..plain(6, 1, 100) }, 95),
                (
                    "write past the end",
                    Request { flags: w, payload: &[1; 512], ..plain(1, SIZE - 1, 512) },
                    28,
                ),
                (
                    "write too long",
                    Request { flags: w, payload: &long, ..plain(1, 0, long.len() as u64) },
                    22,
                ),
                ("write, bad flag", Request { flags: w | 8, payload: &[1; 5], ..plain(1, 0, 5) }, 22),
                ("FUA on a read", Request { flags: 1, ..plain(0, 0, 512) }, 0),
                ("FUA on a flush", Request { flags: 1, ..plain(3, 0, 0) }, 0),
                ("FUA on a write", Request { flags: w | 1, payload: &[0; 7], ..plain(1, 3, 7) }, 0),
                ("FUA on a trim", Request { flags: 1, ..plain(4, 0, 512) }, 0),
                ("zeroes with all flags", Request { flags: 3, ..plain(6, 0, 512) }, 0),
                ("fast zero", Request { flags: 16, ..plain(6, 0, 64 << 10) }, 0),
                ("cache", plain(5, 0, 512), 0),
                ("read of nothing", plain(0, 0, 0), 0),
                ("write of nothing", Request { flags: w, ..plain(1, 0, 0) }, 0),
                ("last byte", plain(0, SIZE - 1, 1), 0),
            ];
            for (cookie, (what, request, errno)) in (1u64..).zip(cases) {
                let reply = peer.ask(style, Request { cookie, ..request }).await;
                assert_eq!(reply.error(), errno, "{style:?}: {what}");
                let told = errno == 0 || style == Style::Simple || reply.payload.len() > 6;
                assert!(told, "{style:?}: {what}: the error has a text");
            }
            peer.request(style, plain(2, 0, 0)).await;
            assert!(peer.closed().await);
        })
        .unwrap();
    }
}

#[test]
fn a_read_only_export_refuses_what_changes_it_and_skips_the_payload() {
    for style in STYLES {
        session(Limits::default(), memory(), async |peer, _| {
            peer.enter("rom", style).await;
            let payload = [9; 3000];
            let flags = write_flag(style);
            for (kind, flags, payload) in [(1, flags, &payload[..]), (4, 0, &[]), (6, 0, &[])] {
                let request = Request { kind, flags, payload, cookie: 4, length: 3000, ..Default::default() };
                assert_eq!(peer.ask(style, request).await.error(), 1);
            }
            let read = Request { kind: 0, cookie: 5, length: 8192, ..Default::default() };
            assert_eq!(peer.ask(style, read).await.error(), 0);
        })
        .unwrap();
    }
}

#[test]
fn a_payload_where_none_belongs_is_skipped_or_ends_the_session() {
    let limits = Limits { max_skipped_bytes: 10_000, max_request_bytes: 8192, ..Default::default() };
    let end = session(limits.clone(), memory(), async |peer, _| {
        peer.enter("disk", Style::Extended).await;
        let payload = [3; 9000];
        let odd =
            Request { kind: 4, flags: 32, length: 9000, payload: &payload, cookie: 1, ..Default::default() };
        assert_eq!(peer.ask(Style::Extended, odd).await.error(), 22);
        let payload = [4; 4096];
        let bare = Request { kind: 1, flags: 0, length: 4096, cookie: 2, payload: &payload, offset: 0 };
        let reply = peer.ask(Style::Extended, bare).await;
        assert_eq!(reply.error(), 0, "a write has a payload even if its flag is missing, as qemu sends it");
        let huge = Request { kind: 99, flags: 32, length: u64::MAX, cookie: 3, ..Default::default() };
        peer.request(Style::Extended, huge).await;
        assert!(peer.closed().await);
    });
    assert_eq!(end.unwrap_err().kind(), ErrorKind::Protocol);
    let end = session(limits, memory(), async |peer, _| {
        peer.enter("disk", Style::Simple).await;
        peer.request(Style::Simple, Request { kind: 1, length: 10_001, ..Default::default() }).await;
        assert!(peer.closed().await);
    });
    assert_eq!(end.unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn a_read_that_must_not_be_fragmented_comes_in_one_chunk() {
    for style in [Style::Structured, Style::Extended] {
        session(Limits::default(), memory(), async |peer, _| {
            peer.enter("disk", style).await;
            let data: Vec<u8> = (0..100_000u32).map(|i| i.to_le_bytes()[0]).collect();
            let flags = write_flag(style);
            let write = Request { kind: 1, flags, offset: 1000, length: 100_000, payload: &data, cookie: 1 };
            assert_eq!(peer.ask(style, write).await.error(), 0);
            let read = Request { flags: 4, offset: 1000, length: 200_000, cookie: 2, ..Default::default() };
            let reply = peer.ask(style, read).await;
            assert_eq!((reply.kind, reply.payload.len()), (1, 200_008));
            assert_eq!(reply.payload[..8], 1000u64.to_be_bytes());
            assert_eq!(reply.payload[8..100_008], data);
            assert!(reply.payload[100_008..].iter().all(|b| *b == 0));
        })
        .unwrap();
    }
}

#[test]
fn block_status_tells_holes_from_data_and_can_be_asked_for_one_extent() {
    for style in [Style::Structured, Style::Extended] {
        session(Limits::default(), memory(), async |peer, _| {
            peer.enter("disk", style).await;
            let flags = write_flag(style);
            let write = Request { kind: 1, flags, offset: 64 << 10, length: 1, payload: &[1], cookie: 1 };
            assert_eq!(peer.ask(style, write).await.error(), 0);
            let extents = |reply: Chunk| -> Vec<(u64, u64)> {
                let wide = style == Style::Extended;
                assert_eq!(reply.kind, if wide { 6 } else { 5 });
                assert_eq!(reply.payload[..4], [0, 0, 0, 1]);
                let half = |b: &[u8]| b.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
                let (skip, size) = if wide { (8, 16) } else { (4, 8) };
                let pairs = reply.payload[skip..].chunks(size);
                pairs.map(|c| (half(&c[..size / 2]), half(&c[size / 2..]))).collect()
            };
            let ask = Request { kind: 7, offset: 1, length: 1 << 20, cookie: 2, ..Default::default() };
            let all = extents(peer.ask(style, ask).await);
            assert_eq!(all, [((64 << 10) - 1, 3), (64 << 10, 0), ((1 << 20) - (128 << 10) + 1, 3)]);
            let one = extents(peer.ask(style, Request { flags: 8, ..ask }).await);
            assert_eq!(one, [((64 << 10) - 1, 3)]);
            let short = extents(peer.ask(style, Request { flags: 8, length: 5, ..ask }).await);
            assert_eq!(short, [(5, 3)]);
            assert_eq!(peer.ask(style, Request { length: 0, ..ask }).await.error(), 22);
        })
        .unwrap();
    }
}

#[test]
fn block_status_with_a_payload_filters_contexts() {
    session(Limits::default(), memory(), async |peer, _| {
        peer.enter("disk", Style::Extended).await;
        let payload = |ids: &[u32]| {
            let mut bytes = 8192u64.to_be_bytes().to_vec();
            ids.iter().for_each(|i| bytes.extend(i.to_be_bytes()));
            bytes
        };
        for (ids, errno) in
            [(&[1][..], 0), (&[], 22), (&[2], 22), (&[1, 1], 22), (&[1, 2], 22), (&[1; 40], 22)]
        {
            let payload = payload(ids);
            let length = payload.len() as u64;
            let ask = Request { kind: 7, flags: 32, length, payload: &payload, cookie: 9, offset: 0 };
            assert_eq!(peer.ask(Style::Extended, ask).await.error(), errno, "{ids:?}");
        }
    })
    .unwrap();
}

#[test]
fn an_error_of_the_volume_reaches_the_client_with_its_errno_and_text() {
    let (env, runner) = test_env();
    let gate = Gate::new(&env);
    let exports = exports_of(vec![export("disk", gate.clone())]);
    runner.run(async {
        let (stream, _) = start(&exports, &env, &Limits::default(), 1 << 16);
        let peer = Peer::new(stream);
        peer.enter("", Style::Structured).await;
        for (kind, errno) in [
            (ErrorKind::Io, 5),
            (ErrorKind::Corrupt, 5),
            (ErrorKind::Failed, 5),
            (ErrorKind::Timeout, 5),
            (ErrorKind::NoSpace, 28),
            (ErrorKind::OutOfRange, 22),
            (ErrorKind::ReadOnly, 1),
            (ErrorKind::ShuttingDown, 108),
            (ErrorKind::Unsupported, 22),
        ] {
            *gate.failure.lock().unwrap() = Some(kind);
            let read = Request { length: 512, offset: 4096, cookie: 1, ..Default::default() };
            let reply = peer.ask(Style::Structured, read).await;
            assert_eq!(reply.error(), errno, "{kind:?}");
            assert_eq!(&reply.payload[6..], b"the gate is shut at byte 4096");
            assert_eq!(
                peer.ask(Style::Structured, Request { kind: 3, length: 0, offset: 0, ..read }).await.error(),
                errno
            );
        }
        *gate.failure.lock().unwrap() = Some(ErrorKind::Unsupported);
        let fast = Request { kind: 6, flags: 16, length: 512, cookie: 2, ..Default::default() };
        assert_eq!(peer.ask(Style::Structured, fast).await.error(), 95);
    });
}
