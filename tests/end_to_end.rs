//! The program as people use it: arrays on image files, driven by real clients, broken and mended.
//! The clients are installed by the README's second command; a missing one fails its test.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "cli/home.rs"]
mod home;

#[path = "end_to_end/tools.rs"]
mod tools;

#[path = "end_to_end/tank.rs"]
mod tank;

#[path = "end_to_end/lifetime.rs"]
mod lifetime;

#[path = "end_to_end/faults.rs"]
mod faults;

#[path = "end_to_end/refusal.rs"]
mod refusal;

#[path = "end_to_end/mount.rs"]
mod mount;

#[path = "end_to_end/restart.rs"]
mod restart;

#[path = "end_to_end/returns.rs"]
mod returns;

#[path = "end_to_end/hung.rs"]
mod hung;

#[path = "end_to_end/discard.rs"]
mod discard;

#[path = "end_to_end/journal.rs"]
mod journal;
