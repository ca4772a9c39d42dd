//! `palisade replace`: put a new member in the place of an old one, and perhaps wait for it.

use super::answer::Answer;
use crate::cli::exit::Exit;
use crate::cli::find;
use crate::cli::interrupt::Interrupt;
use crate::cli::out::{Out, remark};
use crate::cli::resolve::{Format, Replace};
use crate::cli::wait::{Ended, rebuilt};
use crate::daemon::Places;
use crate::error::Result;

/// Starts it; with `wait` the exit code is that of the rebuild.
pub fn replace(out: &Out, places: &Places, args: &Replace, format: Format) -> Result<Exit> {
    let interrupt = if args.wait { Some(Interrupt::watch()?) } else { None };
    let Replace { name, old, new, .. } = args;
    let client = find::connect(places, name)?;
    let attached = client.replace(old, new, args.force)?;
    let answer = Answer::member(name, &attached);
    let Some(interrupt) = interrupt else {
        let what = match attached.returned {
            true => format!("{new} is taken back, and gets what it missed"),
            false => format!("{new} is being filled in place of {old}"),
        };
        return answer.print(out, format, &format!("{what}; see: palisade status {name} --watch"));
    };
    match rebuilt(&client, name, &[attached.uuid], &interrupt)? {
        Ended::Filled => answer.print(out, format, &format!("{new} is in sync in place of {old}")),
        Ended::Interrupted => {
            remark(&format!("the rebuild goes on without this command; see: palisade status {name} --watch"));
            Ok(Exit::Interrupted)
        }
    }
}
