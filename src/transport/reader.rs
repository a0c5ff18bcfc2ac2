//! Frames in: the reader of one WebSocket, which exists only while there are bytes to read.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use fastwebsockets::{OpCode, Payload, Role, WebSocketError, WebSocketRead, after_handshake_split};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::websocket::{Fault, Route, WebSocket};
use crate::protocol::frame::Frame;
use crate::telemetry::metrics;
use crate::types::CloseReason;

/// Pieces of one fragmented message; more is taken for an attack.
const FRAGMENTS_MAX: usize = 4096;

/// Hands the reader bytes from the connection and counts them.
struct Source {
    socket: Rc<WebSocket>,
    handed: Rc<Cell<usize>>,
}

impl AsyncRead for Source {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut *self.socket.stream.borrow_mut()).poll_read(context, buffer);
        self.handed
            .set(self.handed.get() + buffer.filled().len() - before);
        read
    }
}

/// The reader's writing half, which is never used: pongs and closes go through the outbox's order.
struct Nowhere;

impl AsyncWrite for Nowhere {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A message whose last fragment has not come yet.
struct Partial {
    is_text: bool,
    data: BytesMut,
    fragments: usize,
}

/// Reads frames until every byte that was taken from the connection has been used.
///
/// Not cancel-safe (fastwebsockets keeps a half-read header in its buffer): the caller keeps the
/// future until it is done.
pub(super) async fn read_burst(
    socket: Rc<WebSocket>,
    route: Rc<dyn Route>,
) -> Result<(), CloseReason> {
    let handed = Rc::new(Cell::new(0));
    let source = Source {
        socket: Rc::clone(&socket),
        handed: Rc::clone(&handed),
    };
    let (mut reader, _) = after_handshake_split(source, Nowhere, Role::Server);
    reader.set_auto_close(false);
    reader.set_auto_pong(false);
    // The library refuses from this size on.
    reader.set_max_message_size(socket.message_max + 1);
    let mut used = 0;
    let mut partial: Option<Partial> = None;
    loop {
        let frame = next_frame(&mut reader).await;
        let (opcode, is_last, payload) = frame.map_err(|error| blame(&socket, &error))?;
        used += frame_bytes(payload.len());
        metrics::BYTES_RECEIVED.add(payload.len() as u64);
        if used > handed.get() {
            // Shorter than a masked frame can be: RFC 6455 section 5.1 has clients mask.
            return Err(CloseReason::TransportError);
        }
        match opcode {
            OpCode::Ping => socket.send_control(Frame::websocket_pong(&payload)),
            OpCode::Pong => {}
            OpCode::Close => {
                // RFC 6455 section 5.5.1: answered in kind, or browsers report an unclean end.
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                socket.send_control(Frame::close(code.filter(|code| may_be_sent(*code))));
                return Err(CloseReason::TransportClose);
            }
            OpCode::Text | OpCode::Binary if partial.is_some() => {
                return Err(CloseReason::TransportError);
            }
            OpCode::Text if is_last => deliver_text(&socket, &route, &payload)?,
            OpCode::Binary if is_last => route.binary(&socket, payload.freeze())?,
            OpCode::Text | OpCode::Binary => {
                let is_text = opcode == OpCode::Text;
                partial = Some(Partial {
                    is_text,
                    data: payload,
                    fragments: 1,
                });
            }
            OpCode::Continuation => {
                let mut message = partial.take().ok_or(CloseReason::TransportError)?;
                message.fragments += 1;
                if message.data.len() + payload.len() > socket.message_max
                    || message.fragments > FRAGMENTS_MAX
                {
                    return refuse(&socket, Fault::TooLarge);
                }
                message.data.extend_from_slice(&payload);
                match (is_last, message.is_text) {
                    (false, _) => partial = Some(message),
                    (true, true) => deliver_text(&socket, &route, &message.data)?,
                    (true, false) => route.binary(&socket, message.data.freeze())?,
                }
            }
        }
        socket.turn.set(socket.turn.get() + 1);
        poll_fn(|context| match socket.closing.get() {
            Some(reason) => Poll::Ready(Err(reason)),
            None if socket.is_turn_over(context) => Poll::Pending,
            None if route.is_paused(context.waker()) => Poll::Pending,
            None => Poll::Ready(Ok(())),
        })
        .await?;
        if used == handed.get() && partial.is_none() {
            return Ok(());
        }
    }
}

async fn next_frame(
    reader: &mut WebSocketRead<Source>,
) -> Result<(OpCode, bool, BytesMut), WebSocketError> {
    let mut nothing = |_| std::future::ready(Ok::<(), io::Error>(()));
    let frame = reader.read_frame(&mut nothing).await?;
    let payload = match frame.payload {
        Payload::Bytes(bytes) => bytes,
        Payload::Owned(bytes) => BytesMut::from(&bytes[..]),
        Payload::Borrowed(bytes) => BytesMut::from(bytes),
        Payload::BorrowedMut(bytes) => BytesMut::from(&*bytes),
    };
    Ok((frame.opcode, frame.fin, payload))
}

fn deliver_text(
    socket: &Rc<WebSocket>,
    route: &Rc<dyn Route>,
    payload: &[u8],
) -> Result<(), CloseReason> {
    let Ok(text) = std::str::from_utf8(payload) else {
        return refuse(socket, Fault::Text);
    };
    route.text(socket, text)
}

/// Bytes of a masked frame on the wire, when its length is encoded in the shortest form, as RFC 6455
/// section 5.2 asks. A longer form only keeps the reader alive a little longer.
const fn frame_bytes(payload: usize) -> usize {
    let header = match payload {
        0..=125 => 2,
        126..=65_535 => 4,
        _ => 10,
    };
    header + 4 + payload
}

fn refuse(socket: &WebSocket, fault: Fault) -> Result<(), CloseReason> {
    socket.fault.set(fault);
    Err(CloseReason::TransportError)
}

/// Notes which rule was broken; answers why the connection ends.
fn blame(socket: &WebSocket, error: &WebSocketError) -> CloseReason {
    socket.fault.set(fault(error));
    reason(error)
}

const fn fault(error: &WebSocketError) -> Fault {
    match error {
        WebSocketError::FrameTooLarge => Fault::TooLarge,
        WebSocketError::InvalidUTF8 => Fault::Text,
        _ => Fault::Protocol,
    }
}

fn reason(error: &WebSocketError) -> CloseReason {
    match error {
        WebSocketError::UnexpectedEOF | WebSocketError::ConnectionClosed => {
            CloseReason::TransportClose
        }
        WebSocketError::IoError(error) if error.kind() == io::ErrorKind::ConnectionReset => {
            CloseReason::TransportClose
        }
        _ => CloseReason::TransportError,
    }
}

/// Status codes that an endpoint may put on the wire, RFC 6455 section 7.4.
const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
