//! Any bytes as a client's session. The server must neither panic nor hang nor take more than its
//! limits, must end every connection, and must go on serving another client as if nothing were.
//!
//! The first byte says how far the client behaves: not at all, or through the handshake (in each
//! framing), after which requests are made of small records; the second how bytes are cut into
//! pieces and whether the client reads replies. Run with `-malloc_limit_mb=8`, far above what the
//! limits here allow.

#![no_main]

#[path = "../../../tests/nbd_support/mod.rs"]
mod nbd_support;

use libfuzzer_sys::fuzz_target;
use nbd_support::{OPTION_MAGIC, Peer, Request, Style, contexts, export, exports_of, go, start, test_env};
use palisade::env::Stream;
use palisade::export::{MemoryVolume, ReadOnly};
use palisade::nbd::Limits;
use std::sync::Arc;

const SIZE: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let [how, cut, rest @ ..] = data else { return };
    let style = [None, Some(Style::Simple), Some(Style::Structured), Some(Style::Extended)][usize::from(how & 3)];
    let session = session(style, how & 4 != 0, rest);
    run(&session, [1 << 16, 1, 7, 4096][usize::from(cut & 3)], cut & 4 == 0, cut & 8 == 0);
});

/// The bytes the client sends.
fn session(style: Option<Style>, read_only: bool, rest: &[u8]) -> Vec<u8> {
    let Some(style) = style else { return rest.to_vec() };
    let name = if read_only { "rom" } else { "disk" };
    let mut bytes = 3u32.to_be_bytes().to_vec();
    let mut option = |option: u32, data: &[u8]| {
        bytes.extend(OPTION_MAGIC.to_be_bytes());
        bytes.extend(option.to_be_bytes());
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(data);
    };
    match style {
        Style::Simple => {}
        Style::Structured => option(8, &[]),
        Style::Extended => option(11, &[]),
    }
    option(10, &contexts(name, &["base:allocation"]));
    option(7, &go(name, &[3]));
    for record in rest.chunks(8) {
        let Ok(record) = <[u8; 8]>::try_from(record) else {
            bytes.extend(record);
            break;
        };
        bytes.extend(request(style, record));
    }
    bytes
}

fn request(style: Style, [kind, flags, o, o_class, l, l_class, payload, cookie]: [u8; 8]) -> Vec<u8> {
    let number = |value: u8, class: u8| {
        let value = u64::from(value);
        match class % 8 {
            0 => value,
            1 => value << 9,
            2 => value << 12,
            3 => SIZE.wrapping_sub(value),
            4 => SIZE + value,
            5 => u64::MAX - value,
            6 => value << 32,
            _ => (1 << 32) - 1 - value,
        }
    };
    let kind = if kind == 255 { u16::from(kind) << 8 } else { u16::from(kind % 10) };
    let mut length = number(l, l_class);
    if style != Style::Extended {
        length &= u64::from(u32::MAX);
    }
    // Mostly the payload that belongs there, sometimes more or less.
    let honest = kind == 1 || (style == Style::Extended && flags & 32 != 0);
    let count = match payload % 8 {
        0 => usize::from(payload),
        _ if honest => usize::try_from(length).unwrap_or(0).min(20_000),
        _ => 0,
    };
    let payload = vec![payload; count];
    let (flags, cookie, offset) = (u16::from(flags), u64::from(cookie), number(o, o_class));
    Request { flags, kind, cookie, offset, length, payload: &payload }.bytes(style)
}

fn run(session: &[u8], capacity: usize, reads: bool, finishes: bool) {
    let limits = Limits {
        max_request_bytes: 64 << 10,
        max_skipped_bytes: 128 << 10,
        max_inflight_bytes_per_connection: 128 << 10,
        max_inflight_requests_per_connection: 16,
        ..Default::default()
    };
    let volume = Arc::new(MemoryVolume::new(SIZE));
    let rom = Arc::new(ReadOnly(volume.clone()));
    let exports = exports_of(vec![export("disk", volume), export("rom", rom)]);
    let (env, runner) = test_env();
    runner.run(async {
        let (stream, ended) = start(&exports, &env, &limits, capacity);
        let peer = std::rc::Rc::new(Peer::new(stream));
        if reads {
            let reader = peer.clone();
            env.spawn(Box::pin(async move { while !reader.recv(4096).await.is_empty() {} }));
        }
        let (other, _) = start(&exports, &env, &limits, 1 << 16);
        let other = Peer::new(other);
        other.enter("rom", Style::Structured).await;
        peer.send(session).await;
        let read = Request { offset: SIZE - 512, length: 512, cookie: 9, ..Default::default() };
        assert_eq!(other.ask(Style::Structured, read).await.error(), 0);
        // Either the client says it is done, or the server's patience ends; an idle client may stay.
        if finishes {
            peer.stream.finish_sending();
        } else {
            env.sleep(limits.handshake_timeout * 4).await;
            peer.stream.close();
        }
        drop(other);
        exports.wait_idle().await;
        assert!(ended.borrow().is_some());
    });
}
