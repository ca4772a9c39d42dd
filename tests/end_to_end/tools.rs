//! Running clients, none of them longer than a minute.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest any client may take; far more than it needs.
const LIMIT: &str = "60";

/// A client that is ended if it takes too long.
pub fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "2", LIMIT, program]).args(args).stdin(Stdio::null());
    command
}

/// The output of a client, or the whole story if it fails.
#[track_caller]
pub fn run(program: &str, args: &[&str]) -> String {
    let output = command(program, args).output().unwrap();
    succeeded(program, args, &output)
}

#[track_caller]
fn succeeded(program: &str, args: &[&str], output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {}\n{out}\n{err}", output.status);
    out
}

/// A client at work in the background; ended when dropped.
pub struct Running(Option<Child>, String);

impl Running {
    pub fn spawn(program: &str, args: &[&str]) -> Self {
        let mut command = command(program, args);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self(Some(child), format!("{program} {args:?}"))
    }

    #[track_caller]
    pub fn is_at_work(&mut self) {
        if self.0.as_mut().unwrap().try_wait().unwrap().is_some() {
            panic!("{} ended early: {:?}", self.1, self.0.take().unwrap().wait_with_output());
        }
    }

    /// Waits for its end.
    pub fn end(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }

    #[track_caller]
    pub fn succeeds(self) -> String {
        let line = self.1.clone();
        let output = self.end();
        succeeded(&line, &[], &output)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // `timeout` passes the signal on to its client.
            if let Ok(pid) = child.id().try_into() {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM);
            }
            let _ = child.wait();
        }
    }
}

/// Asks until it is so.
#[track_caller]
pub fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < Duration::from_secs(40), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(40));
    }
}

/// Bytes without a pattern, the same for the same seed.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}
