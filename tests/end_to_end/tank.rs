//! An array called tank, with all it needs in a folder of its own.

use crate::home::{Home, Ran};
use crate::tools::{noise, run, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The array; its daemon ends with it.
pub struct Tank(pub Home);

impl Tank {
    /// Six members as 4+2, not started, that notices a lost member soon.
    pub fn create(member_size: &str, options: &str) -> Self {
        Self::create_with(member_size, |_| options.to_owned())
    }

    /// With options that name files of its folder.
    pub fn create_with(member_size: &str, options: impl FnOnce(&Self) -> String) -> Self {
        let tank = Self(Home::new());
        let options = options(&tank);
        let members: Vec<String> = (0..6).map(|i| tank.file(&format!("d{i}"))).collect();
        tank.command(&format!(
            "create tank {} --data 4 --parity 2 --member-size {member_size} {options}",
            members.join(" ")
        ))
        .ends(0);
        tank.configure("probe_interval_ms = 1000", "probe_interval_ms = 200");
        tank
    }

    pub fn started(member_size: &str, options: &str) -> Self {
        let tank = Self::create(member_size, options);
        tank.command("start tank").ends(0);
        tank
    }

    pub fn file(&self, name: &str) -> String {
        self.0.path(name)
    }

    /// A command of palisade that may not take forever.
    pub fn command(&self, line: &str) -> Ran {
        let inner = self.0.command(line);
        let mut bounded = crate::tools::command(inner.get_program().to_str().unwrap(), &[]);
        bounded.args(inner.get_args()).envs(inner.get_envs().filter_map(|(k, v)| Some((k, v?))));
        Ran::of(line, &bounded.output().unwrap())
    }

    /// Edits the configuration.
    #[track_caller]
    pub fn configure(&self, old: &str, new: &str) {
        let path = self.file("config/tank.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "no {old} in\n{text}");
        std::fs::write(&path, text.replace(old, new)).unwrap();
    }

    pub fn uri(&self) -> String {
        format!("nbd+unix:///tank?socket={}", self.file("run/tank/nbd.sock"))
    }

    pub fn status(&self) -> Value {
        self.command("status tank --json").ends(0).json()
    }

    pub fn pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.file("run/tank/pid")).ok()?;
        text.trim().parse().ok().map(Pid::from_raw)
    }

    /// Ends the daemon as a crash of it would. What is started next has to bear that the kernel is
    /// not through with the killed process yet.
    pub fn crash(&self) {
        kill(self.pid().expect("a daemon runs"), Signal::SIGKILL).unwrap();
    }

    #[track_caller]
    pub fn wait_state(&self, state: &str) {
        let mut last = Value::Null;
        let begin = std::time::Instant::now();
        while last["state"] != state {
            assert!(begin.elapsed().as_secs() < 40, "it does not become {state}: {last:#}");
            std::thread::sleep(std::time::Duration::from_millis(40));
            last = self.status();
        }
    }

    /// Until everything is home and the members say so.
    #[track_caller]
    pub fn wait_clean(&self) {
        wait_until("the members are marked clean", || {
            self.command(&format!("examine {} --json", self.file("d0"))).ends(0).json()[0]["clean"] == true
        });
    }

    /// Until the array has noticed that a member is of no use.
    #[track_caller]
    pub fn wait_lost(&self, member: &str) {
        let path = self.file(member);
        wait_until(&format!("{member} is noticed to be lost"), || {
            let status = self.status();
            let members = status["members"].as_array().unwrap();
            members.iter().any(|m| m["path"] == path && (m["state"] == "faulty" || m["state"] == "missing"))
        });
    }

    /// A file of the size of the volume, or of `bytes`.
    pub fn noise_file(&self, name: &str, seed: u64, bytes: usize) -> String {
        let path = self.file(name);
        std::fs::write(&path, noise(seed, bytes)).unwrap();
        path
    }

    pub fn copy_in(&self, from: &str) {
        run("nbdcopy", &["--connections=4", "--flush", from, &self.uri()]);
    }

    /// The volume begins with exactly what the file holds.
    #[track_caller]
    pub fn holds(&self, file: &str) {
        let back = self.file("back");
        let _ = std::fs::remove_file(&back);
        run("nbdcopy", &["--connections=4", &self.uri(), &back]);
        let (got, want) = (std::fs::read(&back).unwrap(), std::fs::read(file).unwrap());
        assert!(got.len() >= want.len(), "{} bytes of {}", got.len(), want.len());
        let differs = got.iter().zip(&want).position(|(a, b)| a != b);
        assert_eq!(differs, None, "the first byte that differs from {file}");
    }

    pub fn volume_bytes(&self) -> usize {
        self.status()["size_bytes"].as_u64().unwrap().try_into().unwrap()
    }
}

/// No such process, or only its entry in the table of processes.
fn gone(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |s| s.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

impl Drop for Tank {
    fn drop(&mut self) {
        let Some(pid) = self.pid() else { return };
        // The pid file may outlive the daemon: make sure that the process is ours.
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if !String::from_utf8_lossy(&line).contains("start\0tank\0") || gone(pid) {
            return;
        }
        let env = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if String::from_utf8_lossy(&env).contains(&self.file("run")) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.file("run/tank/log")).unwrap_or_default();
            eprintln!("the daemon's log:\n{log}");
        }
    }
}
