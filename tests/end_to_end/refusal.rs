//! Too many members gone, and members that must not take part.

use crate::tank::Tank;
use crate::tools::{noise, run};
use std::fs;

#[test]
fn with_three_of_six_members_gone_nothing_is_thrown_away_and_the_array_resumes_by_itself() {
    let tank = Tank::started("32M", "");
    let source = tank.noise_file("source", 5, tank.volume_bytes());
    tank.copy_in(&source);
    for member in ["d0", "d1", "d2"] {
        fs::rename(tank.file(member), tank.file(&format!("away-{member}"))).unwrap();
    }
    tank.wait_state("failed");
    tank.command("status tank --exit-code").ends(2).says(&["Writes are refused", "bring these members back"]);
    let script = r#"
import nbd, sys
h = nbd.NBD(); h.connect_uri(sys.argv[1])
want = open(sys.argv[2], "rb").read()
good = bad = 0
for at in range(0, len(want), 65536):
    part = want[at:at + 65536]
    try: got = h.pread(len(part), at)
    except nbd.Error as e:
        assert e.errno == "EIO", e
        bad += 1
    else:
        assert got == part, at
        good += 1
# Files renamed while they are open can still be read, but nothing may rely on that.
assert good >= len(want) // 65536 // 3, (good, bad)
for write in (lambda: h.pwrite(b"x" * 4096, 0), lambda: h.zero(65536, 0), lambda: h.pwrite(b"x" * 300, 5 << 20)):
    try: write()
    except nbd.Error as e: assert e.errno in ("EIO", "EPERM", "EROFS"), e
    else: raise AssertionError("a write went through")
h.shutdown()
"#;
    run("/usr/bin/python3", &["-c", script, &tank.uri(), &source]);
    for member in ["d0", "d1", "d2"] {
        fs::rename(tank.file(&format!("away-{member}")), tank.file(member)).unwrap();
    }
    tank.wait_state("optimal");
    tank.holds(&source);
    let again = tank.noise_file("again", 6, 3 << 20);
    tank.copy_in(&again);
    tank.holds(&again);
}

#[test]
fn members_under_other_names_and_in_another_order_still_make_the_array() {
    let tank = Tank::started("32M", "");
    let source = tank.noise_file("source", 7, 20 << 20);
    tank.copy_in(&source);
    tank.command("stop tank").ends(0);
    for (old, new) in [("d0", "x3"), ("d1", "x5"), ("d2", "x0"), ("d3", "x4"), ("d4", "x1"), ("d5", "x2")] {
        fs::rename(tank.file(old), tank.file(new)).unwrap();
        tank.configure(&tank.file(old), &tank.file(&format!("new-{new}")));
        fs::rename(tank.file(new), tank.file(&format!("new-{new}"))).unwrap();
    }
    tank.configure(&tank.file("new-x3"), "HELD");
    tank.configure(&tank.file("new-x5"), &tank.file("new-x3"));
    tank.configure("HELD", &tank.file("new-x5"));
    tank.command("start tank").ends(0);
    tank.command("status tank --exit-code").ends(0);
    tank.holds(&source);
}

#[test]
fn two_daemons_cannot_run_one_array_even_with_another_runtime_folder() {
    let tank = Tank::started("32M", "");
    let pid = tank.pid().unwrap().to_string();
    tank.command("start tank").ends(0).says(&["already running", &pid]);
    tank.command("start tank --foreground").ends(1).says(&["already running", &pid]);
    let mut other = tank.0.command("start tank");
    other.env("PALISADE_RUNTIME_DIR", tank.file("run2"));
    let refused = crate::home::Ran::of("start tank (elsewhere)", &other.output().unwrap());
    refused.ends(1).says(&["locked by process", &pid]);
    tank.command("status tank --exit-code").ends(0);
}

#[test]
fn a_truncated_a_foreign_and_a_twice_listed_member_are_refused_with_the_reason() {
    let tank = Tank::started("32M", "");
    let source = tank.noise_file("source", 8, 20 << 20);
    tank.copy_in(&source);
    tank.command("stop tank").ends(0);

    // The daemon may take what it refuses off the list, so each start gets its own.
    let config = tank.file("config/tank.toml");
    let original = fs::read_to_string(&config).unwrap();
    let quoted = |name: &str| format!("\"{}\"", tank.file(name));
    let list = |old: &str, new: &str| fs::write(&config, original.replace(old, new)).unwrap();

    // A copy of a member, listed next to it: one of them serves.
    fs::copy(tank.file("d2"), tank.file("copy")).unwrap();
    list(&quoted("d2"), &format!("{}, {}", quoted("d2"), quoted("copy")));
    tank.command("start tank").ends(0);
    tank.command("status tank --exit-code").ends(0);
    let log = fs::read_to_string(tank.file("run/tank/log")).unwrap();
    assert!(log.contains("is a copy of another member"), "{log}");
    tank.holds(&source);
    tank.command("stop tank").ends(0);

    // A member of another array in place of d0, and half of d5.
    let others: Vec<_> = (0..2).map(|i| tank.file(&format!("o{i}"))).collect();
    let line = format!("create other {} --data 1 --parity 1 --member-size 32M", others.join(" "));
    tank.command(&line).ends(0);
    list(&quoted("d0"), &quoted("o0"));
    let before = fs::read(&others[0]).unwrap();
    fs::File::options().write(true).open(tank.file("d5")).unwrap().set_len(8 << 20).unwrap();
    tank.command("start tank").ends(0);
    tank.command("status tank --exit-code").ends(1);
    let log = fs::read_to_string(tank.file("run/tank/log")).unwrap();
    assert!(log.contains("belongs to another array"), "{log}");
    assert!(log.contains("d5 takes no part: truncated"), "{log}");
    tank.holds(&source);
    tank.command("stop tank").ends(0);
    assert!(fs::read(&others[0]).unwrap() == before, "the other array's member was not touched");

    // One more and it is too few.
    list(&quoted("d0"), &quoted("o0"));
    fs::write(tank.file("d3"), noise(9, 32 << 20)).unwrap();
    tank.command("start tank").ends(1).says(&["d3", "d5", "belongs to another array"]);
}

#[test]
fn an_old_copy_of_a_member_serves_nothing_it_missed() {
    let tank = Tank::started("32M", "");
    let old = tank.noise_file("old", 10, 20 << 20);
    tank.copy_in(&old);
    tank.command("stop tank").ends(0);
    fs::copy(tank.file("d1"), tank.file("backup")).unwrap();
    tank.command("start tank").ends(0);
    tank.command("fail tank 1").ends(0);
    let new = tank.noise_file("new", 11, 20 << 20);
    tank.copy_in(&new);
    tank.command("stop tank").ends(0);
    fs::rename(tank.file("backup"), tank.file("d1")).unwrap();
    tank.command("start tank").ends(0);
    let status = tank.status();
    assert_eq!(status["state"], "degraded", "{status:#}");
    assert_eq!(status["members"][1]["state"], "faulty", "{status:#}");
    tank.holds(&new);
    tank.command(&format!("add tank {}", tank.file("d1"))).ends(0).says(&["taken back"]);
    tank.wait_state("optimal");
    tank.command("fail tank 0").ends(0);
    tank.holds(&new);
}
