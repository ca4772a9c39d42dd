//! The blocking client the command line uses: one connection per request.

use super::message::{
    AddBody, AppliedBody, ErrorBody, MemberBody, MemberRefBody, OkBody, ReplaceBody, Version,
};
use crate::array::{Applied, MemberRef, RebuildControl, Report, ScrubRecord, ScrubStart, ScrubStarted};
use crate::error::{Error, ErrorKind, Result};
use http_body_util::{BodyExt, Full, Limited};
use hyper::Method;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Longer than a member may take (its deadline), several times in a row.
const ANSWER_TIME: Duration = Duration::from_secs(120);
/// Stopping waits for every request under way and a flush of every member.
const STOP_TIME: Duration = Duration::from_secs(600);
const RELEASE_TIME: Duration = Duration::from_secs(30);
/// A thousand findings of a scrub with long paths, twice, and more.
const ANSWER_BYTES: usize = 16 << 20;

/// A way to talk to one running array.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
}

/// What happens to the connection after the answer.
#[derive(Clone, Copy, PartialEq)]
enum After {
    Hangup,
    /// Wait until the daemon closes it, which it does last.
    AwaitEnd,
}

impl Client {
    /// Makes sure somebody listens at the control socket. A missing or dead socket is `NotFound`
    /// "array NAME is not running".
    pub fn connect(socket: &Path) -> Result<Self> {
        let client = Self { socket: socket.to_owned() };
        client.run(async { client.stream().await.map(drop) })?;
        Ok(client)
    }

    /// What the array says about itself.
    pub fn report(&self) -> Result<Report> {
        self.call(Method::GET, "/v1/status", None::<()>)
    }

    /// What build answers, and its process id.
    pub fn version(&self) -> Result<Version> {
        self.call(Method::GET, "/v1/version", None::<()>)
    }

    /// Marks a member faulty.
    pub fn fail(&self, member: &MemberRef) -> Result<Applied> {
        let body = MemberRefBody { member: whole(member)? };
        self.call(Method::POST, "/v1/members/fail", Some(body)).map(|b: AppliedBody| b.applied)
    }

    /// Starts filling `new` in place of `old`; says the new member's identity.
    pub fn replace(&self, old: &MemberRef, new: &str, force: bool) -> Result<MemberBody> {
        let body = ReplaceBody { old: whole(old)?, new: absolute(new)?, force };
        self.call(Method::POST, "/v1/members/replace", Some(body))
    }

    /// Attaches a spare, or takes back a member that was lost.
    pub fn add(&self, path: &str, force: bool) -> Result<MemberBody> {
        let body = AddBody { path: absolute(path)?, force };
        self.call(Method::POST, "/v1/members", Some(body))
    }

    /// Detaches a member.
    pub fn remove(&self, member: &MemberRef) -> Result<Applied> {
        let body = MemberRefBody { member: whole(member)? };
        self.call(Method::POST, "/v1/members/remove", Some(body)).map(|b: AppliedBody| b.applied)
    }

    /// Changes how rebuilds run.
    pub fn rebuild(&self, change: RebuildControl) -> Result<()> {
        self.call(Method::PATCH, "/v1/rebuild", Some(change)).map(|_: OkBody| ())
    }

    /// What scrubs found.
    pub fn scrubs(&self) -> Result<ScrubRecord> {
        self.call(Method::GET, "/v1/scrub", None::<()>)
    }

    /// Starts a scrub.
    pub fn start_scrub(&self, start: ScrubStart) -> Result<ScrubStarted> {
        self.call(Method::POST, "/v1/scrub", Some(start))
    }

    /// Changes how the scrub that runs goes on.
    pub fn control_scrub(&self, change: RebuildControl) -> Result<()> {
        self.call(Method::PATCH, "/v1/scrub", Some(change)).map(|_: OkBody| ())
    }

    /// Ends the scrub that runs.
    pub fn cancel_scrub(&self) -> Result<Applied> {
        self.call(Method::DELETE, "/v1/scrub", None::<()>).map(|b: AppliedBody| b.applied)
    }

    /// Stops the array; returns when the daemon has released everything.
    pub fn stop(&self) -> Result<()> {
        let ask = self.ask(Method::POST, "/v1/stop", Bytes::new(), After::AwaitEnd);
        let answer = self.run(async { self.within(STOP_TIME, ask).await })?;
        self.understand::<OkBody>(&answer).map(drop)
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<impl Serialize>,
    ) -> Result<T> {
        let body = match &body {
            Some(body) => serde_json::to_vec(body)
                .map_err(|e| Error::new(ErrorKind::InvalidInput, "cannot write the request").source(e))?,
            None => Vec::new(),
        };
        let ask = self.ask(method, path, body.into(), After::Hangup);
        let answer = self.run(async { self.within(ANSWER_TIME, ask).await })?;
        self.understand(&answer)
    }

    fn run<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|e| Error::io("cannot talk to a daemon", e))?.block_on(future)
    }

    async fn within<T>(&self, limit: Duration, future: impl Future<Output = Result<T>>) -> Result<T> {
        timeout(limit, future).await.unwrap_or_else(|_| {
            let what = format!("the daemon did not answer within {} seconds", limit.as_secs());
            Err(self.about(ErrorKind::Timeout, what).hint(format!("look into {}", self.log().display())))
        })
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes, after: After) -> Result<(bool, Bytes)> {
        let broken = |e: hyper::Error| {
            self.about(ErrorKind::Io, "the conversation with the daemon broke off")
                .hint(format!("look into {}", self.log().display()))
                .source(e)
        };
        let stream = TokioIo::new(self.stream().await?);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(broken)?;
        let connection = tokio::spawn(connection);
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "palisade")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|e| Error::new(ErrorKind::InvalidInput, "cannot write the request").source(e))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let success = response.status().is_success();
        let answer = Limited::new(response.into_body(), ANSWER_BYTES)
            .collect()
            .await
            .map_err(|e| self.about(ErrorKind::Io, "cannot read the daemon's answer").source(e))?;
        if after == After::AwaitEnd && success {
            // Failing to see the end is no failure of the stop: it was answered.
            let _ = timeout(RELEASE_TIME, connection).await;
        }
        drop(sender);
        Ok((success, answer.to_bytes()))
    }

    async fn stream(&self) -> Result<UnixStream> {
        use std::io::ErrorKind as K;
        match timeout(CONNECT_TIME, UnixStream::connect(&self.socket)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(e)) if matches!(e.kind(), K::NotFound | K::ConnectionRefused) => {
                let name = self.name();
                Err(Error::new(ErrorKind::NotFound, format!("array {name} is not running"))
                    .hint(format!("palisade start {name}")))
            }
            Ok(Err(e)) => {
                Err(Error::io(format!("cannot talk to the daemon at {}", self.socket.display()), e)
                    .array(self.name()))
            }
            Err(_) => Err(self.about(ErrorKind::Timeout, "the daemon does not accept connections")),
        }
    }

    fn understand<T: DeserializeOwned>(&self, (success, body): &(bool, Bytes)) -> Result<T> {
        let strange = |e: serde_json::Error| {
            self.about(ErrorKind::Protocol, "the daemon's answer is not what this build understands")
                .hint("stop and start the array if palisade was updated while it ran")
                .source(e)
        };
        if *success {
            return serde_json::from_slice(body).map_err(strange);
        }
        let error: ErrorBody = serde_json::from_slice(body).map_err(strange)?;
        Err(error.error.into_error())
    }

    fn about(&self, kind: ErrorKind, what: impl Into<String>) -> Error {
        Error::new(kind, what).array(self.name())
    }

    /// The socket lies in a folder named as the array.
    fn name(&self) -> String {
        let folder = self.socket.parent().and_then(Path::file_name);
        folder.map_or_else(|| self.socket.display().to_string(), |n| n.to_string_lossy().into_owned())
    }

    fn log(&self) -> PathBuf {
        self.socket.with_file_name("log")
    }
}

/// A member named so that the daemon, which runs in another folder, understands it.
fn whole(member: &MemberRef) -> Result<MemberRef> {
    match member {
        MemberRef::Path(path) => absolute(path).map(MemberRef::Path),
        other => Ok(other.clone()),
    }
}

fn absolute(path: &str) -> Result<String> {
    let full = std::path::absolute(path).map_err(|e| Error::io("is no path", e).member(path))?;
    full.into_os_string().into_string().map_err(|_| {
        Error::new(ErrorKind::InvalidInput, "the path is not readable text (UTF-8)").member(path)
    })
}
