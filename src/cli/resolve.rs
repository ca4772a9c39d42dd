//! Raw arguments made into values a command can act on: sizes counted, paths absolute, names
//! checked. What fails here is a usage error; what a command gets needs no more checking.

use super::args;
use crate::array::{MemberRef, RebuildControl, ScrubStart};
use crate::daemon::{CreateArgs, DiscardArgs, check_name};
use crate::env::real::IoKind;
use crate::error::{Error, ErrorKind, Result};
use crate::stripe::ScrubMode;
use crate::units::parse_size;
use clap_complete::Shell;

/// One array or all of them.
#[derive(Debug, PartialEq, Eq)]
pub enum Which {
    /// The array of this name.
    One(String),
    /// All.
    All,
}

/// What to do, checked.
#[derive(Debug)]
pub enum Action {
    /// `create`
    Create(CreateArgs, Format),
    /// `start`
    Start(Start, Format),
    /// `stop`
    Stop(Which, Format),
    /// `list`
    List(Format),
    /// `status`
    Status(Status),
    /// `fail`
    Fail(Change, Format),
    /// `replace`
    Replace(Replace, Format),
    /// `add`
    Add(Add, Format),
    /// `remove`
    Remove(Change, Format),
    /// `rebuild`
    Rebuild(Rebuild, Format),
    /// `scrub`
    Scrub(Scrub, Format),
    /// `examine`
    Examine(Vec<String>, Format),
    /// `demo`
    Demo(Demo),
    /// `completions`
    Completions(Shell),
}

/// For whom results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// People.
    Text,
    /// Programs.
    Json,
}

/// `start`, checked.
#[derive(Debug)]
pub struct Start {
    /// What to start.
    pub which: Which,
    /// Stay in the foreground.
    pub foreground: bool,
    /// Overrides the configured way of I/O.
    pub io: Option<IoKind>,
    /// Absolute paths of members to leave out.
    pub exclude: Vec<String>,
    /// What to do about a journal that is lost.
    pub discard: DiscardArgs,
}

/// `status`, checked.
#[derive(Debug)]
pub struct Status {
    /// What to show.
    pub which: Which,
    /// Every second.
    pub watch: bool,
    /// Tell the state by the exit code.
    pub exit_code: bool,
    /// For whom.
    pub format: Format,
}

/// `fail` and `remove`, checked.
#[derive(Debug)]
pub struct Change {
    /// The array.
    pub name: String,
    /// The member.
    pub member: MemberRef,
}

/// `replace`, checked.
#[derive(Debug)]
pub struct Replace {
    /// The array.
    pub name: String,
    /// The member to replace.
    pub old: MemberRef,
    /// Absolute path of the new one.
    pub new: String,
    /// Wait until it is filled.
    pub wait: bool,
    /// Overwrite what it holds.
    pub force: bool,
}

/// `add`, checked.
#[derive(Debug)]
pub struct Add {
    /// The array.
    pub name: String,
    /// Absolute path of the new member.
    pub path: String,
    /// Overwrite what it holds.
    pub force: bool,
}

/// `rebuild`, checked.
#[derive(Debug)]
pub struct Rebuild {
    /// The array.
    pub name: String,
    /// What to change.
    pub change: RebuildControl,
}

/// `scrub`, checked.
#[derive(Debug)]
pub struct Scrub {
    /// The array.
    pub name: String,
    /// What to do.
    pub act: ScrubAct,
}

/// What `scrub` is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum ScrubAct {
    /// Start one, and wait for it if `wait`.
    Start {
        /// What to start.
        start: ScrubStart,
        /// Wait for its end.
        wait: bool,
    },
    /// Change how the one that runs goes on.
    Change(RebuildControl),
    /// End it.
    Cancel,
    /// Show what the last one found.
    Show,
}

/// `demo`, checked.
#[derive(Debug, Clone, Copy)]
pub struct Demo {
    /// k.
    pub data: u8,
    /// m.
    pub parity: u8,
    /// Leave everything in place.
    pub keep: bool,
}

/// Checks a whole command line.
pub fn resolve(command: args::Command) -> Result<Action> {
    use args::Command as C;
    Ok(match command {
        C::Create(a) => Action::Create(create(&a)?, format(a.output)),
        C::Start(a) => Action::Start(
            Start {
                which: which(a.name)?,
                foreground: a.foreground,
                io: a.io.map(|io| io.parse()).transpose()?,
                exclude: a.exclude.iter().map(|path| absolute(path)).collect::<Result<_>>()?,
                discard: DiscardArgs {
                    journal: a.discard_journal.iter().map(|path| absolute(path)).collect::<Result<_>>()?,
                    journal_size_bytes: a.journal_size.as_deref().map(parse_size).transpose()?,
                    force: a.force,
                },
            },
            format(a.output),
        ),
        C::Stop(a) => Action::Stop(which(a.name)?, format(a.output)),
        C::List(a) => Action::List(format(a.output)),
        C::Status(a) => Action::Status(Status {
            which: which(a.name)?,
            watch: a.watch,
            exit_code: a.exit_code,
            format: format(a.output),
        }),
        C::Fail(a) => Action::Fail(change(a.name, &a.member)?, format(a.output)),
        C::Replace(a) => Action::Replace(
            Replace {
                name: name(a.name)?,
                old: member(&a.old)?,
                new: absolute(&a.new)?,
                wait: a.wait,
                force: a.force,
            },
            format(a.output),
        ),
        C::Add(a) => Action::Add(
            Add { name: name(a.name)?, path: absolute(&a.member)?, force: a.force },
            format(a.output),
        ),
        C::Remove(a) => Action::Remove(change(a.name, &a.member)?, format(a.output)),
        C::Rebuild(a) => {
            let max_rate_bytes_per_s = a.max_rate.map(|text| size("--max-rate", &text)).transpose()?;
            let paused = if a.pause { Some(true) } else { a.resume.then_some(false) };
            let change = RebuildControl { max_rate_bytes_per_s, paused };
            Action::Rebuild(Rebuild { name: name(a.name)?, change }, format(a.output))
        }
        C::Scrub(a) => Action::Scrub(scrub(&a)?, format(a.output)),
        C::Examine(a) => {
            let paths = a.members.iter().map(|m| absolute(m)).collect::<Result<_>>()?;
            Action::Examine(paths, format(a.output))
        }
        C::Demo(a) => Action::Demo(Demo {
            data: count("--data", a.data)?,
            parity: count("--parity", a.parity)?,
            keep: a.keep,
        }),
        C::Completions(a) => Action::Completions(a.shell),
    })
}

fn create(a: &args::CreateArgs) -> Result<CreateArgs> {
    let optional = |option: &str, text: &Option<String>| text.as_deref().map(|t| size(option, t)).transpose();
    let paths = |list: &[String]| list.iter().map(|path| absolute(path)).collect::<Result<Vec<_>>>();
    Ok(CreateArgs {
        name: name(a.name.clone())?,
        members: paths(&a.members)?,
        spares: paths(&a.spares)?,
        journal: paths(&a.journal)?,
        data: count("--data", a.data)?,
        parity: count("--parity", a.parity)?,
        chunk_bytes: size("--chunk", &a.chunk)?,
        member_size_bytes: optional("--member-size", &a.member_size)?,
        journal_size_bytes: optional("--journal-size", &a.journal_size)?,
        size_bytes: optional("--size", &a.size)?,
        force: a.force,
    })
}

fn scrub(a: &args::ScrubArgs) -> Result<Scrub> {
    let max_rate_bytes_per_s = a.rate.as_deref().map(|text| size("--rate", text)).transpose()?;
    let act = if a.pause || a.resume {
        ScrubAct::Change(RebuildControl { max_rate_bytes_per_s, paused: Some(a.pause) })
    } else if a.cancel {
        ScrubAct::Cancel
    } else if a.show {
        ScrubAct::Show
    } else {
        let mode = if a.check { ScrubMode::Check } else { ScrubMode::Repair };
        ScrubAct::Start { start: ScrubStart { mode, max_rate_bytes_per_s }, wait: a.wait }
    };
    Ok(Scrub { name: name(a.name.clone())?, act })
}

/// How many data or parity chunks a stripe has.
fn count(option: &str, value: u64) -> Result<u8> {
    u8::try_from(value).ok().filter(|n| (1..=254).contains(n)).ok_or_else(|| {
        let what = format!("{option} {value} is not possible");
        Error::new(ErrorKind::InvalidInput, what).hint("1 to 254, and at most 255 together")
    })
}

fn change(array: String, text: &str) -> Result<Change> {
    Ok(Change { name: name(array)?, member: member(text)? })
}

fn format(output: args::OutputArgs) -> Format {
    if output.json { Format::Json } else { Format::Text }
}

fn which(text: Option<String>) -> Result<Which> {
    text.map_or(Ok(Which::All), |text| name(text).map(Which::One))
}

fn name(text: String) -> Result<String> {
    check_name(&text).map(|()| text)
}

/// A slot, a place in the journal, a UUID, or an absolute path: the daemon has another working directory than we.
fn member(text: &str) -> Result<MemberRef> {
    Ok(match text.parse()? {
        MemberRef::Path(path) => MemberRef::Path(absolute(&path)?),
        other => other,
    })
}

fn absolute(path: &str) -> Result<String> {
    let bad = |what: &str| Error::new(ErrorKind::InvalidInput, format!("'{}' {what}", path.escape_debug()));
    if path.contains('\0') {
        return Err(bad("is no path"));
    }
    let full = std::path::absolute(path).map_err(|e| bad("is no path").source(e))?;
    full.into_os_string().into_string().map_err(|_| bad("lies in a folder whose name is not UTF-8"))
}

fn size(option: &str, text: &str) -> Result<u64> {
    parse_size(text).map_err(|e| {
        let error = Error::new(e.kind(), format!("{option}: {}", e.what()));
        match e.next_step() {
            Some(hint) => error.hint(hint),
            None => error,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn parse(line: &str) -> Result<Action> {
        let cli = args::Cli::try_parse_from(line.split(' ')).map_err(|e| {
            Error::new(ErrorKind::InvalidInput, e.to_string().lines().next().unwrap_or_default())
        })?;
        resolve(cli.command)
    }

    #[test]
    fn a_journal_of_its_own_is_a_list_of_paths_and_its_members_are_named_by_number() {
        let line = "palisade create tank a b --data 1 --parity 1 --journal /j0 /j1 --journal-size 64M";
        let Action::Create(args, _) = parse(line).unwrap() else { panic!("no create") };
        assert_eq!((args.members.len(), args.journal_size_bytes), (2, Some(64 << 20)));
        assert_eq!(args.journal, ["/j0", "/j1"]);
        assert!(parse("palisade create t a b --data 1 --parity 1 --journal-size 64M").is_err());
        let Action::Fail(change, _) = parse("palisade fail tank journal-1").unwrap() else {
            panic!("no fail")
        };
        assert_eq!(change.member, MemberRef::Journal(crate::units::JournalIndex(1)));
    }

    #[test]
    fn sizes_and_paths_arrive_counted_and_absolute() {
        let line = "palisade create tank a /b --data 1 --parity 1 --size 1.5G --member-size 2g --spare c";
        let Action::Create(args, format) = parse(line).unwrap() else { panic!("no create") };
        assert_eq!(args.size_bytes, Some(3 << 29));
        assert_eq!(args.member_size_bytes, Some(2 << 30));
        assert_eq!(args.chunk_bytes, 64 << 10);
        assert!(args.members[0].starts_with('/') && args.members[0].ends_with("/a"), "{:?}", args.members);
        assert_eq!(args.members[1], "/b");
        assert!(args.spares[0].starts_with('/'));
        assert_eq!(format, Format::Text);
    }

    #[test]
    fn a_member_is_a_slot_a_uuid_or_a_path() {
        let member = |text: &str| {
            let Action::Fail(change, _) = parse(&format!("palisade fail tank {text}")).unwrap() else {
                panic!("no fail")
            };
            change.member
        };
        assert!(matches!(member("3"), MemberRef::Slot(s) if s.0 == 3));
        assert!(matches!(member("67e55044-10b1-426f-9247-bb680e5fe0c8"), MemberRef::Id(_)));
        assert!(matches!(member("./3"), MemberRef::Path(p) if p.starts_with('/') && p.ends_with("/3")));
    }

    #[test]
    fn rebuild_changes_only_what_it_names() {
        let change = |options: &str| match parse(&format!("palisade rebuild tank {options}")) {
            Ok(Action::Rebuild(r, _)) => Some((r.change.max_rate_bytes_per_s, r.change.paused)),
            _ => None,
        };
        assert_eq!(change("--max-rate 200M"), Some((Some(200 << 20), None)));
        assert_eq!(change("--max-rate 0 --resume"), Some((Some(0), Some(false))));
        assert_eq!(change("--pause"), Some((None, Some(true))));
        assert_eq!(change("--json"), None);
        assert_eq!(change("--pause --resume"), None);
    }

    #[test]
    fn a_scrub_is_started_unless_another_is_meant() {
        let act = |options: &str| match parse(&format!("palisade scrub tank{options}")) {
            Ok(Action::Scrub(s, _)) => Some(s.act),
            _ => None,
        };
        let start = |mode, max_rate_bytes_per_s, wait| {
            Some(ScrubAct::Start { start: ScrubStart { mode, max_rate_bytes_per_s }, wait })
        };
        assert_eq!(act(""), start(ScrubMode::Repair, None, false));
        assert_eq!(act(" --repair --rate 0"), start(ScrubMode::Repair, Some(0), false));
        assert_eq!(act(" --check --wait --rate 2M"), start(ScrubMode::Check, Some(2 << 20), true));
        let change = |max_rate_bytes_per_s, paused| {
            Some(ScrubAct::Change(RebuildControl { max_rate_bytes_per_s, paused: Some(paused) }))
        };
        assert_eq!(act(" --pause"), change(None, true));
        assert_eq!(act(" --resume --rate 1M"), change(Some(1 << 20), false));
        assert_eq!((act(" --cancel"), act(" --show --json")), (Some(ScrubAct::Cancel), Some(ScrubAct::Show)));
        for nonsense in [
            " --check --repair",
            " --pause --resume",
            " --pause --wait",
            " --cancel --rate 1",
            " --show --check",
        ] {
            assert_eq!(act(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_done() {
        for (line, word) in [
            ("palisade create tank a b --data 0 --parity 1", "--data 0"),
            ("palisade create tank a b --data 1 --parity 256", "--parity 256"),
            ("palisade create tank a b --data 1 --parity 1 --chunk 64Q", "--chunk"),
            ("palisade create ../x a b --data 1 --parity 1", "cannot name an array"),
            ("palisade start tank --io fast", "'fast'"),
            ("palisade start tank --journal-size 1G", "required"),
            ("palisade start tank --discard-journal a b --journal-size 1Q", "1Q"),
            ("palisade start --all --discard-journal a b", "cannot be used with"),
            ("palisade start", "required"),
            ("palisade start tank --all", "cannot be used with"),
            ("palisade start --all --foreground", "cannot be used with"),
            ("palisade stop a/b", "cannot name an array"),
            ("palisade rebuild tank --max-rate fast", "--max-rate"),
            ("palisade scrub tank --rate fast", "--rate"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.report().contains(word), "{line}: {}", error.report());
        }
    }

    #[test]
    fn clap_finds_no_fault_with_the_declarations() {
        use clap::CommandFactory;
        args::Cli::command().debug_assert();
    }
}
