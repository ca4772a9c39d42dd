//! Copies of members: beside the original, in its place, and old ones.

use crate::tank::Tank;

#[test]
fn a_copy_beside_the_original_takes_no_part() {
    let tank = Tank::filled(2, 1);
    tank.while_stopped(|| {
        tank.copy("d1", "copy");
        tank.list(&["d0", "d1", "d2", "copy"]);
    });
    assert!(tank.log().contains("is a copy of another member"), "{}", tank.log());
    tank.is_optimal_on(&["d0", "d1", "d2"]);
    tank.volume.scatter(1);
    // By now it is an old one, and is not taken for the original, whichever is listed first.
    for order in [["copy", "d1"], ["d1", "copy"]] {
        tank.while_stopped(|| tank.list(&["d0", order[0], order[1], "d2"]));
        tank.is_optimal_on(&["d0", "d1", "d2"]);
    }
}

#[test]
fn a_current_copy_in_the_place_of_the_original_is_the_member() {
    let tank = Tank::filled(2, 1);
    tank.while_stopped(|| {
        tank.copy("d1", "copy");
        tank.rename("d1", "original");
        tank.list(&["d0", "copy", "d2"]);
    });
    tank.is_optimal_on(&["d0", "copy", "d2"]);
    tank.volume.scatter(1);
    // Now the original is the old copy. It is known to be one, and gets what it lacks.
    tank.while_stopped(|| tank.list(&["d0", "original", "d2"]));
    tank.volume.holds_everything();
    assert!(tank.log().contains("original takes no part: stale, is an old copy"), "{}", tank.log());
    tank.wait("the original is taken back", |rows| rows.starts_with("optimal"));
    tank.is_optimal_on(&["d0", "original", "d2"]);
}

#[test]
fn a_member_restored_from_a_backup_serves_nothing_it_missed() {
    for parity in [1, 2] {
        let tank = Tank::filled(2, parity);
        tank.while_stopped(|| tank.copy("d1", "last-week"));
        (1..6).for_each(|seed| tank.volume.scatter(seed));
        tank.while_stopped(|| ());
        tank.volume.scatter(7);
        tank.while_stopped(|| tank.rename("last-week", "d1"));
        // It may be taken back at once, but never for what it was.
        tank.volume.holds_everything();
        assert!(tank.log().contains("d1 takes no part: stale, is an old copy"), "{}", tank.log());
        tank.volume.scatter(8);
        tank.wait("d1 is taken back", |rows| rows.starts_with("optimal"));
        tank.volume.holds_everything();
        // What it was filled with counts.
        tank.does("fail tank 0");
        tank.volume.holds_everything();
    }
}

#[test]
fn with_too_many_members_restored_from_a_backup_nothing_starts() {
    let tank = Tank::filled(2, 1);
    tank.while_stopped(|| ["d0", "d1"].iter().for_each(|d| tank.copy(d, &format!("old-{d}"))));
    tank.volume.scatter(1);
    tank.stop();
    for member in ["d0", "d1"] {
        tank.rename(member, &format!("new-{member}"));
        tank.rename(&format!("old-{member}"), member);
    }
    let says = ["only 1 current members are here, 2 are needed", "d0: stale", "d1: stale", "is an old copy"];
    tank.run("start tank").ends(1).says(&says).says(&["try: bring back the missing members"]);
    tank.does("status tank").says(&["state: stopped"]);
    // It was looked at and nothing more: with one of them back everything is.
    tank.rename("new-d0", "d0");
    tank.does("start tank");
    tank.volume.holds_everything();
    tank.wait("d1 is taken back", |rows| rows.starts_with("optimal"));
    tank.is_optimal_on(&["d0", "d1", "d2"]);
    tank.does("fail tank 2");
    tank.volume.holds_everything();
}
