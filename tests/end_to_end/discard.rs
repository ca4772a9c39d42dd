//! Every member that bears the journal is gone.

use crate::restart::python;
use crate::tank::Tank;
use crate::tools::{noise, wait_until};
use std::fs;

const VOLUME: usize = 16 << 20;

/// Writes blocks of the second file to places all over, until it gets an error.
const WRITER: &str = r#"
import nbd, sys, random
h = nbd.NBD(); h.connect_uri(sys.argv[1])
new = open(sys.argv[2], "rb").read()
draw = random.Random(7)
n = 0
try:
    while True:
        size = draw.choice([4096, 4096, 12288, 65536, 262144])
        at = draw.randrange(len(new) // size) * size
        h.pwrite(new[at:at + size], at)
        n += 1
        if n % 50 == 0: h.flush()
        if n == 400: open(sys.argv[3], "w").close()
except nbd.Error: print(n)
"#;

/// Checks that each block is that of one of the two files, or cannot be read; says how many cannot.
const CHECKER: &str = r#"
import nbd, sys
h = nbd.NBD(); h.connect_uri(sys.argv[1])
old, new = (open(path, "rb").read() for path in sys.argv[2:4])
lost = 0
for at in range(0, len(old), 4096):
    try: got = h.pread(4096, at)
    except nbd.Error as e:
        assert e.errnum == 5, e
        lost += 1
        continue
    assert got in (old[at:at + 4096], new[at:at + 4096]), (at, got[:8])
print(lost)
"#;

/// Two members that bear the journal beside three of 2+1, with `old` all over the volume.
fn tank() -> (Tank, String) {
    let home = Tank(crate::home::Home::new());
    let files = |names: &[&str]| names.iter().map(|n| home.file(n)).collect::<Vec<_>>().join(" ");
    let (members, journal) = (files(&["d0", "d1", "d2"]), files(&["j0", "j1"]));
    home.command(&format!(
        "create tank {members} --data 2 --parity 1 --member-size 32M --size 16M --journal {journal} --journal-size 24M"
    ))
    .ends(0);
    home.configure("probe_interval_ms = 1000", "probe_interval_ms = 200");
    home.command("start tank").ends(0);
    let old = home.noise_file("old", 1, VOLUME);
    home.copy_in(&old);
    home.wait_clean();
    (home, old)
}

fn set_aside(tank: &Tank, names: &[&str]) {
    for name in names {
        fs::rename(tank.file(name), tank.file(&format!("{name}.away"))).unwrap();
    }
}

fn listed(tank: &Tank) -> String {
    fs::read_to_string(tank.file("config/tank.toml")).unwrap()
}

#[test]
fn after_a_kill_each_block_is_old_or_new_or_unreadable_and_the_array_goes_on() {
    let (tank, old) = tank();
    let new = tank.noise_file("new", 2, VOLUME);
    let mark = tank.file("mark");
    let mut writer = python(WRITER, &[&tank.uri(), &new, &mark]);
    wait_until("the writer is at work", || {
        writer.is_at_work();
        fs::exists(&mark).unwrap()
    });
    tank.crash();
    writer.succeeds();
    set_aside(&tank, &["j0", "j1"]);
    wait_until("the killed daemon is gone", || {
        let ran = tank.command("start tank").ends(1);
        ran.stderr.contains("palisade start tank --discard-journal")
    });

    let journal = |names: &[&str]| names.iter().map(|n| tank.file(n)).collect::<Vec<_>>().join(" ");
    let discard = |more: &str| tank.command(&format!("start tank --discard-journal {more}"));
    discard(&journal(&["k0", "k1"])).ends(1).says(&["k0", "does not exist", "--journal-size"]);
    discard(&format!("{} --journal-size 24M", journal(&["k0"])))
        .ends(1)
        .says(&["at least 2 members, 1 given"]);
    assert!(!fs::exists(tank.file("k0")).unwrap(), "a file that was made for nothing stayed");
    // A parity that nobody checked cannot stand in for a member.
    set_aside(&tank, &["d2"]);
    discard(&format!("{} --journal-size 24M", journal(&["k0", "k1"])))
        .ends(1)
        .says(&["parity may not match the data", "--force"]);
    fs::rename(tank.file("d2.away"), tank.file("d2")).unwrap();
    discard(&format!("{} --journal-size 24M", journal(&["k0", "k1"]))).ends(0).says(&[
        "the lost journal was discarded",
        "cannot be read (EIO)",
        "all stripes are checked",
    ]);

    let lost = python(CHECKER, &[&tank.uri(), &old, &new]).succeeds();
    eprintln!("{} blocks cannot be read", lost.trim());
    let config = listed(&tank);
    assert!(config.contains(&tank.file("k1")) && !config.contains(&tank.file("j1")), "{config}");
    let status = tank.status();
    assert_eq!(
        (&status["state"], status["members"].as_array().unwrap().len()),
        (&"optimal".into(), 5),
        "{status:#}"
    );
    tank.command(&format!("start tank --discard-journal {}", tank.file("k2")))
        .ends(1)
        .says(&["runs already"]);

    // The old ones no longer belong to it.
    set_aside(&tank, &["k0"]);
    fs::copy(tank.file("j0.away"), tank.file("k0")).unwrap();
    tank.wait_lost("k0");
    let back = tank.command(&format!("replace tank journal-0 {}", tank.file("k0"))).ends(1);
    back.says(&["--force"]);
    tank.command(&format!("replace tank journal-0 {} --force --wait", tank.file("k0"))).ends(0);

    // Written again, everything is as ever, with any one member lost.
    tank.copy_in(&new);
    tank.holds(&new);
    let scrubbed = tank.command("scrub tank --wait").ends(0).stdout;
    let found = &tank.status()["scrub"]["last"]["found"];
    assert!(found.as_object().unwrap().values().all(|n| *n == 0), "{scrubbed} {found:#}");
    tank.wait_clean();
    set_aside(&tank, &["d1"]);
    tank.wait_lost("d1");
    tank.holds(&new);
    let fresh = tank.file("d3");
    fs::File::create_new(&fresh).unwrap().set_len(32 << 20).unwrap();
    tank.command(&format!("replace tank 1 {fresh} --wait")).ends(0);
    tank.holds(&new);
}

#[test]
fn after_a_stop_in_order_nothing_is_lost_with_the_journal() {
    let (tank, old) = tank();
    tank.command("stop tank").ends(0);
    let there =
        format!("start tank --discard-journal {} {} --journal-size 32M", tank.file("k0"), tank.file("k1"));
    tank.command(&there).ends(1).says(&["there is nothing to discard"]);
    assert!(!fs::exists(tank.file("k0")).unwrap(), "a file that was made for nothing stayed");
    set_aside(&tank, &["j0", "j1"]);
    // What holds something else is not overwritten unasked.
    let mut swap = noise(3, 32 << 20);
    swap[4086..4096].copy_from_slice(b"SWAPSPACE2");
    fs::write(tank.file("k0"), &swap).unwrap();
    tank.command(&there).ends(1).says(&["nothing was written", "k0 holds", "--force"]);
    assert!(fs::read(tank.file("k0")).unwrap() == swap && !fs::exists(tank.file("k1")).unwrap());
    tank.command(&format!("{there} --force")).ends(0).says(&["in order, so that nothing is lost"]);
    tank.holds(&old);
    assert_eq!(tank.status()["state"], "optimal");
    tank.crash();
    // The new ones bear the journal from now on, and the old ones never again.
    for name in ["j0", "j1"] {
        fs::rename(tank.file(&format!("{name}.away")), tank.file(name)).unwrap();
    }
    wait_until("the array starts again", || tank.0.command("start tank").status().unwrap().success());
    tank.holds(&old);
    assert!(!listed(&tank).contains(&tank.file("j0")));
}
