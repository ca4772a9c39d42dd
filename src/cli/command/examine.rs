//! `palisade examine`: what is written on members.

use crate::cli::exit::Exit;
use crate::cli::out::{Out, complain};
use crate::cli::render;
use crate::cli::resolve::Format;
use crate::daemon::ExamineReport;
use crate::error::Result;
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
#[serde(untagged)]
enum Json<'a> {
    Member(&'a ExamineReport),
    Not { path: &'a str, error: String },
}

/// Shows every one; fails in the end if one could not be read.
pub fn examine(out: &Out, paths: &[String], format: Format) -> Result<Exit> {
    let looked: Vec<_> =
        paths.iter().map(|path| (path.as_str(), crate::daemon::examine(Path::new(path)))).collect();
    match format {
        Format::Json => out.json(&looked.iter().map(json).collect::<Vec<_>>())?,
        Format::Text => {
            for (i, (_, result)) in looked.iter().enumerate() {
                let gap = if i == 0 { "" } else { "\n" };
                match result {
                    Ok(report) => out.text(&format!("{gap}{}", render::examined(report, out.paint)))?,
                    Err(e) => complain(e),
                }
            }
        }
    }
    Ok(if looked.iter().all(|(_, result)| result.is_ok()) { Exit::Ok } else { Exit::Error })
}

fn json<'a>((path, result): &'a (&'a str, Result<ExamineReport>)) -> Json<'a> {
    match result {
        Ok(report) => Json::Member(report),
        Err(e) => Json::Not { path, error: e.report() },
    }
}
