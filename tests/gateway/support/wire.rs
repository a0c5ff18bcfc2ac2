//! One connection, byte by byte: HTTP/1.1 requests, WebSocket frames, or anything else.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::within;

/// TCP, or TLS over it.
pub(crate) trait Link: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Link for T {}

/// A connection and what was read of it but not used yet.
pub(crate) struct Wire {
    link: Box<dyn Link>,
    unused: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

/// A WebSocket frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) is_last: bool,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The first bit of a frame: no other frame of this message follows.
pub(crate) const LAST: u8 = 0x80;
const MASKED: u8 = 0x80;
const READ_AT_ONCE: usize = 16 << 10;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

impl Wire {
    pub(crate) fn new(link: impl Link + 'static) -> Self {
        Self {
            link: Box::new(link),
            unused: Vec::new(),
        }
    }

    pub(crate) async fn dial(address: SocketAddr) -> Self {
        Self::try_dial(address).await.unwrap()
    }

    pub(crate) async fn try_dial(address: SocketAddr) -> io::Result<Self> {
        let stream = within("a connection", TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        Ok(Self::new(stream))
    }

    /// A connection whose kernel takes in little that nobody reads.
    pub(crate) async fn dial_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::new(
            within("a connection", socket.connect(address))
                .await
                .unwrap(),
        )
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.unwrap();
    }

    /// The same where the other end may be gone.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        within("bytes are taken", async {
            self.link.write_all(bytes).await?;
            self.link.flush().await
        })
        .await
    }

    /// Sends a request; `headers` are whole lines.
    pub(crate) async fn request(&mut self, line: &str, headers: &str, body: &[u8]) {
        let mut text = format!("{line} HTTP/1.1\r\nhost: localhost\r\n{headers}").into_bytes();
        if !body.is_empty() || line.starts_with("POST") {
            text.extend(format!("content-length: {}\r\n", body.len()).bytes());
        }
        text.extend(b"\r\n");
        text.extend(body);
        self.send(&text).await;
    }

    pub(crate) async fn get(&mut self, path: &str, headers: &str) -> Response {
        self.request(&format!("GET {path}"), headers, b"").await;
        self.response()
            .await
            .unwrap_or_else(|| panic!("no answer to GET {path}"))
    }

    pub(crate) async fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> Response {
        self.request(&format!("POST {path}"), headers, body).await;
        self.response()
            .await
            .unwrap_or_else(|| panic!("no answer to POST {path}"))
    }

    /// The next answer; nothing when the connection ends before a whole one came.
    pub(crate) async fn response(&mut self) -> Option<Response> {
        let end = loop {
            if let Some(at) = find(&self.unused, b"\r\n\r\n") {
                break at;
            }
            self.read_more().await?;
        };
        let head = String::from_utf8(self.unused.drain(..end + 4).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Response {
            status,
            head,
            body: Vec::new(),
        };
        let length = response
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        response.body = self.take(length).await?;
        Some(response)
    }

    /// Opens a WebSocket.
    pub(crate) async fn upgrade(&mut self, path: &str, headers: &str) -> Response {
        let upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        self.get(path, &format!("{upgrade}{headers}")).await
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.send(&frame(TEXT, text.as_bytes())).await;
    }

    /// The next frame; nothing when the connection ends, in whatever way.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        let head = self.take(2).await?;
        assert_eq!(head[1] & MASKED, 0, "a server's frame is not masked");
        let length = match head[1] {
            126 => u64::from(u16::from_be_bytes(self.take(2).await?.try_into().unwrap())),
            127 => u64::from_be_bytes(self.take(8).await?.try_into().unwrap()),
            short => u64::from(short),
        };
        let payload = self.take(usize::try_from(length).unwrap()).await?;
        Some(Frame {
            opcode: head[0] & 0x0f,
            is_last: head[0] & LAST != 0,
            payload,
        })
    }

    /// The next text message.
    pub(crate) async fn text(&mut self) -> Option<String> {
        let frame = self.frame().await?;
        (frame.opcode == TEXT).then(|| String::from_utf8(frame.payload).unwrap())
    }

    /// The code of the close frame that comes after whatever else comes; 1005 when it has none,
    /// nothing when the connection ends without one.
    pub(crate) async fn close_code(&mut self) -> Option<u16> {
        loop {
            let frame = self.frame().await?;
            if frame.opcode == CLOSE {
                let code = frame
                    .payload
                    .get(..2)
                    .map(|code| u16::from_be_bytes([code[0], code[1]]));
                return Some(code.unwrap_or(1005));
            }
        }
    }

    /// Reads until the other end closes; what came.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.read_more().await.is_some() {}
        std::mem::take(&mut self.unused)
    }

    async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.unused.len() < length {
            self.read_more().await?;
        }
        Some(self.unused.drain(..length).collect())
    }

    /// Cancel-safe: what was read stays.
    async fn read_more(&mut self) -> Option<()> {
        self.unused.reserve(READ_AT_ONCE);
        let read = self.link.read_buf(&mut self.unused);
        // A broken connection is over like a closed one.
        let count = within("bytes or the end", read).await.unwrap_or(0);
        (count > 0).then_some(())
    }
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Every header of this name.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let pairs = self.head.lines().filter_map(|line| line.split_once(':'));
        let named = pairs.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim()).collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
}

/// A whole message as a client sends it.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    raw_frame(LAST | opcode, payload)
}

/// A message whose next fragment follows.
pub(crate) fn first_fragment(opcode: u8, payload: &[u8]) -> Vec<u8> {
    raw_frame(opcode, payload)
}

/// A masked frame with any first byte.
pub(crate) fn raw_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, MASKED, payload.len());
    bytes.extend(MASK);
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

/// A whole message without a mask, which a client must not send.
pub(crate) fn unmasked_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(LAST | opcode, 0, payload.len());
    bytes.extend(payload);
    bytes
}

/// A masked frame that says so much will follow, and nothing of it.
pub(crate) fn announced_frame(opcode: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![LAST | opcode, MASKED | 127];
    bytes.extend(length.to_be_bytes());
    bytes.extend(MASK);
    bytes
}

fn head(first: u8, masked: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..=125), _) => bytes.push(masked | short),
        (_, Ok(medium)) => {
            bytes.push(masked | 126);
            bytes.extend(medium.to_be_bytes());
        }
        _ => {
            bytes.push(masked | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
