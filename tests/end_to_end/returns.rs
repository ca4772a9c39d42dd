//! Members that were away come back with what they hold.

use crate::tank::Tank;
use crate::tools::{noise, run};
use std::fs::rename;
use std::os::unix::fs::FileExt;

const SIZE: usize = 24 << 20;

/// A running array, full of noise, with everything home.
fn filled() -> (Tank, String) {
    let tank = Tank::started("48M", &format!("--size {SIZE}"));
    let content = tank.noise_file("content", 3, SIZE);
    tank.copy_in(&content);
    tank.wait_clean();
    (tank, content)
}

/// Writes other noise over the first MiB, and says so in the file.
fn change(tank: &Tank, content: &str) {
    let path = tank.noise_file("change", 4, 1 << 20);
    run("nbdcopy", &["--flush", &path, &tank.uri()]);
    let file = std::fs::File::options().write(true).open(content).unwrap();
    file.write_all_at(&noise(4, 1 << 20), 0).unwrap();
}

/// Where a chunk of a stripe begins on a member.
fn chunk_at(tank: &Tank, member: &str, stripe: u64) -> u64 {
    let examined = tank.command(&format!("examine {member} --json")).ends(0).json();
    let areas = examined[0]["areas"].as_array().unwrap();
    let data = areas.iter().find(|area| area["name"] == "data").unwrap();
    data["offset_bytes"].as_u64().unwrap() + stripe * 65536
}

fn flip(member: &str, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(member).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
}

#[test]
fn a_member_that_was_away_is_taken_back_by_itself_and_only_what_changed_is_written_to_it() {
    let (tank, content) = filled();
    let (here, away) = (tank.file("d1"), tank.file("away"));
    rename(&here, &away).unwrap();
    tank.wait_lost("d1");
    change(&tank, &content);
    // What is damaged while it is away is written anew if it changed, and is left if it did not.
    let (changed, unchanged) = (chunk_at(&tank, &away, 0), chunk_at(&tank, &away, 80));
    flip(&away, changed);
    flip(&away, unchanged);
    rename(&away, &here).unwrap();
    tank.wait_state("optimal");
    tank.wait_clean();
    let found = tank.command("scrub tank --check --wait --json").ends(3).json();
    let findings = found["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{found:#}");
    assert_eq!((findings[0]["path"].as_str(), findings[0]["stripe"].as_u64()), (Some(&*here), Some(80)));
    tank.command("scrub tank --repair --wait").ends(0);
    tank.holds(&content);
}

#[test]
fn a_member_that_was_taken_out_waits_for_an_admin() {
    let (tank, content) = filled();
    tank.command("fail tank 2").ends(0);
    change(&tank, &content);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(tank.status()["state"], "degraded");
    tank.command("stop tank").ends(0);
    tank.command("start tank").ends(0);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(tank.status()["state"], "degraded", "it stays out after a restart, too");
    // Its own place is offered to it, another's is not.
    let d2 = tank.file("d2");
    tank.command(&format!("replace tank 3 {d2}")).ends(1).says(&["is the lost member of slot 2", "--force"]);
    tank.command(&format!("add tank {d2}")).ends(0).says(&["taken back", "what it missed"]);
    tank.wait_state("optimal");
    tank.holds(&content);
    tank.command("scrub tank --check --wait").ends(0);
}

#[test]
fn a_member_that_was_missing_or_behind_at_a_start_is_taken_back() {
    let (tank, content) = filled();
    tank.command("stop tank").ends(0);
    let (here, away) = (tank.file("d3"), tank.file("away"));
    rename(&here, &away).unwrap();
    tank.command("start tank").ends(0);
    assert_eq!(tank.status()["state"], "degraded");
    change(&tank, &content);
    rename(&away, &here).unwrap();
    tank.wait_state("optimal");
    // And lost while it runs, back when it does not.
    rename(tank.file("d5"), &away).unwrap();
    tank.wait_lost("d5");
    change(&tank, &content);
    tank.command("stop tank").ends(0);
    rename(&away, tank.file("d5")).unwrap();
    tank.command("start tank").ends(0);
    tank.wait_state("optimal");
    tank.holds(&content);
    tank.command("scrub tank --check --wait").ends(0);
}

#[test]
fn an_image_from_before_is_not_believed_and_gets_what_it_lacks() {
    let (tank, content) = filled();
    let (here, image) = (tank.file("d0"), tank.file("image"));
    run("cp", &["--sparse=always", &here, &image]);
    change(&tank, &content);
    // Much later, and after a crash, the image is put in the place of the member.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    change(&tank, &content);
    tank.crash();
    rename(&image, &here).unwrap();
    tank.command("start tank").ends(0);
    tank.wait_state("optimal");
    tank.holds(&content);
    tank.command("scrub tank --check --wait").ends(0);
}
