//! The real binary, as a person or a script meets it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "cli/home.rs"]
mod home;

use home::{Home, Ran};
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

const COMMANDS: [&str; 13] = [
    "create",
    "start",
    "stop",
    "list",
    "status",
    "fail",
    "replace",
    "add",
    "remove",
    "rebuild",
    "examine",
    "demo",
    "completions",
];

#[test]
fn the_help_of_every_command_has_examples() {
    let home = Home::new();
    home.run("--help").ends(0).says(&["EXAMPLES", "EXIT CODES"]).says(&COMMANDS);
    for command in COMMANDS {
        let example = format!("palisade {command}");
        home.run(&format!("{command} --help")).ends(0).says(&["EXAMPLES:", &example]);
    }
}

#[test]
fn completions_know_every_command() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = home.run(&format!("completions {shell}")).ends(0).says(&COMMANDS);
        assert!(ran.stdout.contains("exit-code"), "{shell}: options are missing");
    }
    home.run("completions cmd.exe").ends(2);
}

#[test]
fn a_command_line_without_sense_ends_with_2_and_says_why() {
    let home = Home::new();
    home.configure("tank");
    for (line, words) in [
        ("", &["Usage"][..]),
        ("frobnicate", &["frobnicate"]),
        ("create tank a b --data 1", &["--parity"]),
        (
            "create x a b --data 1 --parity 1 --chunk 64Q",
            &["palisade: --chunk: '64Q' is not a size", "  try: "],
        ),
        ("create x a b --data 1 --parity 1 --size=-1G", &["'-1G' is not a size"]),
        ("create x a b --data 1 --parity 1 --member-size much", &["--member-size", "'much'", "try: "]),
        ("create x a b --data 300 --parity 1", &["--data 300", "255"]),
        ("create a/b a b --data 1 --parity 1", &["'a/b' cannot name an array", "try: "]),
        ("start", &["NAME"]),
        ("start tank --io fast", &["'fast'", "io_uring"]),
        ("status ../tank", &["'../tank' cannot name an array"]),
        ("rebuild tank", &["--max-rate"]),
        ("rebuild tank --pause --resume", &["--resume"]),
    ] {
        let ran = home.run(line).ends(2).says(words);
        assert_eq!(ran.stdout, "", "{line}");
    }
}

#[test]
fn an_unknown_array_is_an_error_that_lists_the_known_ones() {
    let home = Home::new();
    let lines = [
        "start tnk",
        "start tnk --foreground",
        "stop tnk",
        "status tnk",
        "fail tnk 0",
        "replace tnk 0 new",
        "add tnk new",
        "remove tnk 0",
        "rebuild tnk --pause",
    ];
    for line in lines {
        home.run(line).ends(1).says(&["palisade: there is no array named tnk", "try: palisade create tnk"]);
    }
    home.run("status tnk --exit-code").ends(4).says(&["palisade: there is no array named tnk"]);
    home.configure("tank");
    home.configure("vault");
    for line in lines {
        home.run(line).ends(1).says(&[
            "no array named tnk",
            "did you mean tank?",
            "known arrays: tank, vault",
        ]);
    }
}

#[test]
fn a_stopped_array_says_so_and_how_to_start_it() {
    let home = Home::new();
    home.configure("tank");
    for line in ["fail tank 0", "replace tank 0 new", "add tank new", "remove tank 0", "rebuild tank --pause"]
    {
        home.run(line).ends(1).says(&["array tank: is not running", "try: palisade start tank"]);
    }
    let member = home.path("tank1");
    home.run("status tank").ends(0).says(&["array: tank", "state: stopped", "palisade start tank", &member]);
    home.run("status").ends(0).says(&["array: tank", "state: stopped"]);
    home.run("status tank --exit-code").ends(4);
    home.run("status --exit-code").ends(4);
    home.run("list").ends(0).says(&["NAME", "tank  stopped"]);
    home.run("stop tank").ends(0).says(&["tank is not running"]);
    home.run("stop --all").ends(0);
    assert_eq!(home.run("stop tank --json").ends(0).json()["applied"], "already");
    let status = home.run("status tank --json").ends(0).json();
    assert_eq!(status["state"], "stopped");
    assert_eq!(status["members"][1]["path"], member.as_str());
    assert_eq!(home.run("list --json").ends(0).json()[0]["state"], "stopped");
    assert_eq!(home.run("status --json").ends(0).json()[0]["name"], "tank");
}

#[test]
fn without_any_array_there_is_nothing_to_list() {
    let home = Home::new();
    assert_eq!(home.run("list").ends(0).says(&["no array is configured"]).stdout, "");
    assert_eq!(home.run("list --json").ends(0).json(), serde_json::json!([]));
    home.run("status").ends(0).says(&["no array is configured"]);
    home.run("status --exit-code").ends(4);
    home.run("start --all").ends(0);
}

#[test]
fn a_broken_configuration_is_shown_not_hidden() {
    let home = Home::new();
    home.configure("tank");
    std::fs::write(home.path("config/tank.toml"), "name = \"tank\"\nmembers = 3\n").unwrap();
    home.run("list").ends(0).says(&["tank", "stopped", "configuration cannot be read"]);
    home.run("status tank").ends(0).says(&["tank.toml", "line"]);
    home.run("start tank").ends(1).says(&["tank.toml", "try: correct"]);
}

#[test]
fn only_a_member_can_be_left_out() {
    let home = Home::new();
    home.configure("tank");
    let other = home.path("other");
    home.run("start tank --exclude other").ends(1).says(&[&other, "cannot be left out", &home.path("tank2")]);
    home.run("start --all --exclude other").ends(2).says(&["--exclude"]);
}

/// A daemon that hangs up on everybody.
#[test]
fn a_daemon_that_makes_no_sense_is_not_taken_for_a_stopped_one() {
    let home = Home::new();
    home.configure("tank");
    std::fs::create_dir_all(home.path("run/tank")).unwrap();
    let listener = UnixListener::bind(home.path("run/tank/control.sock")).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    home.run("status tank").ends(0).says(&["state: unknown", "daemon"]);
    home.run("status tank --exit-code").ends(4);
    home.run("list").ends(0).says(&["unknown"]);
    assert_eq!(home.run("status tank --json").ends(0).json()["state"], "unknown");
    home.run("fail tank 0").ends(1).says(&["palisade: "]);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = Home::new();
    for i in 0..200 {
        home.configure(&format!("array{i}"));
    }
    for line in ["list", "list --json", "status", "completions bash", "--help"] {
        let mut child = home.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""), "{line}");
    }
}

#[test]
fn output_that_is_piped_has_no_colour() {
    let home = Home::new();
    home.configure("tank");
    for line in ["list", "status", "status tank"] {
        let output = home.command(line).env("TERM", "xterm").output().unwrap();
        assert!(!Ran::of(line, &output).stdout.contains('\x1b'), "{line}");
    }
}

#[test]
fn what_is_no_member_cannot_be_examined() {
    let home = Home::new();
    image(&home, "empty", 1 << 20);
    let path = home.path("empty");
    home.run("examine empty").ends(1).says(&["palisade: ", &path]);
    home.run("examine nothing").ends(1).says(&["palisade: ", "nothing"]);
    let looked = home.run("examine empty nothing --json").ends(1).json();
    assert_eq!(looked[0]["path"], path.as_str());
    assert!(looked[1]["error"].is_string());
}

fn image(home: &Home, name: &str, bytes: u64) {
    std::fs::File::create(home.path(name)).unwrap().set_len(bytes).unwrap();
}

/// What stands on disk before must stand there after.
#[track_caller]
fn refused_untouched(home: &Home, line: &str, words: &[&str]) {
    let images: Vec<_> = ["d0", "d1", "d2", "ext"].iter().map(|n| home.path(n)).collect();
    let before: Vec<_> = images.iter().map(|p| std::fs::read(p).ok()).collect();
    home.run(line).ends(1).says(words).says(&["palisade: "]);
    for (path, old) in images.iter().zip(before) {
        assert!(std::fs::read(path).ok() == old, "{line} changed {path}");
    }
    assert!(!Path::new(&home.path("config/x.toml")).exists(), "{line}");
}

#[test]
fn create_refuses_what_would_not_work_and_touches_nothing() {
    let home = Home::new();
    for name in ["d0", "d1", "d2"] {
        image(&home, name, 64 << 20);
    }
    image(&home, "tiny", 64 << 10);
    let create = |rest: &str| format!("create x {rest} --parity 1");
    refused_untouched(&home, &create("d0 d1 --data 2"), &["3"]);
    refused_untouched(&home, &create("d0 d1 d2 d3 --data 2"), &["3"]);
    refused_untouched(&home, &create("d0 d1 d0 --data 2"), &["twice"]);
    std::os::unix::fs::symlink("d0", home.path("link")).unwrap();
    refused_untouched(&home, &create("d0 d1 link --data 2"), &["link"]);
    refused_untouched(&home, &create("d0 d1 missing --data 2"), &["missing", "--member-size"]);
    refused_untouched(&home, &create("d0 d1 tiny --data 2"), &["tiny", "small"]);
    refused_untouched(&home, &create("d0 d1 d2 --data 2 --size 1T"), &["1T"]);
    refused_untouched(&home, &create("d0 d1 d2 --data 2 --size 1000"), &["4 KiB"]);
    refused_untouched(&home, &create("d0 d1 d2 --data 2 --chunk 5000"), &["chunk"]);
    assert!(!Path::new(&home.path("missing")).exists());
}

#[test]
fn a_file_system_is_named_and_overwritten_only_by_force() {
    let home = Home::new();
    for name in ["d0", "d1", "ext"] {
        image(&home, name, 64 << 20);
    }
    let made = Command::new("mkfs.ext4").args(["-q", "-F", &home.path("ext")]).status();
    assert!(made.expect("mkfs.ext4 is installed (e2fsprogs)").success());
    let line = "create x d0 d1 ext --data 2 --parity 1";
    refused_untouched(&home, line, &["ext4", &home.path("ext"), "--force"]);
    home.run(&format!("{line} --force")).ends(0).says(&[
        "created x",
        "palisade start x",
        "nbd+unix:///x?socket=",
    ]);
    home.run("examine ext").ends(0).says(&["slot 2", "2 data + 1 parity"]);
    let again = "create y d0 d1 ext --data 2 --parity 1";
    home.run(again).ends(1).says(&["palisade", "--force"]);
    home.run(line).ends(1).says(&["x"]);
}
