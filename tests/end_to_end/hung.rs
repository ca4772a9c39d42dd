//! A member that hangs: its file is shown by nbdfuse, whose server is stopped.

use crate::tank::Tank;
use crate::tools::{Running, noise, run, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::{Child, Command, Stdio};

/// Member `d3` of the tank behind a server that can be stopped.
struct Behind {
    server: Child,
    fuse: Option<Running>,
    folder: String,
}

impl Behind {
    fn new(tank: &Tank) -> Self {
        let (socket, folder) = (tank.file("d3.sock"), tank.file("fuse"));
        let server = Command::new("qemu-nbd")
            .args(["-t", "-f", "raw", "--cache=none", "-k", &socket, &tank.file("d3")])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("qemu-nbd listens", || fs::exists(&socket).unwrap());
        fs::create_dir(&folder).unwrap();
        let disk = format!("{folder}/disk");
        let fuse = Running::spawn("nbdfuse", &[&disk, &format!("nbd+unix:///?socket={socket}")]);
        wait_until("nbdfuse shows the member", || fs::exists(&disk).unwrap_or(false));
        tank.configure(&tank.file("d3"), &disk);
        Self { server, fuse: Some(fuse), folder }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.server.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
        let _ = Command::new("fusermount3").args(["-u", &self.folder]).status();
        drop(self.fuse.take());
        self.signal(Signal::SIGTERM);
        let _ = self.server.wait();
    }
}

#[test]
fn a_member_that_hangs_does_not_keep_the_array_from_starting() {
    if !fs::exists("/dev/fuse").unwrap() {
        return;
    }
    let tank = Tank::create("32M", "");
    tank.configure("member_deadline_ms = 10000", "member_deadline_ms = 1000");
    let behind = Behind::new(&tank);
    tank.command("start tank").ends(0);
    let file = tank.noise_file("data", 3, 8 << 20);
    tank.copy_in(&file);
    tank.wait_state("optimal");
    tank.command("stop tank").ends(0);

    behind.signal(Signal::SIGSTOP);
    tank.command("start tank").ends(0);
    tank.holds(&file);
    let status = tank.command("status tank").ends(0);
    status.says(&["state: degraded", "did not answer within 5 s"]);
    // Somebody else takes its place meanwhile.
    fs::File::create(tank.file("new")).unwrap().set_len(32 << 20).unwrap();
    tank.command(&format!("replace tank 3 {} --wait", tank.file("new"))).ends(0);
    behind.signal(Signal::SIGCONT);
    tank.command("stop tank").ends(0);

    // One that is to be left out is looked at, and may hang as well.
    let (data, disk) = (noise(4, 1 << 20), format!("{}/disk", behind.folder));
    fs::write(&file, &data).unwrap();
    tank.configure(&tank.file("new"), &format!("{}\", \"{disk}", tank.file("new")));
    behind.signal(Signal::SIGSTOP);
    tank.command(&format!("start tank --exclude {disk}")).ends(0);
    tank.copy_in(&file);
    tank.holds(&file);
    run("nbdinfo", &[&tank.uri()]);
    behind.signal(Signal::SIGCONT);
    tank.command("stop tank").ends(0);
}
