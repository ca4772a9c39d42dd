//! `palisade completions`: a script for a shell.

use crate::cli::args::Cli;
use crate::cli::exit::Exit;
use crate::cli::out::Out;
use crate::error::Result;
use clap::CommandFactory;
use clap_complete::Shell;

/// Prints the script.
pub fn completions(out: &Out, shell: Shell) -> Result<Exit> {
    // Through memory, because clap panics if it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "palisade", &mut script);
    out.text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}
