//! `palisade scrub`: verify everything that is stored, and perhaps wait for it.

use super::answer::{Answer, said_change};
use crate::array::{Applied, Report, ScrubDetails, ScrubStart, ScrubStarted, TaskKind};
use crate::cli::exit::Exit;
use crate::cli::find;
use crate::cli::interrupt::Interrupt;
use crate::cli::out::{Out, remark};
use crate::cli::render;
use crate::cli::resolve::{Format, Scrub, ScrubAct};
use crate::cli::wait;
use crate::control::Client;
use crate::daemon::Places;
use crate::error::{Error, ErrorKind, Result};
use crate::stripe::ScrubMode;
use serde::Serialize;

/// A scrub as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    #[serde(flatten)]
    scrub: &'a ScrubDetails,
}

/// Does it; with `wait` the exit code says whether damage is left.
pub fn scrub(out: &Out, places: &Places, args: &Scrub, format: Format) -> Result<Exit> {
    let name = &args.name;
    match &args.act {
        ScrubAct::Start { start, wait } => {
            let interrupt = if *wait { Some(Interrupt::watch()?) } else { None };
            let client = find::connect(places, name)?;
            let started = client.start_scrub(*start)?;
            match interrupt {
                None => Answer::scrub(name, started).print(
                    out,
                    format,
                    &said(name, *start, started, &client.report()?),
                ),
                Some(interrupt) => until_ended(out, &client, name, started, &interrupt, format),
            }
        }
        ScrubAct::Change(change) => {
            find::connect(places, name)?.control_scrub(*change)?;
            Answer::new(name, Applied::Done).print(
                out,
                format,
                &format!("scrub of {name}: {}", said_change(*change)),
            )
        }
        ScrubAct::Cancel => {
            let applied = find::connect(places, name)?.cancel_scrub()?;
            let text = match applied {
                Applied::Done => format!("scrub of {name} is cancelled; see: palisade scrub {name} --show"),
                Applied::Already => format!("no scrub of {name} runs"),
            };
            Answer::new(name, applied).print(out, format, &text)
        }
        ScrubAct::Show => match find::connect(places, name)?.scrubs()?.last {
            Some(last) => show(out, name, &last, format),
            None => Err(Error::new(ErrorKind::NotFound, "no scrub has ended yet")
                .array(name)
                .hint(format!("palisade scrub {name} --wait"))),
        },
    }
}

fn until_ended(
    out: &Out,
    client: &Client,
    name: &str,
    started: ScrubStarted,
    interrupt: &Interrupt,
    format: Format,
) -> Result<Exit> {
    if started.applied == Applied::Already {
        remark("one runs already; waiting for that");
    }
    if !wait::scrubbed(client, name, started.number, interrupt)? {
        remark(&format!("the scrub goes on without this command; see: palisade status {name} --watch"));
        return Ok(Exit::Interrupted);
    }
    let last = client.scrubs()?.last.filter(|last| last.summary.number == started.number);
    let last = last.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "another scrub has ended since, and what this one found is not known")
            .array(name)
    })?;
    let exit = show(out, name, &last, format)?;
    if last.summary.cancelled {
        let hint = format!("palisade scrub {name} --wait");
        return Err(Error::new(ErrorKind::Failed, "the scrub was cancelled").array(name).hint(hint));
    }
    Ok(exit)
}

fn show(out: &Out, name: &str, scrub: &ScrubDetails, format: Format) -> Result<Exit> {
    match format {
        Format::Text => out.text(&render::scrubbed(name, scrub, out.paint))?,
        Format::Json => out.json(&Shown { name, scrub })?,
    }
    Ok(if scrub.summary.is_well() { Exit::Ok } else { Exit::Damaged })
}

fn said(name: &str, start: ScrubStart, started: ScrubStarted, report: &Report) -> String {
    let kind = match start.mode {
        ScrubMode::Check => "check",
        ScrubMode::Repair => "scrub",
    };
    let first = report.tasks.first().filter(|task| task.kind != TaskKind::Scrub);
    let waits = if first.is_some() { ", and waits for rebuilding to end" } else { "" };
    match started.applied {
        Applied::Done => format!("{kind} of {name} started{waits}; see: palisade status {name} --watch"),
        Applied::Already => {
            format!("a {kind} of {name} runs already{waits}; see: palisade status {name} --watch")
        }
    }
}
