//! Arrays in several states as they were on disk: their files, how they are made, and how they are
//! opened.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod content;
mod golden;
mod journal;
#[allow(dead_code, reason = "the tool that makes the files does not open them")]
mod open;
mod rig;
mod states;

pub use golden::Golden;
pub use states::all;
#[allow(unused_imports, reason = "the tool that makes the files does not open them")]
pub use {golden::Outcome, journal::kinds, open::Opened};
