//! Our client against our server, in every framing, and against servers that lie.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod nbd_support;

use bytes::Bytes;
use futures::future::join_all;
use nbd_support::*;
use palisade::env::{Stream, pipe};
use palisade::error::ErrorKind;
use palisade::export::{Durability, MemoryVolume, ZeroOptions};
use palisade::nbd::Limits;
use palisade::nbd::client::{Client, Headers, Options};
use std::sync::Arc;

fn options(headers: Headers) -> Options {
    Options { export: "disk".into(), headers, allocation: true }
}

const ALL: [Headers; 3] = [Headers::Simple, Headers::Structured, Headers::Extended];

#[test]
fn what_the_client_writes_it_reads_back_whatever_the_size_and_order() {
    const SIZE: usize = 4 << 20;
    for headers in ALL {
        let (env, runner) = test_env();
        let exports = exports_of(vec![export("disk", Arc::new(MemoryVolume::new(SIZE as u64)))]);
        runner.run(async {
            let (stream, _) = start(&exports, &env, &Limits::default(), 10_000);
            let client = Client::connect(stream, env.clone(), &options(headers)).await.unwrap();
            assert_eq!((client.info().headers, client.info().size_bytes), (headers, SIZE as u64));
            let mut model = vec![0u8; SIZE];
            let mut seed = 12345u64;
            let mut random = |below: usize| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (seed >> 33) as usize % below
            };
            for round in 0..60u8 {
                // A batch of writes that do not overlap, all in flight at once, then all reads.
                let mut at = random(5000);
                let mut batch = Vec::new();
                while batch.len() < 12 && at < SIZE - 1 {
                    let class = [100, 5000, 20_000, 300_000][random(4)];
                    let len = (1 + random(class)).min(SIZE - at);
                    batch.push((at, len));
                    at += len + random(9000);
                }
                let ops = batch.iter().map(|&(at, len)| {
                    let (client, zero) = (client.clone(), len % 3 == 0);
                    model[at..at + len].fill(if zero { 0 } else { round + 1 });
                    let data = Bytes::from(vec![round + 1; len]);
                    async move {
                        let (at, len) = (at as u64, len as u64);
                        match zero {
                            true => client.write_zeroes(at, len, ZeroOptions::default()).await,
                            false => client.write(at, data, Durability::Durable).await,
                        }
                    }
                });
                join_all(ops.collect::<Vec<_>>()).await.into_iter().for_each(|r| r.unwrap());
                client.flush().await.unwrap();
                let reads = batch.iter().map(|&(at, len)| client.read(at as u64, len as u64));
                for (data, &(at, len)) in join_all(reads).await.into_iter().zip(&batch) {
                    assert!(data.unwrap() == model[at..at + len], "{headers:?} at {at}+{len}");
                }
            }
            assert!(client.read(0, SIZE as u64).await.unwrap() == model);
            client.disconnect().await.unwrap();
            assert_eq!(client.flush().await.unwrap_err().kind(), ErrorKind::ShuttingDown);
            exports.wait_idle().await;
        });
    }
}

#[test]
fn errors_and_status_come_through_in_every_framing() {
    for headers in ALL {
        let (env, runner) = test_env();
        let exports = exports_of(vec![export("disk", Arc::new(MemoryVolume::new(8 << 30)))]);
        runner.run(async {
            let (stream, _) = start(&exports, &env, &Limits::default(), 10_000);
            let client = Client::connect(stream, env.clone(), &options(headers)).await.unwrap();
            let past = client.read((8 << 30) - 1, 2).await.unwrap_err();
            assert_eq!(past.kind(), ErrorKind::InvalidInput);
            let text = past.to_string();
            assert_eq!(text.contains("beyond the end"), headers != Headers::Simple, "{text}");
            let past = client.write(8 << 30, Bytes::from_static(b"x"), Durability::Volatile).await;
            assert_eq!(past.unwrap_err().kind(), ErrorKind::NoSpace);
            let slow = ZeroOptions { fast_only: true, ..Default::default() };
            let slow = client.write_zeroes(5, 5, slow).await.unwrap_err();
            assert_eq!(slow.kind(), ErrorKind::Unsupported);
            let whole = client.trim(0, 8 << 30, Durability::Volatile).await;
            assert_eq!(whole.is_ok(), headers == Headers::Extended, "longer than 32 bits");
            client.write(64 << 10, Bytes::from_static(b"x"), Durability::Volatile).await.unwrap();
            client.cache(0, 4096).await.unwrap();
            let status = client.block_status(0, 1 << 20).await;
            match headers {
                Headers::Simple => assert_eq!(status.unwrap_err().kind(), ErrorKind::Unsupported),
                _ => {
                    let got: Vec<_> = status.unwrap().iter().map(|e| (e.len_bytes, e.hole, e.zero)).collect();
                    let (cell, rest) = (64 << 10, (1 << 20) - (128 << 10));
                    assert_eq!(got, [(cell, true, true), (cell, false, false), (rest, true, true)]);
                }
            }
            assert_eq!(client.read(0, 33 << 20).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        });
    }
    let (env, runner) = test_env();
    let exports = exports_of(vec![export("disk", Arc::new(MemoryVolume::new(4096)))]);
    runner.run(async {
        let (stream, _) = start(&exports, &env, &Limits::default(), 10_000);
        let other = Options { export: "other".into(), ..Default::default() };
        let error = Client::connect(stream, env.clone(), &other).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_server_that_lies_is_an_error_and_not_a_panic() {
    let chunk = |kind: u16, flags: u16, cookie: u64, len: u32, rest: &[u8]| {
        let head = 0x668e_33efu32.to_be_bytes();
        [
            &head[..],
            &flags.to_be_bytes(),
            &kind.to_be_bytes(),
            &cookie.to_be_bytes(),
            &len.to_be_bytes(),
            rest,
        ]
        .concat()
    };
    let data = |offset: u64, len: usize| [&offset.to_be_bytes()[..], &vec![1; len]].concat();
    let lies: Vec<(&str, Vec<u8>)> = vec![
        ("garbage", vec![0xaa; 64]),
        ("another cookie", chunk(0, 1, 77, 0, &[])),
        ("done without data", chunk(0, 1, 0, 0, &[])),
        ("data before the range", chunk(1, 1, 0, 16, &data(4095, 8))),
        ("data past the range", chunk(1, 1, 0, 16, &data(8192 - 7, 8))),
        ("data far off", chunk(1, 1, 0, 16, &data(u64::MAX, 8))),
        (
            "too much data",
            [chunk(1, 0, 0, 4104, &data(4096, 4096)), chunk(1, 1, 0, 9, &data(4096, 1))].concat(),
        ),
        ("too little data", chunk(1, 1, 0, 108, &data(4096, 100))),
        ("hole too long", chunk(2, 1, 0, 12, &[&4096u64.to_be_bytes()[..], &[0xff; 4]].concat())),
        ("status of a read", chunk(5, 1, 0, 12, &[0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0])),
        ("unknown chunk", chunk(99, 1, 0, 0, &[])),
        ("huge error", chunk(0x8001, 1, 0, u32::MAX, &[])),
        ("simple reply to a read", [&0x6744_6698u32.to_be_bytes()[..], &[0; 12]].concat()),
        ("cut", chunk(1, 1, 0, 4104, &data(4096, 10))),
        ("nothing", vec![]),
    ];
    for (what, lie) in lies {
        let (env, runner) = test_env();
        runner.run(async {
            let (here, there) = pipe(1 << 16);
            env.spawn(Box::pin(async move {
                let server = Peer::new(there);
                server.send([&b"NBDMAGICIHAVEOPT"[..], &[0, 3]].concat()).await;
                // Client flags, STRUCTURED_REPLY, GO without a name.
                server.recv(4 + 16).await;
                let reply = |option: u32, kind: u32, data: &[u8]| {
                    let len = u32::try_from(data.len()).unwrap().to_be_bytes();
                    let magic = 0x0003_e889_0455_65a9u64.to_be_bytes();
                    [&magic[..], &option.to_be_bytes(), &kind.to_be_bytes(), &len, data].concat()
                };
                server.send(reply(8, 1, &[])).await;
                server.recv(16 + 8).await;
                let export = [&[0, 0][..], &(1u64 << 20).to_be_bytes(), &[0, 1]].concat();
                server.send([reply(7, 3, &export), reply(7, 1, &[])].concat()).await;
                server.recv(28).await;
                server.send(lie).await;
                server.stream.close();
            }));
            let options = Options { headers: Headers::Structured, ..Default::default() };
            let client = Client::connect(here, env.clone(), &options).await.unwrap();
            let error = client.read(4096, 4096).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::ShuttingDown), "{what}: {error}");
            assert!(client.flush().await.is_err(), "{what}: the connection is given up");
        });
    }
}
