//! Arrays in several states as they were on disk: their files, how they are made, and how they are
//! opened.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each of those who use it uses some of it")]

mod content;
mod golden;
mod journal;
mod open;
mod rig;
mod states;

#[allow(unused_imports, reason = "each of those who use it uses some of it")]
pub use {
    golden::{Golden, Outcome},
    journal::{kinds, says_what_stays},
    open::Opened,
    rig::{Of, Rig, Step, member_bytes},
    states::all,
};
