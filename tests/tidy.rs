//! The tree keeps the rules of the house. Each check is also shown a sample that breaks its rule,
//! so that a check that has gone blind is noticed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "tidy/checks.rs"]
mod checks;
#[path = "tidy/source.rs"]
mod source;

use source::{Source, tree};
use std::path::Path;

type Check = fn(&[Source]) -> Vec<String>;

fn holds(check: Check) {
    let complaints = check(&tree(Path::new(env!("CARGO_MANIFEST_DIR"))));
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

const LIB: &str = "pub mod error;\npub mod env;\npub mod format;\npub mod member;\npub mod stripe;\n\
                   pub mod array;\npub mod export;\npub mod nbd;\npub mod daemon;\n";

/// Complaints about one file in an otherwise blameless tree.
fn about(check: Check, path: &str, text: &str) -> Vec<String> {
    let layers = ["error", "env", "format", "member", "stripe", "array", "export", "nbd", "daemon"];
    let mut files = vec![Source::new("src/lib.rs", LIB)];
    for layer in layers {
        files.push(Source::new(&format!("src/{layer}/mod.rs"), "mod a;\n#[cfg(test)]\nmod tests;\n"));
        files.push(Source::new(&format!("src/{layer}/tests.rs"), "mod a;\n"));
    }
    files.push(Source::new(path, text));
    check(&files)
}

fn catches(check: Check, path: &str, samples: &[&str]) {
    for text in samples {
        assert!(!about(check, path, text).is_empty(), "missed in {path}:\n{text}");
    }
}

fn allows(check: Check, path: &str, samples: &[&str]) {
    for text in samples {
        assert_eq!(about(check, path, text), Vec::<String>::new(), "in {path}:\n{text}");
    }
}

#[test]
fn no_layer_imports_a_layer_above_it() {
    holds(checks::upward_imports);
    let check = checks::upward_imports;
    catches(
        check,
        "src/member/a.rs",
        &[
            "use crate::array::Array;",
            "use crate::{error::Error, array::Array};",
            "use crate::{\n    error::{self, Error},\n    array,\n};",
            "fn f() { crate::daemon::run() }",
            "use super::super::array::Array;",
            "use crate::export::Volume;",
            "pub use crate::nbd as n;",
        ],
    );
    catches(check, "src/stripe/a.rs", &["use crate::export::Wrapper;", "use crate::export;"]);
    catches(check, "src/nbd/a.rs", &["use crate::member::Backend;", "use crate::array::Report;"]);
    catches(check, "src/unlisted/a.rs", &["fn f() {}"]);
    allows(
        check,
        "src/stripe/a.rs",
        &[
            "use crate::export::{Volume, VolumeInfo};\nuse crate::{member::Backend, env::Env as E};",
            "use super::plan::array::X; // use crate::daemon::X",
            "const S: &str = \"crate::daemon::X\"; const R: &str = r#\"\"crate::daemon::X\"#;",
            "#[cfg(test)]\nmod tests {\n    use crate::daemon::X;\n    fn f() { if x { y } }\n}\n",
        ],
    );
    allows(check, "src/stripe/tests.rs", &["use crate::daemon::X;"]);
}

#[test]
fn the_layers_are_those_of_the_library_in_order() {
    let layers = checks::layers(&tree(Path::new(env!("CARGO_MANIFEST_DIR"))));
    let known =
        ["error", "units", "env", "codec", "geometry", "format", "member", "stripe", "array", "export"];
    let places: Vec<_> = known.iter().map(|name| layers.iter().position(|l| l == name).unwrap()).collect();
    assert!(places.is_sorted(), "{layers:?}");
}

#[test]
fn no_file_is_longer_than_600_lines() {
    holds(checks::long_files);
    catches(checks::long_files, "src/array/a.rs", &[&"fn f() {}\n".repeat(601)]);
    allows(checks::long_files, "src/array/a.rs", &[&"fn f() {}\n".repeat(600)]);
}

#[test]
fn the_engine_takes_time_threads_files_and_chance_from_its_environment() {
    holds(checks::banned_calls);
    let samples = [
        "use std::time::Instant;",
        "use std::time::{Duration, Instant};",
        "use std::{sync::Arc, time::SystemTime};",
        "use std::time;",
        "fn f() { std::thread::sleep(d) }",
        "use std::{fs, io};",
        "use std::fs::File;",
        "fn f() -> u8 { rand::random() }",
        "use getrandom;",
        "async fn f() { tokio::task::yield_now().await }",
    ];
    catches(checks::banned_calls, "src/array/a.rs", &samples);
    catches(checks::banned_calls, "src/member/a.rs", &samples);
    allows(
        checks::banned_calls,
        "src/array/a.rs",
        &[
            "use std::time::Duration;\nuse std::{sync::Arc, time::Duration as D, fmt};",
            "// std::fs\n/* std::thread /* nested */ std::fs */ fn operand() { operand::x() }",
            "fn f<'a>(x: &'a str) -> char { '\"' } // \" std::fs",
            "fn f() -> [char; 3] { ['\\'', 'x', '\\\\'] }\n#[cfg(test)]\nfn g(_: [u8; 2]) { std::fs::read(p); }",
        ],
    );
    for outside in ["src/env/real/a.rs", "src/member/file.rs", "src/daemon/a.rs", "tests/a.rs"] {
        allows(checks::banned_calls, outside, &samples);
    }
    allows(checks::banned_calls, "src/array/tests/a.rs", &samples);
}

#[test]
fn nothing_is_left_for_later() {
    holds(checks::leftovers);
    let samples = [
        concat!("// TO", "DO: more"),
        concat!("/// FIX", "ME"),
        concat!("// X", "XX"),
        concat!("fn f() { to", "do!() }"),
        concat!("fn f() { unimple", "mented!(\"no\") }"),
    ];
    catches(checks::leftovers, "src/array/a.rs", &samples);
    catches(checks::leftovers, "tests/a.rs", &samples);
    allows(checks::leftovers, "src/array/a.rs", &["// mktemp XXXXXX", "fn todo() {}"]);
}

#[test]
fn every_source_file_is_declared_by_a_mod() {
    holds(checks::dead_files);
    catches(checks::dead_files, "src/array/b.rs", &["fn f() {}"]);
    catches(checks::dead_files, "src/array/b/mod.rs", &["mod c;"]);
    catches(checks::dead_files, "src/attach/mod.rs", &["mod c;"]);
    allows(checks::dead_files, "src/array/a.rs", &["fn f() {}"]);
    allows(checks::dead_files, "src/array/a/mod.rs", &["fn f() {}"]);
    allows(checks::dead_files, "src/array/tests.rs", &["fn f() {}"]);
}

#[test]
fn unsafe_code_stays_where_it_is_expected() {
    holds(checks::misplaced_unsafe);
    let samples = ["fn f() { unsafe { g() } }", "unsafe impl Send for X {}"];
    catches(checks::misplaced_unsafe, "src/array/a.rs", &samples);
    for allowed in ["src/env/real/a.rs", "src/codec/engine/a.rs", "src/member/file_backend.rs"] {
        allows(checks::misplaced_unsafe, allowed, &samples);
    }
    allows(checks::misplaced_unsafe, "src/array/a.rs", &["// unsafe\nfn f() { x(\"unsafe\") }"]);
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    holds(checks::machine_paths);
    let samples = [concat!("see /wo", "rk/x"), concat!("\"/ho", "me/me/x\""), concat!("cd /ro", "ot/x")];
    catches(checks::machine_paths, "docs/a.md", &samples);
    catches(checks::machine_paths, "src/array/a.rs", &samples);
    allows(checks::machine_paths, "docs/a.md", &[concat!("net", "/wo", "rk/x"), "/mnt/tank"]);
}
