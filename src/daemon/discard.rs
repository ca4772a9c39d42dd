//! New members to bear a journal in place of one that is lost: opened, looked at, and kept in the
//! configuration as soon as they belong to the array.

use super::config::Config;
use super::create::{Images, absolute, refuse_doubles};
use super::devices;
use super::examine::identify;
use super::executor::run_on;
use super::places::Places;
use crate::array::Discard;
use crate::env::Env;
use crate::env::real::Remote;
use crate::error::{Error, ErrorKind, Result};
use crate::member::Opener;
use std::sync::Arc;
use std::time::Duration;

/// What an admin wants done about a journal all of whose members are gone.
#[derive(Debug, Clone, Default)]
pub struct DiscardArgs {
    /// Absolute paths of the members that are to bear a new one; none, if the journal is there.
    pub journal: Vec<String>,
    /// Make image files of this size where a path does not exist.
    pub journal_size_bytes: Option<u64>,
    /// Overwrite what they hold; and go on although members that hold data are missing.
    pub force: bool,
}

/// Image files made for the journal: removed again unless they came to belong to the array.
pub struct NewJournal {
    paths: Vec<String>,
    images: Images,
    /// Those of them that were members of the array before.
    before: Vec<String>,
}

impl NewJournal {
    /// Checks the paths, and makes the files that are to be made.
    pub fn prepare(args: &DiscardArgs) -> Result<Self> {
        let paths = args.journal.iter().map(|path| absolute(path)).collect::<Result<Vec<_>>>()?;
        let mut images = Images::default();
        let all: Vec<&String> = paths.iter().collect();
        images.make_absent(&all, args.journal_size_bytes, "--journal-size 256M")?;
        refuse_doubles(&all)?;
        all.iter().try_for_each(|path| devices::check_unused(path))?;
        Ok(Self { paths, images, before: Vec::new() })
    }

    /// Takes note of those that are members of the array already.
    pub fn look(&mut self, config: &Config, env: &Env, remote: &Remote) {
        self.before = self.seen(config, env, remote).ours;
    }

    fn seen(&self, config: &Config, env: &Env, remote: &Remote) -> Seen {
        let (paths, env, array) = (self.paths.clone(), env.clone(), config.uuid);
        let limit = Duration::from_millis(config.member_deadline_ms);
        let seen = run_on(remote, move || async move {
            let mut seen = Seen::default();
            for path in paths {
                match identify(&path, &env, limit).await {
                    Ok((of, _)) if of == array => seen.ours.push(path),
                    Err(e) if e.kind() != ErrorKind::NotFound => seen.doubtful = true,
                    _ => {}
                }
            }
            Ok(seen)
        });
        seen.unwrap_or(Seen { ours: Vec::new(), doubtful: true })
    }

    /// Their paths.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// The array started, and has them.
    pub fn keep(self) {
        drop(self.images.keep());
    }

    /// The array did not start. Those that came to belong to it stay, and are listed, so that the next start
    /// finds them.
    pub fn sort_out(self, config: &Config, env: &Env, remote: &Remote, places: &Places) {
        let Seen { ours, doubtful } = self.seen(config, env, remote);
        let new = |path: &String| !self.before.contains(path) && !config.members.contains(path);
        let listed: Vec<String> = ours.iter().filter(|path| new(path)).cloned().collect();
        if ours.is_empty() && !doubtful {
            return;
        }
        self.keep();
        let members = [config.members.clone(), listed].concat();
        if members.len() == config.members.len() {
            return;
        }
        if let Err(e) = Config::save_members(places, &config.name, &members) {
            tracing::error!("cannot bring the member list up to date: {}", e.report());
        }
    }
}

/// What they are.
#[derive(Default)]
struct Seen {
    /// Those that belong to the array.
    ours: Vec<String>,
    /// One of them could not be looked at: it may belong to the array, too.
    doubtful: bool,
}

/// Opens them, and says what they hold unless that is to be overwritten.
pub async fn open(opener: &Arc<dyn Opener>, env: &Env, paths: &[String], force: bool) -> Result<Discard> {
    let (mut journal, mut occupied) = (Vec::new(), Vec::new());
    for path in paths {
        let device = devices::open(&**opener, path).await?;
        let holds = match force {
            true => Vec::new(),
            false => devices::holds(&*device.backend, env).await.map_err(|e: Error| e.member(path))?,
        };
        if !holds.is_empty() {
            occupied.push(format!("{path} holds {}", holds.join(" and ")));
        }
        journal.push(device);
    }
    Ok(Discard { journal, occupied, force })
}
