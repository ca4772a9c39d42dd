//! A journal on members of its own.

use crate::restart::{CHECKER, WRITER, python};
use crate::tank::Tank;
use crate::tools::wait_until;
use std::fs;

/// Three members that bear the journal, beside the six of the array.
fn tank() -> Tank {
    let dir = Tank::create_with("32M", |tank| {
        let journal: Vec<String> = (0..3).map(|i| tank.file(&format!("j{i}"))).collect();
        format!("--journal {} --journal-size 24M", journal.join(" "))
    });
    dir.command("start tank").ends(0);
    dir
}

/// State of the member at a path, as `status` has it.
fn state(tank: &Tank, name: &str) -> String {
    let (status, path) = (tank.status(), tank.file(name));
    let member = status["members"].as_array().unwrap().iter().find(|m| m["path"] == path).cloned();
    member.map_or("none".into(), |m| m["state"].as_str().unwrap().to_owned())
}

#[test]
fn what_was_answered_survives_a_kill_with_a_journal_member_and_a_data_member_lost() {
    let tank = tank();
    let mark = tank.file("mark");
    let mut writer = python(WRITER, &[&tank.uri(), &mark]);
    wait_until("the writer is at work", || {
        writer.is_at_work();
        fs::exists(&mark).unwrap()
    });
    tank.crash();
    let answered = writer.succeeds();
    let answered = answered.trim();
    fs::remove_file(tank.file("d1")).unwrap();
    fs::remove_file(tank.file("j0")).unwrap();
    tank.command("start tank").ends(0);
    python(CHECKER, &[&tank.uri(), answered]).succeeds();
    let status = tank.status();
    assert_eq!(status["state"], "degraded", "{status:#}");
    let text = tank.command("status tank").ends(0).stdout;
    assert!(text.contains("journal-0 has lost its member; 2 of 3 are left."), "{text}");
    assert!(text.contains("replace tank journal-0"), "{text}");

    // A new one, then the same path again after it was failed: the file is a member still, and taken back.
    let made = |name: &str| fs::File::create_new(tank.file(name)).unwrap().set_len(24 << 20).unwrap();
    made("new");
    tank.command(&format!("replace tank journal-0 {} --wait", tank.file("new"))).ends(0);
    assert_eq!(state(&tank, "new"), "in-sync");
    tank.command("fail tank journal-0").ends(0);
    assert_eq!(state(&tank, "new"), "faulty");
    tank.command(&format!("replace tank journal-1 {0}", tank.file("new"))).ends(1).says(&["--force"]);
    tank.command(&format!("replace tank journal-0 {0} --wait", tank.file("new"))).ends(0);
    assert_eq!(state(&tank, "new"), "in-sync");
    let listed = fs::read_to_string(tank.file("config/tank.toml")).unwrap();
    assert!(listed.contains(&tank.file("new")), "{listed}");
    python(CHECKER, &[&tank.uri(), answered]).succeeds();

    // The new one has everything that the others have.
    tank.crash();
    fs::remove_file(tank.file("j1")).unwrap();
    fs::remove_file(tank.file("j2")).unwrap();
    tank.command("start tank").ends(0);
    python(CHECKER, &[&tank.uri(), answered]).succeeds();
    tank.command("fail tank journal-0").ends(1).says(&["data would become unreadable"]);
    assert_eq!(state(&tank, "new"), "in-sync");
}

#[test]
fn without_any_journal_member_nothing_starts_and_the_reason_is_said() {
    let tank = tank();
    tank.command("stop tank").ends(0);
    for name in ["j0", "j1", "j2"] {
        fs::rename(tank.file(name), tank.file(&format!("{name}.away"))).unwrap();
    }
    tank.command("start tank").ends(1).says(&["no current member that bears the journal is here", "j1"]);
    fs::rename(tank.file("j1.away"), tank.file("j1")).unwrap();
    tank.command("start tank").ends(0);
    assert_eq!((state(&tank, "j1"), state(&tank, "d0")), ("in-sync".into(), "in-sync".into()));
    // Found again, it missed what came after, and takes what comes from now on.
    fs::rename(tank.file("j2.away"), tank.file("j2")).unwrap();
    wait_until("j2 is taken back", || state(&tank, "j2") == "in-sync");
    tank.command("stop tank").ends(0);
    fs::rename(tank.file("j0.away"), tank.file("j0")).unwrap();
    tank.command("start tank").ends(0);
    tank.wait_state("optimal");
    let examined = tank.command(&format!("examine {}", tank.file("j1"))).ends(0).stdout;
    assert!(examined.contains("journal-1") && examined.contains("on 3 members of its own"), "{examined}");
    let examined = tank.command(&format!("examine {} --json", tank.file("d0"))).ends(0).json();
    assert_eq!((&examined[0]["slot"], &examined[0]["journal_members"]), (&0.into(), &3.into()));
    assert!(examined[0]["areas"].as_array().unwrap().iter().all(|a| a["name"] != "journal"));
}
