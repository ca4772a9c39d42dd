//! The client's half of the handshake.

use crate::env::Stream;
use crate::error::{Error, ErrorKind, Result};
use crate::nbd::inbox::Inbox;
use crate::nbd::wire::{
    ALLOCATION, Fields, Framing, INIT_MAGIC, OPTION_MAGIC, OPTION_REPLY_MAGIC, flag, hello, info, opt, rep,
};
use bytes::{BufMut, Bytes, BytesMut};

/// An option's reply longer than this is not believed.
const MAX_REPLY_BYTES: u32 = 64 << 10;
/// Nor are more replies to one option than this.
const MAX_REPLIES: usize = 4096;
/// What a server that does not say takes.
const DEFAULT_MAX_REQUEST_BYTES: u32 = 32 << 20;

/// Which headers to ask for; a server that lacks them is asked for the next simpler ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Headers {
    /// The oldest: no block status, errors without text.
    Simple,
    /// Structured replies.
    Structured,
    /// 64-bit requests and replies.
    #[default]
    Extended,
}

/// What to ask the server for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Name of the export; empty for the default one.
    pub export: String,
    /// The most capable headers to use.
    pub headers: Headers,
    /// Ask for `base:allocation`, for block status.
    pub allocation: bool,
}

/// What the server said of the export, and what was agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportInfo {
    /// Size in bytes.
    pub size_bytes: u64,
    /// Transmission flags as on the wire.
    pub flags: u16,
    /// Preferred size and alignment of requests.
    pub preferred_bytes: u32,
    /// Longest read or write.
    pub max_request_bytes: u32,
    /// The headers in use.
    pub headers: Headers,
    /// Metadata context id of `base:allocation`, if it was selected.
    pub(super) allocation_id: Option<u32>,
}

impl ExportInfo {
    /// Whether writes are refused.
    pub fn read_only(&self) -> bool {
        self.flags & flag::READ_ONLY != 0
    }

    /// Whether block status may be asked for.
    pub fn has_status(&self) -> bool {
        self.allocation_id.is_some()
    }

    pub(super) fn framing(&self) -> Framing {
        match self.headers {
            Headers::Simple => Framing::Simple,
            Headers::Structured => Framing::Structured,
            Headers::Extended => Framing::Extended,
        }
    }
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("the server broke the protocol: {what}"))
}

struct Haggle<'a> {
    stream: &'a dyn Stream,
    inbox: &'a mut Inbox,
}

/// Runs the handshake up to the start of the transmission.
pub(super) async fn negotiate(
    stream: &dyn Stream,
    inbox: &mut Inbox,
    options: &Options,
) -> Result<ExportInfo> {
    let mut haggle = Haggle { stream, inbox };
    haggle.greet().await?;
    let headers = haggle.headers(options.headers).await?;
    let mut allocation_id = None;
    if options.allocation && headers != Headers::Simple {
        allocation_id = haggle.select_allocation(&options.export).await?;
    }
    haggle.go(&options.export, headers, allocation_id).await
}

impl Haggle<'_> {
    async fn greet(&mut self) -> Result<()> {
        if !self.inbox.fill(18, false).await? {
            return Err(Error::new(ErrorKind::ShuttingDown, "the server closed the connection at once"));
        }
        let mut fields = Fields(self.inbox.bytes());
        let greeting = (fields.u64(), fields.u64(), fields.u16());
        let (Some(INIT_MAGIC), Some(OPTION_MAGIC), Some(flags)) = greeting else {
            return Err(broken("not a newstyle NBD greeting"));
        };
        self.inbox.consume(18);
        if flags & hello::FIXED_NEWSTYLE == 0 {
            return Err(Error::new(ErrorKind::Unsupported, "the server lacks the fixed newstyle handshake"));
        }
        let answer = flags & (hello::FIXED_NEWSTYLE | hello::NO_ZEROES);
        self.send(Bytes::copy_from_slice(&u32::from(answer).to_be_bytes())).await
    }

    async fn headers(&mut self, most: Headers) -> Result<Headers> {
        for (headers, option) in
            [(Headers::Extended, opt::EXTENDED_HEADERS), (Headers::Structured, opt::STRUCTURED_REPLY)]
        {
            if headers <= most && self.option(option, &[]).await?.is_ok() {
                return Ok(headers);
            }
        }
        Ok(Headers::Simple)
    }

    async fn select_allocation(&mut self, export: &str) -> Result<Option<u32>> {
        let mut data = BytesMut::new();
        put_string(&mut data, export);
        data.put_u32(1);
        put_string(&mut data, ALLOCATION);
        let Ok(replies) = self.option(opt::SET_META_CONTEXT, &data).await? else { return Ok(None) };
        let id = |(kind, data): &(u32, Bytes)| {
            let mut fields = Fields(data);
            let id = fields.u32()?;
            (*kind == rep::META_CONTEXT && fields.0 == ALLOCATION.as_bytes()).then_some(id)
        };
        Ok(replies.iter().find_map(id))
    }

    async fn go(&mut self, export: &str, headers: Headers, allocation_id: Option<u32>) -> Result<ExportInfo> {
        let mut data = BytesMut::new();
        put_string(&mut data, export);
        data.put_u16(1);
        data.put_u16(info::BLOCK_SIZE);
        let replies = self.option(opt::GO, &data).await??;
        let mut size_and_flags = None;
        let (mut preferred_bytes, mut max_request_bytes) = (4096, DEFAULT_MAX_REQUEST_BYTES);
        for (kind, data) in &replies {
            let mut fields = Fields(data);
            match (*kind, fields.u16()) {
                (rep::INFO, Some(info::EXPORT)) => size_and_flags = fields.u64().zip(fields.u16()),
                (rep::INFO, Some(info::BLOCK_SIZE)) => {
                    let sizes = (fields.u32(), fields.u32(), fields.u32());
                    let (Some(_), Some(preferred), Some(max)) = sizes else {
                        return Err(broken("malformed block sizes"));
                    };
                    (preferred_bytes, max_request_bytes) = (preferred, max.min(DEFAULT_MAX_REQUEST_BYTES));
                }
                _ => {}
            }
        }
        let (size_bytes, flags) = size_and_flags.ok_or_else(|| broken("no size of the export"))?;
        Ok(ExportInfo { size_bytes, flags, preferred_bytes, max_request_bytes, headers, allocation_id })
    }

    /// Sends an option and gathers its replies; the inner error is the server's refusal.
    async fn option(&mut self, option: u32, data: &[u8]) -> Result<Result<Vec<(u32, Bytes)>>> {
        let mut message = BytesMut::new();
        message.put_u64(OPTION_MAGIC);
        message.put_u32(option);
        message.put_u32(u32::try_from(data.len()).map_err(|_| broken("option too long"))?);
        message.put_slice(data);
        self.send(message.freeze()).await?;
        let mut replies = Vec::new();
        while replies.len() < MAX_REPLIES {
            let (kind, data) = self.reply(option).await?;
            match kind {
                rep::ACK => return Ok(Ok(replies)),
                _ if kind & rep::ERROR != 0 => return Ok(Err(refusal(kind, &data))),
                _ => replies.push((kind, data)),
            }
        }
        Err(broken("too many replies to an option"))
    }

    async fn reply(&mut self, option: u32) -> Result<(u32, Bytes)> {
        self.inbox.fill(20, true).await?;
        let mut fields = Fields(self.inbox.bytes());
        let header = (fields.u64(), fields.u32(), fields.u32(), fields.u32());
        let (Some(OPTION_REPLY_MAGIC), Some(to), Some(kind), Some(len)) = header else {
            return Err(broken("not a reply to an option"));
        };
        if to != option || len > MAX_REPLY_BYTES {
            return Err(broken("a reply to another option, or too long"));
        }
        self.inbox.consume(20);
        let len = len as usize;
        self.inbox.fill(len, true).await?;
        let data = Bytes::copy_from_slice(self.inbox.bytes().get(..len).unwrap_or(&[]));
        self.inbox.consume(len);
        Ok((kind, data))
    }

    async fn send(&mut self, bytes: Bytes) -> Result<()> {
        self.stream.send(vec![bytes]).await.map_err(|e| Error::io("cannot send to the server", e))
    }
}

fn put_string(data: &mut BytesMut, text: &str) {
    data.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    data.put_slice(text.as_bytes());
}

fn refusal(kind: u32, message: &[u8]) -> Error {
    let (kind, why) = match kind {
        rep::ERR_UNKNOWN => (ErrorKind::NotFound, "the server has no such export"),
        rep::ERR_SHUTDOWN => (ErrorKind::ShuttingDown, "the server is shutting down"),
        rep::ERR_UNSUP | rep::ERR_POLICY => (ErrorKind::Unsupported, "the server does not support an option"),
        _ => (ErrorKind::Protocol, "the server refused an option"),
    };
    match std::str::from_utf8(message) {
        Ok(text) if !text.is_empty() => Error::new(kind, format!("{why}: {text}")),
        _ => Error::new(kind, why),
    }
}
