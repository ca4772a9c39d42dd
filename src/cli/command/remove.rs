//! `palisade remove`: forget a member.

use super::answer::Answer;
use crate::array::Applied;
use crate::cli::exit::Exit;
use crate::cli::find;
use crate::cli::out::Out;
use crate::cli::resolve::{Change, Format};
use crate::daemon::Places;
use crate::error::Result;

/// Detaches it.
pub fn remove(out: &Out, places: &Places, args: &Change, format: Format) -> Result<Exit> {
    let applied = find::connect(places, &args.name)?.remove(&args.member)?;
    let Change { name, member } = args;
    let text = match applied {
        Applied::Done => format!("member {member} of {name} is removed"),
        Applied::Already => format!("member {member} of {name} was removed already"),
    };
    Answer::new(name, applied).print(out, format, &text)
}
