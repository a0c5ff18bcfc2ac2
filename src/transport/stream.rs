//! A client's connection, plain or TLS.

use std::io::{self, BufRead};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::pace::Pace;

/// The bytes of one connection, and its place under the connection cap.
pub struct Stream {
    kind: Kind,
    /// Given back when the connection ends, whatever it has become by then.
    _permit: Box<dyn Send>,
    /// Bytes that were read before the connection changed hands.
    prefix: Vec<u8>,
    /// Told of bytes, as long as they are HTTP requests.
    pace: Option<Arc<Pace>>,
}

enum Kind {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection on its way to another worker's thread.
pub struct Parcel {
    kind: ParcelKind,
    _permit: Box<dyn Send>,
    prefix: Vec<u8>,
}

enum ParcelKind {
    Plain(std::net::TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// A plain connection.
    #[must_use]
    pub const fn plain(stream: TcpStream, permit: Box<dyn Send>) -> Self {
        Self {
            kind: Kind::Plain(stream),
            _permit: permit,
            prefix: Vec::new(),
            pace: None,
        }
    }

    /// A TLS connection whose handshake is done.
    #[must_use]
    pub fn tls(stream: TlsStream<TcpStream>, permit: Box<dyn Send>) -> Self {
        Self {
            kind: Kind::Tls(Box::new(stream)),
            _permit: permit,
            prefix: Vec::new(),
            pace: None,
        }
    }

    /// Tells `pace` of what is read from now on.
    pub fn keep_pace(&mut self, pace: Arc<Pace>) {
        self.pace = Some(pace);
    }

    /// The connection carries no requests any more; `bytes` of what follows were read already.
    pub fn put_back(&mut self, bytes: &[u8]) {
        self.prefix = bytes.to_vec();
        self.pace = None;
    }

    /// Ready when a read may give something. May be wrong once, never for ever.
    pub fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match &mut self.kind {
            Kind::Plain(stream) => stream.poll_read_ready(context),
            Kind::Tls(stream) => {
                let (socket, session) = stream.get_mut();
                // Plaintext that was decrypted with an earlier read waits in the session.
                match session.reader().fill_buf() {
                    Ok(waiting) if !waiting.is_empty() => Poll::Ready(Ok(())),
                    _ => socket.poll_read_ready(context),
                }
            }
        }
    }

    /// Detaches the connection from this thread's event loop.
    ///
    /// A TLS session cannot be taken apart: it stays with the loop that accepted it, which goes on
    /// waking whoever polls it.
    ///
    /// # Errors
    /// The operating system's, when the socket cannot be deregistered.
    pub fn pack(self) -> io::Result<Parcel> {
        let kind = match self.kind {
            Kind::Plain(stream) => ParcelKind::Plain(stream.into_std()?),
            Kind::Tls(stream) => ParcelKind::Tls(stream),
        };
        Ok(Parcel {
            kind,
            _permit: self._permit,
            prefix: self.prefix,
        })
    }

    /// Attaches a connection to this thread's event loop.
    ///
    /// # Errors
    /// The operating system's, when the socket cannot be registered.
    pub fn unpack(parcel: Parcel) -> io::Result<Self> {
        let kind = match parcel.kind {
            ParcelKind::Plain(stream) => Kind::Plain(TcpStream::from_std(stream)?),
            ParcelKind::Tls(stream) => Kind::Tls(stream),
        };
        Ok(Self {
            kind,
            _permit: parcel._permit,
            prefix: parcel.prefix,
            pace: None,
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let count = self.prefix.len().min(buffer.remaining());
            buffer.put_slice(&self.prefix[..count]);
            self.prefix.drain(..count);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Kind::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if let Some(pace) = &self.pace
            && buffer.filled().len() > before
        {
            pace.received();
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Kind::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Kind::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_flush(context),
            Kind::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Kind::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
