//! Starting a daemon in the background: this program again, in a session of its own, its stdout a
//! pipe on which it says that it serves, or why not.

use super::config::Config;
use super::lock::{self, Lock};
use super::log_file;
use super::places::Places;
use super::ready::{READY_FD, Word};
use super::run::{RunOptions, Started};
use crate::error::{Error, ErrorKind, Result};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Longest line a child may say.
const WORD_MAX: u64 = 1 << 20;

/// Has the allocator ask for huge pages: a fault for each page that is staged would cost more than its write.
/// Read before the first allocation, so that nobody can say it later.
const HUGE_PAGES: &str = "MIMALLOC_ALLOW_LARGE_OS_PAGES";

/// What a daemon says before it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It checks all stripes.
    Checking {
        /// How many are done.
        done: u64,
        /// Of how many.
        total: u64,
    },
    /// Something to know.
    Remark(String),
}

/// Starts `palisade start NAME --foreground` in the background and waits until it
/// serves; `heard` is told what it says until then. Fails with the child's error, or with `Busy` "already running, pid N".
pub fn start_background(
    name: &str,
    places: &Places,
    options: &RunOptions,
    heard: &mut dyn FnMut(Heard),
) -> Result<Started> {
    // What can be said without a child is said without one.
    Config::load(places, name)?;
    if let Some(pid) = running_pid(places, name)? {
        return Err(lock::busy(name, Some(pid).filter(|pid| *pid > 0)));
    }
    lock::make_dir(places, name)?;
    let program = std::env::current_exe().map_err(|e| Error::io("cannot find this program's file", e))?;
    let mut child = command(&program, name, places, options)?
        .spawn()
        .map_err(|e| Error::io(format!("cannot start {}", program.display()), e))?;
    let log = places.log_file(name);
    match listen(&mut child, heard) {
        Some(Word::Serving(started)) => Ok(started),
        Some(Word::Failed(error)) => {
            // It ends by itself; what matters was said.
            let _ = child.wait();
            Err(error.into_error())
        }
        _ => {
            let how = child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
            Err(Error::new(ErrorKind::Failed, format!("the daemon ended before it served ({how})"))
                .array(name)
                .hint(format!("look into {}", log.display())))
        }
    }
}

/// The process that runs the array, if one does; 0 if it does not say which.
pub fn running_pid(places: &Places, name: &str) -> Result<Option<u32>> {
    Lock::holder(places, name)
}

fn command(program: &Path, name: &str, places: &Places, options: &RunOptions) -> Result<Command> {
    let log = log_file::open(&places.log_file(name))?;
    let mut command = Command::new(program);
    command
        .args(["start", name, "--foreground"])
        .env(READY_FD, "1")
        .env("PALISADE_CONFIG_DIR", &places.config_dir)
        .env("PALISADE_RUNTIME_DIR", &places.runtime_dir)
        .env("PALISADE_STATE_DIR", &places.state_dir)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    if std::env::var_os(HUGE_PAGES).is_none() {
        command.env(HUGE_PAGES, "1");
    }
    if let Some(io) = options.io {
        command.args(["--io", &io.to_string()]);
    }
    for path in &options.exclude {
        command.args(["--exclude", path]);
    }
    for path in &options.discard.journal {
        command.args(["--discard-journal", path]);
    }
    if let Some(size) = options.discard.journal_size_bytes {
        command.args(["--journal-size", &size.to_string()]);
    }
    if options.discard.force {
        command.arg("--force");
    }
    Ok(command)
}

/// Hears what the child says until it says how it ended.
fn listen(child: &mut Child, heard: &mut dyn FnMut(Heard)) -> Option<Word> {
    let mut pipe = BufReader::new(child.stdout.take()?);
    loop {
        let mut line = String::new();
        (&mut pipe).take(WORD_MAX).read_line(&mut line).ok()?;
        match serde_json::from_str(&line).ok()? {
            Word::Checking(done, total) => heard(Heard::Checking { done, total }),
            Word::Remark(text) => heard(Heard::Remark(text)),
            last => return Some(last),
        }
    }
}
