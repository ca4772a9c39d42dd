//! `palisade start`: serve one array or all of them.

use super::answer::Answer;
use crate::array::Applied;
use crate::cli::exit::Exit;
use crate::cli::find;
use crate::cli::out::{Out, complain, remark};
use crate::cli::render;
use crate::cli::resolve::{Format, Start, Which};
use crate::cli::wait::Checking;
use crate::daemon::{Heard, Places, RunOptions, run, running_pid, start_background};
use crate::error::{Error, ErrorKind, Result};

/// Starts what is asked for; what runs already is left alone.
pub fn start(out: &Out, places: &Places, args: &Start, format: Format) -> Result<Exit> {
    let options = RunOptions { io: args.io, exclude: args.exclude.clone(), discard: args.discard.clone() };
    match &args.which {
        Which::One(name) if args.foreground => {
            find::known(places, name)?;
            run(name, places, &options).map(|()| Exit::Ok)
        }
        Which::One(name) => {
            let answer = background(places, name, &options)?;
            answer.print(out, format, &said(out, places, &answer))
        }
        Which::All => all(out, places, &options, format),
    }
}

fn all(out: &Out, places: &Places, options: &RunOptions, format: Format) -> Result<Exit> {
    let mut exit = Exit::Ok;
    let mut answers = Vec::new();
    for name in places.names()? {
        match background(places, &name, options) {
            Ok(answer) => {
                if format == Format::Text {
                    out.line(&said(out, places, &answer))?;
                }
                answers.push(answer);
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
    } else if answers.is_empty() {
        remark(&format!("no array is configured in {}", places.config_dir.display()));
    }
    Ok(exit)
}

fn background(places: &Places, name: &str, options: &RunOptions) -> Result<Answer> {
    if let Some(answer) = runs_already(places, name)? {
        if options.discard.journal.is_empty() {
            return Ok(answer);
        }
        let what = "runs already: there is no lost journal to discard";
        return Err(Error::new(ErrorKind::Busy, what)
            .array(name)
            .hint(format!("put new members in place of lost ones: palisade replace {name} journal-0 NEW")));
    }
    let mut checking = None;
    let mut heard = |heard| match heard {
        Heard::Remark(text) => remark(&text),
        Heard::Checking { done, total } => {
            checking.get_or_insert_with(|| Checking::new(total)).at(done, total);
        }
    };
    match start_background(name, places, options, &mut heard) {
        Ok(started) => {
            Ok(Answer { pid: Some(started.pid), uris: started.uris, ..Answer::new(name, Applied::Done) })
        }
        // Somebody else started it between our look and our start.
        Err(e) if e.kind() == ErrorKind::Busy => runs_already(places, name)?.ok_or(e),
        Err(e) => Err(e),
    }
}

fn runs_already(places: &Places, name: &str) -> Result<Option<Answer>> {
    let Some(client) = find::running(places, name)? else { return Ok(None) };
    let pid = match client.version() {
        Ok(version) => Some(version.pid),
        // One that was killed this moment; or one that runs all the same and does not answer.
        Err(_) => match running_pid(places, name)? {
            None => return Ok(None),
            pid => pid.filter(|pid| *pid > 0),
        },
    };
    let uris = client.report().map(|r| r.exports.into_iter().map(|e| e.uri).collect()).unwrap_or_default();
    Ok(Some(Answer { pid, uris, ..Answer::new(name, Applied::Already) }))
}

fn said(out: &Out, places: &Places, answer: &Answer) -> String {
    // Who starts a degraded array should hear of it.
    let report = find::one(places, &answer.name).ok();
    render::started(&answer.name, answer.applied, answer.pid, &answer.uris, report.as_ref(), out.paint)
}
