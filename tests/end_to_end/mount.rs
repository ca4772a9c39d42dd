//! A file system on the array, as a person without kernel NBD would mount it.

use crate::tank::Tank;
use crate::tools::{Running, noise, run, wait_until};
use std::fs;
use std::process::Command;

/// What to undo, last first, whatever happens.
struct Undo(Vec<Vec<String>>);

impl Undo {
    fn push(&mut self, line: &[&str]) {
        self.0.push(line.iter().map(|&s| s.to_owned()).collect());
    }

    /// Undoes the last step, which must work.
    #[track_caller]
    fn last(&mut self) {
        let line = self.0.pop().unwrap();
        let args: Vec<&str> = line.iter().map(String::as_str).collect();
        run(args[0], &args[1..]);
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        for line in self.0.drain(..).rev() {
            let mut command = Command::new("timeout");
            let _ = command.args(["-k", "2", "20"]).args(&line).status();
        }
    }
}

/// Says so if nothing can be mounted here.
fn no_mounting() -> bool {
    let control = fs::File::options().read(true).write(true).open("/dev/loop-control");
    let so = !nix::unistd::geteuid().is_root() || control.is_err();
    if so {
        println!("skipped: mounting needs root and loop devices");
    }
    so
}

#[test]
fn a_file_system_does_not_notice_that_the_daemon_is_killed_under_it() {
    if no_mounting() {
        return;
    }
    let tool = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/reconnect");
    let palisade = env!("CARGO_BIN_EXE_palisade");
    let few = ["--kills", "3", "--pause", "1", "--load", "32", "--size", "200", "--seed", "1"];
    // With small blocks a file system also writes parts of blocks of ours.
    for fs_block in ["1024", "4096"] {
        let said = run(tool, &[&few[..], &["--palisade", palisade, "--fs-block", fs_block]].concat());
        assert!(said.contains("3 kills") && said.contains("without an error"), "{said}");
    }
}

#[test]
fn files_on_a_mounted_array_outlive_two_lost_members_and_their_replacement() {
    if no_mounting() {
        return;
    }
    let tank = Tank::started("64M", "");
    let mut undo = Undo(Vec::new());
    let (fuse_dir, mount) = (tank.file("fuse"), tank.file("mnt"));
    for dir in [&fuse_dir, &mount] {
        fs::create_dir(dir).unwrap();
    }
    let disk = format!("{fuse_dir}/disk");
    let mut fuse = Running::spawn("nbdfuse", &[&disk, &tank.uri()]);
    undo.push(&["fusermount3", "-u", &fuse_dir]);
    wait_until("nbdfuse shows the volume", || {
        fuse.is_at_work();
        fs::exists(&disk).unwrap_or(false)
    });
    let device = run("losetup", &["--direct-io=on", "--find", "--show", &disk]).trim().to_owned();
    undo.push(&["losetup", "-d", &device]);
    run("mkfs.ext4", &["-q", "-F", &device]);
    run("mount", &[&device, &mount]);
    undo.push(&["umount", &mount]);

    let bytes = |n: u64| noise(100 + n, 200_000 + 99_991 * usize::try_from(n).unwrap());
    let write = |n: u64| {
        let path = format!("{mount}/file{n}");
        fs::write(&path, bytes(n)).unwrap();
        fs::File::open(&path).unwrap().sync_all().unwrap();
    };
    let check = |to: u64| {
        fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
        for n in 0..to {
            assert!(fs::read(format!("{mount}/file{n}")).unwrap() == bytes(n), "file{n}");
        }
    };
    (0..10).for_each(write);
    fs::remove_file(tank.file("d0")).unwrap();
    (10..20).for_each(write);
    tank.wait_lost("d0");
    tank.command("fail tank 4").ends(0);
    (20..30).for_each(write);
    check(30);
    for (slot, name) in [("0", "n0"), ("4", "n4")] {
        fs::File::create(tank.file(name)).unwrap().set_len(64 << 20).unwrap();
        tank.command(&format!("replace tank {slot} {}", tank.file(name))).ends(0);
    }
    (30..40).for_each(write);
    tank.wait_state("optimal");
    check(40);
    undo.last();
    run("fsck.ext4", &["-fn", &device]);
    undo.last();
    undo.last();
    fuse.succeeds();
}
