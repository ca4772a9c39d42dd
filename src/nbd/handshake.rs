//! Fixed newstyle handshake, server side: greeting, then options until one of them starts the
//! transmission or ends the session.

use super::exports::{Entry, Exports};
use super::inbox::{INBOX_BYTES, Inbox};
use super::limits::Limits;
use super::options::{ContextRequest, InfoRequest, export_name};
use super::request::Rules;
use super::wire::{
    ALLOCATION, ALLOCATION_ID, Fields, Framing, INIT_MAGIC, OPTION_MAGIC, OPTION_REPLY_MAGIC, ZEROES_BYTES,
    clip, flag, hello, info, opt, rep,
};
use crate::env::Stream;
use crate::error::{Error, ErrorKind, Result};
use bytes::{BufMut, BytesMut};
use std::sync::Arc;

/// An option's data is read up to this length,
const MAX_OPTION_BYTES: usize = 64 << 10;
/// skipped up to this one, and ends the session beyond it.
const MAX_SKIPPED_OPTION_BYTES: u64 = 1 << 20;

const OPTION_HEADER_BYTES: usize = 16;
const _: () = assert!(MAX_OPTION_BYTES <= INBOX_BYTES);

/// What the two sides agreed on.
pub(super) struct Agreed {
    pub entry: Arc<Entry>,
    pub rules: Rules,
}

/// One handshake under way.
struct Handshake<'a> {
    exports: &'a Exports,
    limits: &'a Limits,
    no_zeroes: bool,
    framing: Framing,
    /// The export whose contexts were selected last, if any were.
    contexts_of: Option<Arc<Entry>>,
    out: BytesMut,
}

/// What comes after an option.
enum Next {
    Haggle,
    Transmit(Agreed),
    Close,
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::Protocol, what)
}

/// Runs the handshake. `None`: the client left in peace.
pub(super) async fn negotiate(
    stream: &dyn Stream,
    inbox: &mut Inbox,
    exports: &Exports,
    limits: &Limits,
) -> Result<Option<Agreed>> {
    let mut greeting = BytesMut::with_capacity(18);
    greeting.put_u64(INIT_MAGIC);
    greeting.put_u64(OPTION_MAGIC);
    greeting.put_u16(hello::FIXED_NEWSTYLE | hello::NO_ZEROES);
    send(stream, greeting).await?;
    if !inbox.fill(4, false).await? {
        return Ok(None);
    }
    let flags = Fields(inbox.bytes()).u32().unwrap_or(0);
    inbox.consume(4);
    if flags & !u32::from(hello::FIXED_NEWSTYLE | hello::NO_ZEROES) != 0 {
        return Err(broken("the client greeted with unknown flags"));
    }
    let mut handshake = Handshake {
        exports,
        limits,
        no_zeroes: flags & u32::from(hello::NO_ZEROES) != 0,
        framing: Framing::Simple,
        contexts_of: None,
        out: BytesMut::new(),
    };
    loop {
        let next = handshake.option(inbox).await?;
        let reply = handshake.out.split();
        let sent = if reply.is_empty() { Ok(()) } else { send(stream, reply).await };
        match next {
            // The client need not wait for the last word.
            Next::Close => return Ok(None),
            Next::Haggle => sent?,
            Next::Transmit(agreed) => return sent.map(|()| Some(agreed)),
        }
    }
}

async fn send(stream: &dyn Stream, bytes: BytesMut) -> Result<()> {
    stream.send(vec![bytes.freeze()]).await.map_err(|e| Error::io("cannot send to the client", e))
}

impl Handshake<'_> {
    /// Receives one option and answers it.
    async fn option(&mut self, inbox: &mut Inbox) -> Result<Next> {
        if !inbox.fill(OPTION_HEADER_BYTES, false).await? {
            return Ok(Next::Close);
        }
        let mut fields = Fields(inbox.bytes());
        let header = (fields.u64(), fields.u32(), fields.u32());
        let (Some(OPTION_MAGIC), Some(option), Some(len)) = header else {
            return Err(broken("the client sent no option where one was due"));
        };
        inbox.consume(OPTION_HEADER_BYTES);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > MAX_OPTION_BYTES {
            if len as u64 > MAX_SKIPPED_OPTION_BYTES || option == opt::EXPORT_NAME {
                return Err(broken("the client sent an option far too long"));
            }
            inbox.skip(len as u64).await?;
            self.refuse(option, rep::ERR_TOO_BIG, "the option is too long");
            return Ok(Next::Haggle);
        }
        inbox.fill(len, true).await?;
        let next = self.answer(option, inbox.bytes().get(..len).unwrap_or(&[]));
        inbox.consume(len);
        next
    }

    fn answer(&mut self, option: u32, data: &[u8]) -> Result<Next> {
        if option == opt::ABORT {
            self.reply(option, rep::ACK, &[]);
            return Ok(Next::Close);
        }
        if self.exports.is_shutting_down() {
            if option == opt::EXPORT_NAME {
                return Ok(Next::Close);
            }
            self.refuse(option, rep::ERR_SHUTDOWN, "the server is shutting down");
            return Ok(Next::Haggle);
        }
        let takes_data = matches!(
            option,
            opt::EXPORT_NAME | opt::INFO | opt::GO | opt::LIST_META_CONTEXT | opt::SET_META_CONTEXT
        );
        let known = takes_data
            || matches!(option, opt::LIST | opt::STARTTLS | opt::STRUCTURED_REPLY | opt::EXTENDED_HEADERS);
        if known && !takes_data && !data.is_empty() {
            self.refuse(option, rep::ERR_INVALID, "this option takes no data");
            return Ok(Next::Haggle);
        }
        match option {
            opt::EXPORT_NAME => return self.export_name(data),
            opt::INFO | opt::GO => return Ok(self.info(option, data)),
            opt::LIST => self.list(option),
            opt::STRUCTURED_REPLY => self.structured_reply(option),
            opt::EXTENDED_HEADERS => {
                self.framing = Framing::Extended;
                self.reply(option, rep::ACK, &[]);
            }
            opt::LIST_META_CONTEXT | opt::SET_META_CONTEXT => self.contexts(option, data),
            opt::STARTTLS => self.refuse(option, rep::ERR_POLICY, "TLS is not offered here"),
            _ => self.refuse(option, rep::ERR_UNSUP, "unknown option"),
        }
        Ok(Next::Haggle)
    }

    fn structured_reply(&mut self, option: u32) {
        if self.framing == Framing::Extended {
            return self.refuse(option, rep::ERR_EXT_HEADER_REQD, "extended headers are in use");
        }
        self.framing = Framing::Structured;
        self.reply(option, rep::ACK, &[]);
    }

    fn list(&mut self, option: u32) {
        for (name, description) in self.exports.list() {
            let len = u32::try_from(name.len()).unwrap_or(0).to_be_bytes();
            self.reply(option, rep::SERVER, &[&len, name.as_bytes(), clip(&description).as_bytes()]);
        }
        self.reply(option, rep::ACK, &[]);
    }

    fn export_name(&mut self, data: &[u8]) -> Result<Next> {
        let Some(entry) = export_name(data).and_then(|name| self.exports.find(name)) else {
            return Err(broken("the client asked for an export that does not exist"));
        };
        if self.framing == Framing::Extended {
            return Err(broken("the client used EXPORT_NAME after extended headers"));
        }
        let agreed = self.agree(entry);
        self.out.put_u64(agreed.rules.size_bytes);
        self.out.put_u16(transmission_flags(&agreed.rules));
        if !self.no_zeroes {
            self.out.put_bytes(0, ZEROES_BYTES);
        }
        Ok(Next::Transmit(agreed))
    }

    fn info(&mut self, option: u32, data: &[u8]) -> Next {
        let Some(request) = InfoRequest::parse(data) else {
            self.refuse(option, rep::ERR_INVALID, "malformed option");
            return Next::Haggle;
        };
        let Some(entry) = self.exports.find(request.name) else {
            self.refuse(option, rep::ERR_UNKNOWN, "no such export");
            return Next::Haggle;
        };
        let agreed = self.agree(entry);
        let rules = &agreed.rules;
        let flags = transmission_flags(rules).to_be_bytes();
        let size = rules.size_bytes.to_be_bytes();
        self.reply(option, rep::INFO, &[&info::EXPORT.to_be_bytes(), &size, &flags]);
        let export = &agreed.entry.export;
        for kind in [info::NAME, info::DESCRIPTION, info::BLOCK_SIZE] {
            if !request.wanted.contains(&kind) {
                continue;
            }
            let head = kind.to_be_bytes();
            match kind {
                info::NAME => self.reply(option, rep::INFO, &[&head, export.name.as_bytes()]),
                info::BLOCK_SIZE => {
                    let [min, preferred, max] = self.block_sizes(&agreed.entry).map(u32::to_be_bytes);
                    self.reply(option, rep::INFO, &[&head, &min, &preferred, &max]);
                }
                _ => self.reply(option, rep::INFO, &[&head, clip(&export.description).as_bytes()]),
            }
        }
        self.reply(option, rep::ACK, &[]);
        if option == opt::GO { Next::Transmit(agreed) } else { Next::Haggle }
    }

    /// Minimum, preferred and maximum. The preferred one is a power of two by the protocol's rule.
    fn block_sizes(&self, entry: &Entry) -> [u32; 3] {
        let max = self.limits.max_payload_bytes();
        let preferred = entry.export.volume.info().preferred_bytes.clamp(4096, 1 << 30);
        [1, preferred.next_power_of_two().min(max), max]
    }

    fn contexts(&mut self, option: u32, data: &[u8]) {
        let set = option == opt::SET_META_CONTEXT;
        if set {
            self.contexts_of = None;
        }
        if self.framing == Framing::Simple {
            return self.refuse(option, rep::ERR_INVALID, "negotiate structured replies first");
        }
        let Some(request) = ContextRequest::parse(data) else {
            return self.refuse(option, rep::ERR_INVALID, "malformed option");
        };
        let Some(entry) = self.exports.find(request.name) else {
            return self.refuse(option, rep::ERR_UNKNOWN, "no such export");
        };
        if request.allocation || (!set && (request.empty || request.wildcard)) {
            // The id in a list is reserved.
            let id = if set { ALLOCATION_ID } else { 0 };
            self.reply(option, rep::META_CONTEXT, &[&id.to_be_bytes(), ALLOCATION.as_bytes()]);
            if set {
                self.contexts_of = Some(entry);
            }
        }
        self.reply(option, rep::ACK, &[]);
    }

    fn agree(&self, entry: Arc<Entry>) -> Agreed {
        let volume = entry.export.volume.info();
        let rules = Rules {
            framing: self.framing,
            contexts: self.contexts_of.as_ref().is_some_and(|of| Arc::ptr_eq(of, &entry)),
            read_only: volume.read_only,
            size_bytes: volume.size_bytes,
            max_request_bytes: self.limits.max_payload_bytes().into(),
            max_skipped_bytes: self.limits.max_skipped_bytes,
        };
        Agreed { entry, rules }
    }

    fn refuse(&mut self, option: u32, kind: u32, why: &str) {
        self.reply(option, kind, &[why.as_bytes()]);
    }

    fn reply(&mut self, option: u32, kind: u32, data: &[&[u8]]) {
        let len: usize = data.iter().map(|d| d.len()).sum();
        self.out.put_u64(OPTION_REPLY_MAGIC);
        self.out.put_u32(option);
        self.out.put_u32(kind);
        self.out.put_u32(u32::try_from(len).unwrap_or(0));
        data.iter().for_each(|d| self.out.put_slice(d));
    }
}

fn transmission_flags(rules: &Rules) -> u16 {
    let mut flags =
        flag::HAS_FLAGS | flag::SEND_FLUSH | flag::SEND_FUA | flag::CAN_MULTI_CONN | flag::SEND_CACHE;
    flags |= match rules.read_only {
        true => flag::READ_ONLY,
        false => flag::SEND_TRIM | flag::SEND_WRITE_ZEROES | flag::SEND_FAST_ZERO,
    };
    if rules.framing != Framing::Simple {
        flags |= flag::SEND_DF;
    }
    if rules.framing == Framing::Extended && rules.contexts {
        flags |= flag::BLOCK_STATUS_PAYLOAD;
    }
    flags
}
