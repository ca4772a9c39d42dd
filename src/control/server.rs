//! The server on the control socket: HTTP/1.1 on a thread of its own, apart from the data path.
//!
//! Bounds: at most `MAX_CONNECTIONS` at once (more wait in the kernel's queue), `IDLE` for a
//! request head or between requests, `BODY_TIME` and `BODY_BYTES` for a body, 64 KiB of buffer.

use super::message::{Admin, ErrorBody, ErrorText, Request};
use super::route::{self, Refusal};
use crate::error::{Error, ErrorKind, Result};
use futures::future::{Either, select};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

const MAX_CONNECTIONS: usize = 32;
const BODY_BYTES: usize = 64 << 10;
const BUFFER_BYTES: usize = 64 << 10;
const IDLE: Duration = Duration::from_secs(10);
const BODY_TIME: Duration = Duration::from_secs(10);
/// Time for answers under way when the server stops.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A running server.
pub struct Server {
    stop: watch::Sender<bool>,
    thread: std::thread::JoinHandle<()>,
}

impl Server {
    /// Binds the socket (mode 0600) and serves it. The caller holds the array's lock: a socket
    /// that is there already is a dead one and is replaced.
    pub fn start(socket: &Path, admin: Arc<dyn Admin>) -> Result<Self> {
        let failed =
            |e: std::io::Error| Error::io(format!("cannot open the control socket {}", socket.display()), e);
        match std::fs::remove_file(socket) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let listener = std::os::unix::net::UnixListener::bind(socket).map_err(failed)?;
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (stop, stopped) = watch::channel(false);
        let listener = {
            let _in_runtime = runtime.enter();
            UnixListener::from_std(listener).map_err(failed)?
        };
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || runtime.block_on(accept(listener, admin, stopped)))
            .map_err(failed)?;
        Ok(Self { stop, thread })
    }

    /// Accepts nothing more, lets answers under way go out, closes every connection.
    pub fn stop(self) {
        self.stop.send_replace(true);
        if self.thread.join().is_err() {
            tracing::error!("the control server ended in a panic");
        }
    }
}

async fn accept(listener: UnixListener, admin: Arc<dyn Admin>, mut stopped: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (listener.accept().await, slot)
        };
        let (accepted, slot) = match select(pin!(next), pin!(told(&mut stopped))).await {
            Either::Left((next, _)) => next,
            Either::Right(_) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (admin, stopped) = (Arc::clone(&admin), stopped.clone());
                tokio::spawn(async move {
                    connection(stream, admin, stopped).await;
                    drop(slot);
                });
            }
            Err(e) => {
                tracing::warn!("cannot accept on the control socket: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    let _ = timeout(LAST_WORDS, slots.acquire_many(all)).await;
}

async fn told(stopped: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stopped.wait_for(|s| *s).await;
}

async fn connection(stream: UnixStream, admin: Arc<dyn Admin>, mut stopped: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(answer(request, &*admin).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(BUFFER_BYTES).max_headers(32);
    let mut http = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = match select(http.as_mut(), pin!(told(&mut stopped))).await {
        Either::Left((ended, _)) => ended,
        Either::Right(_) => {
            http.as_mut().graceful_shutdown();
            http.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!("control connection: {e}");
    }
}

async fn answer(request: hyper::Request<Incoming>, admin: &dyn Admin) -> Response<Full<Bytes>> {
    let reply = match understand(request).await {
        Ok(request) => admin.handle(request).await.map_err(Refusal::from),
        Err(refusal) => Err(refusal),
    };
    match reply {
        Ok(reply) => respond(StatusCode::OK, &reply),
        Err(refusal) => respond(refusal.status, &ErrorBody { error: ErrorText::of(&refusal.error) }),
    }
}

async fn understand(request: hyper::Request<Incoming>) -> std::result::Result<Request, Refusal> {
    let (head, body) = request.into_parts();
    route::check(&head.method, head.uri.path())?;
    let refusal = |status, kind, what: String| Refusal { status, error: Error::new(kind, what) };
    let body = match timeout(BODY_TIME, Limited::new(body, BODY_BYTES).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(e)) if e.is::<LengthLimitError>() => {
            let what = format!("a body may have at most {BODY_BYTES} bytes");
            return Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::InvalidInput, what));
        }
        Ok(Err(e)) => {
            let what = format!("cannot read the body: {e}");
            return Err(refusal(StatusCode::BAD_REQUEST, ErrorKind::Protocol, what));
        }
        Err(_) => {
            let what = "the body did not come in time".to_owned();
            return Err(refusal(StatusCode::REQUEST_TIMEOUT, ErrorKind::Timeout, what));
        }
    };
    route::parse(&head.method, head.uri.path(), &body)
}

fn respond(status: StatusCode, body: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let (status, mut text) = match serde_json::to_vec_pretty(body) {
        Ok(text) => (status, text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, b"{}".to_vec()),
    };
    text.push(b'\n');
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
