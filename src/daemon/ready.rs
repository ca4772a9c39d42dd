//! Telling whoever started the daemon that it serves, or why not, and what takes so long: systemd through
//! sd_notify, and `palisade start` through a pipe that carries lines of JSON, the last of which says how it
//! ended.

use super::run::Started;
use crate::control::ErrorText;
use crate::error::{Error, ErrorKind, Result};
use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};

/// A line on the pipe.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// It serves.
    Serving(Started),
    /// It does not, and ends.
    Failed(ErrorText),
    /// It checks all stripes before it serves: how many are done, of how many.
    Checking(u64, u64),
    /// Something that whoever starts the array should know, before it serves.
    Remark(String),
}

/// Names the descriptor of the pipe on which a daemon in the background says that it serves.
pub const READY_FD: &str = "PALISADE_READY_FD";

/// How long systemd waits for the next word, in microseconds.
const PATIENCE_US: u32 = 600_000_000;

/// Who waits for the daemon.
pub struct Waiting {
    pipe: Option<File>,
    on_stdout: bool,
}

impl Waiting {
    /// Whoever set [`READY_FD`]. The inherited descriptor is opened anew, through /proc, which
    /// refuses one that is not open.
    pub fn from_env() -> Result<Self> {
        let Ok(fd) = std::env::var(READY_FD) else { return Ok(Self { pipe: None, on_stdout: false }) };
        let refused = || Error::new(ErrorKind::InvalidInput, format!("{READY_FD}={fd} cannot be written to"));
        let number: RawFd = fd.parse().map_err(|e| refused().source(e))?;
        let path = format!("/proc/self/fd/{number}");
        let pipe = File::options().write(true).open(path).map_err(|e| refused().source(e))?;
        Ok(Self { pipe: Some(pipe), on_stdout: number == 1 })
    }

    /// Whether somebody waits.
    pub fn is_awaited(&self) -> bool {
        self.pipe.is_some()
    }

    /// What may be said before it serves, or fails to.
    pub fn teller(&self) -> Teller {
        // Without the pipe it is in the log.
        Teller(Mutex::new(self.pipe.as_ref().and_then(|pipe| pipe.try_clone().ok())))
    }

    /// It serves.
    pub fn serving(&mut self, started: &Started) {
        notify(&[NotifyState::Ready, NotifyState::Status(&format!("serving {}", started.uris.join(" ")))]);
        self.say(&Word::Serving(started.clone()));
    }

    /// It could not start.
    pub fn failed(&mut self, error: &Error) {
        notify(&[NotifyState::Status(&error.report())]);
        self.say(&Word::Failed(ErrorText::of(error)));
    }

    fn say(&mut self, word: &Word) {
        let Some(mut pipe) = self.pipe.take() else { return };
        let Ok(mut line) = serde_json::to_vec(word) else { return };
        line.push(b'\n');
        if let Err(e) = pipe.write_all(&line) {
            tracing::debug!("whoever started the array is gone: {e}");
        }
        if self.on_stdout {
            // Nobody reads the pipe any more: what is printed from now on goes nowhere.
            let null = File::options().write(true).open("/dev/null");
            if let Err(e) = null.and_then(|null| Ok(nix::unistd::dup2_stdout(null)?)) {
                tracing::debug!("stdout stays the pipe: {e}");
            }
        }
    }
}

/// Says what happens before the array is served.
pub struct Teller(Mutex<Option<File>>);

impl Teller {
    /// Says it to whoever waits, and asks systemd for patience.
    pub fn say(&self, word: &Word) {
        if let Word::Checking(done, total) = word {
            let status = format!("checked {done} of {total} stripes");
            notify(&[NotifyState::ExtendTimeoutUsec(PATIENCE_US), NotifyState::Status(&status)]);
        }
        let pipe = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(mut pipe), Ok(mut line)) = (pipe.as_ref(), serde_json::to_vec(word)) {
            line.push(b'\n');
            if let Err(e) = pipe.write_all(&line) {
                tracing::debug!("whoever started the array is gone: {e}");
            }
        }
    }

    /// There is nothing more to say.
    pub fn hang_up(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// It is going to end.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::warn!("cannot tell systemd: {e}");
    }
}
