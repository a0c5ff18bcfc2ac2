//! Bytes to send, encoded once.
//!
//! A [`Frame`] holds one or more complete server-to-client WebSocket frames (RFC 6455 section 5.2,
//! unmasked), one behind the other: a Socket.IO packet with attachments is its text frame and its
//! binary frames, which no queue can tear apart. A WebSocket writes the bytes as they are; long-polling
//! reads the messages back out of them.

use bytes::{BufMut, Bytes, BytesMut};

/// One group of messages, shared by all its receivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

/// One message of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Text, with its Engine.IO type character.
    Text(&'a str),
    /// Binary, which is always an Engine.IO message.
    Binary(&'a [u8]),
}

const FIN: u8 = 0x80;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PONG: u8 = 0xa;
/// The longest header of an unmasked frame.
const HEADER_MAX: usize = 10;
/// The longest payload of a control frame, RFC 6455 section 5.5.
const CONTROL_MAX: usize = 125;

impl Frame {
    /// A text message made of these pieces.
    #[must_use]
    pub fn text(pieces: &[&str]) -> Self {
        Self::group(pieces, &[])
    }

    /// A text message and the binary messages that belong to it.
    #[must_use]
    pub fn group(pieces: &[&str], attachments: &[Bytes]) -> Self {
        let length = pieces.iter().map(|piece| piece.len()).sum();
        let total = attachments
            .iter()
            .map(|data| HEADER_MAX + data.len())
            .sum::<usize>();
        let mut bytes = BytesMut::with_capacity(HEADER_MAX + length + total);
        put_header(&mut bytes, TEXT, length);
        for piece in pieces {
            bytes.put_slice(piece.as_bytes());
        }
        for data in attachments {
            put_header(&mut bytes, BINARY, data.len());
            bytes.put_slice(data);
        }
        Self(bytes.freeze())
    }

    /// A binary message alone.
    #[must_use]
    pub fn binary(data: &[u8]) -> Self {
        let mut bytes = BytesMut::with_capacity(HEADER_MAX + data.len());
        put_header(&mut bytes, BINARY, data.len());
        bytes.put_slice(data);
        Self(bytes.freeze())
    }

    /// The answer to a WebSocket ping; a longer payload than a control frame can hold is cut.
    #[must_use]
    pub fn websocket_pong(payload: &[u8]) -> Self {
        let payload = &payload[..payload.len().min(CONTROL_MAX)];
        let mut bytes = BytesMut::with_capacity(2 + payload.len());
        put_header(&mut bytes, PONG, payload.len());
        bytes.put_slice(payload);
        Self(bytes.freeze())
    }

    /// The end of a WebSocket, with a status code or without.
    #[must_use]
    pub fn close(code: Option<u16>) -> Self {
        let mut bytes = BytesMut::with_capacity(4);
        put_header(&mut bytes, CLOSE, if code.is_some() { 2 } else { 0 });
        if let Some(code) = code {
            bytes.put_u16(code);
        }
        Self(bytes.freeze())
    }

    /// What a WebSocket writes.
    #[must_use]
    pub const fn wire(&self) -> &Bytes {
        &self.0
    }

    /// Bytes on the wire.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a frame has at least its header"
    )]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// The same bytes in memory of their own.
    #[must_use]
    pub fn deep_copy(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// The messages, in order.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (part, tail) = split_part(rest)?;
            rest = tail;
            Some(part)
        })
    }
}

fn put_header(bytes: &mut BytesMut, opcode: u8, length: usize) {
    bytes.put_u8(FIN | opcode);
    match u8::try_from(length) {
        Ok(short) if length <= CONTROL_MAX => bytes.put_u8(short),
        _ => match u16::try_from(length) {
            Ok(medium) => {
                bytes.put_u8(126);
                bytes.put_u16(medium);
            }
            Err(_) => {
                bytes.put_u8(127);
                bytes.put_u64(length as u64);
            }
        },
    }
}

/// The first message of frames that this module wrote.
fn split_part(bytes: &[u8]) -> Option<(Part<'_>, &[u8])> {
    let (&[first, short], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match short {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::try_from(u64::from_be_bytes(*length)).ok()?, rest)
        }
        short => (usize::from(short), rest),
    };
    let (payload, rest) = rest.split_at_checked(length)?;
    let part = match first & 0xf {
        TEXT => Part::Text(std::str::from_utf8(payload).ok()?),
        _ => Part::Binary(payload),
    };
    Some((part, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_are_as_short_as_they_can_be() {
        assert_eq!(&Frame::text(&["4", "hi"]).wire()[..], b"\x81\x034hi");
        assert_eq!(Frame::binary(&[0; 126]).wire()[..4], [0x82, 126, 0, 126]);
        assert_eq!(Frame::binary(&[0; 65_536]).wire()[..4], [0x82, 127, 0, 0]);
        assert_eq!(&Frame::close(Some(1009)).wire()[..], b"\x88\x02\x03\xf1");
        assert_eq!(&Frame::close(None).wire()[..], b"\x88\x00");
        assert_eq!(Frame::websocket_pong(&[1; 300]).len(), 127);
    }

    proptest! {
        #[test]
        fn messages_read_back(
            text in ".{0,300}",
            attachments in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..70_000).prop_map(Bytes::from), 0..3),
        ) {
            let frame = Frame::group(&["4", &text], &attachments);
            let expected = format!("4{text}");
            let mut parts = frame.parts();
            prop_assert_eq!(parts.next(), Some(Part::Text(&expected)));
            for data in &attachments {
                prop_assert_eq!(parts.next(), Some(Part::Binary(data)));
            }
            prop_assert_eq!(parts.next(), None);
            drop(parts);
            prop_assert_eq!(&frame.deep_copy(), &frame);
        }
    }
}
