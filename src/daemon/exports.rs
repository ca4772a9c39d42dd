//! Serving the volume: listeners, and handing what they accept to the threads in turn.

use super::config::{Config, ExportConfig};
use super::places::{Places, check_socket_path};
use crate::array::ExportReport;
use crate::env::Env;
use crate::env::real::{Listener, Remote, Runtime, Socket};
use crate::error::Result;
use crate::export::{ReadOnly, Volume};
use crate::nbd::{self, Export, Exports, Limits};
use futures::channel::oneshot;
use futures::future::{Either, select};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// After an accept that failed for want of files or memory.
const BREATHER: Duration = Duration::from_millis(100);

/// A served array.
pub struct Served {
    doors: Vec<Door>,
}

struct Door {
    exports: Arc<Exports>,
    uri: String,
    read_only: bool,
    /// Dropped to stop accepting.
    open: Option<oneshot::Sender<()>>,
}

impl Served {
    /// Opens every listener of the configuration, then begins to accept.
    pub fn start(
        config: &Config,
        places: &Places,
        volume: &Arc<dyn Volume>,
        runtime: &Runtime,
    ) -> Result<Self> {
        let standard = [ExportConfig::default()];
        let wanted = if config.exports.is_empty() { &standard[..] } else { &config.exports };
        let mut opened = Vec::new();
        for export in wanted {
            opened.push((listen(export, config, places)?, export));
        }
        let remotes: Vec<Remote> = (0..runtime.threads()).map(|i| runtime.remote(i)).collect();
        let mut doors = Vec::new();
        for ((listener, uri), export) in opened {
            let exports = exports_for(export, config, volume)?;
            let (open, closed) = oneshot::channel();
            let (env, theirs, remotes) = (runtime.env(), Arc::clone(&exports), remotes.clone());
            let limits = Limits {
                max_connections: config.max_connections,
                max_inflight_bytes_per_connection: config.inflight_bytes,
                ..Limits::default()
            };
            runtime.remote(0).spawn(move || accept(listener, theirs, env, limits, remotes, closed));
            tracing::info!("serving {uri}");
            doors.push(Door { exports, uri, read_only: export.read_only, open: Some(open) });
        }
        Ok(Self { doors })
    }

    /// For the report.
    pub fn report(&self) -> Vec<ExportReport> {
        let row = |d: &Door| ExportReport {
            uri: d.uri.clone(),
            read_only: d.read_only,
            connections: d.exports.in_use().iter().map(|u| u.connections as u64).sum(),
        };
        self.doors.iter().map(row).collect()
    }

    /// Where it is served.
    pub fn uris(&self) -> Vec<String> {
        self.doors.iter().map(|d| d.uri.clone()).collect()
    }

    /// Takes no new connection and no new request.
    pub fn shutdown(&mut self) {
        for door in &mut self.doors {
            door.open = None;
            door.exports.shutdown();
        }
    }

    /// What [`wait_idle`] waits for.
    pub fn exports(&self) -> Vec<Arc<Exports>> {
        self.doors.iter().map(|d| Arc::clone(&d.exports)).collect()
    }
}

/// Completes when requests under way are answered and connections closed.
pub async fn wait_idle(exports: Vec<Arc<Exports>>) {
    for exports in exports {
        exports.wait_idle().await;
    }
}

fn exports_for(export: &ExportConfig, config: &Config, volume: &Arc<dyn Volume>) -> Result<Arc<Exports>> {
    let volume: Arc<dyn Volume> =
        if export.read_only { Arc::new(ReadOnly(Arc::clone(volume))) } else { Arc::clone(volume) };
    let exports = Exports::new();
    let name = export_name(export, config);
    exports.add(Export { name, description: format!("palisade array {}", config.name), volume })?;
    Ok(exports)
}

fn export_name(export: &ExportConfig, config: &Config) -> String {
    export.name.clone().unwrap_or_else(|| config.name.clone())
}

fn listen(export: &ExportConfig, config: &Config, places: &Places) -> Result<(Listener, String)> {
    let name = export_name(export, config);
    if let Some(address) = export.tcp {
        let listener = Listener::tcp(address)?;
        let uri = format!("nbd://{}/{name}", listener.local_addr_text());
        return Ok((listener, uri));
    }
    let socket = export.socket.clone().unwrap_or_else(|| places.nbd_socket(&config.name));
    check_socket_path(&socket)?;
    Ok((Listener::unix(&socket)?, nbd_uri(&name, &socket)))
}

/// `nbd+unix:///NAME?socket=PATH`, ready to paste into an NBD client.
pub fn nbd_uri(name: &str, socket: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt;
    let mut uri = format!("nbd+unix:///{name}?socket=");
    for byte in socket.as_os_str().as_bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() || b"/._-~".contains(b) => uri.push(char::from(*b)),
            // Writing to a String cannot fail.
            b => drop(write!(uri, "%{b:02X}")),
        }
    }
    uri
}

async fn accept(
    listener: Listener,
    exports: Arc<Exports>,
    env: Env,
    limits: Limits,
    remotes: Vec<Remote>,
    mut closed: oneshot::Receiver<()>,
) {
    for remote in remotes.iter().cycle() {
        let accepted = match select(pin!(listener.accept()), &mut closed).await {
            Either::Left((accepted, _)) => accepted,
            Either::Right(_) => return,
        };
        match accepted {
            Ok(fd) => {
                let (exports, env, limits) = (Arc::clone(&exports), env.clone(), limits.clone());
                remote.spawn(move || async move {
                    if let Err(e) = nbd::serve(Socket::from_fd(fd), exports, env, limits).await {
                        tracing::info!("NBD connection ended: {}", e.report());
                    }
                });
            }
            Err(e) => {
                tracing::warn!("cannot accept a connection on {}: {e}", listener.local_addr_text());
                env.sleep(BREATHER).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_can_be_pasted_whatever_the_path() {
        assert_eq!(
            nbd_uri("tank", Path::new("/run/p/tank/nbd.sock")),
            "nbd+unix:///tank?socket=/run/p/tank/nbd.sock"
        );
        assert_eq!(nbd_uri("t", Path::new("/a b&c")), "nbd+unix:///t?socket=/a%20b%26c");
    }
}
