//! `palisade rebuild`: change how background work runs.

use super::answer::Answer;
use crate::array::{Applied, RebuildControl};
use crate::cli::exit::Exit;
use crate::cli::find;
use crate::cli::out::Out;
use crate::cli::resolve::{Format, Rebuild};
use crate::daemon::Places;
use crate::error::Result;
use crate::units::format_rate;

/// Changes it until the array is stopped.
pub fn rebuild(out: &Out, places: &Places, args: &Rebuild, format: Format) -> Result<Exit> {
    find::connect(places, &args.name)?.rebuild(args.change)?;
    let text = format!("rebuild of {}: {}", args.name, said(args.change));
    Answer::new(&args.name, Applied::Done).print(out, format, &text)
}

fn said(change: RebuildControl) -> String {
    let rate = change.max_rate_bytes_per_s.map(|rate| match rate {
        0 => "no limit".to_owned(),
        rate => format!("at most {}", format_rate(rate)),
    });
    let paused = change.paused.map(|paused| if paused { "paused" } else { "goes on" }.to_owned());
    [paused, rate].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
