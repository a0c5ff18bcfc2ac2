//! Long-polling bodies: several packets joined by the record separator.
//!
//! Binary is `b` and base64. It is read leniently, as the reference does: Java clients break lines
//! every 76 characters, others leave the padding out or use the URL alphabet.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use super::packet::{self, Kind};
use crate::protocol::Violation;
use crate::protocol::frame::{Frame, Part};

const SEPARATOR: char = '\u{1e}';
/// python-engineio refuses bodies of more than 16 packets; the last one may be the session's end.
const PACKETS_MAX: usize = 15;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A packet of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<'a> {
    /// A text packet.
    Text(Kind, &'a str),
    /// A binary message.
    Binary(Bytes),
}

/// The packets of a body, in order; those before a bad one come first, then the error, then nothing.
pub fn decode(body: &str) -> impl Iterator<Item = Result<Item<'_>, Violation>> {
    let mut packets = body.split(SEPARATOR);
    let mut is_over = false;
    std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let item = decode_one(packets.next()?);
        is_over = item.is_err();
        Some(item)
    })
}

fn decode_one(text: &str) -> Result<Item<'_>, Violation> {
    if let Some(encoded) = text.strip_prefix('b') {
        return decode_base64(encoded).map(Item::Binary);
    }
    packet::decode(text).map(|(kind, rest)| Item::Text(kind, rest))
}

fn decode_base64(text: &str) -> Result<Bytes, Violation> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    let bad = |_| Violation("invalid base64");
    if text.bytes().all(is_plain) {
        return LENIENT.decode(text).map(Bytes::from).map_err(bad);
    }
    let mapped = text
        .bytes()
        .filter(|b| !b.is_ascii_whitespace())
        .map(|b| match b {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        });
    LENIENT
        .decode(mapped.collect::<Vec<_>>())
        .map(Bytes::from)
        .map_err(bad)
}

/// Collects frames into one body.
#[derive(Debug, Default)]
pub struct Encoder {
    body: String,
    packets: usize,
}

impl Encoder {
    /// Adds a frame's messages. False, and nothing added, when they would make the body larger than
    /// `bytes_max` or too many packets; the first frame always fits.
    pub fn add(&mut self, frame: &Frame, bytes_max: usize) -> bool {
        let count = frame.parts().count();
        let is_first = self.packets == 0;
        let is_full = self.packets + count > PACKETS_MAX
            || self.body.len() + frame.len() + frame.len() / 2 > bytes_max;
        if is_full && !is_first {
            return false;
        }
        for part in frame.parts() {
            self.separate();
            match part {
                Part::Text(text) => self.body.push_str(text),
                Part::Binary(data) => {
                    self.body.push('b');
                    base64::engine::general_purpose::STANDARD.encode_string(data, &mut self.body);
                }
            }
        }
        true
    }

    /// Adds a packet that is no frame: `1`, `6`.
    pub fn add_text(&mut self, packet: &str) {
        self.separate();
        self.body.push_str(packet);
    }

    /// True when nothing was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// The body.
    #[must_use]
    pub fn finish(self) -> String {
        self.body
    }

    fn separate(&mut self) {
        if self.packets > 0 {
            self.body.push(SEPARATOR);
        }
        self.packets += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(body: &str) -> Vec<Result<Item<'_>, Violation>> {
        decode(body).collect()
    }

    #[test]
    fn bodies_split_into_packets() {
        let packets = all("4hello\u{1e}bAQIDBA==\u{1e}2");
        assert_eq!(packets[0], Ok(Item::Text(Kind::Message, "hello")));
        assert_eq!(
            packets[1],
            Ok(Item::Binary(Bytes::from_static(&[1, 2, 3, 4])))
        );
        assert_eq!(packets[2], Ok(Item::Text(Kind::Ping, "")));
    }

    #[test]
    fn packets_before_a_bad_one_still_count() {
        for bad in ["4a\u{1e}", "4a\u{1e}\u{1e}4b", "4a\u{1e}x", "4a\u{1e}b!!"] {
            let packets = all(bad);
            assert_eq!(packets.len(), 2, "{bad:?}");
            assert!(packets[0].is_ok() && packets[1].is_err(), "{bad:?}");
        }
        assert!(all("")[0].is_err());
    }

    #[test]
    fn base64_is_read_as_clients_write_it() {
        let expected = Ok(Item::Binary(Bytes::from_static(&[251, 255, 1])));
        for text in ["b+/8B", "b-_8B", "b+/\n8B\r\n", "b +/8B"] {
            assert_eq!(all(text)[0], expected, "{text:?}");
        }
        assert_eq!(all("bAQ")[0], Ok(Item::Binary(Bytes::from_static(&[1]))));
        assert_eq!(all("b")[0], Ok(Item::Binary(Bytes::new())));
    }

    #[test]
    fn a_body_holds_a_bounded_number_of_packets_and_bytes() {
        let mut encoder = Encoder::default();
        let frame = Frame::text(&["4x"]);
        let added = (0..20).filter(|_| encoder.add(&frame, 1000)).count();
        assert_eq!(added, 15);
        let mut encoder = Encoder::default();
        assert!(
            encoder.add(&Frame::text(&["4", &"x".repeat(100)]), 50),
            "the first always fits"
        );
        assert!(!encoder.add(&frame, 50));
        assert!(encoder.finish().len() > 50);
    }

    proptest! {
        #[test]
        fn what_is_encoded_reads_back(
            texts in proptest::collection::vec("[^\u{1e}]{0,20}", 1..8),
            data in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut encoder = Encoder::default();
            for text in &texts {
                encoder.add(&Frame::text(&["4", text]), usize::MAX);
            }
            encoder.add(&Frame::binary(&data), usize::MAX);
            let body = encoder.finish();
            let items: Result<Vec<_>, _> = decode(&body).collect();
            let items = items.unwrap();
            for (item, text) in items.iter().zip(&texts) {
                prop_assert_eq!(item, &Item::Text(Kind::Message, text));
            }
            prop_assert_eq!(items.last(), Some(&Item::Binary(Bytes::from(data))));
        }

        #[test]
        fn any_text_never_panics(text in "\\PC{0,64}") {
            decode(&text).for_each(drop);
            decode(&format!("b{text}\u{1e}{text}")).for_each(drop);
        }
    }
}
