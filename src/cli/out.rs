//! Where output goes: stdout for what was asked for, stderr for remarks; colour only for people.

use crate::error::{Error, ErrorKind, Result};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Whether and how to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    colour: bool,
}

/// What a colour means, rather than which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Good,
    /// Look at it.
    Warn,
    /// Act on it.
    Bad,
    /// Names and headings.
    Strong,
    /// Less important.
    Faint,
}

impl Paint {
    /// No colour.
    #[cfg(test)]
    pub const PLAIN: Self = Self { colour: false };

    /// Colour if `stream` is a terminal that can, and `NO_COLOR` is not set.
    fn for_terminal(terminal: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self { colour: terminal && !dumb && !set("NO_COLOR") }
    }

    /// Colour whatever the terminal.
    #[cfg(test)]
    pub const COLOUR: Self = Self { colour: true };

    /// The text in that tone.
    pub fn tone(self, tone: Tone, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "1;31",
            Tone::Strong => "1",
            Tone::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Stdout.
pub struct Out {
    /// Colours for it.
    pub paint: Paint,
    /// Whether a person looks at it.
    pub terminal: bool,
}

impl Out {
    /// The process's stdout.
    pub fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        Self { paint: Paint::for_terminal(terminal), terminal }
    }

    /// Prints a text as it is.
    pub fn text(&self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(cannot_print)
    }

    /// Prints a line.
    pub fn line(&self, line: &str) -> Result<()> {
        self.text(&format!("{line}\n"))
    }

    /// Prints a value as JSON over several lines.
    pub fn json(&self, value: &impl Serialize) -> Result<()> {
        self.line(&serde_json::to_string_pretty(value).map_err(cannot_encode)?)
    }

    /// Prints a value as JSON on one line.
    pub fn json_line(&self, value: &impl Serialize) -> Result<()> {
        self.line(&serde_json::to_string(value).map_err(cannot_encode)?)
    }
}

/// Prints a remark on stderr; one nobody can read is no failure.
pub fn remark(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints an error and what to do about it.
pub fn complain(error: &Error) {
    remark(&format!("palisade: {}", error.report()));
    if let Some(hint) = error.next_step() {
        remark(&format!("  try: {hint}"));
    }
}

/// Whether the reader of our output went away (`palisade list | head -1`), which is its right.
pub fn reader_left(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    source
        .and_then(|s| s.downcast_ref::<StdoutError>())
        .is_some_and(|s| s.0.kind() == io::ErrorKind::BrokenPipe)
}

/// Marks an I/O error as one of our own stdout, not of a socket.
#[derive(Debug)]
struct StdoutError(io::Error);

impl std::fmt::Display for StdoutError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for StdoutError {}

fn cannot_print(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot print").source(StdoutError(error))
}

fn cannot_encode(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::InvalidInput, "cannot print as JSON").source(error)
}
