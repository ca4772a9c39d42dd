//! The configuration as a file: the commented text of a new one, changing the member list of an
//! edited one, and replacing a file so that a crash leaves the old or the new one, whole.

use super::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::units::format_size;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use toml_edit::{Array, DocumentMut, Item, Value};

const FILE_MAX: u64 = 1 << 20;

/// What a write may replace.
#[derive(Clone, Copy, PartialEq)]
pub enum Over {
    /// Nothing: it fails with `AlreadyExists`.
    Nothing,
    /// The file of that name.
    Existing,
}

/// Reads a configuration file of bearable size.
pub fn read(path: &Path) -> Result<String> {
    let failed = |e| Error::io(format!("cannot read {}", path.display()), e);
    let mut text = String::new();
    File::open(path).map_err(failed)?.take(FILE_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_MAX {
        let what =
            format!("{} is larger than {} and no configuration", path.display(), format_size(FILE_MAX));
        return Err(Error::new(ErrorKind::InvalidInput, what));
    }
    Ok(text)
}

/// Writes a file whole or not at all, durably.
pub fn write(path: &Path, text: &str, over: Over) -> Result<()> {
    let failed = |e| Error::io(format!("cannot write {}", path.display()), e);
    let dir = path.parent().unwrap_or(Path::new("/"));
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let temp = dir.join(format!(".{file}.{}.tmp", std::process::id()));
    fs::create_dir_all(dir).map_err(failed)?;
    let done = (|| {
        let mut out = File::create(&temp)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        match over {
            // A link, unlike a rename, refuses to replace.
            Over::Nothing => fs::hard_link(&temp, path)?,
            Over::Existing => {
                // Keep who may read it.
                if let Ok(old) = fs::metadata(path) {
                    out.set_permissions(old.permissions())?;
                }
                fs::rename(&temp, path)?;
            }
        }
        File::open(dir)?.sync_all()
    })();
    if over == Over::Nothing || done.is_err() {
        let _ = fs::remove_file(&temp);
    }
    done.map_err(failed)
}

/// The text of a new array's file. Lines beginning with `#=` can be switched on by removing that.
pub fn fresh(config: &Config) -> String {
    let mut members = Array::new();
    for member in &config.members {
        push(&mut members, member);
    }
    close(&mut members);
    let quoted = |text: &str| Value::from(text).to_string();
    let Config { threads, busy_poll_us, member_deadline_ms, probe_interval_ms, max_connections, .. } = config;
    format!(
        "\
# Configuration of the palisade array {name}. Edit it freely; it is read when the array starts.
# The daemon changes only `members`, when members are added, replaced or removed.
name = {quoted_name}
uuid = {uuid}

# Where the members are, in any order: each says itself what it is.
members = {members}

# How members are driven: auto, io_uring or portable.
io = {io}

# Threads that serve requests: 1 to 64, or \"auto\", one for each CPU up to four.
threads = {threads}

# How long, in microseconds, a busy thread looks for the end of I/O before it sleeps. Quicker answers
# for more CPU time; 0 sleeps at once. An idle array does not look.
busy_poll_us = {busy_poll_us}

# A member that takes longer than this for one operation counts as failed.
member_deadline_ms = {member_deadline_ms}

# How often members are looked after.
probe_interval_ms = {probe_interval_ms}

# Most bytes per second that a rebuild writes to a member, as \"200M\"; \"0\" sets no limit.
max_rebuild_rate = {rate}

# Most memory for the requests under way of one NBD connection, for small writes that are answered
# and not yet in their place, for the members' checksum tables, and for free buffers kept.
inflight = {inflight}
staging = {staging}
checksum_cache = {checksum_cache}
buffers = {buffers}

# Most NBD connections at once on each export.
max_connections = {max_connections}

# Where the volume is served. Without any [[exports]] that is the unix socket nbd.sock in the
# array's runtime folder. NBD over TCP is neither encrypted nor authenticated.
#= [[exports]]
#= socket = \"/run/palisade/{name}/nbd.sock\"
#= [[exports]]
#= tcp = \"127.0.0.1:10809\"
#= name = \"{name}\"
#= read_only = true

# When everything that is stored is verified and, unless mode is \"check\", repaired: so long after the
# last time it was. Without `every` only when asked for. max_rate is as max_rebuild_rate above, and
# also for scrubs that are asked for.
#= [scrub]
#= every = \"30d\"
#= mode = \"repair\"
#= max_rate = \"0\"
",
        name = config.name,
        quoted_name = quoted(&config.name),
        uuid = quoted(&config.uuid.to_string()),
        io = quoted(&config.io.to_string()),
        rate = quoted(&format_size(config.max_rebuild_rate)),
        inflight = quoted(&format_size(config.inflight_bytes)),
        staging = quoted(&format_size(config.staging_bytes)),
        checksum_cache = quoted(&format_size(config.checksum_cache_bytes)),
        buffers = quoted(&format_size(config.buffer_bytes)),
    )
}

/// The text with another member list: entries that stay keep their place and comments.
pub fn with_members(text: &str, members: &[String]) -> std::result::Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| e.message().to_owned())?;
    let item = document.as_table_mut().entry("members").or_insert(Item::Value(Value::Array(Array::new())));
    let Some(list) = item.as_array_mut() else { return Err("members is no list".to_owned()) };
    remove(list, members);
    for member in members {
        if !list.iter().any(|value| value.as_str() == Some(member)) {
            push(list, member);
        }
    }
    close(list);
    Ok(document.to_string())
}

/// Drops the entries that are not among `members`, but none of the comments around them.
fn remove(list: &mut Array, members: &[String]) {
    let old = std::mem::take(list);
    let mut carried = String::new();
    for mut value in old.iter().cloned() {
        let prefix = value.decor().prefix().and_then(|p| p.as_str()).unwrap_or_default().to_owned();
        if value.as_str().is_some_and(|path| members.iter().any(|m| m == path)) {
            value.decor_mut().set_prefix(std::mem::take(&mut carried) + &prefix);
            list.push_formatted(value);
        } else {
            carried.push_str(prefix.trim_end());
        }
    }
    list.set_trailing(carried + old.trailing().as_str().unwrap_or_default());
    *list.decor_mut() = old.decor().clone();
}

fn push(list: &mut Array, member: &str) {
    // What follows the last entry, perhaps a comment, goes before the new one.
    let before = list.trailing().as_str().unwrap_or_default().trim_end().to_owned();
    list.set_trailing("");
    list.push_formatted(Value::from(member).decorated(format!("{before}\n    "), ""));
}

fn close(list: &mut Array) {
    let rest = list.trailing().as_str().unwrap_or_default().trim_end().to_owned();
    list.set_trailing(format!("{rest}\n"));
    list.set_trailing_comma(true);
}
