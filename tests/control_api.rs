//! The control socket, spoken to by our client, by curl, and by clients that mean no good.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use palisade::array::{
    Applied, ArrayState, ErrorCounts, MemberRef, MemberReport, MemberState, RebuildControl, Report,
    ScrubRecord, ScrubReport, ScrubStart, ScrubStarted,
};
use palisade::control::{Admin, AppliedBody, Client, MemberBody, OkBody, Reply, Request, Server, Version};
use palisade::error::{Error, ErrorKind, Result};
use palisade::stripe::ScrubMode;
use palisade::units::{ArrayId, EventCount, MemberId, Slot};
use std::future::Future;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const NEW: MemberId = MemberId::NIL;

/// Answers everything, remembers what was asked, refuses slot 9.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<Request>>,
}

impl Admin for Fake {
    fn handle(&self, request: Request) -> Pin<Box<dyn Future<Output = Result<Reply>> + Send>> {
        self.asked.lock().unwrap().push(request.clone());
        let reply = match request {
            Request::Status => Ok(Reply::Report(Box::new(report()))),
            Request::Version => Ok(Reply::Version(Version {
                version: "1".into(),
                api: vec![1],
                pid: std::process::id(),
                io: "portable".into(),
            })),
            Request::Fail(MemberRef::Slot(Slot(9))) => {
                Err(Error::new(ErrorKind::NotFound, "no slot 9").array("tank").hint("palisade status tank"))
            }
            Request::Fail(_) => Ok(Reply::Applied(AppliedBody { applied: Applied::Done })),
            Request::Remove(_) => Ok(Reply::Applied(AppliedBody { applied: Applied::Already })),
            Request::Replace(_) | Request::Add(_) => {
                Ok(Reply::Member(MemberBody { uuid: NEW, returned: false }))
            }
            Request::Scrub => Ok(Reply::Scrub(Box::new(record()))),
            Request::StartScrub(_) => Ok(Reply::ScrubStarted(STARTED)),
            Request::CancelScrub => Ok(Reply::Applied(AppliedBody { applied: Applied::Already })),
            Request::Rebuild(_) | Request::ControlScrub(_) | Request::Stop => {
                Ok(Reply::Ok(OkBody { ok: true }))
            }
        };
        Box::pin(async { reply })
    }
}

const STARTED: ScrubStarted = ScrubStarted { number: 7, applied: Applied::Done };

fn record() -> ScrubRecord {
    ScrubRecord { array: ArrayId::NIL, running: None, last: None }
}

fn report() -> Report {
    let member = MemberReport {
        slot: Some(Slot(0)),
        journal: None,
        path: "/img/0".into(),
        uuid: NEW,
        state: MemberState::InSync,
        errors: ErrorCounts::default(),
        size_bytes: 1 << 30,
        reason: None,
    };
    Report {
        name: "tank".into(),
        uuid: ArrayId::NIL,
        state: ArrayState::Optimal,
        clean: true,
        data: 4,
        parity: 2,
        chunk_bytes: 65536,
        size_bytes: 1 << 32,
        capacity_bytes: 1 << 32,
        wasted_bytes: 0,
        event_count: EventCount(3),
        members: vec![member; 280],
        tasks: Vec::new(),
        scrub: ScrubReport::default(),
        exports: Vec::new(),
        problems: Vec::new(),
    }
}

struct Bench {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    fake: Arc<Fake>,
    server: Option<Server>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tank")).unwrap();
        let socket = dir.path().join("tank/control.sock");
        let fake = Arc::new(Fake::default());
        let server = Server::start(&socket, Arc::clone(&fake) as Arc<dyn Admin>).unwrap();
        Self { _dir: dir, socket, fake, server: Some(server) }
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket).unwrap()
    }

    fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut self.fake.asked.lock().unwrap())
    }

    /// Sends bytes as they are and reads until the server hangs up or answers.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // The server may hang up before it took everything.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

#[test]
fn every_request_arrives_as_it_was_meant_and_every_answer_comes_back() {
    let bench = Bench::new();
    let client = bench.client();
    assert_eq!(client.report().unwrap(), report());
    assert_eq!(client.version().unwrap().api, [1]);
    let member: MemberRef = "3".parse().unwrap();
    assert_eq!(client.fail(&member).unwrap(), Applied::Done);
    assert_eq!(client.remove(&member).unwrap(), Applied::Already);
    assert_eq!(client.replace(&member, "/new", true).unwrap().uuid, NEW);
    assert_eq!(client.add("relative", false).unwrap().uuid, NEW);
    let change = RebuildControl { max_rate_bytes_per_s: Some(5), paused: Some(true) };
    client.rebuild(change).unwrap();
    let start = ScrubStart { mode: ScrubMode::Check, max_rate_bytes_per_s: Some(6) };
    assert_eq!(client.start_scrub(start).unwrap(), STARTED);
    client.control_scrub(change).unwrap();
    assert_eq!(client.cancel_scrub().unwrap(), Applied::Already);
    assert_eq!(client.scrubs().unwrap(), record());
    client.stop().unwrap();
    let asked = bench.asked();
    assert_eq!(asked.len(), 12);
    assert_eq!(asked[2], Request::Fail(MemberRef::Slot(Slot(3))));
    assert!(matches!(&asked[4], Request::Replace(b) if b.old == member && b.new == "/new" && b.force));
    let here = std::env::current_dir().unwrap().join("relative");
    assert!(matches!(&asked[5], Request::Add(b) if std::path::Path::new(&b.path) == here && !b.force));
    assert_eq!(asked[6], Request::Rebuild(change));
    assert_eq!(asked[7..9], [Request::StartScrub(start), Request::ControlScrub(change)]);
    assert_eq!(asked[9..11], [Request::CancelScrub, Request::Scrub]);
}

#[test]
fn a_refusal_keeps_its_kind_its_words_and_its_hint() {
    let bench = Bench::new();
    let e = bench.client().fail(&MemberRef::Slot(Slot(9))).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    assert_eq!(e.report(), "array tank: no slot 9");
    assert_eq!(e.next_step(), Some("palisade status tank"));
}

#[test]
fn a_missing_and_a_dead_socket_both_say_that_the_array_is_not_running() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("tank/control.sock");
    std::fs::create_dir(dir.path().join("tank")).unwrap();
    for dead in [false, true] {
        if dead {
            drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
            assert!(socket.exists());
        }
        let e = Client::connect(&socket).unwrap_err();
        assert_eq!((e.kind(), e.what()), (ErrorKind::NotFound, "array tank is not running"));
        assert_eq!(e.next_step(), Some("palisade start tank"));
    }
    // And a new server takes the dead one's place.
    let server = Server::start(&socket, Arc::new(Fake::default())).unwrap();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    Client::connect(&socket).unwrap().report().unwrap();
    server.stop();
}

#[test]
fn curl_speaks_it() {
    let bench = Bench::new();
    let curl = |args: &[&str]| {
        let socket = bench.socket.to_str().unwrap();
        let out = Command::new("curl")
            .args(["-s", "-w", "\n%{http_code}", "--unix-socket", socket])
            .args(args)
            .output()
            .expect("curl is installed");
        let text = String::from_utf8(out.stdout).unwrap();
        let (body, code) = text.rsplit_once('\n').unwrap();
        (serde_json::from_str::<serde_json::Value>(body).unwrap(), code.to_owned())
    };
    let (body, code) = curl(&["http://x/v1/status"]);
    assert_eq!(
        (body["name"].as_str(), body["state"].as_str(), &*code),
        (Some("tank"), Some("optimal"), "200")
    );
    let (body, code) = curl(&["http://x/v1/members/fail", "-d", r#"{"member":"3"}"#]);
    assert_eq!((body["applied"].as_str(), &*code), (Some("done"), "200"));
    let (body, code) = curl(&["-X", "PATCH", "http://x/v1/rebuild", "-d", r#"{"paused":true}"#]);
    assert_eq!((body["ok"].as_bool(), &*code), (Some(true), "200"));
    let (body, code) = curl(&["http://x/v2/status"]);
    assert_eq!((body["error"]["kind"].as_str(), &*code), (Some("not-found"), "404"));
    assert!(body["error"]["hint"].as_str().unwrap().contains("GET /v1/status"));
    assert_eq!(curl(&["http://x/v1/stop"]).1, "405");
    assert_eq!(curl(&["http://x/v1/members", "-d", "{"]).1, "400");
}

#[test]
fn garbage_and_excess_are_refused_and_disturb_nobody() {
    let bench = Bench::new();
    // Half a request, held open all the while.
    let mut slow = UnixStream::connect(&bench.socket).unwrap();
    slow.write_all(b"POST /v1/members/fail HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").unwrap();
    bench.raw(b"\x00\xff\x13garbage\r\n\r\n");
    bench.raw(&[b'A'; 200_000]);
    bench.raw(b"GET /v1/status HTTP/9.9\r\n\r\n");
    let heads = "X: y\r\n".repeat(1000);
    let answer = bench.raw(format!("GET /v1/status HTTP/1.1\r\n{heads}\r\n").as_bytes());
    assert!(!answer.contains(" 200 "), "{answer}");
    let body = "x".repeat(65 << 10);
    let head =
        |rest: &str| format!("POST /v1/members HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{rest}\r\n\r\n");
    let answer = bench.raw(format!("{}{body}", head(&format!("Content-Length: {}", body.len()))).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let answer = bench.raw(head("Content-Length: 999999999999999999999").as_bytes());
    assert!(!answer.contains(" 200 "), "{answer}");
    let chunks = format!(
        "{}{}",
        head("Transfer-Encoding: chunked"),
        "fff\r\n".to_owned() + &"y".repeat(4095) + "\r\n"
    );
    bench.raw(chunks.as_bytes());
    assert!(bench.asked().is_empty(), "nothing of this reached the array");
    assert_eq!(bench.client().report().unwrap(), report());
}

#[test]
fn many_clients_at_once_are_all_answered() {
    let bench = Bench::new();
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(bench.client().report().unwrap(), report());
                }
            });
        }
    });
    assert_eq!(bench.asked().len(), 320);
}

#[test]
fn a_server_that_stopped_refuses_and_leaves_no_thread_waiting() {
    let mut bench = Bench::new();
    let idle = UnixStream::connect(&bench.socket).unwrap();
    let client = bench.client();
    bench.server.take().unwrap().stop();
    // Between its fork and its exec a child of another test may have the socket still open.
    let gone = || client.report().unwrap_err().kind() == ErrorKind::NotFound;
    assert!((0..100).any(|_| gone() || {
        std::thread::sleep(Duration::from_millis(20));
        false
    }));
    // Closed in order if it was accepted, reset if it still waited to be.
    assert!(matches!((&idle).read(&mut [0; 16]), Ok(0) | Err(_)));
}
