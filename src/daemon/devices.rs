//! Opening devices that are to become members, without destroying what they hold by mistake.

use super::absent::Absent;
use crate::array::Candidate;
use crate::env::{Env, deadline};
use crate::error::{Error, ErrorKind, Result};
use crate::member::{Backend, Opener, is_mounted, signature};
use futures::future::join_all;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What opening may take beside the disk's answers: who holds a lock this moment may be ending.
const LOCK_PATIENCE: Duration = Duration::from_secs(4);

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

/// Opens the members a configuration lists, all at once. What cannot be opened, or has not answered after
/// `limit`, is returned with its reason; one that somebody else holds is an error.
pub async fn open_listed(
    opener: &dyn Opener,
    paths: &[String],
    env: &Env,
    limit: Duration,
) -> Result<(Vec<Candidate>, Vec<Absent>)> {
    let opened =
        join_all(paths.iter().map(|path| open_within(opener, path, env, limit + LOCK_PATIENCE))).await;
    let (mut candidates, mut absent) = (Vec::new(), Vec::new());
    for (path, opened) in paths.iter().zip(opened) {
        match opened {
            Ok(device) => candidates.push(device),
            Err(e) if e.kind() == ErrorKind::Busy => return Err(e),
            Err(e) => absent.push(Absent::unopened(path, &e)),
        }
    }
    Ok((candidates, absent))
}

async fn open_within(opener: &dyn Opener, path: &str, env: &Env, limit: Duration) -> Result<Candidate> {
    let hangs = || Error::new(ErrorKind::Timeout, format!("did not answer within {} s", limit.as_secs()));
    deadline(env, limit, open(opener, path)).await.unwrap_or_else(|| Err(hangs().member(path)))
}

/// The opener for members: exclusive and around the page cache.
pub fn opener() -> Arc<dyn Opener> {
    Arc::new(crate::member::FileOpener::default())
}
