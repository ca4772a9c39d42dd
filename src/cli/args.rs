//! The command line as clap reads it: raw texts, checked later by `resolve`.

use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand};
use clap_complete::Shell;

/// Software RAID in user space: data + parity over files or devices, served over NBD.
///
/// A volume is striped with Reed-Solomon parity over members; any PARITY of them may be lost while
/// it is in use, and are rebuilt onto replacements.
#[derive(Debug, Parser)]
#[command(name = "palisade", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
EXAMPLES:
  palisade demo                      see an array break and mend, in half a minute
  palisade create tank /srv/d0.img /srv/d1.img /srv/d2.img --data 2 --parity 1 --member-size 1G
  palisade start tank                serve it; prints the URI for NBD clients
  palisade status                    what every array does, what is wrong, what to do about it

FILES:
  PALISADE_CONFIG_DIR (/etc/palisade), PALISADE_RUNTIME_DIR (/run/palisade) and PALISADE_STATE_DIR
  (/var/lib/palisade); for users other than root the XDG folders.

EXIT CODES:
  0 success, 1 error, 2 the command line makes no sense; see also `palisade status --help` and
  `palisade scrub --help`.";

/// A command with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new array over files or devices.
    Create(CreateArgs),
    /// Serve an array.
    Start(StartArgs),
    /// Stop serving an array: finish what is under way, flush, let go of the members.
    Stop(StopArgs),
    /// List all arrays.
    List(ListArgs),
    /// Show what arrays do, what is wrong and what to do about it.
    Status(StatusArgs),
    /// Take a member out of use.
    Fail(FailArgs),
    /// Put a new member in the place of an old one.
    Replace(ReplaceArgs),
    /// Add a spare, which takes the place of the next lost member by itself; or take a lost member back.
    Add(AddArgs),
    /// Forget a spare or a lost member.
    Remove(RemoveArgs),
    /// Slow down, pause or resume rebuilding.
    Rebuild(RebuildArgs),
    /// Verify everything that is stored, and repair what is damaged.
    Scrub(ScrubArgs),
    /// Show what is written on members, without an array running.
    Examine(ExamineArgs),
    /// See an array made, broken and mended, in a temporary folder.
    Demo(DemoArgs),
    /// Print a completion script for a shell.
    Completions(CompletionsArgs),
}

/// How results are printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// Print JSON for programs.
    #[arg(long)]
    pub json: bool,
}

/// `palisade create`
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  palisade create tank /srv/d{0..5}.img --data 4 --parity 2 --member-size 1G
      makes six image files of 1 GiB; any two may be lost
  palisade create vault /dev/sd{b..g} --data 4 --parity 2 --spare /dev/sdh
      over whole disks, with a hot spare
  palisade create deep /dev/sd{b..g} --data 4 --parity 2 --journal /dev/nvme{0,1,2}n1p3
      small writes are answered once they are on three SSDs; any two members of any kind may be lost
  palisade create mirror /dev/sdb /dev/sdc --data 1 --parity 1 --size 100G
      a mirror, of which 100 GiB are used

Members that hold a file system, a partition table or another array are refused, unless --force.")]
pub struct CreateArgs {
    /// Name of the array: letters, digits, '.', '_' and '-'.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Files or block devices, data + parity of them.
    #[arg(value_name = "MEMBER", required = true)]
    pub members: Vec<String>,
    /// Members' worth of data (k).
    #[arg(long, value_name = "K")]
    pub data: u64,
    /// Members' worth of parity (m): so many may be lost.
    #[arg(long, value_name = "M")]
    pub parity: u64,
    /// Bytes that lie together on one member.
    #[arg(long, value_name = "SIZE", default_value = "64K")]
    pub chunk: String,
    /// Make image files of this size for members that do not exist.
    #[arg(long, value_name = "SIZE")]
    pub member_size: Option<String>,
    /// Size of the volume; all that fits, if not given.
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// A further member that takes the place of the first one lost.
    #[arg(long = "spare", value_name = "PATH")]
    pub spares: Vec<String>,
    /// Members that bear the journal and nothing else, in place of all others: parity + 1 of them at
    /// least, as SSDs in front of disks.
    #[arg(long, value_name = "PATH", num_args = 1.., action = ArgAction::Append)]
    pub journal: Vec<String>,
    /// Make image files of this size for journal members that do not exist.
    #[arg(long, value_name = "SIZE", requires = "journal")]
    pub journal_size: Option<String>,
    /// Overwrite what the members hold.
    #[arg(long)]
    pub force: bool,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `palisade start`
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  palisade start tank                 in the background; returns when the volume is served
  palisade start --all                every configured array, for boot scripts
  palisade start tank --foreground    for systemd (Type=notify)
  palisade start tank --exclude /srv/d3.img /srv/d4.img
                                      without these, when members took part in two histories
  palisade start deep --discard-journal /srv/j{0..2}.img --journal-size 256M
                                      when every member that bears the journal is gone for good

With --discard-journal writes are lost that had been answered and were in the journal only; after
a stop in order there are none. Every stripe is checked before the volume is served: blocks of which
the journal alone knew that they are whole cannot be read until they are written again, and are
never wrong.

An array that runs already is left alone.")]
#[command(group = ArgGroup::new("which").required(true))]
pub struct StartArgs {
    /// Name of the array.
    #[arg(value_name = "NAME", group = "which")]
    pub name: Option<String>,
    /// Every array that has a configuration.
    #[arg(long, group = "which", conflicts_with = "foreground")]
    pub all: bool,
    /// Stay in the foreground and log to stderr.
    #[arg(long)]
    pub foreground: bool,
    /// How members are driven: auto, io_uring or portable; what the configuration says, if not
    /// given.
    #[arg(long, value_name = "WAY")]
    pub io: Option<String>,
    /// Leave a member out as if it were missing: one side of an array that was split.
    #[arg(long, value_name = "PATH", num_args = 1.., action = ArgAction::Append, conflicts_with = "all")]
    pub exclude: Vec<String>,
    /// Give up what a journal held of whose members none is left; these, parity + 1 of them at least, bear a
    /// new one.
    #[arg(long, value_name = "NEW", num_args = 1.., action = ArgAction::Append, conflicts_with = "all")]
    pub discard_journal: Vec<String>,
    /// Make image files of this size for new journal members that do not exist.
    #[arg(long, value_name = "SIZE", requires = "discard_journal")]
    pub journal_size: Option<String>,
    /// Overwrite what new journal members hold; and, after a journal was discarded, go on although members that
    /// hold data are missing: what they held is reconstructed from parity that nothing proves.
    #[arg(long, conflicts_with = "all")]
    pub force: bool,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `palisade stop`
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  palisade stop tank
  palisade stop --all      every running array, for shutdown scripts

Connected clients are disconnected. An array that does not run is left alone.")]
#[command(group = ArgGroup::new("which").required(true))]
pub struct StopArgs {
    /// Name of the array.
    #[arg(value_name = "NAME", group = "which")]
    pub name: Option<String>,
    /// Every array that runs.
    #[arg(long, group = "which")]
    pub all: bool,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `palisade list`
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  palisade list
  palisade list --json | jq -r '.[] | select(.state == \"degraded\") | .name'")]
pub struct ListArgs {
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `palisade status`
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  palisade status                     all arrays
  palisade status tank --watch        again every second, until Ctrl-C
  palisade status tank --json | jq '.tasks[] | .percent'
  palisade status tank --exit-code    for scripts and monitoring

EXIT CODES with --exit-code, as `mdadm --detail --test`; of several arrays the worst counts:
  0 optimal, 1 degraded, 2 failed, 4 not running, not known or no answer")]
pub struct StatusArgs {
    /// Name of the array; all, if not given.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Show it again every second.
    #[arg(long)]
    pub watch: bool,
    /// Tell the state by the exit code.
    #[arg(long)]
    pub exit_code: bool,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `palisade fail`
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  palisade fail tank 3
  palisade fail tank /srv/d3.img

The member gets no more reads and writes; a spare takes its place if there is one. Refused if data
would become unreadable. To exchange a member that still works, `palisade replace` is safer.")]
pub struct FailArgs {
    /// Name of the array.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Its path, slot number, journal-N or UUID.
    #[arg(value_name = "MEMBER")]
    pub member: String,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `palisade replace`
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  palisade replace tank 3 /srv/new.img            slot 3 moves to the new file
  palisade replace tank /dev/sdc /dev/sdh --wait  with a progress bar, until it is done
  palisade replace tank journal-0 /dev/nvme3n1p3  a member that bears the journal

The old member may be lost already. If it still works it is copied from and goes on protecting the
data until the new one is filled. Everything stays in use meanwhile. With --wait, Ctrl-C leaves
the rebuild running.")]
pub struct ReplaceArgs {
    /// Name of the array.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Path, slot number, journal-N or UUID of the member to replace.
    #[arg(value_name = "OLD")]
    pub old: String,
    /// File or block device that takes its place.
    #[arg(value_name = "NEW")]
    pub new: String,
    /// Wait until it is filled; the exit code tells whether that worked.
    #[arg(long)]
    pub wait: bool,
    /// Overwrite what the new member holds.
    #[arg(long)]
    pub force: bool,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `palisade add`
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  palisade add tank /dev/sdh
      a spare; if a slot is lost already, it takes it at once
  palisade add tank /dev/sdc
      a member of tank that was lost and works again: it gets back its slot, and only what was
      written while it was away is written to it

A member that was away (unplugged, or not there at the start) is taken back by itself as soon as it is
seen. One that failed, or that `palisade fail` took out, waits for this command.")]
pub struct AddArgs {
    /// Name of the array.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// File or block device.
    #[arg(value_name = "MEMBER")]
    pub member: String,
    /// Overwrite what it holds.
    #[arg(long)]
    pub force: bool,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `palisade remove`
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  palisade remove tank /dev/sdh     a spare
  palisade remove tank 3            a faulty or missing member

A member in use is not removed: fail or replace it first.")]
pub struct RemoveArgs {
    /// Name of the array.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Its path, slot number, journal-N or UUID.
    #[arg(value_name = "MEMBER")]
    pub member: String,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `palisade rebuild`
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  palisade rebuild tank --max-rate 200M    at most 200 MiB per second of one member
  palisade rebuild tank --max-rate 0       as fast as it goes
  palisade rebuild tank --pause
  palisade rebuild tank --resume

Holds until the array is stopped; `max_rebuild_rate` in its configuration file holds longer.")]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub struct RebuildArgs {
    /// Name of the array.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Most bytes per second of one member; 0 sets no limit.
    #[arg(long, value_name = "SIZE", group = "change")]
    pub max_rate: Option<String>,
    /// Hold rebuilding: the array stays less protected meanwhile.
    #[arg(long, group = "change", conflicts_with = "resume")]
    pub pause: bool,
    /// Go on.
    #[arg(long, group = "change")]
    pub resume: bool,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `palisade scrub`
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  palisade scrub tank                   in the background; see `palisade status tank`
  palisade scrub tank --check --wait    change nothing; wait, and say which blocks are damaged
  palisade scrub tank --rate 100M       at most 100 MiB per second of one member
  palisade scrub tank --pause
  palisade scrub tank --resume --rate 0
  palisade scrub tank --show --json | jq '.unrepairable'

Reads all data and all parity that is stored, finds blocks that cannot be read, do not match their
checksum, or do not match each other, and writes them anew from the other members. One scrub runs at a
time; rebuilding goes first. A scrub goes on after a restart. With --wait, Ctrl-C leaves it running.
To scrub by itself now and then, see [scrub] in the configuration file.

EXIT CODES with --wait and --show:
  0 nothing is damaged, or all of it was repaired, 1 error, 3 something is damaged and not repaired")]
pub struct ScrubArgs {
    /// Name of the array.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Only tell what is damaged.
    #[arg(long, conflicts_with = "repair")]
    pub check: bool,
    /// Repair what is damaged; so it does unless told otherwise.
    #[arg(long)]
    pub repair: bool,
    /// Wait until it has seen everything.
    #[arg(long)]
    pub wait: bool,
    /// Most bytes per second of one member; 0 sets no limit. Also of the scrub that runs.
    #[arg(long, value_name = "SIZE")]
    pub rate: Option<String>,
    /// Hold the scrub that runs.
    #[arg(long, conflicts_with_all = ["check", "repair", "wait", "resume", "cancel", "show"])]
    pub pause: bool,
    /// Let it go on.
    #[arg(long, conflicts_with_all = ["check", "repair", "wait", "cancel", "show"])]
    pub resume: bool,
    /// End it. What it repaired stays so.
    #[arg(long, conflicts_with_all = ["check", "repair", "wait", "rate", "show"])]
    pub cancel: bool,
    /// Show what the last scrub found.
    #[arg(long, conflicts_with_all = ["check", "repair", "wait", "rate"])]
    pub show: bool,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `palisade examine`
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  palisade examine /dev/sd?
  palisade examine /srv/d0.img --json | jq '.[0].array_name'

Changes and locks nothing; works on members of running and stopped arrays.")]
pub struct ExamineArgs {
    /// Files or block devices.
    #[arg(value_name = "MEMBER", required = true)]
    pub members: Vec<String>,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `palisade demo`
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  palisade demo
  palisade demo --data 1 --parity 2     a mirror on three disks
  palisade demo --keep                  leave the array running, to look around
  TMPDIR=/srv/scratch palisade demo     where there is space

Makes image files of 256M in the temporary folder, writes up to 512M over NBD, breaks two of the
files, reads, writes, replaces, and checks every byte at each step.")]
pub struct DemoArgs {
    /// Members' worth of data (k).
    #[arg(long, value_name = "K", default_value_t = 4)]
    pub data: u64,
    /// Members' worth of parity (m).
    #[arg(long, value_name = "M", default_value_t = 2)]
    pub parity: u64,
    /// Leave files and daemon in place, and say where they are.
    #[arg(long)]
    pub keep: bool,
}

/// `palisade completions`
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES:
  palisade completions bash > /etc/bash_completion.d/palisade
  palisade completions zsh > ~/.zfunc/_palisade
  palisade completions fish > ~/.config/fish/completions/palisade.fish")]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}
