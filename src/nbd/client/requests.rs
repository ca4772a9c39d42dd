//! The client's handle: one method per request.

use super::handshake::{ExportInfo, Options, negotiate};
use super::link::{Expect, Link};
use super::replies::receive;
use crate::env::{Env, Stream};
use crate::error::{Error, ErrorKind, Result};
use crate::export::{Durability, Extent, ZeroOptions};
use crate::nbd::inbox::Inbox;
use crate::nbd::pulse::Pulse;
use crate::nbd::wire::{EXTENDED_REQUEST_MAGIC, Framing, REQUEST_MAGIC, cmd, cmd_flag};
use bytes::Bytes;
use std::rc::Rc;

/// A connection to an export. Clones share it; it is closed when the last one is dropped.
#[derive(Clone)]
pub struct Client(Rc<Handle>);

struct Handle(Rc<Link>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.fail(&Error::new(ErrorKind::ShuttingDown, "this connection was closed"));
    }
}

fn fua(durability: Durability) -> u16 {
    if durability == Durability::Durable { cmd_flag::FUA } else { 0 }
}

impl Client {
    /// Connects over a stream. Sending and receiving are spawned on the calling thread's executor.
    pub async fn connect(stream: impl Stream + 'static, env: Env, options: &Options) -> Result<Self> {
        let stream: Rc<dyn Stream> = Rc::new(stream);
        let mut inbox = Inbox::new(stream.clone(), env.clone(), Rc::new(Pulse::default()));
        let info = match negotiate(&*stream, &mut inbox, options).await {
            Ok(info) => info,
            Err(e) => {
                stream.close();
                return Err(e);
            }
        };
        let link = Rc::new(Link::new(stream, env.clone(), info));
        let reader = link.clone();
        env.spawn(Box::pin(async move { receive(&reader, inbox).await }));
        let writer = link.clone();
        env.spawn(Box::pin(async move { writer.write().await }));
        Ok(Self(Rc::new(Handle(link))))
    }

    /// What the server said of the export.
    pub fn info(&self) -> ExportInfo {
        self.0.0.info
    }

    /// Reads `len_bytes` at `offset_bytes`, at most the export's maximum.
    pub async fn read(&self, offset_bytes: u64, len_bytes: u64) -> Result<Bytes> {
        self.check_payload(len_bytes)?;
        let link = &*self.0.0;
        let len = usize::try_from(len_bytes).unwrap_or(0);
        let buffer = Some(link.env.buffers().take(len));
        let expect = Expect::Data { offset: offset_bytes, len: len_bytes, buffer, filled: 0 };
        match self.request(cmd::READ, 0, offset_bytes, len_bytes, None, expect).await? {
            Expect::Data { buffer: Some(buffer), .. } => Ok(buffer.freeze()),
            _ => Err(Error::new(ErrorKind::Protocol, "a read was answered without data")),
        }
    }

    /// Writes `data` at `offset_bytes`, at most the export's maximum.
    pub async fn write(&self, offset_bytes: u64, data: Bytes, durability: Durability) -> Result<()> {
        let len_bytes = data.len() as u64;
        self.check_payload(len_bytes)?;
        self.plain(cmd::WRITE, fua(durability), offset_bytes, len_bytes, Some(data)).await
    }

    /// Makes every write answered before durable.
    pub async fn flush(&self) -> Result<()> {
        self.plain(cmd::FLUSH, 0, 0, 0, None).await
    }

    /// Says that a range is no longer needed.
    pub async fn trim(&self, offset_bytes: u64, len_bytes: u64, durability: Durability) -> Result<()> {
        self.plain(cmd::TRIM, fua(durability), offset_bytes, len_bytes, None).await
    }

    /// Writes zeroes.
    pub async fn write_zeroes(&self, offset_bytes: u64, len_bytes: u64, options: ZeroOptions) -> Result<()> {
        let no_hole = if options.no_hole { cmd_flag::NO_HOLE } else { 0 };
        let fast = if options.fast_only { cmd_flag::FAST_ZERO } else { 0 };
        let flags = fua(options.durability) | no_hole | fast;
        self.plain(cmd::WRITE_ZEROES, flags, offset_bytes, len_bytes, None).await
    }

    /// Tells the server that a range will be used soon.
    pub async fn cache(&self, offset_bytes: u64, len_bytes: u64) -> Result<()> {
        self.plain(cmd::CACHE, 0, offset_bytes, len_bytes, None).await
    }

    /// Allocation of a range from its start on; may cover less of it.
    pub async fn block_status(&self, offset_bytes: u64, len_bytes: u64) -> Result<Vec<Extent>> {
        if !self.info().has_status() {
            return Err(Error::new(ErrorKind::Unsupported, "block status was not agreed on"));
        }
        let expect = Expect::Extents(Vec::new());
        match self.request(cmd::BLOCK_STATUS, 0, offset_bytes, len_bytes, None, expect).await? {
            Expect::Extents(extents) => Ok(extents),
            _ => Err(Error::new(ErrorKind::Protocol, "block status was answered without extents")),
        }
    }

    /// Says goodbye and waits until the server has answered what is under way and closed. New
    /// requests fail from now on.
    pub async fn disconnect(&self) -> Result<()> {
        let link = &*self.0.0;
        link.check_alive()?;
        // Nothing answers it, so it ends when the connection does.
        let key = link.begin(Expect::Nothing, 0);
        self.send(cmd::DISC, 0, key as u64, 0, 0, None);
        link.finishing.set(true);
        link.wake_writer();
        match link.reply(key).await {
            Err(e) if e.kind() != ErrorKind::ShuttingDown => Err(e),
            _ => Ok(()),
        }
    }

    fn check_payload(&self, len_bytes: u64) -> Result<()> {
        let max = self.info().max_request_bytes;
        if len_bytes > u64::from(max) {
            let what = format!("a request of {len_bytes} bytes, but the server takes at most {max}");
            return Err(Error::new(ErrorKind::InvalidInput, what));
        }
        Ok(())
    }

    async fn plain(&self, kind: u16, flags: u16, offset: u64, len: u64, data: Option<Bytes>) -> Result<()> {
        self.request(kind, flags, offset, len, data, Expect::Nothing).await.map(|_| ())
    }

    async fn request(
        &self,
        kind: u16,
        flags: u16,
        offset: u64,
        len: u64,
        data: Option<Bytes>,
        expect: Expect,
    ) -> Result<Expect> {
        let link = &*self.0.0;
        link.check_alive()?;
        if link.info.framing() != Framing::Extended && u32::try_from(len).is_err() {
            return Err(Error::new(ErrorKind::InvalidInput, "a request this long needs extended headers"));
        }
        let key = link.begin(expect, offset);
        self.send(kind, flags, key as u64, offset, len, data);
        link.wake_writer();
        link.reply(key).await
    }

    fn send(&self, kind: u16, flags: u16, cookie: u64, offset: u64, len: u64, data: Option<Bytes>) {
        let link = &*self.0.0;
        let mut out = link.outbox.borrow_mut();
        if link.info.framing() == Framing::Extended {
            let flags = if data.is_some() { flags | cmd_flag::PAYLOAD_LEN } else { flags };
            let header = out.header().u32(EXTENDED_REQUEST_MAGIC).u16(flags).u16(kind);
            header.u64(cookie).u64(offset).u64(len);
        } else {
            let header = out.header().u32(REQUEST_MAGIC).u16(flags).u16(kind);
            header.u64(cookie).u64(offset).u32(u32::try_from(len).unwrap_or(u32::MAX));
        }
        if let Some(data) = data {
            out.data(data);
        }
    }
}
