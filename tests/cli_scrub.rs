//! Scrubbing arrays over real files with the real binary: damage done to a file while the array is
//! stopped is named to the block, repaired, and remembered.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "cli/home.rs"]
mod home;

use bytes::Bytes;
use home::{Home, Ran};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use palisade::env::real::{Runtime, RuntimeOptions, Socket};
use palisade::export::Durability;
use palisade::nbd::client::{Client, Options};
use serde_json::Value;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const CHUNK: u64 = 65536;
const VOLUME: usize = 24 << 20;

/// A 4+2 array over six files; stopped at the end.
struct Tank(Home);

impl Tank {
    fn create() -> Self {
        let tank = Self(Home::new());
        let members: Vec<String> = (0..6).map(|i| tank.0.path(&format!("d{i}"))).collect();
        tank.does(&format!(
            "create tank {} --data 4 --parity 2 --member-size 48M --size {VOLUME}",
            members.join(" ")
        ));
        tank
    }

    /// Started, and full of bytes that are all but zero.
    fn filled() -> Self {
        let tank = Self::create();
        tank.does("start tank");
        let socket = tank.0.path("run/tank/nbd.sock");
        let runtime = Runtime::start(RuntimeOptions::default()).unwrap();
        let env = runtime.env();
        let (send, receive) = std::sync::mpsc::channel();
        runtime.remote(0).spawn(move || async move {
            let stream = Socket::connect_unix(socket.as_ref()).await.unwrap();
            let options = Options { export: "tank".into(), ..Options::default() };
            let client = Client::connect(stream, env, &options).await.unwrap();
            for at in (0..VOLUME).step_by(1 << 20) {
                let bytes: Vec<u8> =
                    (at..at + (1 << 20)).map(|i| (i / 4096 * 7 + i % 255).to_le_bytes()[0] | 1).collect();
                client.write(at as u64, Bytes::from(bytes), Durability::Volatile).await.unwrap();
            }
            client.flush().await.unwrap();
            send.send(()).unwrap();
        });
        receive.recv().expect("the volume is written");
        runtime.stop();
        tank
    }

    #[track_caller]
    fn does(&self, line: &str) -> Ran {
        self.0.run(line).ends(0)
    }

    fn status(&self) -> Value {
        self.does("status tank --json").json()
    }

    #[track_caller]
    fn wait(&self, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let status = self.status();
            if done(&status) {
                return status;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "waited for {what}: {status:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Overwrites a block of a member's chunk of a stripe; says where it lies on the member.
    fn corrupt(&self, member: &str, stripe: u64, row: u64) -> u64 {
        let examined = self.does(&format!("examine {member} --json")).json();
        let areas = examined[0]["areas"].as_array().unwrap().clone();
        let data = areas.iter().find(|area| area["name"] == "data").unwrap();
        let at = data["offset_bytes"].as_u64().unwrap() + stripe * CHUNK + row;
        let file = std::fs::File::options().write(true).open(self.0.path(member)).unwrap();
        file.write_all_at(&[0x5a; 4096], at).unwrap();
        at
    }

    fn configure(&self, text: &str) {
        let path = self.0.path("config/tank.toml");
        let old = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, old + text).unwrap();
    }
}

impl Drop for Tank {
    fn drop(&mut self) {
        self.0.run("stop tank");
    }
}

#[test]
fn corrupt_parity_in_a_file_is_named_to_the_block_repaired_and_gone() {
    let tank = Tank::filled();
    tank.does("stop tank");
    // Stripe 0 has its parity in slots 4 and 5.
    let at = tank.corrupt("d4", 0, 8192);
    tank.does("start tank");
    let check = tank.0.run("scrub tank --check --wait --json").ends(3).json();
    let findings = check["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{check:#}");
    let finding = &findings[0];
    assert_eq!((finding["slot"].as_u64(), finding["offset_bytes"].as_u64()), (Some(4), Some(at)));
    assert_eq!(finding["path"], tank.0.path("d4").as_str());
    assert_eq!((finding["stripe"].as_u64(), finding["shard"].as_u64()), (Some(0), Some(4)));
    assert!(finding["what"] == "checksum-mismatch" && finding["repaired"] == false);
    assert!(finding["volume"].is_null(), "it is parity");
    assert_eq!((check["unrepairable_bytes"].as_u64(), check["cancelled"].as_bool()), (Some(0), Some(false)));
    tank.does("status tank").says(&["found 1 damaged block in", "palisade scrub tank --repair --wait"]);

    let path = tank.0.path("d4");
    let line = format!("{path} (slot 4): the block at byte {at} does not match its checksum");
    tank.does("scrub tank --repair --wait").says(&["scrub of tank: repaired 1 block; ", &line, "; repaired"]);
    tank.does("status tank").says(&["scrub: repaired 1 block in"]);
    let clean = tank.does("scrub tank --check --wait --json").json();
    assert!(clean["findings"].as_array().unwrap().is_empty(), "{clean:#}");
    tank.does("scrub tank --show").says(&["check of tank: found nothing wrong; ", " verified in "]);

    // And it is not forgotten.
    tank.does("stop tank");
    tank.does("start tank");
    let status = tank.status();
    assert_eq!(
        (status["scrub"]["last"]["number"].as_u64(), status["scrub"]["running"].is_null()),
        (Some(3), true)
    );
}

#[test]
fn what_was_told_of_a_scrub_is_known_after_a_kill() {
    let tank = Tank::filled();
    tank.does("stop tank");
    tank.corrupt("d2", 1, 4096);
    tank.does("start tank");
    let pid = std::fs::read_to_string(tank.0.path("run/tank/pid")).unwrap().trim().parse().unwrap();
    tank.does("scrub tank --wait").says(&["scrub of tank: repaired 1 block; "]);
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    tank.does("start tank");
    let status = tank.status();
    let last = &status["scrub"]["last"];
    assert_eq!(
        (last["number"].as_u64(), status["scrub"]["running"].is_null()),
        (Some(1), true),
        "{status:#}"
    );
    tank.does("scrub tank --show").says(&["scrub of tank: repaired 1 block; ", "(slot 2)"]);
}

#[test]
fn an_interrupted_scrub_goes_on_at_the_next_start() {
    let tank = Tank::filled();
    let started = tank.does("scrub tank --rate 256K --json").json();
    assert_eq!((started["scrub"].as_u64(), started["applied"].as_str()), (Some(1), Some("done")));
    let next = |status: &Value| status["scrub"]["running"]["next_stripe"].as_u64();
    let before = next(&tank.wait("it moves", |s| next(s) > Some(0))).unwrap();
    tank.does("scrub tank").says(&["a scrub of tank runs already"]);
    tank.0.run("scrub tank --check").ends(1).says(&["a scrub of the other kind runs", "--cancel"]);
    tank.does("stop tank");
    tank.does("start tank");
    let status = tank.status();
    assert!(next(&status) >= Some(before), "{status:#}");
    assert_eq!(status["scrub"]["running"]["max_rate_bytes_per_s"], 256 << 10);
    tank.does("scrub tank --pause").says(&["scrub of tank: paused"]);
    tank.does("status tank").says(&["scrub: paused; nothing wrong so far"]);
    tank.does("scrub tank --resume --rate 0").says(&["scrub of tank: goes on, no limit"]);
    tank.does("scrub tank --wait").says(&["found nothing wrong"]);
    assert_eq!(tank.status()["scrub"]["last"]["number"], 1);
}

#[test]
fn a_scheduled_scrub_starts_by_itself_once_and_a_cancelled_one_counts() {
    let tank = Tank::create();
    tank.configure("\n[scrub]\nevery = \"30d\"\nmode = \"check\"\nmax_rate = \"1M\"\n");
    tank.does("start tank");
    let status = tank.wait("it starts", |s| !s["scrub"]["running"].is_null());
    let running = &status["scrub"]["running"];
    assert_eq!(
        (running["mode"].as_str(), running["max_rate_bytes_per_s"].as_u64()),
        (Some("check"), Some(1 << 20))
    );
    tank.does("scrub tank --cancel").says(&["scrub of tank is cancelled"]);
    tank.does("scrub tank --cancel").says(&["no scrub of tank runs"]);
    std::thread::sleep(Duration::from_millis(2500));
    assert!(tank.status()["scrub"]["running"].is_null(), "only 30 days later");
    tank.does("stop tank");
    tank.does("start tank");
    std::thread::sleep(Duration::from_millis(2500));
    let status = tank.status();
    assert!(
        status["scrub"]["running"].is_null() && status["scrub"]["last"]["cancelled"] == true,
        "{status:#}"
    );
}

#[test]
fn what_cannot_be_asked_is_refused_with_a_way_on() {
    let tank = Tank::create();
    tank.0.run("scrub tank").ends(1).says(&["is not running", "palisade start tank"]);
    tank.0.run("scrub tonk").ends(1).says(&["there is no array named tonk"]);
    tank.0.run("scrub tank --check --repair").ends(2);
    tank.does("start tank");
    tank.0.run("scrub tank --pause").ends(1).says(&["no scrub runs", "palisade scrub tank"]);
    tank.0.run("scrub tank --show").ends(1).says(&["no scrub has ended yet", "palisade scrub tank --wait"]);
    tank.does("stop tank");
    std::fs::create_dir_all(tank.0.path("config/state/tank")).unwrap();
    std::fs::write(tank.0.path("config/state/tank/scrub.json"), "nonsense").unwrap();
    tank.does("start tank");
    let log = std::fs::read_to_string(tank.0.path("run/tank/log")).unwrap();
    assert!(log.contains("what earlier scrubs found is not known"), "{log}");
}
