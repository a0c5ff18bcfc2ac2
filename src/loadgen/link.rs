//! The way to the server: TCP, TLS if asked for, and the WebSocket upgrade, written by hand.
//!
//! Every socket sends the sample nonce of RFC 6455 §1.3, whose answer is known, so the upgrade is
//! checked without a hash. The nonce protects against caches between client and server; there are
//! none here.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::client::TlsStream;

use super::tls::Tls;
use super::{Error, Target};

/// Where and how to connect; the same for all sockets.
pub(super) struct Door {
    address: SocketAddr,
    tls: Option<Tls>,
    request: String,
}

/// An open byte stream to the server.
pub(super) enum Link {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

const NONCE: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const NONCE_ANSWER: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const RESPONSE_MAX: usize = 8 << 10;

impl Door {
    /// Understands the URL and resolves its host once.
    pub(super) async fn find(target: &Target) -> Result<Self, Error> {
        let refuse =
            |why: &str| Error::Plan(format!("{:?} is not a usable URL: {why}", target.url));
        let uri: Uri = target
            .url
            .parse()
            .map_err(|_| refuse("it does not parse"))?;
        let (is_tls, port) = match uri.scheme_str() {
            Some("ws" | "http") => (false, 80),
            Some("wss" | "https") => (true, 443),
            _ => return Err(refuse("it begins with neither ws:// nor wss://")),
        };
        let host = uri.host().ok_or_else(|| refuse("there is no host"))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(port);
        let mut addresses = lookup_host((bare, port))
            .await
            .map_err(|_| refuse("unknown host"))?;
        let address = addresses
            .next()
            .ok_or_else(|| refuse("the host has no address"))?;
        let tls = match (&target.ca, is_tls) {
            (Some(ca), true) => Some(Tls::new(ca, bare)?),
            (None, true) => return Err(refuse("wss needs a certificate authority to trust")),
            (_, false) => None,
        };
        let path = if uri.path() == "/" {
            "/socket.io/"
        } else {
            uri.path()
        };
        let request = format!(
            "GET {path}?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host}:{port}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {NONCE}\r\n\r\n"
        );
        Ok(Self {
            address,
            tls,
            request,
        })
    }

    /// Opens one socket; also answers bytes that came after the upgrade.
    pub(super) async fn enter(&self) -> io::Result<(Link, Vec<u8>)> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => {
                let mut stream = stream;
                let rest = self.upgrade(&mut stream).await?;
                Ok((Link::Plain(stream), rest))
            }
            Some(tls) => {
                let mut stream = tls.connector.connect(tls.name.clone(), stream).await?;
                let rest = self.upgrade(&mut stream).await?;
                Ok((Link::Tls(Box::new(stream)), rest))
            }
        }
    }

    async fn upgrade<S>(&self, stream: &mut S) -> io::Result<Vec<u8>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        stream.write_all(self.request.as_bytes()).await?;
        stream.flush().await?;
        let mut response = Vec::with_capacity(512);
        loop {
            if stream.read_buf(&mut response).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(end) = memchr::memmem::find(&response, b"\r\n\r\n") {
                check_response(&response[..end])?;
                return Ok(response.split_off(end + 4));
            }
            if response.len() > RESPONSE_MAX {
                return Err(io::Error::other("the answer to the upgrade does not end"));
            }
        }
    }
}

fn check_response(head: &[u8]) -> io::Result<()> {
    let head = String::from_utf8_lossy(head);
    let status = head.lines().next().unwrap_or_default();
    if status.split_ascii_whitespace().nth(1) != Some("101") {
        return Err(io::Error::other(format!(
            "the upgrade was answered {status:?}"
        )));
    }
    if !head.contains(NONCE_ANSWER) {
        return Err(io::Error::other(
            "the upgrade's Sec-WebSocket-Accept is wrong",
        ));
    }
    Ok(())
}

impl Link {
    /// Reads into `space`; nothing read means that the server has closed.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, space),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, space),
        }
    }

    /// Writes some of `bytes`, or wakes the context's task when that is possible.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    /// Hands over what was written; only TLS holds anything back.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    /// Writes what can be written at once; possibly nothing.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => match stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                result => result,
            },
            Self::Tls(_) => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_real_upgrade_is_accepted() {
        let good =
            format!("HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: {NONCE_ANSWER}");
        assert!(check_response(good.as_bytes()).is_ok());
        let refused = check_response(b"HTTP/1.1 503 Service Unavailable")
            .unwrap_err()
            .to_string();
        assert!(refused.contains("503"), "{refused}");
        assert!(check_response(b"HTTP/1.1 101 x\r\nsec-websocket-accept: other").is_err());
        assert!(check_response(b"").is_err());
    }

    #[tokio::test]
    async fn urls_that_cannot_work_say_why() {
        for (url, why) in [
            ("127.0.0.1:1", "neither"),
            ("ftp://127.0.0.1", "neither"),
            ("wss://127.0.0.1", "authority"),
            ("ws://", "parse"),
        ] {
            let target = Target {
                url: url.to_owned(),
                ca: None,
                dialect: super::super::Dialect::Relay,
                tokens: Vec::new(),
                opening_max: 1,
                pids: Vec::new(),
            };
            let error = Door::find(&target).await.err().unwrap().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
