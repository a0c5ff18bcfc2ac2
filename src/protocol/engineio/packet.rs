//! Engine.IO packets: a type character and text, or binary (always a message).

use crate::protocol::Violation;

/// What a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `0`: the session's parameters, server to client.
    Open,
    /// `1`: the end of the session.
    Close,
    /// `2`: are you there, server to client.
    Ping,
    /// `3`: I am, client to server.
    Pong,
    /// `4`: a message of the layer above.
    Message,
    /// `5`: the client moves to the new transport.
    Upgrade,
    /// `6`: nothing; lets a parked request return.
    Noop,
}

/// The text of a ping that tests a new transport.
pub const PROBE: &str = "probe";

/// Splits a text packet.
///
/// # Errors
/// An empty packet or an unknown type.
pub fn decode(text: &str) -> Result<(Kind, &str), Violation> {
    let kind = match text.as_bytes().first() {
        Some(b'0') => Kind::Open,
        Some(b'1') => Kind::Close,
        Some(b'2') => Kind::Ping,
        Some(b'3') => Kind::Pong,
        Some(b'4') => Kind::Message,
        Some(b'5') => Kind::Upgrade,
        Some(b'6') => Kind::Noop,
        Some(_) => return Err(Violation("unknown engine.io packet type")),
        None => return Err(Violation("empty engine.io packet")),
    };
    Ok((kind, &text[1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_a_known_digit_and_text() {
        assert_eq!(decode("4hello"), Ok((Kind::Message, "hello")));
        assert_eq!(decode("2probe"), Ok((Kind::Ping, PROBE)));
        assert_eq!(decode("6"), Ok((Kind::Noop, "")));
        for bad in ["", "7", "abc", "é", "\u{1e}"] {
            assert!(decode(bad).is_err(), "{bad:?}");
        }
    }
}
