//! The demo's folder and daemon, and their end.

use crate::cli::out::remark;
use crate::control::Client;
use crate::daemon::{Places, RunOptions, start_background};
use crate::error::{Error, ErrorKind, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Name of the demo's array.
pub const NAME: &str = "demo";

/// A temporary folder with everything in it; dropped, it stops the daemon and is deleted.
pub struct Stage {
    dir: PathBuf,
    /// Inside the folder.
    pub places: Places,
    daemon: Option<Pid>,
    keep: bool,
}

impl Stage {
    /// Makes a folder nobody else can enter.
    pub fn set(needs_bytes: u64, keep: bool) -> Result<Self> {
        let base = std::env::temp_dir();
        let space = nix::sys::statvfs::statvfs(&base)
            .map_err(|e| Error::io(format!("cannot look at {}", base.display()), e.into()))?;
        let free_bytes = space.blocks_available().saturating_mul(space.fragment_size());
        if free_bytes < needs_bytes {
            let (needs, free) =
                (crate::units::format_size(needs_bytes), crate::units::format_size(free_bytes));
            let what = format!("{} has {free} of free space, the demo needs {needs}", base.display());
            return Err(Error::new(ErrorKind::NoSpace, what).hint("TMPDIR=/somewhere/larger palisade demo"));
        }
        let dir = base.join(format!("palisade-demo-{}", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(|e| Error::io(format!("cannot make the folder {}", dir.display()), e))?;
        let places = Places {
            config_dir: dir.join("config"),
            runtime_dir: dir.join("run"),
            state_dir: dir.join("state"),
        };
        Ok(Self { dir, places, daemon: None, keep })
    }

    /// The image file of this number.
    pub fn image(&self, number: usize) -> PathBuf {
        self.dir.join(format!("disk{number}.img"))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts the daemon; says where it serves.
    pub fn start(&mut self) -> Result<(Client, u32)> {
        let started = start_background(NAME, &self.places, &RunOptions::default(), &mut |_| {})?;
        self.daemon = i32::try_from(started.pid).ok().map(Pid::from_raw);
        Ok((Client::connect(&self.places.control_socket(NAME))?, started.pid))
    }

    /// Stops the daemon in order.
    pub fn stop(&mut self) -> Result<()> {
        Client::connect(&self.places.control_socket(NAME))?.stop()?;
        self.daemon = None;
        Ok(())
    }

    /// Whether folder and daemon stay.
    pub fn is_kept(&self) -> bool {
        self.keep
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.keep {
            let Self { dir, places, .. } = self;
            let (config, run, dir) =
                (places.config_dir.display(), places.runtime_dir.display(), dir.display());
            remark(&format!(
                "\nEverything is kept in {dir}. To go on:\n  \
                 export PALISADE_CONFIG_DIR={config} PALISADE_RUNTIME_DIR={run}\n  \
                 palisade status {NAME}\n  \
                 palisade stop {NAME} && rm -r {dir}"
            ));
            return;
        }
        if let Some(pid) = self.daemon
            && self.stop().is_err()
        {
            // It is our own child's process, and what it holds is deleted in a moment.
            let _ = kill(pid, Signal::SIGKILL);
        }
        if let Err(e) = fs::remove_dir_all(&self.dir) {
            remark(&format!("palisade: cannot delete {}: {e}", self.dir.display()));
        }
    }
}
