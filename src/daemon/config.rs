//! The configuration of one array: what it says, what is allowed, and its file.

use super::config_scrub::{RawScrub, ScrubConfig};
use super::config_text;
use super::config_threads::Threads;
use super::places::{Places, check_name, check_socket_path};
use crate::env::real::IoKind;
use crate::error::{Error, ErrorKind, Result};
use crate::units::{ArrayId, format_size, parse_size};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

const MEMBERS_MAX: usize = 1024;
const EXPORTS_MAX: usize = 64;

/// One way to reach the volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportConfig {
    /// Export name; the array's if not given.
    pub name: Option<String>,
    /// Unix socket; the default one if neither this nor `tcp` is given.
    pub socket: Option<PathBuf>,
    /// TCP address.
    pub tcp: Option<SocketAddr>,
    /// Refuse writes.
    #[serde(default)]
    pub read_only: bool,
}

/// Everything the daemon must know to run an array. The defaults are in [`Config::new`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the array.
    pub name: String,
    /// Its identity.
    pub uuid: ArrayId,
    /// Paths of its members, in any order.
    pub members: Vec<String>,
    /// Where it is served; empty means the default unix socket.
    pub exports: Vec<ExportConfig>,
    /// How members are driven.
    pub io: IoKind,
    /// Executor threads.
    pub threads: Threads,
    /// Longest time a thread looks for completions before it sleeps.
    pub busy_poll_us: u64,
    /// Longest time one member operation may take.
    pub member_deadline_ms: u64,
    /// How often members are looked after.
    pub probe_interval_ms: u64,
    /// Ceiling of rebuilds, bytes per second of one member; 0 is none.
    pub max_rebuild_rate: u64,
    /// Most bytes of requests under way at once.
    pub inflight_bytes: u64,
    /// Most bytes of answered writes held in memory until they are home.
    pub staging_bytes: u64,
    /// About so many bytes of the members' checksum tables are held in memory.
    pub checksum_cache_bytes: u64,
    /// Most bytes of free buffers kept.
    pub buffer_bytes: u64,
    /// Most NBD connections at once.
    pub max_connections: usize,
    /// When and how to scrub.
    pub scrub: ScrubConfig,
}

/// The file as written, before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    name: String,
    uuid: ArrayId,
    members: Vec<String>,
    #[serde(default)]
    exports: Vec<ExportConfig>,
    io: Option<String>,
    threads: Option<Threads>,
    busy_poll_us: Option<u64>,
    member_deadline_ms: Option<u64>,
    probe_interval_ms: Option<u64>,
    #[serde(default, deserialize_with = "size")]
    max_rebuild_rate: Option<u64>,
    #[serde(default, deserialize_with = "size")]
    inflight: Option<u64>,
    #[serde(default, deserialize_with = "size")]
    staging: Option<u64>,
    #[serde(default, deserialize_with = "size")]
    checksum_cache: Option<u64>,
    #[serde(default, deserialize_with = "size")]
    buffers: Option<u64>,
    max_connections: Option<u64>,
    #[serde(default)]
    scrub: RawScrub,
}

/// A size is a text as `64M` or a plain number of bytes.
pub(super) fn size<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a size as \"64M\"")]
    enum Size {
        Number(u64),
        Text(String),
    }
    match Size::deserialize(from)? {
        Size::Number(bytes) => Ok(Some(bytes)),
        Size::Text(text) => parse_size(&text).map(Some).map_err(serde::de::Error::custom),
    }
}

/// A 16th of this machine's memory, 128 MiB to 2 GiB: the more may wait, the more goes home together.
fn default_staging() -> u64 {
    staging_for(nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total()))
}

/// In steps that a size in the file can name: `704M`, `1.25G`.
fn staging_for(memory: u64) -> u64 {
    let wanted = (memory / 16).clamp(128 << 20, 2 << 30);
    let step = if wanted < 1 << 30 { 64 << 20 } else { 256 << 20 };
    wanted / step * step
}

impl Config {
    /// A configuration with every default.
    pub fn new(name: &str, uuid: ArrayId, members: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            uuid,
            members,
            exports: Vec::new(),
            io: IoKind::Auto,
            threads: Threads::Auto,
            busy_poll_us: 100,
            member_deadline_ms: 10_000,
            probe_interval_ms: 1_000,
            max_rebuild_rate: 0,
            inflight_bytes: 64 << 20,
            staging_bytes: default_staging(),
            checksum_cache_bytes: 32 << 20,
            buffer_bytes: 128 << 20,
            max_connections: 64,
            scrub: ScrubConfig::default(),
        }
    }

    /// Reads the configuration of an array; `NotFound` if there is none of that name.
    pub fn load(places: &Places, name: &str) -> Result<Self> {
        check_name(name)?;
        let path = places.config_file(name);
        let text = match config_text::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(unknown(places, name)),
            Err(e) => return Err(e),
        };
        let config = Self::parse(&text, &path)?;
        if config.name != name {
            let what = format!("name is '{}', but the file is named '{name}'", config.name);
            return Err(bad(&path, what));
        }
        Ok(config)
    }

    /// Writes the file of a new array, with comments; never over an existing one.
    pub fn save_new(&self, places: &Places) -> Result<()> {
        self.validate(&places.config_file(&self.name))?;
        config_text::write(
            &places.config_file(&self.name),
            &config_text::fresh(self),
            config_text::Over::Nothing,
        )
    }

    /// Puts another member list into the file, leaving everything else as its owner wrote it.
    pub fn save_members(places: &Places, name: &str, members: &[String]) -> Result<()> {
        let path = places.config_file(name);
        let text = config_text::with_members(&config_text::read(&path)?, members)
            .map_err(|what| bad(&path, what))?;
        Self::parse(&text, &path)?;
        config_text::write(&path, &text, config_text::Over::Existing)
    }

    /// Parses and checks; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let raw: RawConfig = toml_edit::de::from_str(text).map_err(|e| {
            let line = e.span().map(|s| text.bytes().take(s.start).filter(|b| *b == b'\n').count() + 1);
            let place = line.map_or_else(String::new, |n| format!("line {n}: "));
            bad(path, format!("{place}{}", e.message().replace('\n', ", ")))
        })?;
        let config = raw.check().map_err(|e| bad(path, e.to_string()))?;
        config.validate(path)?;
        Ok(config)
    }

    fn validate(&self, path: &Path) -> Result<()> {
        check_name(&self.name).map_err(|e| bad(path, format!("name: {e}")))?;
        let count = |what: &str, len: usize, max: usize| {
            if len > max {
                return Err(bad(path, format!("{what}: {len} are too many, at most {max} are possible")));
            }
            Ok(())
        };
        count("members", self.members.len(), MEMBERS_MAX)?;
        count("exports", self.exports.len(), EXPORTS_MAX)?;
        for (i, member) in self.members.iter().enumerate() {
            if !Path::new(member).is_absolute() || member.contains('\0') {
                return Err(bad(path, format!("members: '{member}' is not an absolute path")));
            }
            if self.members.iter().take(i).any(|other| other == member) {
                return Err(bad(path, format!("members: '{member}' is listed twice")));
            }
        }
        self.exports.iter().try_for_each(|e| e.check().map_err(|e| bad(path, format!("exports: {e}"))))
    }
}

impl RawConfig {
    fn check(self) -> Result<Config> {
        let defaults = Config::new(&self.name, self.uuid, self.members);
        let io = self.io.map_or(Ok(defaults.io), |io| io.parse().map_err(|e| refuse("io", &e)))?;
        Ok(Config {
            exports: self.exports,
            io,
            threads: self.threads.unwrap_or(defaults.threads),
            busy_poll_us: within("busy_poll_us", self.busy_poll_us, 0..=1000, defaults.busy_poll_us)?,
            member_deadline_ms: within(
                "member_deadline_ms",
                self.member_deadline_ms,
                100..=600_000,
                defaults.member_deadline_ms,
            )?,
            probe_interval_ms: within(
                "probe_interval_ms",
                self.probe_interval_ms,
                10..=3_600_000,
                defaults.probe_interval_ms,
            )?,
            max_rebuild_rate: self.max_rebuild_rate.unwrap_or(defaults.max_rebuild_rate),
            inflight_bytes: bytes("inflight", self.inflight, 1 << 20..=1 << 40, defaults.inflight_bytes)?,
            staging_bytes: bytes("staging", self.staging, 1 << 20..=1 << 40, defaults.staging_bytes)?,
            checksum_cache_bytes: bytes(
                "checksum_cache",
                self.checksum_cache,
                1 << 20..=1 << 40,
                defaults.checksum_cache_bytes,
            )?,
            buffer_bytes: bytes("buffers", self.buffers, 0..=1 << 40, defaults.buffer_bytes)?,
            max_connections: count(
                "max_connections",
                self.max_connections,
                1..=10_000,
                defaults.max_connections,
            )?,
            scrub: self.scrub.check().map_err(|e| refuse("scrub", &e))?,
            ..defaults
        })
    }
}

impl ExportConfig {
    fn check(&self) -> Result<()> {
        let invalid = |what: &str| Err(Error::new(ErrorKind::InvalidInput, what));
        if let Some(name) = &self.name {
            check_name(name)?;
        }
        match &self.socket {
            Some(_) if self.tcp.is_some() => invalid("give either socket or tcp, not both"),
            Some(socket) if !socket.is_absolute() => invalid("socket must be an absolute path"),
            Some(socket) => check_socket_path(socket),
            None => Ok(()),
        }
    }
}

fn within(key: &str, value: Option<u64>, range: RangeInclusive<u64>, default: u64) -> Result<u64> {
    let value = value.unwrap_or(default);
    if range.contains(&value) {
        return Ok(value);
    }
    Err(refuse(key, &format!("{value} is not within {} and {}", range.start(), range.end())))
}

fn bytes(key: &str, value: Option<u64>, range: RangeInclusive<u64>, default: u64) -> Result<u64> {
    let value = value.unwrap_or(default);
    if range.contains(&value) {
        return Ok(value);
    }
    let (value, low, high) = (format_size(value), format_size(*range.start()), format_size(*range.end()));
    Err(refuse(key, &format!("{value} is not within {low} and {high}")))
}

fn count(key: &str, value: Option<u64>, range: RangeInclusive<u64>, default: usize) -> Result<usize> {
    let value = within(key, value, range, default as u64)?;
    usize::try_from(value).map_err(|e| refuse(key, &e))
}

fn refuse(key: &str, why: &impl fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("{key}: {why}"))
}

fn bad(path: &Path, what: impl Into<String>) -> Error {
    let what = format!("{}: {}", path.display(), what.into());
    Error::new(ErrorKind::InvalidInput, what).hint(format!("correct {}", path.display()))
}

fn unknown(places: &Places, name: &str) -> Error {
    let error = Error::new(ErrorKind::NotFound, format!("there is no array named {name}"));
    match places.names() {
        Ok(names) if !names.is_empty() => error.hint(format!("known arrays: {}", names.join(", "))),
        _ => error.hint(format!("no array is configured in {}", places.config_dir.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Config {
        let members = (0..3).map(|i| format!("/img/{i}")).collect();
        Config::new("tank", ArrayId::from_bytes([7; 16]), members)
    }

    fn places(dir: &Path) -> Places {
        Places { config_dir: dir.join("c"), runtime_dir: dir.join("r"), state_dir: dir.join("s") }
    }

    #[test]
    fn a_new_file_reads_back_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        let config = sample();
        config.save_new(&places).unwrap();
        assert_eq!(Config::load(&places, "tank").unwrap(), config);
        assert_eq!(config.save_new(&places).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(places.names().unwrap(), ["tank"], "no temporary file is left");
    }

    #[test]
    fn staging_grows_with_the_memory_and_can_be_written_down() {
        let sizes = [0, 1 << 30, 8 << 30, 23 << 30, 30 << 30, 1 << 40].map(staging_for);
        assert_eq!(sizes.map(format_size), ["128M", "128M", "512M", "1.25G", "1.75G", "2G"]);
        for size in sizes {
            assert_eq!(parse_size(&format_size(size)).unwrap(), size);
        }
    }

    #[test]
    fn every_line_a_new_file_offers_in_a_comment_is_understood() {
        let text = config_text::fresh(&sample());
        let tried: String =
            text.lines().map(|l| l.strip_prefix("#= ").unwrap_or(l)).flat_map(|l| [l, "\n"]).collect();
        assert_ne!(text, tried);
        let config = Config::parse(&tried, Path::new("x")).unwrap();
        assert_eq!(config.exports.len(), 2);
        assert_eq!(config.scrub.every.map(|d| d.as_secs()), Some(30 * 86400));
    }

    #[test]
    fn a_changed_member_list_keeps_settings_and_comments() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        sample().save_new(&places).unwrap();
        let path = places.config_file("tank");
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace("threads = \"auto\"", "threads = 3 # as many as we can spare");
        let text = text.replace("\"/img/1\",", "\"/img/1\", # the old one");
        std::fs::write(&path, &text).unwrap();
        let members = ["/img/0", "/img/1", "/new \"one\""].map(String::from);
        Config::save_members(&places, "tank", &members).unwrap();
        let config = Config::load(&places, "tank").unwrap();
        assert_eq!((config.members.as_slice(), config.threads), (&members[..], Threads::Count(3)));
        let now = std::fs::read_to_string(&path).unwrap();
        for kept in ["# as many as we can spare", "# the old one"] {
            assert!(now.contains(kept), "{now}");
        }
        assert_eq!(
            now.lines().filter(|l| l.starts_with('#')).count(),
            text.lines().filter(|l| l.starts_with('#')).count()
        );
    }

    #[test]
    fn a_mistake_is_named_by_its_key() {
        let base = "name = \"tank\"\nuuid = \"07070707-0707-0707-0707-070707070707\"\nmembers = [\"/a\"]\n";
        Config::parse(base, Path::new("tank.toml")).unwrap();
        for (line, named) in [
            ("thread = 2", "thread"),
            ("threads = 65", "threads"),
            ("threads = -1", "line 4"),
            ("threads = \"many\"", "'many' is neither"),
            ("io = \"aio\"", "io"),
            ("inflight = \"1x\"", "'1x' is not a size"),
            ("inflight = \"1K\"", "inflight"),
            ("member_deadline_ms = 0", "member_deadline_ms"),
            ("max_connections = 0", "max_connections"),
            ("[[exports]]\ntcp = \"here\"", "line 5"),
            ("[[exports]]\ntcp = \"0.0.0.0:1\"\nsocket = \"/x\"", "exports"),
            ("[[exports]]\nsocket = \"x\"", "exports"),
            ("[[exports]]\nname = \"a/b\"", "exports"),
            ("[[exports]]\nwhat = 1", "what"),
            ("[scrub]\nevery = \"often\"", "scrub: every: 'often' is not a duration"),
            ("[scrub]\nevery = \"10s\"", "scrub: every: 10s is not within 1m and 3650d"),
            ("[scrub]\nevery = 30", "line 5"),
            ("[scrub]\nmode = \"mend\"", "line 5"),
            ("[scrub]\nmax_rate = \"fast\"", "'fast' is not a size"),
            ("[scrub]\nat = 3", "at"),
            ("x =", "line 4"),
        ] {
            let e = Config::parse(&format!("{base}{line}\n"), Path::new("tank.toml")).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidInput);
            let text = e.report();
            assert!(text.starts_with("tank.toml: ") && text.contains(named), "{line}: {text}");
        }
        for (from, to) in [("/a", "a"), ("[\"/a\"]", "[\"/a\", \"/a\"]"), ("tank", "../x"), ("0707", "zz")] {
            assert!(Config::parse(&base.replace(from, to), Path::new("x")).is_err(), "{to}");
        }
    }

    #[test]
    fn an_unknown_array_is_not_found_and_the_known_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        sample().save_new(&places).unwrap();
        let e = Config::load(&places, "tonk").unwrap_err();
        assert_eq!((e.kind(), e.next_step()), (ErrorKind::NotFound, Some("known arrays: tank")));
        std::fs::copy(places.config_file("tank"), places.config_file("tonk")).unwrap();
        assert!(Config::load(&places, "tonk").unwrap_err().report().contains("name is 'tank'"));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,200}") {
            let _ = Config::parse(&text, Path::new("x"));
            let _ = config_text::with_members(&text, &["/a".to_owned()]);
        }
    }
}
