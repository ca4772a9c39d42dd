//! One connection, from greeting to end.

use super::connection::transmit;
use super::exports::{Exports, Guest};
use super::handshake::{Agreed, negotiate};
use super::inbox::Inbox;
use super::limits::Limits;
use super::pulse::Pulse;
use crate::env::{Env, Stream, deadline};
use crate::error::{Error, ErrorKind, Result};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

/// Serves one connection until the client leaves, breaks the protocol or stalls, or the exports
/// shut down. Returns once every request taken up is finished and the stream is closed. An error
/// says why the connection ended; it concerns nobody else.
pub async fn serve(
    stream: impl Stream + 'static,
    exports: Arc<Exports>,
    env: Env,
    limits: Limits,
) -> Result<()> {
    let stream: Rc<dyn Stream> = Rc::new(stream);
    let result = serve_until_end(&stream, exports, env, &limits).await;
    stream.close();
    result
}

async fn serve_until_end(
    stream: &Rc<dyn Stream>,
    exports: Arc<Exports>,
    env: Env,
    limits: &Limits,
) -> Result<()> {
    let mut guest = exports.enter(limits.max_connections)?;
    let pulse = Rc::new(Pulse::default());
    let mut inbox = Inbox::new(stream.clone(), env.clone(), pulse.clone());
    let haggling = unless_shut_down(&guest, negotiate(&**stream, &mut inbox, &exports, limits));
    let agreed = deadline(&env, limits.handshake_timeout, haggling).await;
    let timeout = || Error::new(ErrorKind::Timeout, "the client did not finish the handshake in time");
    let Some(Agreed { entry, rules }) = agreed.ok_or_else(timeout)?? else { return Ok(()) };
    guest.attach(entry.clone());
    transmit(stream, inbox, &guest, &*entry.export.volume, rules, pulse, &env, limits).await
}

/// The handshake, which a shutdown ends as soon as it has nothing to do but wait.
async fn unless_shut_down(
    guest: &Guest,
    handshake: impl Future<Output = Result<Option<Agreed>>>,
) -> Result<Option<Agreed>> {
    let mut handshake = pin!(handshake);
    poll_fn(|cx| {
        guest.waker.register(cx.waker());
        match handshake.as_mut().poll(cx) {
            Poll::Pending if guest.exports.is_shutting_down() => Poll::Ready(Ok(None)),
            poll => poll,
        }
    })
    .await
}
