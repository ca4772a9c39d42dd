//! Notices a peer that stalls in the middle of something, at the cost of one timer per connection
//! rather than one per transfer.

use crate::env::Env;
use std::cell::Cell;
use std::time::Duration;

/// Signs of life of one connection.
#[derive(Default)]
pub(super) struct Pulse {
    /// Waiting for the rest of a message whose first bytes are here.
    pub mid_message: Cell<bool>,
    /// Grows whenever bytes come.
    pub received: Cell<u64>,
    /// A send is under way.
    pub sending: Cell<bool>,
    /// Grows whenever a send ends.
    pub sent: Cell<u64>,
}

impl Pulse {
    fn look(&self) -> (Option<u64>, Option<u64>) {
        (self.mid_message.get().then(|| self.received.get()), self.sending.get().then(|| self.sent.get()))
    }

    /// Ends when receiving a message or sending a reply made no progress for `limit` (noticed
    /// after at most twice that).
    pub async fn stalled(&self, env: &Env, limit: Duration) {
        loop {
            let before = self.look();
            env.sleep(limit).await;
            let after = self.look();
            let stuck = |b: Option<u64>, a: Option<u64>| b.is_some() && b == a;
            if stuck(before.0, after.0) || stuck(before.1, after.1) {
                return;
            }
        }
    }
}
