//! The daemon killed and stopped at bad moments.

use crate::tank::Tank;
use crate::tools::{Running, run, wait_until};
use serde_json::Value;
use std::fs;

/// Writes every 64K of 16M again and again, one after the other, until it gets an error; then says
/// how many writes were answered.
pub const WRITER: &str = r#"
import nbd, sys, errno
h = nbd.NBD(); h.connect_uri(sys.argv[1])
n = 0
try:
    while True:
        h.pwrite((n + 1).to_bytes(8, "little") * 8192, (n % 256) << 16)
        n += 1
        if n == 300: open(sys.argv[2], "w").close()
except nbd.Error: print(n)
"#;

/// Checks that each 4K block holds its last answered write, or the one that was not answered.
pub const CHECKER: &str = r#"
import nbd, sys
h = nbd.NBD(); h.connect_uri(sys.argv[1])
n = int(sys.argv[2])
for block in range(256):
    last = n - 1 - ((n - 1 - block) % 256)
    allowed = [(last + 1).to_bytes(8, "little") * 512]
    if block == n % 256: allowed.append((n + 1).to_bytes(8, "little") * 512)
    got = h.pread(65536, block << 16)
    for at in range(0, 65536, 4096):
        assert got[at:at + 4096] in allowed, (block, at, got[at:at + 8], last + 1, n)
h.shutdown()
"#;

pub fn python(script: &str, args: &[&str]) -> Running {
    Running::spawn("/usr/bin/python3", &[&["-c", script], args].concat())
}

fn task<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["tasks"].as_array().unwrap().iter().find(|t| t["kind"] == kind)
}

fn percent(status: &Value) -> f64 {
    task(status, "rebuild").map_or(0.0, |t| t["percent"].as_f64().unwrap())
}

#[test]
fn what_was_answered_survives_the_daemon_being_killed_and_two_members_lost_with_it() {
    let tank = Tank::started("32M", "");
    let mark = tank.file("mark");
    let mut writer = python(WRITER, &[&tank.uri(), &mark]);
    wait_until("the writer is at work", || {
        writer.is_at_work();
        fs::exists(&mark).unwrap()
    });
    tank.crash();
    let answered = writer.succeeds();
    let answered = answered.trim();
    assert!(answered.parse::<u32>().unwrap() >= 300);

    // The write hole would open here: killed while writing, and degraded at once.
    fs::remove_file(tank.file("d1")).unwrap();
    fs::remove_file(tank.file("d4")).unwrap();
    tank.command("start tank").ends(0);
    python(CHECKER, &[&tank.uri(), answered]).succeeds();
    wait_until("everything is home", || {
        tank.command(&format!("examine {} --json", tank.file("d0"))).ends(0).json()[0]["clean"] == true
    });
    python(CHECKER, &[&tank.uri(), answered]).succeeds();
}

#[test]
fn killed_again_and_again_with_members_damaged_and_lost_it_loses_nothing_it_answered() {
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/crash");
    let palisade = env!("CARGO_BIN_EXE_palisade");
    let said =
        run(tool, &["--seconds", "8", "--palisade", palisade, "--threads", "2", "--seed", "1", "--json"]);
    let figures: Value = serde_json::from_str(&said).unwrap();
    for done in ["kills", "damaged", "blocks verified"] {
        assert!(figures[done].as_u64().unwrap() > 0, "{done}: {figures:#}");
    }
}

/// An array that rebuilds at 1M per second, and a file with what it holds.
fn rebuilding() -> (Tank, String) {
    let tank = Tank::create("32M", "");
    tank.configure("max_rebuild_rate = \"0\"", "max_rebuild_rate = \"1M\"");
    tank.command("start tank").ends(0);
    let source = tank.noise_file("source", 20, tank.volume_bytes());
    tank.copy_in(&source);
    tank.command("fail tank 3").ends(0);
    fs::File::create(tank.file("new")).unwrap().set_len(32 << 20).unwrap();
    tank.command(&format!("replace tank 3 {}", tank.file("new"))).ends(0);
    (tank, source)
}

/// Lets the rebuild end and looks at what it made.
#[track_caller]
fn ends_well(tank: &Tank, source: &str) {
    tank.command("rebuild tank --max-rate 0").ends(0);
    tank.wait_state("optimal");
    wait_until("the array is clean", || tank.status()["clean"] == true);
    tank.command("fail tank 0").ends(0);
    tank.command("fail tank 5").ends(0);
    tank.holds(source);
}

#[test]
fn a_rebuild_cut_short_by_a_crash_goes_on_from_what_was_saved() {
    let (tank, source) = rebuilding();
    // Progress is saved every 5 seconds, in which some 5 of 15 MiB are filled.
    wait_until("most is rebuilt", || percent(&tank.status()) > 85.0);
    tank.crash();
    tank.command("start tank").ends(0);
    wait_until("the rebuild runs", || task(&tank.status(), "rebuild").is_some());
    let status = tank.status();
    assert!(percent(&status) > 30.0, "{status:#}");
    ends_well(&tank, &source);
}

#[test]
fn a_rebuild_stopped_in_order_goes_on_where_it_was() {
    let (tank, source) = rebuilding();
    wait_until("some is rebuilt", || percent(&tank.status()) > 30.0);
    tank.command("stop tank").ends(0);
    tank.command("start tank").ends(0);
    wait_until("the rebuild runs", || task(&tank.status(), "rebuild").is_some());
    let status = tank.status();
    assert!(percent(&status) > 29.0, "{status:#}");
    ends_well(&tank, &source);
}
