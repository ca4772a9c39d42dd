//! Ctrl-C as something to wait for, so that a command can say what goes on without it.

use crate::error::{Error, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// From its making on, SIGINT, SIGTERM and SIGHUP no longer end the process. To be made before any
/// thread is started. Child processes are not affected: the standard library unblocks all signals
/// in them.
pub struct Interrupt {
    signals: SignalFd,
}

impl Interrupt {
    /// Starts to watch.
    pub fn watch() -> Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            set.add(signal);
        }
        let failed = |e: nix::Error| Error::io("cannot watch for Ctrl-C", e.into());
        set.thread_block().map_err(failed)?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self { signals: SignalFd::with_flags(&set, flags).map_err(failed)? })
    }

    /// Waits so long; true as soon as the command should end. Every later call says so at once.
    pub fn within(&self, wait: Duration) -> bool {
        let end = Instant::now() + wait;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            // Rounded up, or the last millisecond would spin.
            let left_ms = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, left_ms) {
                // The signal is left unread on purpose: it stays true.
                Ok(ready) if ready > 0 => return true,
                _ if Instant::now() >= end => return false,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_ends_the_wait_and_stays() {
        let interrupt = Interrupt::watch().unwrap();
        assert!(!interrupt.within(Duration::from_millis(1)));
        // To this thread only: the other tests' threads do not block it.
        nix::sys::signal::raise(Signal::SIGHUP).unwrap();
        assert!(interrupt.within(Duration::from_secs(60)));
        assert!(interrupt.within(Duration::from_secs(60)));
    }
}
