//! `palisade stop`: stop serving one array or all of them.

use super::answer::Answer;
use crate::array::Applied;
use crate::cli::exit::Exit;
use crate::cli::find;
use crate::cli::out::{Out, complain};
use crate::cli::resolve::{Format, Which};
use crate::daemon::Places;
use crate::error::Result;

/// Stops what is asked for; what does not run is left alone.
pub fn stop(out: &Out, places: &Places, which: &Which, format: Format) -> Result<Exit> {
    match which {
        Which::One(name) => {
            let applied = stop_one(places, name)?;
            Answer::new(name, applied).print(out, format, &said(name, applied))
        }
        Which::All => all(out, places, format),
    }
}

fn all(out: &Out, places: &Places, format: Format) -> Result<Exit> {
    let mut exit = Exit::Ok;
    let mut answers = Vec::new();
    for name in places.names()? {
        match stop_one(places, &name) {
            Ok(applied) => {
                if format == Format::Text && applied == Applied::Done {
                    out.line(&said(&name, applied))?;
                }
                answers.push(Answer::new(&name, applied));
            }
            Err(e) => {
                complain(&e);
                exit = Exit::Error;
                answers.push(Answer::failed(&name, &e));
            }
        }
    }
    if format == Format::Json {
        out.json(&answers)?;
    }
    Ok(exit)
}

fn stop_one(places: &Places, name: &str) -> Result<Applied> {
    match find::running(places, name)? {
        Some(client) => client.stop().map(|()| Applied::Done),
        None => Ok(Applied::Already),
    }
}

fn said(name: &str, applied: Applied) -> String {
    match applied {
        Applied::Done => format!("{name} is stopped"),
        Applied::Already => format!("{name} is not running"),
    }
}
