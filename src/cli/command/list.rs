//! `palisade list`: all arrays, a line each.

use crate::cli::exit::Exit;
use crate::cli::find;
use crate::cli::out::{Out, remark};
use crate::cli::render;
use crate::cli::resolve::Format;
use crate::daemon::Places;
use crate::error::Result;

/// Lists them.
pub fn list(out: &Out, places: &Places, format: Format) -> Result<Exit> {
    let arrays = find::all(places)?;
    match format {
        Format::Json => out.json(&arrays.iter().map(render::list_json).collect::<Vec<_>>())?,
        Format::Text if arrays.is_empty() => {
            remark(&format!("no array is configured in {}", places.config_dir.display()));
        }
        Format::Text => out.text(&render::list(&arrays, out.paint))?,
    }
    Ok(Exit::Ok)
}
