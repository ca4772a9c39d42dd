//! The real binary talking to a control socket, behind which an array does what the test says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "cli/home.rs"]
mod home;

use home::{Home, Ran};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use palisade::array::{
    Applied, ArrayState, ErrorCounts, ExportReport, MemberReport, MemberState, Problem, Report, ScrubCounts,
    ScrubDetails, ScrubRecord, ScrubReport, ScrubStarted, ScrubSummary, TaskKind, TaskReport,
};
use palisade::control::{Admin, AppliedBody, MemberBody, OkBody, Reply, Request, Server, Version};
use palisade::error::{Error, ErrorKind, Result};
use palisade::stripe::ScrubMode;
use palisade::units::{ArrayId, EventCount, MemberId, Slot, StripeIndex};
use std::future::Future;
use std::io::{BufRead, BufReader, Read};
use std::pin::Pin;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

/// Answers from a list of reports, the last one again and again, and notes what is asked.
struct Script {
    reports: Mutex<Vec<Report>>,
    asked: Mutex<Vec<Request>>,
    record: Mutex<ScrubRecord>,
}

impl Script {
    fn answer(&self, request: &Request) -> Result<Reply> {
        if !matches!(request, Request::Status | Request::Version) {
            self.asked.lock().unwrap().push(request.clone());
        }
        let applied = |applied| Ok(Reply::Applied(AppliedBody { applied }));
        match request {
            Request::Status => {
                let mut reports = self.reports.lock().unwrap();
                let report = if reports.len() > 1 { reports.remove(0) } else { reports[0].clone() };
                Ok(Reply::Report(Box::new(report)))
            }
            Request::Fail(member) if member.to_string() == "0" => applied(Applied::Already),
            Request::Fail(member) if member.to_string() == "9" => {
                Err(Error::new(ErrorKind::Failed, "data would become unreadable")
                    .hint("replace another first"))
            }
            Request::Fail(_) | Request::Remove(_) => applied(Applied::Done),
            Request::Replace(_) | Request::Add(_) => {
                Ok(Reply::Member(MemberBody { uuid: id(6), returned: false }))
            }
            Request::Scrub => Ok(Reply::Scrub(Box::new(self.record.lock().unwrap().clone()))),
            Request::StartScrub(_) => {
                Ok(Reply::ScrubStarted(ScrubStarted { number: 3, applied: Applied::Done }))
            }
            Request::CancelScrub => applied(Applied::Already),
            Request::Rebuild(_) | Request::ControlScrub(_) | Request::Stop => {
                Ok(Reply::Ok(OkBody { ok: true }))
            }
            Request::Version => Ok(Reply::Version(Version {
                version: "0".into(),
                api: vec![1],
                pid: 4242,
                io: "none".into(),
            })),
        }
    }
}

struct Clerk(Arc<Script>);

impl Admin for Clerk {
    fn handle(&self, request: Request) -> Pin<Box<dyn Future<Output = Result<Reply>> + Send>> {
        let answer = self.0.answer(&request);
        Box::pin(async move { answer })
    }
}

fn serve(home: &Home, reports: Vec<Report>) -> (Server, Arc<Script>) {
    home.configure("tank");
    std::fs::create_dir_all(home.path("run/tank")).unwrap();
    let script = Arc::new(Script {
        reports: Mutex::new(reports),
        asked: Mutex::default(),
        record: Mutex::new(record()),
    });
    let socket = home.path("run/tank/control.sock");
    (Server::start(socket.as_ref(), Arc::new(Clerk(Arc::clone(&script)))).unwrap(), script)
}

fn record() -> ScrubRecord {
    ScrubRecord { array: ArrayId::from_bytes([7; 16]), running: None, last: None }
}

fn id(number: u8) -> MemberId {
    MemberId::from_bytes([number + 1; 16])
}

fn member(number: u8, slot: u8, state: MemberState) -> MemberReport {
    MemberReport {
        slot: Some(Slot(slot)),
        journal: None,
        path: format!("/srv/d{number}.img"),
        uuid: id(number),
        state,
        errors: ErrorCounts::default(),
        size_bytes: 1 << 30,
        reason: None,
    }
}

fn report(state: ArrayState) -> Report {
    Report {
        name: "tank".into(),
        uuid: ArrayId::from_bytes([7; 16]),
        state,
        clean: true,
        data: 2,
        parity: 1,
        chunk_bytes: 64 << 10,
        size_bytes: 2 << 30,
        capacity_bytes: 2 << 30,
        wasted_bytes: 0,
        event_count: EventCount(3),
        members: (0..3).map(|i| member(i, i, MemberState::InSync)).collect(),
        tasks: Vec::new(),
        scrub: ScrubReport::default(),
        exports: vec![ExportReport {
            uri: "nbd+unix:///tank?socket=/s".into(),
            read_only: false,
            connections: 0,
        }],
        problems: Vec::new(),
    }
}

/// While slot 1 is filled onto d6.
fn filling(percent: f64) -> Report {
    let mut report = report(ArrayState::Degraded);
    report.members[1].state = MemberState::Faulty;
    report.members.insert(2, member(6, 1, MemberState::Rebuilding));
    report.tasks.push(TaskReport {
        kind: TaskKind::Rebuild,
        slots: vec![Slot(1)],
        percent,
        done_bytes: 1 << 20,
        total_bytes: 1 << 30,
        rate_bytes_per_s: 1 << 20,
        eta_s: Some(5),
        paused: false,
        max_rate_bytes_per_s: None,
    });
    report
}

fn filled() -> Report {
    let mut report = report(ArrayState::Optimal);
    report.members[1] = member(6, 1, MemberState::InSync);
    report
}

fn spawn(home: &Home, line: &str) -> Child {
    home.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn press_ctrl_c(child: &Child) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
}

/// Reads on until a line contains the word.
fn read_until(reader: &mut impl BufRead, word: &str) {
    let mut line = String::new();
    while !line.contains(word) {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "it ended before it said '{word}'");
    }
}

#[test]
fn the_exit_code_of_status_is_the_state_only_if_asked_for() {
    for (state, word, code) in [
        (ArrayState::Optimal, "optimal", 0),
        (ArrayState::Degraded, "degraded", 1),
        (ArrayState::Failed, "failed", 2),
    ] {
        let home = Home::new();
        let (server, _) = serve(&home, vec![report(state)]);
        home.run("status tank --exit-code").ends(code).says(&["array: tank", &format!("state: {word}")]);
        home.run("status tank").ends(0);
        assert_eq!(home.run("status tank --json --exit-code").ends(code).json()["state"], word);
        home.configure("stopped");
        home.run("status --exit-code").ends(4);
        home.run("list").ends(0).says(&["tank", word, "2+1", "3/3"]);
        server.stop();
    }
}

#[test]
fn an_action_of_the_array_names_the_real_array() {
    let home = Home::new();
    let mut report = report(ArrayState::Degraded);
    let action = Some("palisade replace NAME 1 NEW".into());
    report.problems.push(Problem { what: "slot 1 is lost".into(), action });
    let (server, _) = serve(&home, vec![report]);
    home.run("status tank").ends(0).says(&["status: slot 1 is lost", "action: palisade replace tank 1 NEW"]);
    let json = home.run("status tank --json").ends(0).json();
    assert_eq!(json["problems"][0]["action"], "palisade replace tank 1 NEW");
    server.stop();
}

#[test]
fn actions_say_what_they_did_and_pass_on_what_is_refused() {
    let home = Home::new();
    let (server, script) = serve(&home, vec![report(ArrayState::Optimal)]);
    home.run("fail tank 1").ends(0).says(&["member 1 of tank is faulty now", "palisade replace tank 1 NEW"]);
    home.run("fail tank 0").ends(0).says(&["was faulty already"]);
    assert_eq!(home.run("fail tank 0 --json").ends(0).json()["applied"], "already");
    let refusal = ["palisade: data would become unreadable", "  try: replace another first"];
    home.run("fail tank 9").ends(1).says(&refusal);
    assert_eq!(home.run("remove tank d5 --json").ends(0).json()["applied"], "done");
    assert_eq!(home.run("add tank spare --json").ends(0).json()["uuid"], id(6).to_string());
    home.run("replace tank 1 new").ends(0).says(&["palisade status tank --watch"]);
    home.run("rebuild tank --max-rate 200M --resume").ends(0).says(&["goes on, at most 200M/s"]);
    let asked = script.asked.lock().unwrap();
    let Request::Replace(body) = &asked[6] else { panic!("{asked:?}") };
    assert_eq!((body.new.as_str(), body.force), (home.path("new").as_str(), false));
    let Request::Rebuild(change) = &asked[7] else { panic!("{asked:?}") };
    assert_eq!((change.max_rate_bytes_per_s, change.paused), (Some(200 << 20), Some(false)));
    drop(asked);
    server.stop();
}

#[test]
fn starting_what_runs_already_is_no_failure() {
    let home = Home::new();
    let (server, _) = serve(&home, vec![report(ArrayState::Degraded)]);
    let uri = "nbd+unix:///tank?socket=/s";
    home.run("start tank").ends(0).says(&["tank already running (pid 4242)", uri, "it is degraded"]);
    let json = home.run("start tank --json").ends(0).json();
    assert_eq!((json["applied"].as_str(), json["uris"][0].as_str()), (Some("already"), Some(uri)));
    server.stop();
}

#[test]
fn waiting_for_a_replacement_ends_as_the_rebuild_does() {
    let line = "replace tank 1 new --wait";
    let home = Home::new();
    let (server, _) = serve(&home, vec![filling(10.0), filling(60.0), filled()]);
    home.run(line).ends(0).says(&[
        "rebuild 10.0%",
        "rebuild 60.0%",
        "rebuild 100%",
        "is in sync in place of 1",
    ]);
    server.stop();

    let home = Home::new();
    let mut lost = filling(20.0);
    lost.members[2].state = MemberState::Faulty;
    lost.members[2].reason = Some("cannot write".into());
    let (server, _) = serve(&home, vec![filling(10.0), lost]);
    home.run(line)
        .ends(1)
        .says(&["the rebuild failed: /srv/d6.img: cannot write", "try: palisade status tank"]);
    server.stop();
}

#[test]
fn ctrl_c_leaves_the_rebuild_running_and_says_so() {
    let home = Home::new();
    let (server, script) = serve(&home, vec![filling(10.0)]);
    let mut child = spawn(&home, "replace tank 1 new --wait");
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    read_until(&mut stderr, "rebuild 10.0%");
    press_ctrl_c(&child);
    read_until(&mut stderr, "the rebuild goes on without this command");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(script.asked.lock().unwrap().len(), 1, "nothing but the replacement was asked for");
    server.stop();
}

#[test]
fn an_array_stopped_during_the_rebuild_ends_the_wait_with_a_reason() {
    let home = Home::new();
    let (server, _) = serve(&home, vec![filling(10.0)]);
    let mut child = spawn(&home, "replace tank 1 new --wait");
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    read_until(&mut stderr, "rebuild 10.0%");
    server.stop();
    std::fs::remove_file(home.path("run/tank/control.sock")).ok();
    read_until(&mut stderr, "array tank: was stopped during the rebuild");
    read_until(&mut stderr, "try: palisade start tank");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

/// While scrub 3 is at work.
fn scrubbing(percent: f64) -> Report {
    let mut report = filling(percent);
    report.tasks[0].kind = TaskKind::Scrub;
    report.tasks[0].slots.clear();
    report.scrub.running = Some(scrub_3());
    report
}

fn scrub_3() -> ScrubSummary {
    ScrubSummary {
        number: 3,
        mode: ScrubMode::Repair,
        started_unix_s: 1,
        ended_unix_s: None,
        cancelled: false,
        took_ms: 2000,
        next_stripe: StripeIndex(5),
        paused: false,
        max_rate_bytes_per_s: None,
        verified_bytes: 1 << 20,
        found: ScrubCounts::default(),
        unrepairable_bytes: 0,
    }
}

#[test]
fn waiting_for_a_scrub_ends_with_what_it_found() {
    let cases = [
        (ScrubCounts::default(), false, 0, "found nothing wrong; 1M verified in 2s"),
        (ScrubCounts { parity: 2, repaired: 2, ..ScrubCounts::default() }, false, 0, "repaired 2 blocks"),
        (ScrubCounts { parity: 2, ..ScrubCounts::default() }, false, 3, "found 2 damaged blocks"),
        (ScrubCounts::default(), true, 1, "the scrub was cancelled"),
    ];
    for (found, cancelled, code, words) in cases {
        let home = Home::new();
        let (server, script) =
            serve(&home, vec![scrubbing(10.0), scrubbing(60.0), report(ArrayState::Optimal)]);
        let summary = ScrubSummary { found, cancelled, ended_unix_s: Some(9), ..scrub_3() };
        let last = ScrubDetails { summary, findings: Vec::new(), unrepairable: Vec::new() };
        *script.record.lock().unwrap() = ScrubRecord { last: Some(last), ..record() };
        let ran = home.run("scrub tank --wait").ends(code);
        ran.says(&[words, "scrub 10.0%", "scrub 60.0%", "scrub 100%"]);
        server.stop();
    }
}

#[test]
fn ctrl_c_leaves_the_scrub_running_and_says_so() {
    let home = Home::new();
    let (server, _) = serve(&home, vec![scrubbing(10.0)]);
    let mut child = spawn(&home, "scrub tank --wait");
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    read_until(&mut stderr, "scrub 10.0%");
    press_ctrl_c(&child);
    read_until(&mut stderr, "the scrub goes on without this command");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    server.stop();
}

#[test]
fn watching_goes_on_when_the_array_stops_and_ends_with_ctrl_c() {
    for (options, running, stopped) in
        [("", "state: optimal", "state: stopped"), (" --json", "\"optimal\"", "\"stopped\"")]
    {
        let home = Home::new();
        let (server, _) = serve(&home, vec![report(ArrayState::Optimal)]);
        let mut child = spawn(&home, &format!("status tank --watch{options}"));
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        read_until(&mut stdout, running);
        server.stop();
        std::fs::remove_file(home.path("run/tank/control.sock")).ok();
        read_until(&mut stdout, stopped);
        press_ctrl_c(&child);
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(!rest.contains(running));
        Ran::of("status --watch", &output).ends(0);
    }
}
