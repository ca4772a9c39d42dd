//! Replacements that die half-way.

use crate::tank::Tank;
use std::fs;

/// Slot 1 lost, and d3 being filled in its place, slowly.
fn filling() -> Tank {
    let tank = Tank::filled(2, 1);
    tank.does("fail tank 1");
    tank.does("rebuild tank --pause");
    tank.blank("d3");
    tank.does("replace tank 1 @d3");
    tank.does("rebuild tank --max-rate 512K --resume");
    tank.wait("a part is filled", |_| {
        tank.status()["tasks"][0]["done_bytes"].as_u64().is_some_and(|done| done > 0)
    });
    tank.volume.scatter(1);
    assert_eq!(tank.rows(), "degraded: 0 d0 in-sync, 1 d1 faulty, 1 d3 rebuilding, 2 d2 in-sync");
    tank
}

#[test]
fn a_replacement_that_is_deleted_while_it_is_filled_is_given_up() {
    let tank = filling();
    tank.blank("d4");
    tank.run("replace tank 1 @d4")
        .ends(1)
        .says(&["is being filled for slot 1 already", "palisade remove tank"]);
    fs::remove_file(tank.file("d3")).unwrap();
    tank.wait("d3 is given up", |rows| !rows.contains("rebuilding"));
    tank.volume.holds_everything();
    tank.does("status tank").says(&["Slot 1 has lost its member", "palisade replace tank 1"]);
    tank.does("replace tank 1 @d4 --wait");
    tank.is_optimal_on(&["d0", "d4", "d2"]);
    tank.while_stopped(|| ());
    tank.is_optimal_on(&["d0", "d4", "d2"]);
}

#[test]
fn a_replacement_is_filled_on_after_the_daemon_was_killed() {
    let tank = filling();
    for seed in 0..2 {
        tank.kill();
        tank.configure("max_rebuild_rate = \"0\"", "max_rebuild_rate = \"512K\"");
        tank.does("start tank");
        tank.configure("max_rebuild_rate = \"512K\"", "max_rebuild_rate = \"0\"");
        tank.volume.holds_everything();
        tank.volume.scatter(seed);
    }
    tank.does("rebuild tank --max-rate 0");
    tank.wait("d3 is filled", |rows| rows.starts_with("optimal"));
    tank.is_optimal_on(&["d0", "d3", "d2"]);
    tank.does("fail tank 0");
    tank.volume.holds_everything();
}

#[test]
fn a_replacement_that_is_away_at_the_start_is_not_waited_for() {
    let tank = filling();
    tank.while_stopped(|| tank.rename("d3", "away"));
    tank.wait("d3 is missing", |rows| !rows.contains("rebuilding"));
    tank.volume.scatter(3);
    tank.blank("d4");
    tank.does("replace tank 1 @d4 --wait");
    tank.volume.holds_everything();
    // What was half filled is nobody now.
    tank.while_stopped(|| {
        tank.rename("away", "d3");
        tank.list(&["d0", "d2", "d3", "d4"]);
    });
    tank.is_optimal_on(&["d0", "d4", "d2"]);
}
