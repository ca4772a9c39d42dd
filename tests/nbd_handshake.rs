//! The NBD server's handshake against hand-written bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod nbd_support;

use nbd_support::*;
use palisade::error::ErrorKind;
use palisade::nbd::Limits;

#[test]
fn export_name_is_answered_with_zeroes_unless_agreed_otherwise() {
    for (flags, zeroes) in [(1u32, 124), (3, 0)] {
        session(Limits::default(), memory(), async |peer, _| {
            peer.greet(flags).await;
            peer.send_option(1, b"disk").await;
            assert_eq!(peer.recv(8).await, SIZE.to_be_bytes());
            assert_eq!(peer.recv(2).await, 0x0d6du16.to_be_bytes());
            assert_eq!(peer.recv(zeroes).await, vec![0; zeroes]);
            let read = Request { kind: 0, cookie: 5, length: 512, ..Default::default() };
            assert_eq!(peer.ask(Style::Simple, read).await.payload, vec![0; 512]);
            peer.request(Style::Simple, Request { kind: 2, ..Default::default() }).await;
            assert!(peer.closed().await);
        })
        .unwrap();
    }
}

#[test]
fn what_cannot_be_answered_ends_the_session() {
    let cases: [(&str, u32, Vec<u8>); 6] = [
        ("unknown greeting flag", 4, vec![]),
        ("unknown export", 3, [b"IHAVEOPT".as_slice(), &[0, 0, 0, 1, 0, 0, 0, 4], b"nope"].concat()),
        ("default of several", 3, [b"IHAVEOPT".as_slice(), &[0, 0, 0, 1, 0, 0, 0, 0]].concat()),
        ("no option", 3, vec![0x55; 64]),
        ("endless option", 3, [b"IHAVEOPT".as_slice(), &[0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff]].concat()),
        ("name not UTF-8", 3, [b"IHAVEOPT".as_slice(), &[0, 0, 0, 1, 0, 0, 0, 1, 0xff]].concat()),
    ];
    for (what, flags, bytes) in cases {
        let end = session(Limits::default(), memory(), async |peer, _| {
            peer.greet(flags).await;
            peer.send(bytes).await;
            assert!(peer.closed().await, "{what}");
        });
        assert_eq!(end.unwrap_err().kind(), ErrorKind::Protocol, "{what}");
    }
}

#[test]
fn haggling_answers_each_option_as_the_document_says() {
    const ERR: u32 = 1 << 31;
    session(Limits::default(), memory(), async |peer, _| {
        peer.greet(3).await;
        assert_eq!(peer.option_result(99, b"whatever").await, ERR + 1);
        assert_eq!(peer.option_result(4, &[]).await, ERR + 1, "PEEK_EXPORT was withdrawn");
        assert_eq!(peer.option_result(5, &[]).await, ERR + 2, "STARTTLS");
        for takes_no_data in [3, 5, 8, 11] {
            assert_eq!(peer.option_result(takes_no_data, b"x").await, ERR + 3);
        }
        assert_eq!(peer.option_result(6, &go("nope", &[])).await, ERR + 6);
        assert_eq!(peer.option_result(7, &go("", &[])).await, ERR + 6, "two exports, no default");
        assert_eq!(peer.option_result(6, b"\0\0\0\x20disk\0\0").await, ERR + 3, "name past the end");
        assert_eq!(peer.option_result(6, &[go("disk", &[]), vec![0]].concat()).await, ERR + 3);
        assert_eq!(peer.option_result(6, &vec![0; 70_000]).await, ERR + 9);
        let list = peer.option(3, &[]).await;
        assert_eq!(list.iter().map(|r| r.0).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(list[0].1, b"\0\0\0\x04diskthe volume disk");
        let infos = peer.option(6, &go("disk", &[3, 1, 2, 77])).await;
        assert_eq!(infos[0].1, [&[0, 0][..], &SIZE.to_be_bytes(), &[0x0d, 0x6d]].concat());
        assert_eq!(infos[1].1, b"\0\x01disk");
        assert_eq!(infos[2].1, b"\0\x02the volume disk");
        assert_eq!(infos[3].1, [0, 3, 0, 0, 0, 1, 0, 0, 0x10, 0, 2, 0, 0, 0]);
        assert_eq!(infos.len(), 5);
        let rom = peer.option(6, &go("rom", &[])).await;
        assert_eq!(rom[0].1[10..], [0x05, 0x0f], "read-only: no trim, no zeroes");
        assert_eq!(peer.option_result(2, b"ignored").await, 1);
        assert!(peer.closed().await);
    })
    .unwrap();
}

#[test]
fn contexts_need_structured_replies_and_belong_to_one_export() {
    const ERR: u32 = 1 << 31;
    let query = ["base:allocation"];
    session(Limits::default(), memory(), async |peer, _| {
        peer.greet(3).await;
        assert_eq!(peer.option_result(10, &contexts("disk", &query)).await, ERR + 3);
        assert_eq!(peer.option_result(8, &[]).await, 1);
        let id = |id: u8| [&[0, 0, 0, id][..], b"base:allocation"].concat();
        for queries in [&[][..], &["base:"], &query, &["x-other:y", "base:allocation"]] {
            let listed = peer.option(9, &contexts("disk", queries)).await;
            assert_eq!(listed, [(4, id(0)), (1, vec![])], "{queries:?}");
        }
        assert_eq!(peer.option(9, &contexts("disk", &["x-other:y"])).await, [(1, vec![])]);
        assert_eq!(peer.option(10, &contexts("disk", &["base:"])).await, [(1, vec![])]);
        assert_eq!(peer.option(10, &contexts("disk", &query)).await, [(4, id(1)), (1, vec![])]);
        assert_eq!(peer.option_result(10, &contexts("nope", &query)).await, ERR + 6);
        assert_eq!(peer.option(10, &contexts("rom", &query)).await, [(4, id(1)), (1, vec![])]);
        assert_eq!(peer.option_result(7, &go("disk", &[])).await, 1);
        let status = Request { kind: 7, cookie: 1, length: 4096, ..Default::default() };
        assert_eq!(peer.ask(Style::Structured, status).await.error(), 22, "selected for another export");
    })
    .unwrap();
}

#[test]
fn extended_headers_take_precedence() {
    const ERR: u32 = 1 << 31;
    session(Limits::default(), memory(), async |peer, _| {
        peer.greet(3).await;
        assert_eq!(peer.option_result(8, &[]).await, 1);
        assert_eq!(peer.option_result(11, &[]).await, 1);
        assert_eq!(peer.option_result(8, &[]).await, ERR + 10);
        assert_eq!(peer.option_result(10, &contexts("disk", &["base:allocation"])).await, 1);
        let go = peer.option(7, &go("disk", &[])).await;
        assert_eq!(go[0].1[10..], [0x1d, 0xed], "DF and BLOCK_STATUS_PAYLOAD");
        let far = Request { kind: 6, cookie: 1, offset: 0, length: SIZE, ..Default::default() };
        assert_eq!(peer.ask(Style::Extended, far).await.error(), 0, "zeroes longer than 32 bits");
        let trim = Request { kind: 4, cookie: 2, offset: 4096, length: SIZE - 4096, ..Default::default() };
        assert_eq!(peer.ask(Style::Extended, trim).await.error(), 0);
        let status = Request { kind: 7, cookie: 3, offset: 0, length: SIZE, ..Default::default() };
        let reply = peer.ask(Style::Extended, status).await;
        assert_eq!(reply.kind, 6);
        let expected = [&[0, 0, 0, 1, 0, 0, 0, 1][..], &SIZE.to_be_bytes(), &3u64.to_be_bytes()].concat();
        assert_eq!(reply.payload, expected, "one hole of 8 GiB");
    })
    .unwrap();
}
