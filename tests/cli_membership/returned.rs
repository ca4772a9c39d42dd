//! Members that go away and come back.

use crate::tank::Tank;

#[test]
fn a_member_is_lost_found_and_lost_again() {
    let tank = Tank::filled(2, 1);
    for seed in 0..3 {
        tank.rename("d1", "away");
        tank.wait("d1 is lost", |rows| rows.starts_with("degraded: 0 d0 in-sync, 1 d1 "));
        tank.volume.scatter(seed);
        tank.rename("away", "d1");
        tank.wait("d1 is taken back", |rows| rows.starts_with("optimal"));
        tank.is_optimal_on(&["d0", "d1", "d2"]);
    }
    // What was written while it was away is on it.
    tank.does("fail tank 0");
    tank.volume.holds_everything();
    tank.volume.scatter(4);
    // One that an admin failed is not taken back unasked.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(tank.rows().starts_with("degraded: 0 d0 faulty"), "{}", tank.rows());
    tank.does("add tank @d0");
    tank.wait("d0 is back", |rows| rows.starts_with("optimal"));
    tank.is_optimal_on(&["d0", "d1", "d2"]);
}

#[test]
fn a_member_that_was_not_there_at_the_start_is_named_by_its_path() {
    let tank = Tank::filled(2, 1);
    tank.while_stopped(|| tank.rename("d1", "away"));
    tank.volume.scatter(3);
    // The path is all that an admin knows of it.
    assert_eq!(tank.rows(), "degraded: 0 d0 in-sync, 1 d1 missing, 2 d2 in-sync");
    tank.does("status tank").says(&["No such file or directory", "action: palisade replace tank 1"]);
    tank.blank("new");
    tank.does("replace tank @d1 @new --wait");
    tank.is_optimal_on(&["d0", "new", "d2"]);
    tank.while_stopped(|| tank.rename("away", "d1"));
    tank.is_optimal_on(&["d0", "new", "d2"]);
    // Its place is taken: it is a device with something on it, as any other.
    tank.run("add tank @d1").ends(1).says(&["holds", "--force"]);
    tank.does("add tank @d1 --force");
    assert!(tank.rows().ends_with("spare d1 spare"), "{}", tank.rows());
}

#[test]
fn a_missing_member_is_removed_by_its_path() {
    let tank = Tank::filled(2, 1);
    tank.while_stopped(|| tank.rename("d2", "away"));
    tank.does("fail tank @d2").says(&["was faulty already"]);
    tank.does("remove tank @d2");
    assert_eq!(tank.rows(), "degraded: 0 d0 in-sync, 1 d1 in-sync, 2 - missing");
    tank.run("remove tank @d2").ends(1).says(&["no member", "palisade status"]);
    // Nobody waits for it any more.
    tank.while_stopped(|| tank.rename("away", "d2"));
    tank.blank("new");
    tank.does("replace tank 2 @new --wait");
    tank.is_optimal_on(&["d0", "d1", "new"]);
}

#[test]
fn of_two_missing_members_a_path_names_none_unless_it_is_known() {
    let tank = Tank::filled(1, 2);
    tank.stop();
    tank.rename("d1", "away1");
    tank.rename("d2", "away2");
    tank.does("start tank").says(&["it is degraded"]);
    assert_eq!(tank.rows(), "degraded: 0 d0 in-sync, 1 - missing, 2 - missing");
    tank.blank("new");
    tank.run("replace tank @d1 @new").ends(1).says(&["no member", "palisade status"]);
    tank.does("replace tank 1 @new --wait");
    // The other one is known by now.
    assert_eq!(tank.rows(), "degraded: 0 d0 in-sync, 1 new in-sync, 2 - missing");
    tank.volume.holds_everything();
}

#[test]
fn a_member_returns_under_another_name_current_or_behind() {
    let tank = Tank::filled(2, 1);
    tank.while_stopped(|| {
        tank.rename("d1", "e1");
        tank.list(&["d0", "e1", "d2"]);
    });
    tank.is_optimal_on(&["d0", "e1", "d2"]);
    tank.while_stopped(|| tank.list(&["d0", "d2"]));
    tank.volume.scatter(4);
    // Alone with one other it must not serve.
    tank.stop();
    tank.rename("e1", "f1");
    tank.list(&["d0", "f1"]);
    let says = ["only 1 current members are here, 2 are needed", "f1: stale", "try: "];
    tank.run("start tank").ends(1).says(&says);
    tank.list(&["f1", "d0", "d2"]);
    tank.does("start tank");
    tank.volume.holds_everything();
    tank.wait("f1 is taken back", |rows| rows.starts_with("optimal"));
    tank.is_optimal_on(&["d0", "f1", "d2"]);
}

#[test]
fn order_and_names_of_the_configuration_mean_nothing() {
    let tank = Tank::filled(2, 2);
    tank.while_stopped(|| tank.list(&["d3", "d1", "d0", "d2"]));
    tank.is_optimal_on(&["d0", "d1", "d2", "d3"]);
    // Each under the name of another.
    tank.while_stopped(|| {
        tank.rename("d0", "d");
        tank.rename("d3", "d0");
        tank.rename("d", "d3");
        tank.rename("d1", "e1");
        tank.list(&["d0", "e1", "d2", "d3"]);
    });
    tank.is_optimal_on(&["d3", "e1", "d2", "d0"]);
    // A name that was mistyped is a member that is missing.
    tank.while_stopped(|| tank.list(&["d0", "e1", "d2", "dd3"]));
    assert_eq!(tank.rows(), "degraded: 0 dd3 missing, 1 e1 in-sync, 2 d2 in-sync, 3 d0 in-sync");
    tank.volume.holds_everything();
}
