//! An array from its creation over two lost members to the next start.

use crate::tank::Tank;
use crate::tools::{noise, run};

#[test]
fn a_volume_keeps_every_byte_while_a_file_is_deleted_and_another_overwritten() {
    let tank = Tank::started("32M", "");
    let size = tank.volume_bytes();
    let info: serde_json::Value = serde_json::from_str(&run("nbdinfo", &["--json", &tank.uri()])).unwrap();
    assert_eq!(info["exports"][0]["export-size"], size);
    assert_eq!(info["exports"][0]["can_multi_conn"], true);
    let source = tank.noise_file("source", 1, size);
    tank.copy_in(&source);
    tank.holds(&source);

    std::fs::remove_file(tank.file("d1")).unwrap();
    tank.wait_lost("d1");
    tank.holds(&source);
    // Whole, header and all, as a mistyped dd would.
    let bytes = noise(2, std::fs::metadata(tank.file("d4")).unwrap().len().try_into().unwrap());
    std::fs::write(tank.file("d4"), bytes).unwrap();
    tank.wait_lost("d4");
    tank.command("status tank --exit-code").ends(1).says(&["state: degraded", "palisade replace tank"]);
    tank.holds(&source);

    std::fs::File::create(tank.file("n1")).unwrap().set_len(32 << 20).unwrap();
    std::fs::File::create(tank.file("n4")).unwrap().set_len(32 << 20).unwrap();
    tank.command(&format!("replace tank 1 {} --wait", tank.file("n1"))).ends(0).says(&["is in sync"]);
    tank.command(&format!("replace tank 4 {} --wait", tank.file("n4"))).ends(0).says(&["is in sync"]);
    tank.command("status tank --exit-code").ends(0);
    tank.holds(&source);
    tank.command("stop tank").ends(0);
    tank.command("status tank --exit-code").ends(4);
    tank.command("start tank").ends(0);
    let status = tank.status();
    assert_eq!((&status["state"], &status["clean"]), (&"optimal".into(), &true.into()), "{status:#}");
    tank.holds(&source);
}
