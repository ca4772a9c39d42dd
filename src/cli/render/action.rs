//! What `create` and `start` say.

use crate::array::{Applied, ArrayState};
use crate::cli::find::Found;
use crate::cli::out::{Paint, Tone};
use crate::daemon::{CreateArgs, Created};
use crate::units::format_size;
use std::fmt::Write;

/// After `create`.
pub fn created(args: &CreateArgs, created: &Created, paint: Paint) -> String {
    let CreateArgs { name, data, parity, chunk_bytes, .. } = args;
    let size = format_size(created.size_bytes);
    let shape = format!("{data} data + {parity} parity, chunk {}", format_size(*chunk_bytes));
    let mut text = format!("created {}: {size} as {shape}\n", paint.tone(Tone::Strong, name));
    let mut note = |label: &str, value: &str| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {label:<9}{value}");
    };
    let (bear, hold): (Vec<_>, Vec<_>) = created.made.iter().partition(|path| args.journal.contains(path));
    for (made, size, what) in
        [(hold, args.member_size_bytes, ""), (bear, args.journal_size_bytes, " for the journal")]
    {
        if let (false, Some(size)) = (made.is_empty(), size) {
            note("made", &format!("{} image files of {}{what}", made.len(), format_size(size)));
        }
    }
    if created.capacity_bytes > created.size_bytes {
        note("possible", &format!("{} on these members", format_size(created.capacity_bytes)));
    }
    if created.wasted_bytes > 0 {
        let wasted = format_size(created.wasted_bytes);
        note("unused", &format!("{wasted} of the larger members: the smallest one decides"));
    }
    note("start it", &format!("palisade start {name}"));
    note("reach it", &created.uri);
    text
}

/// After `start`, without the line's end.
pub fn started(
    name: &str,
    applied: Option<Applied>,
    pid: Option<u32>,
    uris: &[String],
    found: Option<&Found>,
    paint: Paint,
) -> String {
    let pid = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
    let already = if applied == Some(Applied::Already) { "already running" } else { "started" };
    let mut text = format!("{} {already}{pid}", paint.tone(Tone::Strong, name));
    for uri in uris {
        text.push_str(&format!("\n  {uri}"));
    }
    if let Some(Found::Running(report)) = found {
        let state = match report.state {
            ArrayState::Optimal => return text,
            ArrayState::Degraded => paint.tone(Tone::Warn, "degraded"),
            ArrayState::Failed => paint.tone(Tone::Bad, "failed"),
        };
        text.push_str(&format!("\n  it is {state}; see: palisade status {name}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::sample;
    use crate::units::ArrayId;

    #[test]
    fn create_says_how_to_go_on() {
        let args = CreateArgs {
            name: "tank".to_owned(),
            members: Vec::new(),
            spares: Vec::new(),
            journal: vec!["/j".to_owned()],
            data: 4,
            parity: 2,
            chunk_bytes: 64 << 10,
            member_size_bytes: Some(1 << 30),
            journal_size_bytes: Some(64 << 20),
            size_bytes: Some(3 << 30),
            force: false,
        };
        let made = Created {
            uuid: ArrayId::NIL,
            size_bytes: 3 << 30,
            capacity_bytes: 4 << 30,
            wasted_bytes: 1 << 20,
            uri: "nbd+unix:///tank?socket=/r".to_owned(),
            made: vec!["/a".to_owned(), "/b".to_owned(), "/j".to_owned()],
        };
        assert_eq!(
            created(&args, &made, Paint::PLAIN),
            "\
created tank: 3G as 4 data + 2 parity, chunk 64K
  made     2 image files of 1G
  made     1 image files of 64M for the journal
  possible 4G on these members
  unused   1M of the larger members: the smallest one decides
  start it palisade start tank
  reach it nbd+unix:///tank?socket=/r
"
        );
    }

    #[test]
    fn starting_a_degraded_array_says_so() {
        let found = Found::Running(Box::new(sample::degraded()));
        let uris = ["nbd+unix:///tank".to_owned()];
        assert_eq!(
            started("tank", Some(Applied::Done), Some(7), &uris, Some(&found), Paint::PLAIN),
            "tank started (pid 7)\n  nbd+unix:///tank\n  it is degraded; see: palisade status tank"
        );
        assert_eq!(
            started("tank", Some(Applied::Already), None, &[], None, Paint::PLAIN),
            "tank already running"
        );
    }
}
