//! Everything a person sees: arguments, commands, rendering, exit codes.
//!
//! Owns: the command line as clap reads it (`args`), the same as checked values (`resolve`), one
//! file per command (`command`), text for people (`render`), exit codes (`exit`).
//! Callers may rely on: stdout carries only what was asked for, so `--json` can be piped; messages
//! go to stderr; a reader that goes away ends the command quietly.
//! Must never: open a member or decide about an array; it asks `daemon` and `control`.

mod args;
mod command;
mod demo;
mod entry;
mod exit;
mod find;
mod interrupt;
mod out;
mod render;
mod resolve;
mod wait;

pub use entry::main;
