//! Values made into text for people, and into the JSON of `list` and `status`.
//!
//! Owns: the layout of everything a command prints.
//! Callers may rely on: pure functions of what they are given; colour only where the paint says so.
//! Must never: fetch, print or know a terminal.

mod action;
mod examine;
mod json;
mod list;
#[cfg(test)]
pub mod sample;
mod scrub;
mod status;
mod table;
mod task;

pub use action::{created, started};
pub use examine::examined;
pub use json::{list_json, status_json};
pub use list::list;
pub use scrub::scrubbed;
pub use status::{in_place, status};
pub use task::progress_text;
