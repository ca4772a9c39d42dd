//! `palisade status`: what arrays do, once or every second.

use crate::cli::exit::{Exit, Health};
use crate::cli::find::{self, Found};
use crate::cli::interrupt::Interrupt;
use crate::cli::out::{Out, complain, reader_left, remark};
use crate::cli::render;
use crate::cli::resolve::{Format, Status, Which};
use crate::daemon::Places;
use crate::error::Result;
use std::time::Duration;

const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Shows it.
pub fn status(out: &Out, places: &Places, args: &Status) -> Result<Exit> {
    match look(out, places, args) {
        // To whoever goes by the code alone, an array of which nothing is known is not one that is degraded.
        Err(e) if args.exit_code && !reader_left(&e) => {
            complain(&e);
            Ok(Exit::Health(Health::Unknown))
        }
        looked => looked,
    }
}

fn look(out: &Out, places: &Places, args: &Status) -> Result<Exit> {
    let mut arrays = fetch(places, &args.which)?;
    if args.watch {
        let interrupt = Interrupt::watch()?;
        loop {
            show_again(out, args, &arrays)?;
            if interrupt.within(WATCH_EVERY) {
                break;
            }
            arrays = fetch(places, &args.which)?;
        }
    } else {
        show(out, places, args, &arrays)?;
    }
    if args.exit_code {
        // No array at all cannot be had either.
        return Ok(Exit::Health(arrays.iter().map(Health::of).max().unwrap_or(Health::Unknown)));
    }
    Ok(Exit::Ok)
}

fn fetch(places: &Places, which: &Which) -> Result<Vec<Found>> {
    match which {
        Which::One(name) => find::one(places, name).map(|found| vec![found]),
        Which::All => find::all(places),
    }
}

fn show(out: &Out, places: &Places, args: &Status, arrays: &[Found]) -> Result<()> {
    match (args.format, &args.which, arrays) {
        (Format::Json, Which::One(_), [one]) => out.json(&render::status_json(one)),
        (Format::Json, ..) => out.json(&arrays.iter().map(render::status_json).collect::<Vec<_>>()),
        (Format::Text, _, []) => {
            remark(&format!("no array is configured in {}", places.config_dir.display()));
            Ok(())
        }
        (Format::Text, ..) => out.text(&render::status(arrays, out.paint)),
    }
}

/// On a terminal in the same place again; else one below the other, JSON a line each.
fn show_again(out: &Out, args: &Status, arrays: &[Found]) -> Result<()> {
    match (args.format, &args.which, arrays) {
        (Format::Json, Which::One(_), [one]) => out.json_line(&render::status_json(one)),
        (Format::Json, ..) => out.json_line(&arrays.iter().map(render::status_json).collect::<Vec<_>>()),
        (Format::Text, ..) if out.terminal => out.text(&render::in_place(&render::status(arrays, out.paint))),
        (Format::Text, ..) => out.text(&format!("{}\n", render::status(arrays, out.paint))),
    }
}
