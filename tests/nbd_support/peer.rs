//! A hand-written NBD client that says exactly what it is told.

use bytes::Bytes;
use palisade::env::{BufferPool, Pipe, Stream};

/// A peer that sends and receives exactly the bytes it is told.
pub struct Peer {
    pub stream: Pipe,
    pool: BufferPool,
}

pub const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");

#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Chunk {
    pub magic: u32,
    /// Errno of a simple reply.
    pub errno: u32,
    pub flags: u16,
    pub kind: u16,
    pub cookie: u64,
    pub payload: Vec<u8>,
}

impl Chunk {
    /// The error number, whichever form it came in; 0 if none.
    pub fn error(&self) -> u32 {
        match self.kind & 0x8000 {
            0 => self.errno,
            _ => u32::from_be_bytes(self.payload[..4].try_into().unwrap()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Simple,
    Structured,
    Extended,
}

impl Peer {
    pub fn new(stream: Pipe) -> Self {
        Self { stream, pool: BufferPool::new(1 << 20) }
    }

    pub async fn send(&self, bytes: impl Into<Vec<u8>>) {
        let _ = self.stream.send(vec![Bytes::from(bytes.into())]).await;
    }

    /// Exactly `len` bytes, or fewer if the server closes before.
    pub async fn recv(&self, len: usize) -> Vec<u8> {
        let mut buffer = self.pool.take(len);
        let mut at = 0;
        while at < len {
            let (count, back) = self.stream.recv(buffer, at..len).await;
            buffer = back;
            match count {
                Ok(0) | Err(_) => break,
                Ok(count) => at += count,
            }
        }
        buffer[..at].to_vec()
    }

    pub async fn closed(&self) -> bool {
        self.recv(1).await.is_empty()
    }

    async fn u16(&self) -> u16 {
        u16::from_be_bytes(self.recv(2).await.try_into().expect("closed"))
    }

    async fn u32(&self) -> u32 {
        u32::from_be_bytes(self.recv(4).await.try_into().expect("closed"))
    }

    async fn u64(&self) -> u64 {
        u64::from_be_bytes(self.recv(8).await.try_into().expect("closed"))
    }

    pub async fn greet(&self, flags: u32) {
        assert_eq!(self.recv(8).await, b"NBDMAGIC");
        assert_eq!(self.recv(8).await, b"IHAVEOPT");
        assert_eq!(self.recv(2).await, [0, 3]);
        self.send(flags.to_be_bytes()).await;
    }

    pub async fn send_option(&self, option: u32, data: &[u8]) {
        let len = u32::try_from(data.len()).unwrap();
        self.send(
            [&OPTION_MAGIC.to_be_bytes()[..], &option.to_be_bytes(), &len.to_be_bytes(), data].concat(),
        )
        .await;
    }

    /// Sends an option and receives its replies up to the final one.
    pub async fn option(&self, option: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        self.send_option(option, data).await;
        let mut replies = Vec::new();
        loop {
            assert_eq!(self.u64().await, 0x0003_e889_0455_65a9);
            assert_eq!(self.u32().await, option);
            let kind = self.u32().await;
            let len = self.u32().await;
            replies.push((kind, self.recv(len as usize).await));
            if kind == 1 || kind & (1 << 31) != 0 {
                return replies;
            }
        }
    }

    /// The final reply's type.
    pub async fn option_result(&self, option: u32, data: &[u8]) -> u32 {
        self.option(option, data).await.last().unwrap().0
    }

    /// Greeting, headers, contexts, GO.
    pub async fn enter(&self, name: &str, style: Style) {
        self.greet(3).await;
        match style {
            Style::Simple => {}
            Style::Structured => assert_eq!(self.option_result(8, &[]).await, 1),
            Style::Extended => assert_eq!(self.option_result(11, &[]).await, 1),
        }
        if style != Style::Simple {
            assert_eq!(self.option_result(10, &contexts(name, &["base:allocation"])).await, 1);
        }
        assert_eq!(self.option_result(7, &go(name, &[])).await, 1);
    }

    pub async fn request(&self, style: Style, request: Request<'_>) {
        self.send(request.bytes(style)).await;
    }

    /// One reply, or one chunk of it.
    pub async fn chunk(&self, style: Style, data_len: usize) -> Chunk {
        let magic = self.u32().await;
        if magic == 0x6744_6698 {
            assert_ne!(style, Style::Extended);
            let errno = self.u32().await;
            let cookie = self.u64().await;
            let len = if errno == 0 { data_len } else { 0 };
            return Chunk { magic, errno, flags: 1, kind: 0, cookie, payload: self.recv(len).await };
        }
        let (flags, kind, cookie) = (self.u16().await, self.u16().await, self.u64().await);
        let len = match magic {
            0x668e_33ef => self.u32().await.into(),
            0x6e8a_278c => {
                self.u64().await;
                self.u64().await
            }
            other => panic!("magic {other:x}"),
        };
        let payload = self.recv(usize::try_from(len).unwrap()).await;
        Chunk { magic, errno: 0, flags, kind, cookie, payload }
    }

    /// A request and its reply, which must be one chunk.
    pub async fn ask(&self, style: Style, request: Request<'_>) -> Chunk {
        let data_len = if style == Style::Simple && request.kind == 0 {
            usize::try_from(request.length).unwrap()
        } else {
            0
        };
        self.request(style, request).await;
        let chunk = self.chunk(style, data_len).await;
        assert_eq!((chunk.cookie, chunk.flags), (request.cookie, 1));
        chunk
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    pub flags: u16,
    pub kind: u16,
    pub cookie: u64,
    pub offset: u64,
    pub length: u64,
    pub payload: &'a [u8],
}

impl Request<'_> {
    pub fn bytes(&self, style: Style) -> Vec<u8> {
        let mut out = Vec::new();
        let magic: u32 = if style == Style::Extended { 0x21e4_1c71 } else { 0x2560_9513 };
        out.extend(magic.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        out.extend(self.kind.to_be_bytes());
        out.extend(self.cookie.to_be_bytes());
        out.extend(self.offset.to_be_bytes());
        match style {
            Style::Extended => out.extend(self.length.to_be_bytes()),
            _ => out.extend(u32::try_from(self.length).unwrap().to_be_bytes()),
        }
        out.extend(self.payload);
        out
    }
}

pub fn go(name: &str, infos: &[u16]) -> Vec<u8> {
    let mut data = u32::try_from(name.len()).unwrap().to_be_bytes().to_vec();
    data.extend(name.as_bytes());
    data.extend(u16::try_from(infos.len()).unwrap().to_be_bytes());
    infos.iter().for_each(|i| data.extend(i.to_be_bytes()));
    data
}

pub fn contexts(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = u32::try_from(name.len()).unwrap().to_be_bytes().to_vec();
    data.extend(name.as_bytes());
    data.extend(u32::try_from(queries.len()).unwrap().to_be_bytes());
    for query in queries {
        data.extend(u32::try_from(query.len()).unwrap().to_be_bytes());
        data.extend(query.as_bytes());
    }
    data
}
