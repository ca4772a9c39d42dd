//! `palisade create`: make an array.

use crate::cli::exit::Exit;
use crate::cli::out::Out;
use crate::cli::render;
use crate::cli::resolve::Format;
use crate::daemon::{CreateArgs, Created, Places};
use crate::error::Result;
use serde::Serialize;

#[derive(Serialize)]
struct Json<'a> {
    name: &'a str,
    applied: crate::array::Applied,
    #[serde(flatten)]
    created: &'a Created,
}

/// Makes it and says how to start and reach it.
pub fn create(out: &Out, places: &Places, args: &CreateArgs, format: Format) -> Result<Exit> {
    let created = crate::daemon::create(places, args)?;
    match format {
        Format::Text => out.text(&render::created(args, &created, out.paint))?,
        Format::Json => {
            out.json(&Json { name: &args.name, applied: crate::array::Applied::Done, created: &created })?;
        }
    }
    Ok(Exit::Ok)
}
