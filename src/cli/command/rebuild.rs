//! `palisade rebuild`: change how background work runs.

use super::answer::{Answer, said_change};
use crate::array::Applied;
use crate::cli::exit::Exit;
use crate::cli::find;
use crate::cli::out::Out;
use crate::cli::resolve::{Format, Rebuild};
use crate::daemon::Places;
use crate::error::Result;

/// Changes it until the array is stopped.
pub fn rebuild(out: &Out, places: &Places, args: &Rebuild, format: Format) -> Result<Exit> {
    find::connect(places, &args.name)?.rebuild(args.change)?;
    let text = format!("rebuild of {}: {}", args.name, said_change(args.change));
    Answer::new(&args.name, Applied::Done).print(out, format, &text)
}
