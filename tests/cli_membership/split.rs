//! Two halves of an array that ran apart.

use crate::tank::Tank;

#[test]
fn halves_that_ran_apart_are_joined_only_by_a_person() {
    let tank = Tank::filled(2, 2);
    let common = tank.volume.remember();
    tank.stop();
    tank.does("start tank --exclude @d2 @d3").says(&["it is degraded"]);
    assert_eq!(tank.rows(), "degraded: 0 d0 in-sync, 1 d1 in-sync, 2 d2 missing, 3 d3 missing");
    tank.does("status tank").says(&["left out as asked"]);
    tank.volume.scatter(1);
    let of_01 = tank.volume.remember();
    tank.stop();

    tank.does("start tank --exclude @d0 @d1");
    tank.volume.went_back_to(common);
    tank.volume.holds_everything();
    tank.volume.scatter(2);
    let of_23 = tank.volume.remember();
    tank.stop();

    // Whoever has the higher event count is named first; both are.
    let refused =
        tank.run("start tank").ends(1).says(&["ran apart", "try: decide which side wins", "--exclude"]);
    let (one, other) = (
        format!("[{}, {}]", tank.file("d0"), tank.file("d1")),
        format!("[{}, {}]", tank.file("d2"), tank.file("d3")),
    );
    refused.says(&[&one, &other]);
    tank.run("start tank --exclude @d0").ends(1).says(&["ran apart"]);
    tank.run("start tank --exclude @d1 @d2 @d3")
        .ends(1)
        .says(&["only 1 current members", "left out as asked"]);
    tank.run("start tank --exclude @nobody").ends(1).says(&["is no member in the configuration", "try: "]);

    // A look at either side is possible.
    tank.does("start tank --exclude @d0 @d1");
    tank.volume.went_back_to(of_23);
    tank.volume.holds_everything();
    tank.stop();
    tank.does("start tank --exclude @d2 @d3");
    tank.volume.went_back_to(of_01);
    tank.volume.holds_everything();
    tank.volume.scatter(3);
    // The losers are taken in again, named by their paths; without --force they are not.
    tank.run("replace tank @d2 @d2").ends(1).says(&["ran apart from this array", "--force"]);
    tank.does("replace tank @d2 @d2 --force --wait");
    tank.does("replace tank @d3 @d3 --force --wait");
    tank.is_optimal_on(&["d0", "d1", "d2", "d3"]);
    tank.while_stopped(|| ());
    tank.is_optimal_on(&["d0", "d1", "d2", "d3"]);
    // And they count.
    tank.does("fail tank 0");
    tank.does("fail tank 1");
    tank.volume.holds_everything();
}

#[test]
fn a_side_that_was_only_behind_is_joined_without_a_question() {
    let tank = Tank::filled(2, 2);
    tank.stop();
    tank.does("start tank --exclude @d3");
    tank.volume.scatter(1);
    // Left out as asked it stays out as long as that start lasts, though it is there.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(tank.rows().ends_with("3 d3 missing"), "{}", tank.rows());
    tank.while_stopped(|| ());
    tank.volume.holds_everything();
    tank.wait("d3 is taken back", |rows| rows.starts_with("optimal"));
    tank.is_optimal_on(&["d0", "d1", "d2", "d3"]);
}

#[test]
fn halves_of_which_one_fell_behind_while_the_array_ran_are_joined_only_by_a_person() {
    let tank = Tank::filled(2, 2);
    for name in ["d2", "d3"] {
        tank.rename(name, &format!("away-{name}"));
    }
    tank.wait("d2 and d3 are lost", |rows| rows.ends_with("2 d2 faulty, 3 d3 faulty"));
    let common = tank.volume.remember();
    tank.volume.scatter(1);
    let of_01 = tank.volume.remember();
    tank.stop();

    // Alone they do not know that the others went on without them.
    for name in ["d0", "d1"] {
        tank.rename(name, &format!("away-{name}"));
    }
    for name in ["d2", "d3"] {
        tank.rename(&format!("away-{name}"), name);
    }
    tank.does("start tank");
    tank.volume.went_back_to(common);
    tank.volume.holds_everything();
    tank.volume.scatter(2);
    tank.stop();
    for name in ["d0", "d1"] {
        tank.rename(&format!("away-{name}"), name);
    }
    tank.run("start tank").ends(1).says(&["ran apart", "--exclude"]);

    tank.does("start tank --exclude @d2 @d3");
    tank.volume.went_back_to(of_01);
    tank.volume.holds_everything();
    for (slot, name) in [("2", "d2"), ("3", "d3")] {
        tank.run(&format!("add tank @{name}")).ends(1).says(&["ran apart from this array", "--force"]);
        tank.does(&format!("replace tank {slot} @{name} --force --wait"));
    }
    tank.is_optimal_on(&["d0", "d1", "d2", "d3"]);
}
