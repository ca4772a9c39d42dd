//! The exports of a server and who is connected to them.

use crate::error::{Error, ErrorKind, Result};
use crate::export::Volume;
use futures::task::AtomicWaker;
use slab::Slab;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// A volume under a name.
#[derive(Clone)]
pub struct Export {
    /// What clients ask for; unique, at most 4096 bytes.
    pub name: String,
    /// Shown to people who list exports; may be empty.
    pub description: String,
    /// What is served.
    pub volume: Arc<dyn Volume>,
}

/// An export as a report shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportUse {
    /// Its name.
    pub name: String,
    /// Clients in transmission.
    pub connections: usize,
}

pub(super) struct Entry {
    pub export: Export,
    connections: AtomicUsize,
}

#[derive(Default)]
struct State {
    entries: Vec<Arc<Entry>>,
    /// One waker per connection, from greeting to end, to tell it of the shutdown.
    connections: Slab<Arc<AtomicWaker>>,
    waiting_for_idle: Vec<Waker>,
}

/// The exports of a server; shared by its connections on all threads.
#[derive(Default)]
pub struct Exports {
    state: Mutex<State>,
    shutting_down: AtomicBool,
}

impl Exports {
    /// No exports yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds an export; fails if the name is taken or no name at all.
    pub fn add(&self, export: Export) -> Result<()> {
        let bad = |kind, what: &str| Err(Error::new(kind, format!("export '{}': {what}", export.name)));
        if export.name.len() > super::wire::MAX_STRING_BYTES || export.name.contains('\0') {
            return bad(ErrorKind::InvalidInput, "not a name");
        }
        let mut state = self.lock();
        if state.entries.iter().any(|e| e.export.name == export.name) {
            return bad(ErrorKind::AlreadyExists, "the name is taken");
        }
        state.entries.push(Arc::new(Entry { export, connections: AtomicUsize::new(0) }));
        Ok(())
    }

    /// Every export and how many clients use it.
    pub fn in_use(&self) -> Vec<ExportUse> {
        let connections = |e: &Entry| e.connections.load(Ordering::Relaxed);
        let state = self.lock();
        let row = |e: &Arc<Entry>| ExportUse { name: e.export.name.clone(), connections: connections(e) };
        state.entries.iter().map(row).collect()
    }

    /// Connections, including those still haggling.
    pub fn connections(&self) -> usize {
        self.lock().connections.len()
    }

    /// From now on: no new connections, no new requests. Requests under way are finished, what
    /// comes after them is answered with ESHUTDOWN, then connections close.
    pub fn shutdown(&self) {
        self.shutting_down.store(true, Ordering::SeqCst);
        let wakers: Vec<_> = self.lock().connections.iter().map(|(_, w)| w.clone()).collect();
        wakers.iter().for_each(|w| w.wake());
    }

    /// Whether [`Exports::shutdown`] was called.
    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::SeqCst)
    }

    /// Completes when there is no connection.
    pub async fn wait_idle(&self) {
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.connections.is_empty() {
                return Poll::Ready(());
            }
            if !state.waiting_for_idle.iter().any(|w| w.will_wake(cx.waker())) {
                state.waiting_for_idle.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds by name; the empty name is the only export unless one has that very name.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Entry>> {
        let state = self.lock();
        let by_name = state.entries.iter().find(|e| e.export.name == name);
        let only = state.entries.first().filter(|_| name.is_empty() && state.entries.len() == 1);
        by_name.or(only).cloned()
    }

    /// Name and description of every export.
    pub(super) fn list(&self) -> Vec<(String, String)> {
        let row = |e: &Arc<Entry>| (e.export.name.clone(), e.export.description.clone());
        self.lock().entries.iter().map(row).collect()
    }

    /// Counts a new connection in.
    pub(super) fn enter(self: &Arc<Self>, max: usize) -> Result<Guest> {
        let mut state = self.lock();
        // Under the lock, so that a shutdown either is seen here or sees the new waker.
        if self.is_shutting_down() {
            return Err(Error::new(ErrorKind::ShuttingDown, "the server is shutting down"));
        }
        if state.connections.len() >= max {
            let what = format!("{max} connections are open already");
            return Err(Error::new(ErrorKind::Busy, what).hint("raise the limit on connections"));
        }
        let waker = Arc::new(AtomicWaker::new());
        let key = state.connections.insert(waker.clone());
        drop(state);
        Ok(Guest { exports: self.clone(), key, waker, entry: None })
    }
}

/// A connection's presence in the count; leaves when dropped.
pub(super) struct Guest {
    pub exports: Arc<Exports>,
    key: usize,
    /// To be registered at each poll; woken by the shutdown.
    pub waker: Arc<AtomicWaker>,
    entry: Option<Arc<Entry>>,
}

impl Guest {
    /// Counts the connection as a user of an export.
    pub fn attach(&mut self, entry: Arc<Entry>) {
        entry.connections.fetch_add(1, Ordering::Relaxed);
        self.entry = Some(entry);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            entry.connections.fetch_sub(1, Ordering::Relaxed);
        }
        let mut state = self.exports.lock();
        state.connections.try_remove(self.key);
        let wakers = match state.connections.is_empty() {
            true => std::mem::take(&mut state.waiting_for_idle),
            false => Vec::new(),
        };
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}
