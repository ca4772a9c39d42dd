//! `palisade add`: attach a spare, or take back a member that was lost.

use super::answer::Answer;
use crate::cli::exit::Exit;
use crate::cli::find;
use crate::cli::out::Out;
use crate::cli::resolve::{Add, Format};
use crate::daemon::Places;
use crate::error::Result;

/// Attaches it; a lost slot is filled by the array itself.
pub fn add(out: &Out, places: &Places, args: &Add, format: Format) -> Result<Exit> {
    let Add { name, path, force } = args;
    let attached = find::connect(places, name)?.add(path, *force)?;
    let text = match attached.returned {
        true => format!("{path} is taken back, and gets what it missed; see: palisade status {name} --watch"),
        false => format!("{path} is attached as a spare"),
    };
    Answer::member(name, &attached).print(out, format, &text)
}
