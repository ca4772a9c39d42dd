//! What one peer, and all of them together, may cost.

use std::time::Duration;

/// Bounds on connections and on what each may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, over all exports; more are closed at once.
    pub max_connections: usize,
    /// Longest read or write; announced to the client as its maximum payload.
    pub max_request_bytes: u32,
    /// A refused write's payload is skipped up to this length; a longer one ends the connection.
    pub max_skipped_bytes: u64,
    /// Bytes of payload and of unsent replies a connection may have at once. One request is always
    /// allowed, so the bound is the larger of this and `max_request_bytes`.
    pub max_inflight_bytes_per_connection: u64,
    /// Requests a connection may have taken up and not yet answered.
    pub max_inflight_requests_per_connection: usize,
    /// From connecting to the end of option haggling.
    pub handshake_timeout: Duration,
    /// A peer that takes nothing of a reply, or sends nothing of the rest of a request, for this
    /// long is dropped. An idle peer is not.
    pub stall_timeout: Duration,
    /// After a shutdown, a peer that does not take its last replies in this time is dropped.
    pub shutdown_grace: Duration,
}

impl Limits {
    /// The longest read or write, kept where lengths with their overhead fit 32 bits.
    pub(super) fn max_payload_bytes(&self) -> u32 {
        self.max_request_bytes.clamp(4096, 1 << 30)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 256,
            max_request_bytes: 32 << 20,
            max_skipped_bytes: 64 << 20,
            max_inflight_bytes_per_connection: 64 << 20,
            max_inflight_requests_per_connection: 256,
            handshake_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}
