//! A small array called tank in a folder of its own.

use crate::home::{Home, Ran};
use crate::volume::Volume;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

const MEMBER_BYTES: u64 = 30 << 20;

/// The array; its daemon ends with it.
pub struct Tank {
    pub home: Home,
    pub volume: Volume,
}

impl Tank {
    /// Started and full.
    pub fn filled(data: usize, parity: usize) -> Self {
        let home = Home::new();
        let volume = Volume::new(home.path("run/tank/nbd.sock").into());
        let tank = Self { home, volume };
        let members: Vec<String> = (0..data + parity).map(|i| tank.file(&format!("d{i}"))).collect();
        tank.does(&format!(
            "create tank {} --data {data} --parity {parity} --member-size {MEMBER_BYTES} --size 12M --chunk 16K",
            members.join(" ")
        ));
        tank.configure("probe_interval_ms = 1000", "probe_interval_ms = 50");
        tank.does("start tank");
        tank.volume.fill();
        tank
    }

    pub fn file(&self, name: &str) -> String {
        self.home.path(name)
    }

    /// A command that must succeed; `@d1` in it is the path of d1.
    #[track_caller]
    pub fn does(&self, line: &str) -> Ran {
        self.run(line).ends(0)
    }

    pub fn run(&self, line: &str) -> Ran {
        self.home.run(&line.replace('@', &self.file("")))
    }

    pub fn stop(&self) {
        self.does("stop tank");
    }

    /// Stopped, changed, and started again without a flag.
    #[track_caller]
    pub fn while_stopped(&self, change: impl FnOnce()) {
        self.stop();
        change();
        self.does("start tank");
    }

    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.file(from), self.file(to)).unwrap();
    }

    pub fn copy(&self, from: &str, to: &str) {
        fs::copy(self.file(from), self.file(to)).unwrap();
    }

    pub fn blank(&self, name: &str) {
        fs::File::create(self.file(name)).unwrap().set_len(MEMBER_BYTES).unwrap();
    }

    /// The members that the configuration lists.
    pub fn list(&self, names: &[&str]) {
        let path = self.file("config/tank.toml");
        let text = fs::read_to_string(&path).unwrap();
        let (start, rest) = text.split_once("members = [").unwrap();
        let (_, end) = rest.split_once(']').unwrap();
        let names: Vec<String> = names.iter().map(|name| format!("\"{}\"", self.file(name))).collect();
        fs::write(&path, format!("{start}members = [{}]{end}", names.join(", "))).unwrap();
    }

    #[track_caller]
    pub fn configure(&self, old: &str, new: &str) {
        let path = self.file("config/tank.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "no {old} in\n{text}");
        fs::write(&path, text.replace(old, new)).unwrap();
    }

    pub fn status(&self) -> Value {
        self.does("status tank --json").json()
    }

    /// Its state, and of each row slot, file and state: `degraded: 0 d0 in-sync, 1 - missing`.
    pub fn rows(&self) -> String {
        let status = self.status();
        let row = |m: &Value| {
            let slot = m["slot"].as_u64().map_or_else(|| "spare".into(), |s| s.to_string());
            let file = m["path"].as_str().unwrap().rsplit('/').next().unwrap();
            let file = if file.is_empty() { "-" } else { file };
            format!("{slot} {file} {}", m["state"].as_str().unwrap())
        };
        let rows: Vec<String> = status["members"].as_array().unwrap().iter().map(row).collect();
        format!("{}: {}", status["state"].as_str().unwrap(), rows.join(", "))
    }

    /// Optimal, with the members in these files.
    #[track_caller]
    pub fn is_optimal_on(&self, files: &[&str]) {
        let rows: Vec<String> = files.iter().enumerate().map(|(i, f)| format!("{i} {f} in-sync")).collect();
        assert_eq!(self.rows(), format!("optimal: {}", rows.join(", ")));
        self.volume.holds_everything();
    }

    #[track_caller]
    pub fn wait(&self, what: &str, so: impl Fn(&str) -> bool) {
        let begin = Instant::now();
        loop {
            let rows = self.rows();
            if so(&rows) {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(40), "in vain: {what}: {rows}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.file("run/tank/log")).unwrap_or_default()
    }

    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.file("run/tank/pid")).ok()?;
        text.trim().parse().ok().map(Pid::from_raw)
    }

    /// Ends the daemon as a crash of it would.
    pub fn kill(&self) {
        kill(self.pid().expect("a daemon runs"), Signal::SIGKILL).unwrap();
    }
}

impl Drop for Tank {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        let stopped = self.home.run("stop tank").code == 0;
        // A stopped daemon's number may be another's by now.
        if let Some(pid) = self.pid().filter(|_| !stopped) {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains("start\0tank\0") {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
    }
}
