//! All arrays and whether they run.

use super::Places;
use crate::array::Report;
use crate::control::Client;
use crate::error::{ErrorKind, Result};

/// An array that has a configuration.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: RunState,
}

/// Whether an array runs.
#[derive(Debug)]
pub enum RunState {
    /// It runs and says this.
    Running(Box<Report>),
    /// No daemon.
    Stopped,
    /// A daemon holds the socket and failed to answer; why.
    Unknown(String),
}

/// Every array with a configuration, by name.
pub fn list(places: &Places) -> Result<Vec<Listed>> {
    let names = places.names()?;
    Ok(names.into_iter().map(|name| Listed { state: state_of(places, &name), name }).collect())
}

fn state_of(places: &Places, name: &str) -> RunState {
    match Client::connect(&places.control_socket(name)).and_then(|c| c.report()) {
        Ok(report) => RunState::Running(Box::new(report)),
        Err(e) if e.kind() == ErrorKind::NotFound => RunState::Stopped,
        Err(e) => RunState::Unknown(e.report()),
    }
}
