//! Running the binary with files of its own.

#![allow(dead_code, reason = "each file of tests uses some of it")]

use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A folder of its own for each test.
pub struct Home(TempDir);

impl Home {
    pub fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(home.path("config")).unwrap();
        home
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
        command
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .env("PALISADE_CONFIG_DIR", self.path("config"))
            .env("PALISADE_RUNTIME_DIR", self.path("run"))
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, line: &str) -> Ran {
        Ran::of(line, &self.command(line).output().unwrap())
    }

    pub fn configure(&self, name: &str) {
        let members: Vec<_> = (0..3).map(|i| format!("\"{}\"", self.path(&format!("{name}{i}")))).collect();
        let text = format!(
            "name = \"{name}\"\nuuid = \"67e55044-10b1-426f-9247-bb680e5fe0c8\"\nmembers = [{}]\n",
            members.join(", ")
        );
        std::fs::write(self.path(&format!("config/{name}.toml")), text).unwrap();
    }
}

/// What a command did.
pub struct Ran {
    pub line: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(line: &str, output: &Output) -> Self {
        Self {
            line: line.to_owned(),
            code: output.status.code().expect("not killed by a signal"),
            stdout: String::from_utf8(output.stdout.clone()).unwrap(),
            stderr: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}{}", self.line, self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            let all = format!("{}{}", self.stdout, self.stderr);
            assert!(all.contains(word), "{}: no '{word}' in\n{all}", self.line);
        }
        self
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{}: {e}\n{}", self.line, self.stdout))
    }
}
