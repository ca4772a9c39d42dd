//! `palisade add`: attach a spare.

use super::answer::Answer;
use crate::cli::exit::Exit;
use crate::cli::find;
use crate::cli::out::Out;
use crate::cli::resolve::{Add, Format};
use crate::daemon::Places;
use crate::error::Result;

/// Attaches it; a lost slot is filled by the array itself.
pub fn add(out: &Out, places: &Places, args: &Add, format: Format) -> Result<Exit> {
    let id = find::connect(places, &args.name)?.add(&args.path, args.force)?;
    Answer::member(&args.name, id).print(out, format, &format!("{} is attached as a spare", args.path))
}
