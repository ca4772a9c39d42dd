//! Finding an array by name, running or not, and what to say if there is none.

use crate::array::Report;
use crate::control::Client;
use crate::daemon::{Config, Places, RunState, list};
use crate::error::{Error, ErrorKind, Result};

/// An array as far as it can be had.
#[derive(Debug)]
pub enum Found {
    /// It runs and says this.
    Running(Box<Report>),
    /// It has a configuration and no daemon.
    Stopped {
        /// Its name.
        name: String,
        /// Its configuration, or why that cannot be read.
        config: Result<Config>,
    },
    /// Its daemon does not answer.
    Silent {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
}

impl Found {
    /// Name of the array.
    pub fn name(&self) -> &str {
        match self {
            Self::Running(report) => &report.name,
            Self::Stopped { name, .. } | Self::Silent { name, .. } => name,
        }
    }
}

/// Every array with a configuration.
pub fn all(places: &Places) -> Result<Vec<Found>> {
    let arrays = list(places)?.into_iter().map(|listed| match listed.state {
        RunState::Running(report) => Found::Running(named(report)),
        RunState::Stopped => Found::Stopped { config: Config::load(places, &listed.name), name: listed.name },
        RunState::Unknown(reason) => Found::Silent { name: listed.name, reason },
    });
    Ok(arrays.collect())
}

/// One array, whatever it does; an error only if it is not known.
pub fn one(places: &Places, name: &str) -> Result<Found> {
    match running(places, name) {
        Ok(Some(client)) => Ok(match client.report() {
            Ok(report) => Found::Running(named(Box::new(report))),
            Err(e) => Found::Silent { name: name.to_owned(), reason: e.report() },
        }),
        Ok(None) => Ok(Found::Stopped { name: name.to_owned(), config: Config::load(places, name) }),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(e),
        Err(e) => Ok(Found::Silent { name: name.to_owned(), reason: e.report() }),
    }
}

/// A way to talk to an array; `None` if it is known and not running.
pub fn running(places: &Places, name: &str) -> Result<Option<Client>> {
    // The daemon first: it runs even if somebody deleted its configuration.
    match Client::connect(&places.control_socket(name)) {
        Ok(client) => Ok(Some(client)),
        Err(e) if e.kind() == ErrorKind::NotFound => known(places, name).map(|()| None),
        Err(e) => Err(e),
    }
}

/// A way to talk to an array that must run.
pub fn connect(places: &Places, name: &str) -> Result<Client> {
    running(places, name)?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "is not running").array(name).hint(format!("palisade start {name}"))
    })
}

/// Refuses a name without a configuration.
pub fn known(places: &Places, name: &str) -> Result<()> {
    let names = places.names()?;
    if names.iter().any(|n| n == name) {
        return Ok(());
    }
    Err(unknown(name, &names, &places.config_dir.display().to_string()))
}

fn unknown(name: &str, names: &[String], folder: &str) -> Error {
    let error = Error::new(ErrorKind::NotFound, format!("there is no array named {name}"));
    if names.is_empty() {
        return error.hint(format!(
            "palisade create {name} MEMBER... --data K --parity M (no array is configured in {folder} yet)"
        ));
    }
    let near = names.iter().map(|n| (distance(name, n), n)).min().filter(|(d, _)| *d <= 1 + name.len() / 4);
    let all = format!("known arrays: {}", names.join(", "));
    match near {
        Some((_, near)) => error.hint(format!("did you mean {near}? ({all})")),
        None => error.hint(all),
    }
}

/// How many letters differ (Levenshtein), upper and lower case being the same.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let here = (diagonal + usize::from(x != y)).min(*cell + 1).min(left + 1);
            diagonal = std::mem::replace(cell, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Puts the array's name where an action says `NAME`.
fn named(mut report: Box<Report>) -> Box<Report> {
    let name = report.name.clone();
    for action in report.problems.iter_mut().filter_map(|p| p.action.as_mut()) {
        if action.split_whitespace().any(|word| word == "NAME") {
            let words = action.split(' ').map(|word| if word == "NAME" { name.as_str() } else { word });
            *action = words.collect::<Vec<_>>().join(" ");
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_gets_the_nearest_one_suggested() {
        let names = ["backup", "tank", "vault"].map(String::from);
        for (typed, near) in
            [("tnk", Some("tank")), ("Tank", Some("tank")), ("valt", Some("vault")), ("x", None)]
        {
            let hint = unknown(typed, &names, "/c").next_step().unwrap().to_owned();
            assert_eq!(hint.contains("did you mean"), near.is_some(), "{hint}");
            assert!(near.is_none_or(|n| hint.contains(&format!("mean {n}?"))), "{hint}");
            assert!(hint.contains("backup, tank, vault"));
        }
        assert!(unknown("x", &[], "/c").next_step().unwrap().starts_with("palisade create x "));
    }

    #[test]
    fn the_distance_counts_changed_letters() {
        for (a, b, d) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("tank", "TANK", 0)]
        {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
    }
}
