//! Making an array: everything is checked before the first byte is written, and image files made
//! on the way are removed again if it comes to nothing.

use super::config::Config;
use super::devices;
use super::executor::run_on;
use super::exports::nbd_uri;
use super::places::{Places, check_name, check_socket_path};
use crate::array::{Array, Candidate, CreateSpec, Devices};
use crate::env::Env;
use crate::env::real::{Runtime, RuntimeOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Areas;
use crate::geometry::Shape;
use crate::member::{Opener, create_image, identity};
use crate::units::ArrayId;
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;

/// Free buffers kept while formatting.
const KEEP_BYTES: usize = 16 << 20;

/// What to create, and of what.
#[derive(Debug, Clone)]
pub struct CreateArgs {
    /// Name of the array.
    pub name: String,
    /// Paths of the members, slots in order.
    pub members: Vec<String>,
    /// Paths of spares.
    pub spares: Vec<String>,
    /// Paths of members that bear the journal and nothing else; none, if the members are to bear it.
    pub journal: Vec<String>,
    /// k.
    pub data: u8,
    /// m.
    pub parity: u8,
    /// Chunk in bytes.
    pub chunk_bytes: u64,
    /// Make image files of this size where a path does not exist.
    pub member_size_bytes: Option<u64>,
    /// The same for members that bear the journal.
    pub journal_size_bytes: Option<u64>,
    /// Volume size; the whole capacity if not given.
    pub size_bytes: Option<u64>,
    /// Overwrite recognisable data.
    pub force: bool,
}

/// What was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Created {
    /// Identity of the array.
    pub uuid: ArrayId,
    /// Size of the volume.
    pub size_bytes: u64,
    /// Largest volume these members could hold.
    pub capacity_bytes: u64,
    /// Bytes of larger members that cannot be used.
    pub wasted_bytes: u64,
    /// Where it will be served.
    pub uri: String,
    /// Image files that were made.
    pub made: Vec<String>,
}

/// Makes an array and its configuration.
pub fn create(places: &Places, args: &CreateArgs) -> Result<Created> {
    let shape = check(places, args)?;
    let members = args.members.iter().map(|m| absolute(m)).collect::<Result<Vec<_>>>()?;
    let spares = args.spares.iter().map(|m| absolute(m)).collect::<Result<Vec<_>>>()?;
    let journal = args.journal.iter().map(|m| absolute(m)).collect::<Result<Vec<_>>>()?;
    let all: Vec<&String> = members.iter().chain(&spares).chain(&journal).collect();
    let mut images = Images::default();
    let hold: Vec<&String> = members.iter().chain(&spares).collect();
    images.make_absent(&hold, args.member_size_bytes, "--member-size 1G")?;
    images.make_absent(
        &journal.iter().collect::<Vec<_>>(),
        args.journal_size_bytes,
        "--journal-size 256M",
    )?;
    refuse_doubles(&all)?;
    all.iter().try_for_each(|path| devices::check_unused(path))?;
    let runtime = Runtime::start(RuntimeOptions { keep_bytes: KEEP_BYTES, ..RuntimeOptions::default() })?;
    let spec = CreateSpec { name: args.name.clone(), shape, size_bytes: args.size_bytes };
    let (env, force) = (runtime.env(), args.force);
    let paths = Paths { members: members.clone(), spares: spares.clone(), journal: journal.clone() };
    let formatted =
        run_on(&runtime.remote(0), move || async move { format(&env, &spec, &paths, force).await });
    runtime.stop();
    let formatted = formatted?;
    let everything = members.into_iter().chain(spares).chain(journal).collect();
    let config = Config::new(&args.name, formatted.uuid, everything);
    config.save_new(places).map_err(|e| unrecorded(e, formatted.uuid))?;
    Ok(Created {
        uuid: formatted.uuid,
        size_bytes: args.size_bytes.unwrap_or(formatted.capacity_bytes),
        capacity_bytes: formatted.capacity_bytes,
        wasted_bytes: formatted.wasted_bytes,
        uri: nbd_uri(&args.name, &places.nbd_socket(&args.name)),
        made: images.keep(),
    })
}

/// What needs no device to be told.
fn check(places: &Places, args: &CreateArgs) -> Result<Shape> {
    check_name(&args.name)?;
    let shape = Shape::new(args.data, args.parity, args.chunk_bytes)?;
    let (needed, given) = (shape.width(), args.members.len());
    if given != needed {
        let what = format!("{}+{} needs {needed} members, {given} given", args.data, args.parity);
        let hint = match given > needed {
            true => "give the others as spares, with --spare",
            false => "give more members, or a smaller --data or --parity",
        };
        return Err(Error::new(ErrorKind::InvalidInput, what).hint(hint));
    }
    let (needed, given) = (args.parity + 1, args.journal.len());
    if given > 0 && given < usize::from(needed) {
        let what = format!("a journal of its own needs at least {needed} members, {given} given");
        let hint = format!("{} of any kind may be lost: one with the journal must be left", args.parity);
        return Err(Error::new(ErrorKind::InvalidInput, what).hint(hint));
    }
    check_socket_path(&places.control_socket(&args.name))?;
    let file = places.config_file(&args.name);
    if file.symlink_metadata().is_ok() {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("an array named {} exists already", args.name),
        )
        .hint(format!("choose another name; its configuration is {}", file.display())));
    }
    let dir = &places.config_dir;
    std::fs::create_dir_all(dir).map_err(|e| Error::io(format!("cannot make {}", dir.display()), e))?;
    Ok(shape)
}

struct Formatted {
    uuid: ArrayId,
    capacity_bytes: u64,
    wasted_bytes: u64,
}

struct Paths {
    members: Vec<String>,
    spares: Vec<String>,
    journal: Vec<String>,
}

async fn format(env: &Env, spec: &CreateSpec, paths: &Paths, force: bool) -> Result<Formatted> {
    let opener = devices::opener();
    let devices = Devices {
        members: open_all(&*opener, &paths.members).await?,
        spares: open_all(&*opener, &paths.spares).await?,
        journal: open_all(&*opener, &paths.journal).await?,
    };
    let Devices { members, spares, journal } = &devices;
    if !force {
        refuse_foreign(env, members.iter().chain(spares).chain(journal)).await?;
    }
    let sizes = members.iter().map(|m| (m.backend.size_bytes(), m));
    let (smallest, at) = sizes.min_by_key(|(size, _)| *size).map_or((0, None), |(size, m)| (size, Some(m)));
    let areas = match journal.is_empty() {
        true => Areas::plan(smallest, &spec.shape),
        false => Areas::plan_without_journal(smallest, &spec.shape),
    };
    let areas = areas.map_err(|e| match at {
        Some(member) => e.member(&member.path),
        None => e,
    })?;
    let uuid = Array::create(env, spec, &devices).await?;
    let unused = |m: &Candidate| m.backend.size_bytes().saturating_sub(areas.required_bytes());
    Ok(Formatted {
        uuid,
        capacity_bytes: areas.capacity_bytes(&spec.shape),
        // What every member has beyond the last stripe is rounding, not waste.
        wasted_bytes: members.iter().map(|m| unused(m) - unused_by_smallest(smallest, &areas)).sum(),
    })
}

fn unused_by_smallest(smallest: u64, areas: &Areas) -> u64 {
    smallest.saturating_sub(areas.required_bytes())
}

async fn open_all(opener: &dyn Opener, paths: &[String]) -> Result<Vec<Candidate>> {
    let mut opened = Vec::new();
    for path in paths {
        opened.push(Candidate { path: path.clone(), backend: opener.open(path).await? });
    }
    Ok(opened)
}

/// Names everything found on every member, so that it takes one look to see the mistake.
async fn refuse_foreign(env: &Env, members: impl Iterator<Item = &Candidate>) -> Result<()> {
    let mut found = Vec::new();
    for member in members {
        let holds = devices::holds(&*member.backend, env).await.map_err(|e| e.member(&member.path))?;
        if !holds.is_empty() {
            found.push(format!("{} holds {}", member.path, holds.join(" and ")));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::AlreadyExists, format!("nothing was written: {}", found.join("; ")))
        .hint("give other members, or --force to overwrite what they hold"))
}

/// One file under two names, a link to it, or a device under two names: once only.
pub(super) fn refuse_doubles(paths: &[&String]) -> Result<()> {
    let mut seen = HashMap::new();
    for path in paths {
        if let Some(first) = seen.insert(identity(Path::new(path))?, *path) {
            let what = match first == *path {
                true => "is given twice".to_owned(),
                false => format!("is the same as {first}"),
            };
            return Err(Error::new(ErrorKind::InvalidInput, what)
                .member(path.as_str())
                .hint("every member needs storage of its own"));
        }
    }
    Ok(())
}

pub(super) fn absolute(path: &str) -> Result<String> {
    let full = std::path::absolute(path).map_err(|e| Error::io("is no path", e).member(path))?;
    full.into_os_string().into_string().map_err(|_| {
        Error::new(ErrorKind::InvalidInput, "the path is not readable text (UTF-8)").member(path)
    })
}

fn unrecorded(error: Error, uuid: ArrayId) -> Error {
    let what =
        format!("the members were formatted as array {uuid}, but its configuration could not be written");
    let hint = "mend what is named, then create it again with --force";
    Error::new(error.kind(), what).hint(hint).source(error)
}

/// Image files made for this array; removed again unless kept.
#[derive(Default)]
pub(super) struct Images {
    made: Vec<String>,
}

impl Images {
    /// Makes those that do not exist; refuses if no size is given.
    pub fn make_absent(&mut self, paths: &[&String], size_bytes: Option<u64>, option: &str) -> Result<()> {
        for path in paths {
            if Path::new(path).symlink_metadata().is_ok() {
                continue;
            }
            let Some(size) = size_bytes else {
                return Err(Error::new(ErrorKind::NotFound, "does not exist")
                    .member(path.as_str())
                    .hint(format!("give {option}, or another size, to make image files")));
            };
            create_image(Path::new(path), size)?;
            self.made.push((*path).clone());
        }
        Ok(())
    }

    /// Keeps them, and says which they are.
    pub fn keep(mut self) -> Vec<String> {
        std::mem::take(&mut self.made)
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        for path in &self.made {
            if let Err(e) = std::fs::remove_file(path) {
                tracing::warn!("cannot remove the image file {path} again: {e}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        dir: tempfile::TempDir,
        places: Places,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let places = Places {
                config_dir: dir.path().join("conf"),
                runtime_dir: dir.path().join("run"),
                state_dir: dir.path().join("state"),
            };
            Self { dir, places }
        }

        fn path(&self, name: &str) -> String {
            self.dir.path().join(name).to_str().unwrap().to_owned()
        }

        fn args(&self, members: &[&str]) -> CreateArgs {
            CreateArgs {
                name: "tank".into(),
                members: members.iter().map(|m| self.path(m)).collect(),
                spares: Vec::new(),
                journal: Vec::new(),
                data: 2,
                parity: 1,
                chunk_bytes: 65536,
                member_size_bytes: Some(64 << 20),
                journal_size_bytes: Some(32 << 20),
                size_bytes: None,
                force: false,
            }
        }

        fn refused(&self, args: &CreateArgs) -> Error {
            let e = create(&self.places, args).unwrap_err();
            assert!(self.places.names().unwrap().is_empty());
            e
        }
    }

    #[test]
    fn too_few_members_are_counted_out_before_any_image_is_made() {
        let bench = Bench::new();
        let e = bench.refused(&bench.args(&["a", "b"]));
        assert_eq!(e.to_string(), "2+1 needs 3 members, 2 given");
        assert!(!Path::new(&bench.path("a")).exists());
    }

    #[test]
    fn a_journal_of_its_own_has_enough_members_none_of_them_another_and_room() {
        let bench = Bench::new();
        let mut args = bench.args(&["a", "b", "c"]);
        args.journal = vec![bench.path("j")];
        let e = bench.refused(&args);
        assert_eq!(e.to_string(), "a journal of its own needs at least 2 members, 1 given");
        args.journal = vec![bench.path("j"), bench.path("a")];
        let e = bench.refused(&args);
        assert!(e.to_string().contains("is given twice"), "{e}");
        args.journal = vec![bench.path("j"), bench.path("k")];
        args.journal_size_bytes = Some(16 << 20);
        let e = bench.refused(&args);
        assert!(e.to_string().contains("too small for a journal: has 16M, needs at least 17M"), "{e}");
        args.journal_size_bytes = None;
        let e = bench.refused(&args);
        assert!(e.next_step().unwrap().contains("--journal-size"), "{e:?}");
        assert!(!Path::new(&bench.path("a")).exists() && !Path::new(&bench.path("j")).exists());
        args.journal_size_bytes = Some(17 << 20);
        let created = create(&bench.places, &args).unwrap();
        assert_eq!(Config::load(&bench.places, "tank").unwrap().members.len(), 5);
        assert!(created.capacity_bytes > 2 * (60 << 20), "data members carry no journal");
    }

    #[test]
    fn one_file_under_two_names_is_refused_and_images_made_for_it_vanish() {
        let bench = Bench::new();
        std::fs::write(bench.path("a"), vec![0; 4096]).unwrap();
        std::os::unix::fs::symlink(bench.path("a"), bench.path("b")).unwrap();
        let e = bench.refused(&bench.args(&["a", "b", "c"]));
        assert!(e.to_string().contains("is the same as"), "{e}");
        assert!(Path::new(&bench.path("a")).exists() && !Path::new(&bench.path("c")).exists());
        let e = bench.refused(&bench.args(&["c", "c", "d"]));
        assert!(e.to_string().contains("is given twice"), "{e}");
        assert!(!Path::new(&bench.path("c")).exists());
    }

    #[test]
    fn what_a_member_holds_is_named_with_its_path_and_left_alone() {
        let bench = Bench::new();
        let mut swap = vec![0u8; 64 << 20];
        swap[4086..4096].copy_from_slice(b"SWAPSPACE2");
        std::fs::write(bench.path("b"), &swap).unwrap();
        let e = bench.refused(&bench.args(&["a", "b", "c"]));
        assert_eq!(e.kind(), ErrorKind::AlreadyExists);
        assert!(e.to_string().contains(&format!("{} holds", bench.path("b"))), "{e}");
        assert!(e.next_step().unwrap().contains("--force"));
        assert!(std::fs::read(bench.path("b")).unwrap() == swap);
        assert!(!Path::new(&bench.path("a")).exists());
    }

    #[test]
    fn a_member_too_small_or_absent_is_named() {
        let bench = Bench::new();
        let mut args = bench.args(&["a", "b", "c"]);
        args.member_size_bytes = Some(1 << 20);
        let e = bench.refused(&args);
        assert!(e.to_string().contains("too small"), "{e}");
        args.member_size_bytes = None;
        let e = bench.refused(&args);
        assert_eq!((e.kind(), e.member_path()), (ErrorKind::NotFound, Some(&*bench.path("a"))));
    }

    #[test]
    fn a_name_that_is_taken_is_refused() {
        let bench = Bench::new();
        Config::new("tank", ArrayId::from_bytes([1; 16]), vec![]).save_new(&bench.places).unwrap();
        let e = create(&bench.places, &bench.args(&["a", "b", "c"])).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::AlreadyExists);
        assert!(!Path::new(&bench.path("a")).exists());
    }
}
