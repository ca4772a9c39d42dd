//! From the process's arguments to its exit code.

use super::args::Cli;
use super::command;
use super::demo::demo;
use super::exit::Exit;
use super::out::{Out, complain, reader_left};
use super::resolve::{Action, resolve};
use crate::daemon::Places;
use crate::error::Result;
use clap::Parser;
use std::process::ExitCode;

/// Runs the command line and returns its exit code.
pub fn main() -> ExitCode {
    ExitCode::from(run().code())
}

fn run() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // A reader that went away from `palisade --help | head` is no error.
            let _ = e.print();
            return if e.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    let action = match resolve(cli.command) {
        Ok(action) => action,
        Err(e) => {
            complain(&e);
            return Exit::Usage;
        }
    };
    match perform(action) {
        Ok(exit) => exit,
        Err(e) if reader_left(&e) => Exit::Ok,
        Err(e) => {
            complain(&e);
            Exit::Error
        }
    }
}

fn perform(action: Action) -> Result<Exit> {
    let out = Out::new();
    // Only where needed: not every user has places.
    let places = Places::from_env;
    match action {
        Action::Create(args, format) => command::create(&out, &places()?, &args, format),
        Action::Start(start, format) => command::start(&out, &places()?, &start, format),
        Action::Stop(which, format) => command::stop(&out, &places()?, &which, format),
        Action::List(format) => command::list(&out, &places()?, format),
        Action::Status(status) => command::status(&out, &places()?, &status),
        Action::Fail(change, format) => command::fail(&out, &places()?, &change, format),
        Action::Replace(replace, format) => command::replace(&out, &places()?, &replace, format),
        Action::Add(add, format) => command::add(&out, &places()?, &add, format),
        Action::Remove(change, format) => command::remove(&out, &places()?, &change, format),
        Action::Rebuild(rebuild, format) => command::rebuild(&out, &places()?, &rebuild, format),
        Action::Scrub(scrub, format) => command::scrub(&out, &places()?, &scrub, format),
        Action::Examine(paths, format) => command::examine(&out, &paths, format),
        Action::Demo(args) => demo(&out, &args),
        Action::Completions(shell) => command::completions(&out, shell),
    }
}
