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

#[allow(unused_imports, reason = "each of those who use it uses some of it")]
pub use {
    golden::{Golden, Outcome},
    journal::kinds,
    open::Opened,
    rig::{Rig, Step, member_bytes},
    states::all,
};
