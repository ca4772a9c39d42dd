//! `palisade fail`: take a member out of use.

use super::answer::Answer;
use crate::array::Applied;
use crate::cli::exit::Exit;
use crate::cli::find;
use crate::cli::out::Out;
use crate::cli::resolve::{Change, Format};
use crate::daemon::Places;
use crate::error::Result;

/// Marks it faulty.
pub fn fail(out: &Out, places: &Places, args: &Change, format: Format) -> Result<Exit> {
    let applied = find::connect(places, &args.name)?.fail(&args.member)?;
    let Change { name, member } = args;
    let text = match applied {
        Applied::Done => {
            format!(
                "member {member} of {name} is faulty now; put another in its place with: palisade replace {name} {member} NEW"
            )
        }
        Applied::Already => format!("member {member} of {name} was faulty already"),
    };
    Answer::new(name, applied).print(out, format, &text)
}
