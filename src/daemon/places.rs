//! Where the files of arrays are: configuration in one folder, sockets, lock and log of a running
//! array in another, what must outlive a restart in a third.

use crate::error::{Error, ErrorKind, Result};
use std::env::var_os;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Longest path of a unix socket, in bytes (`sun_path` without its NUL).
const SOCKET_PATH_MAX: usize = 107;
const NAME_MAX: usize = 64;

/// The folders everything else follows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Holds `NAME.toml` of every array.
    pub config_dir: PathBuf,
    /// Holds a folder `NAME` for every running array.
    pub runtime_dir: PathBuf,
    /// Holds a folder `NAME` for every array, with what is not lost at a restart.
    pub state_dir: PathBuf,
}

impl Places {
    /// `PALISADE_CONFIG_DIR` and `PALISADE_RUNTIME_DIR`; else `/etc/palisade` and `/run/palisade`
    /// for root; else the XDG folders of the user. `PALISADE_STATE_DIR`; else the folder `state` in
    /// `PALISADE_CONFIG_DIR`, so that whoever moves the one moves both; else `/var/lib/palisade` or
    /// the XDG folder.
    pub fn from_env() -> Result<Self> {
        Self::resolve(nix::unistd::Uid::effective().is_root(), |name| var_os(name).filter(|v| !v.is_empty()))
    }

    fn resolve(root: bool, var: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let path = |name: &str| var(name).map(PathBuf::from);
        let unset = |names: &str, ours: &str| {
            Error::new(ErrorKind::NotFound, format!("no place for palisade's files: {names} not set"))
                .hint(format!("set {ours} to a folder"))
        };
        let config_dir = match path("PALISADE_CONFIG_DIR") {
            Some(dir) => dir,
            None if root => PathBuf::from("/etc/palisade"),
            None => path("XDG_CONFIG_HOME")
                .or_else(|| path("HOME").map(|home| home.join(".config")))
                .ok_or_else(|| unset("neither XDG_CONFIG_HOME nor HOME is", "PALISADE_CONFIG_DIR"))?
                .join("palisade"),
        };
        let runtime_dir = match path("PALISADE_RUNTIME_DIR") {
            Some(dir) => dir,
            None if root => PathBuf::from("/run/palisade"),
            None => path("XDG_RUNTIME_DIR")
                .ok_or_else(|| unset("XDG_RUNTIME_DIR is", "PALISADE_RUNTIME_DIR"))?
                .join("palisade"),
        };
        let xdg_state =
            || path("XDG_STATE_HOME").or_else(|| path("HOME").map(|home| home.join(".local/state")));
        let state_dir = match (path("PALISADE_STATE_DIR"), path("PALISADE_CONFIG_DIR")) {
            (Some(dir), _) => dir,
            (None, Some(config)) => config.join("state"),
            (None, None) if root => PathBuf::from("/var/lib/palisade"),
            (None, None) => xdg_state().map_or_else(|| config_dir.join("state"), |dir| dir.join("palisade")),
        };
        Ok(Self {
            config_dir: absolute(&config_dir)?,
            runtime_dir: absolute(&runtime_dir)?,
            state_dir: absolute(&state_dir)?,
        })
    }

    /// Configuration of an array.
    pub fn config_file(&self, name: &str) -> PathBuf {
        self.config_dir.join(format!("{name}.toml"))
    }

    /// Folder of a running array.
    pub fn array_dir(&self, name: &str) -> PathBuf {
        self.runtime_dir.join(name)
    }

    /// Where admins talk to it.
    pub fn control_socket(&self, name: &str) -> PathBuf {
        self.array_dir(name).join("control.sock")
    }

    /// Where it is served unless configured otherwise.
    pub fn nbd_socket(&self, name: &str) -> PathBuf {
        self.array_dir(name).join("nbd.sock")
    }

    /// Locked by the running daemon; holds its process id.
    pub fn pid_file(&self, name: &str) -> PathBuf {
        self.array_dir(name).join("pid")
    }

    /// Log of a daemon in the background.
    pub fn log_file(&self, name: &str) -> PathBuf {
        self.array_dir(name).join("log")
    }

    /// What is known of an array's scrubs.
    pub fn scrub_file(&self, name: &str) -> PathBuf {
        self.state_dir.join(name).join("scrub.json")
    }

    /// Names of all arrays with a configuration, sorted; none if the folder does not exist.
    pub fn names(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.config_dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io(format!("cannot list {}", self.config_dir.display()), e)),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|file| file.strip_suffix(".toml").map(str::to_owned))
            .filter(|name| check_name(name).is_ok())
            .collect();
        names.sort();
        Ok(names)
    }
}

/// Refuses a name that could not be a file name, an export name and a word on a command line.
pub fn check_name(name: &str) -> Result<()> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if first && rest && name.len() <= NAME_MAX {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, format!("'{}' cannot name an array", name.escape_debug()))
        .hint("use 1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit"))
}

/// Refuses a socket path the kernel would cut off.
pub fn check_socket_path(path: &Path) -> Result<()> {
    let len = path.as_os_str().len();
    if len <= SOCKET_PATH_MAX {
        return Ok(());
    }
    let what = format!(
        "the socket path {} is {len} bytes long, but a unix socket path may have at most {SOCKET_PATH_MAX}",
        path.display()
    );
    Err(Error::new(ErrorKind::InvalidInput, what)
        .hint("use a shorter array name, or set PALISADE_RUNTIME_DIR to a shorter folder"))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io(format!("cannot resolve {}", path.display()), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(root: bool, vars: &[(&str, &str)]) -> Result<Places> {
        Places::resolve(root, |name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v)))
    }

    fn places(config: &str, runtime: &str, state: &str) -> Places {
        Places { config_dir: config.into(), runtime_dir: runtime.into(), state_dir: state.into() }
    }

    #[test]
    fn our_variables_win_over_root_places_and_those_over_xdg() {
        let ours = [("PALISADE_CONFIG_DIR", "/c"), ("PALISADE_RUNTIME_DIR", "/r"), ("HOME", "/h")];
        assert_eq!(resolve(true, &ours).unwrap(), places("/c", "/r", "/c/state"));
        assert_eq!(resolve(false, &ours).unwrap(), places("/c", "/r", "/c/state"));
        let all = [ours[0], ours[1], ("PALISADE_STATE_DIR", "/s")];
        assert_eq!(resolve(true, &all).unwrap(), places("/c", "/r", "/s"));
        let root = places("/etc/palisade", "/run/palisade", "/var/lib/palisade");
        assert_eq!(resolve(true, &[("HOME", "/h")]).unwrap(), root);
        let xdg = [("HOME", "/h"), ("XDG_RUNTIME_DIR", "/run/user/7")];
        assert_eq!(
            resolve(false, &xdg).unwrap(),
            places("/h/.config/palisade", "/run/user/7/palisade", "/h/.local/state/palisade")
        );
        let xdg = [("XDG_CONFIG_HOME", "/x"), ("XDG_RUNTIME_DIR", "/run/user/7")];
        assert_eq!(
            resolve(false, &xdg).unwrap(),
            places("/x/palisade", "/run/user/7/palisade", "/x/palisade/state")
        );
        let e = resolve(false, &[("HOME", "/h")]).unwrap_err();
        assert!(e.next_step().unwrap().contains("PALISADE_RUNTIME_DIR"), "{e}");
    }

    #[test]
    fn a_name_is_a_plain_word() {
        for good in ["tank", "0", "a.b-c_D9", &"x".repeat(64)] {
            check_name(good).unwrap();
        }
        for bad in ["", ".", "..", "-x", "_x", "a/b", "a b", "a\n", "é", "a\0", &"x".repeat(65)] {
            assert_eq!(check_name(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad:?}");
        }
    }

    #[test]
    fn a_socket_path_the_kernel_would_cut_is_refused() {
        check_socket_path(Path::new(&"x".repeat(107))).unwrap();
        assert!(check_socket_path(Path::new(&"x".repeat(108))).is_err());
    }

    #[test]
    fn names_are_the_configurations_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path().join("c").to_str().unwrap(), "/r", "/s");
        assert!(places.names().unwrap().is_empty());
        std::fs::create_dir(dir.path().join("c")).unwrap();
        for file in ["b.toml", "a.toml", "c.txt", ".hidden.toml", "a.toml.tmp"] {
            std::fs::write(dir.path().join("c").join(file), "").unwrap();
        }
        assert_eq!(places.names().unwrap(), ["a", "b"]);
    }
}
