//! Other processes, as far as they stand in the way.

use std::time::Duration;

/// A killed process lets go of its sockets and locks only when the kernel has ended its I/O.
pub(crate) const ENDING_TRIES: u32 = 100;
/// Between two looks at a process that is ending.
pub(crate) const ENDING_PAUSE: Duration = Duration::from_millis(30);

/// Whether the process still runs: not if it is gone, or nothing but its exit code is left.
pub(crate) fn is_running(pid: u32) -> bool {
    // `1234 (name) S ...`; the name may hold anything, brackets too. See proc(5).
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
        !matches!(state, Some('Z' | 'X') | None)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_runs_until_it_ends_waited_for_or_not() {
        assert!(is_running(std::process::id()));
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        assert!(is_running(pid));
        drop(child.stdin.take());
        while is_running(pid) {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.wait().unwrap();
        assert!(!is_running(pid));
    }
}
