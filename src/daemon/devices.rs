//! Opening devices that are to become members, without destroying what they hold by mistake.

use super::absent::Absent;
use crate::array::Candidate;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::member::{Backend, Opener, is_mounted, signature};
use std::path::Path;
use std::sync::Arc;

/// Refuses with `Busy` what the system uses, force or not.
pub fn check_unused(path: &str) -> Result<()> {
    match is_mounted(Path::new(path)) {
        Ok(None) => Ok(()),
        // Whoever opens it can say better what to do.
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(Some(how)) => Err(Error::new(ErrorKind::Busy, format!("is in use: {how}"))
            .member(path)
            .hint("unmount or detach it first; --force does not override this")),
    }
}

/// Opens and locks it.
pub async fn open(opener: &dyn Opener, path: &str) -> Result<Candidate> {
    Ok(Candidate { path: path.to_owned(), backend: opener.open(path).await? })
}

/// Unless forced, refuses with `AlreadyExists` what holds recognisable data, all of it named.
pub async fn check_blank(device: &Candidate, env: &Env, force: bool) -> Result<()> {
    let found = if force { Vec::new() } else { holds(&*device.backend, env).await? };
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::AlreadyExists, format!("holds {}", found.join(" and ")))
        .member(&device.path)
        .hint("give another path, or --force to overwrite what it holds"))
}

/// Says how to make an image file, to whoever names one that does not exist.
pub fn offer_image(error: Error, path: &str, required_bytes: u64) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    error.hint(format!("to use an image file, make it first: truncate -s {required_bytes} {path}"))
}

/// What a device holds, in words.
pub async fn holds(backend: &dyn Backend, env: &Env) -> Result<Vec<String>> {
    let found = signature::detect(backend, env).await?;
    Ok(found.iter().map(ToString::to_string).collect())
}

/// Opens the members a configuration lists. What cannot be opened is returned with its reason;
/// one that somebody else holds is an error.
pub async fn open_listed(opener: &dyn Opener, paths: &[String]) -> Result<(Vec<Candidate>, Vec<Absent>)> {
    let (mut candidates, mut absent) = (Vec::new(), Vec::new());
    for path in paths {
        match opener.open(path).await {
            Ok(backend) => candidates.push(Candidate { path: path.clone(), backend }),
            Err(e) if e.kind() == ErrorKind::Busy => return Err(e),
            Err(e) => absent.push(Absent::unopened(path, &e)),
        }
    }
    Ok((candidates, absent))
}

/// The opener for members: exclusive and around the page cache.
pub fn opener() -> Arc<dyn Opener> {
    Arc::new(crate::member::FileOpener::default())
}
