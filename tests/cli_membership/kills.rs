//! The daemon killed at random moments in the middle of every change of membership.

use crate::tank::Tank;
use crate::volume::scattered;
use std::process::Stdio;
use std::time::Duration;

/// Has a change asked for while a client writes, kills the daemon some time after, and starts it again
/// without a flag.
fn interrupt(tank: &Tank, line: &str, after: Duration) {
    let volume = tank.volume.clone();
    let seed = usize::try_from(after.as_micros()).unwrap();
    let writer = std::thread::spawn(move || volume.write(scattered(seed, 100_000)));
    std::thread::sleep(Duration::from_millis(5));
    let mut command = tank.home.command(&line.replace('@', &tank.file("")));
    let mut asked = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    tank.kill();
    // Whatever became of the command: its daemon is gone.
    asked.wait().unwrap();
    assert!(writer.join().unwrap().is_err(), "the writer did not notice");
    tank.does("start tank");
    tank.volume.holds_everything();
}

/// As many moments as fit the test, from the first to the last that may matter.
fn moments(rounds: u64, longest_ms: u64) -> impl Iterator<Item = (u64, Duration)> {
    (0..rounds).map(move |i| (i, Duration::from_micros(longest_ms * 1000 * i / rounds + i * 137 % 900)))
}

/// Every slot has a member in sync, and there is no spare.
fn heal(tank: &Tank, round: u64) {
    tank.wait("rebuilds end", |rows| !rows.contains("rebuilding"));
    let status = tank.status();
    for (i, member) in status["members"].as_array().unwrap().iter().enumerate() {
        match (member["state"].as_str().unwrap(), member["slot"].as_u64()) {
            ("in-sync", _) => {}
            ("spare", _) => {
                tank.does(&format!("remove tank {}", member["path"].as_str().unwrap()));
            }
            (_, slot) => {
                let name = format!("healed-{round}-{i}");
                tank.blank(&name);
                tank.does(&format!("replace tank {} @{name} --wait", slot.unwrap()));
            }
        }
    }
    assert!(tank.rows().starts_with("optimal") && !tank.rows().contains("spare"), "{}", tank.rows());
    tank.volume.holds_everything();
}

#[test]
fn a_daemon_killed_while_a_member_is_failed_or_replaced_starts_with_everything() {
    let tank = Tank::filled(2, 1);
    for (round, after) in moments(12, 20) {
        interrupt(&tank, "fail tank 1", after);
        heal(&tank, round);
        tank.blank(&format!("n{round}"));
        interrupt(&tank, &format!("replace tank 2 @n{round}"), after);
        heal(&tank, 100 + round);
    }
}

#[test]
fn a_daemon_killed_while_a_spare_comes_or_goes_starts_with_everything() {
    let tank = Tank::filled(2, 1);
    for (round, after) in moments(12, 20) {
        tank.blank(&format!("s{round}"));
        interrupt(&tank, &format!("add tank @s{round}"), after);
        if !tank.rows().contains("spare") {
            tank.does(&format!("add tank @s{round} --force"));
        }
        let spare = tank.status()["members"][3]["path"].as_str().unwrap().to_owned();
        interrupt(&tank, &format!("remove tank {spare}"), after);
        heal(&tank, round);
    }
}

#[test]
fn a_daemon_killed_when_a_replacement_becomes_a_member_starts_with_everything() {
    let tank = Tank::filled(2, 1);
    // Between the first thing filled and well after the last.
    for (round, after) in moments(12, 150) {
        tank.blank(&format!("n{round}"));
        interrupt(&tank, &format!("replace tank {} @n{round}", round % 3), after);
        heal(&tank, round);
    }
}
