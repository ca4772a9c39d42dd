//! Members over time, on real files with the real binary: lost, found, copied, restored from a backup,
//! run apart, replaced; and the daemon killed in the middle of it. Each ends with every block as it was
//! written, or in a refusal that says what to do.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "cli/home.rs"]
mod home;

#[path = "cli_membership/volume.rs"]
mod volume;

#[path = "cli_membership/tank.rs"]
mod tank;

#[path = "cli_membership/copies.rs"]
mod copies;

#[path = "cli_membership/kills.rs"]
mod kills;

#[path = "cli_membership/replacement.rs"]
mod replacement;

#[path = "cli_membership/returned.rs"]
mod returned;

#[path = "cli_membership/split.rs"]
mod split;
