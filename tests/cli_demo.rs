//! The demo, which is the shortest way through everything: create, serve, lose, replace, rebuild.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "cli/home.rs"]
mod home;

use home::{Home, Ran};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// What the demo left behind.
fn remains(home: &Home) -> Vec<String> {
    let entries = std::fs::read_dir(home.path(".")).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("palisade-demo")).collect()
}

#[test]
fn the_demo_reads_back_every_byte_and_cleans_up() {
    for (shape, lost) in [("--data 2 --parity 2", "lose two disks"), ("--data 1 --parity 1", "lose a disk")] {
        let home = Home::new();
        let line = format!("demo {shape}");
        let output = home.command(&line).env("TMPDIR", home.path(".")).output().unwrap();
        Ran::of(&line, &output).ends(0).says(&[
            lost,
            "state: degraded",
            "rebuild 100%",
            "not one byte differed",
        ]);
        assert_eq!(remains(&home), Vec::<String>::new());
    }
}

#[test]
fn an_interrupted_demo_cleans_up() {
    let home = Home::new();
    let mut command = home.command("demo --data 1 --parity 1");
    let mut child = command.env("TMPDIR", home.path(".")).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let (mut line, mut pid) = (String::new(), None);
    while !line.starts_with("3/8") {
        line.clear();
        assert!(stdout.read_line(&mut line).unwrap() > 0, "it ended too early");
        if let Some((_, rest)) = line.split_once("(pid ") {
            pid = rest.split_once(')').map(|(number, _)| number.parse::<i32>().unwrap());
        }
    }
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(remains(&home), Vec::<String>::new());
    let daemon =
        std::fs::read_to_string(format!("/proc/{}/cmdline", pid.expect("its process id was printed")));
    assert!(!daemon.is_ok_and(|cmd| cmd.contains("start\0demo")), "the daemon still runs");
}
