//! What keeps a journal frame in the ring.

use std::sync::Arc;

/// Keeps a frame, and with it all later ones, in the ring until it is dropped and a sync followed.
pub trait Pin: Send + Sync {
    /// Number of the oldest frame it keeps.
    fn seq(&self) -> u64;
}

/// A pin shared by everything that was changed by one frame.
pub type Pinned = Arc<dyn Pin>;

/// The older of two pins: it keeps what the other keeps.
pub fn older(a: Option<Pinned>, b: Option<Pinned>) -> Option<Pinned> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.seq() < a.seq() { b } else { a }),
        (a, b) => a.or(b),
    }
}
