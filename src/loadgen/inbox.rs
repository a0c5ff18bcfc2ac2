//! What one socket has received but not yet understood.
//!
//! All sockets of a thread read into one buffer. A socket owns memory only while a frame is cut off
//! at the end of a read or a message is spread over several frames; an idle one owns none.

use super::frame::{FrameError, Opcode, split};

/// The kept rest of one socket's input.
#[derive(Default)]
pub(super) struct Inbox {
    tail: Vec<u8>,
    fragments: Option<Box<Fragments>>,
}

struct Fragments {
    is_text: bool,
    bytes: Vec<u8>,
}

/// One complete message or control frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    Text(&'a [u8]),
    Binary,
    Ping(&'a [u8]),
    Close,
}

/// A whole message, over all its fragments.
const MESSAGE_MAX: usize = 16 << 20;

/// Free space that a read is offered at least.
const READ_MIN: usize = 32 << 10;

impl Inbox {
    /// An inbox that begins with bytes read together with the handshake.
    pub(super) fn with(tail: Vec<u8>) -> Self {
        Self {
            tail,
            fragments: None,
        }
    }

    /// Puts the kept rest at the front of `buffer` and answers how long it is; new bytes belong
    /// behind it. May be called again before [`Inbox::take`]: nothing is forgotten here.
    pub(super) fn lay_out(&self, buffer: &mut Vec<u8>) -> usize {
        let kept = self.tail.len();
        if buffer.len() < kept + READ_MIN {
            buffer.resize(kept + READ_MIN, 0);
        }
        buffer[..kept].copy_from_slice(&self.tail);
        kept
    }

    /// Calls `each` for every complete message in `bytes` (kept rest first, see
    /// [`Inbox::lay_out`]) and keeps what is left over.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Message<'_>),
    ) -> Result<(), FrameError> {
        let mut rest = bytes;
        while let Some((frame, used)) = split(rest)? {
            rest = &rest[used..];
            match (frame.opcode, frame.is_final, self.fragments.is_some()) {
                (Opcode::Text, true, false) => each(Message::Text(frame.payload)),
                (Opcode::Binary, true, false) => each(Message::Binary),
                (Opcode::Ping, ..) => each(Message::Ping(frame.payload)),
                (Opcode::Pong, ..) => {}
                (Opcode::Close, ..) => each(Message::Close),
                (Opcode::Continuation, is_final, true) => {
                    self.extend(frame.payload)?;
                    if is_final {
                        self.finish(&mut each);
                    }
                }
                (opcode @ (Opcode::Text | Opcode::Binary), false, false) => {
                    let is_text = opcode == Opcode::Text;
                    let bytes = frame.payload.to_vec();
                    self.fragments = Some(Box::new(Fragments { is_text, bytes }));
                }
                _ => return Err(FrameError::Fragment),
            }
        }
        // A new vector, so that a socket that was once busy gives its memory back.
        self.tail = if rest.is_empty() {
            Vec::new()
        } else {
            rest.to_vec()
        };
        Ok(())
    }

    fn extend(&mut self, payload: &[u8]) -> Result<(), FrameError> {
        let Some(fragments) = &mut self.fragments else {
            return Err(FrameError::Fragment);
        };
        let length = fragments.bytes.len() + payload.len();
        if length > MESSAGE_MAX {
            return Err(FrameError::TooLarge(length as u64));
        }
        fragments.bytes.extend_from_slice(payload);
        Ok(())
    }

    fn finish(&mut self, each: &mut impl FnMut(Message<'_>)) {
        if let Some(whole) = self.fragments.take() {
            each(if whole.is_text {
                Message::Text(&whole.bytes)
            } else {
                Message::Binary
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(parts: &[(u8, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (first, payload) in parts {
            out.push(*first);
            if payload.len() < 126 {
                out.push(payload.len() as u8);
            } else {
                out.push(126);
                out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            }
            out.extend_from_slice(payload.as_bytes());
        }
        out
    }

    fn read(inbox: &mut Inbox, buffer: &mut Vec<u8>, chunk: &[u8], into: &mut Vec<String>) {
        let kept = inbox.lay_out(buffer);
        buffer[kept..kept + chunk.len()].copy_from_slice(chunk);
        let bytes = buffer[..kept + chunk.len()].to_vec();
        inbox
            .take(&bytes, |message| {
                into.push(match message {
                    Message::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
                    Message::Ping(data) => format!("ping {}", data.len()),
                    other => format!("{other:?}"),
                });
            })
            .unwrap();
    }

    #[test]
    fn messages_are_the_same_wherever_the_stream_is_cut() {
        let long = "y".repeat(300);
        let stream = wire(&[
            (0x81, "one"),
            (0x89, "hb"),
            (0x01, "fr"),
            (0x89, ""),
            (0x00, "ag"),
            (0x80, "ment"),
            (0x82, "bin"),
            (0x81, &long),
            (0x8a, ""),
            (0x88, ""),
        ]);
        let whole = [
            "one", "ping 2", "ping 0", "fragment", "Binary", &long, "Close",
        ];
        let mut buffer = Vec::new();
        for first in 0..=stream.len() {
            for second in [first, first + 1, first + 7, stream.len()] {
                let second = second.min(stream.len());
                let (mut inbox, mut seen) = (Inbox::default(), Vec::new());
                for chunk in [&stream[..first], &stream[first..second], &stream[second..]] {
                    read(&mut inbox, &mut buffer, chunk, &mut seen);
                }
                assert_eq!(seen, whole, "cut at {first} and {second}");
                assert_eq!(inbox.tail.capacity(), 0, "an idle inbox owns no memory");
            }
        }
    }

    #[test]
    fn a_message_larger_than_the_buffer_is_read() {
        let mut stream = vec![0x81, 127];
        stream.extend_from_slice(&200_000_u64.to_be_bytes());
        stream.extend(std::iter::repeat_n(b'z', 200_000));
        let (mut inbox, mut buffer, mut seen) = (Inbox::default(), vec![0; 64 << 10], Vec::new());
        for chunk in stream.chunks(20_000) {
            read(&mut inbox, &mut buffer, chunk, &mut seen);
        }
        assert_eq!(seen[0].len(), 200_000);
    }

    #[test]
    fn fragments_out_of_place_are_refused() {
        for bad in [wire(&[(0x80, "x")]), wire(&[(0x01, "x"), (0x81, "y")])] {
            assert_eq!(
                Inbox::default().take(&bad, |_| ()),
                Err(FrameError::Fragment)
            );
        }
    }
}
