//! Packets from clients: `<type>[<attachments>-][<namespace>,][<ack id>][<JSON>]`.
//!
//! As strict as `socket.io-parser` 4.2: whatever it closes a connection for is a violation here. The
//! JSON stays the client's text; key order and the writing of numbers survive.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::protocol::Violation;

/// A packet from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// `0`: enter a namespace, with an object of credentials or nothing.
    Connect {
        /// Which.
        namespace: &'a str,
        /// JSON text of an object.
        auth: Option<&'a str>,
    },
    /// `1`: leave a namespace.
    Disconnect {
        /// Which.
        namespace: &'a str,
    },
    /// `2` and `5`: an event.
    Event {
        /// Where.
        namespace: &'a str,
        /// The number to answer with.
        ack: Option<u64>,
        /// Its name, a numeric one as its text.
        name: Cow<'a, str>,
        /// JSON values after the name, separated by commas.
        args: &'a str,
        /// Binary messages that follow.
        attachments: usize,
    },
    /// `3` and `6`: the answer to an event of ours.
    Ack {
        /// Where.
        namespace: &'a str,
        /// Which event.
        id: u64,
        /// JSON values separated by commas.
        args: &'a str,
        /// Binary messages that follow.
        attachments: usize,
    },
    /// Valid, and without any effect (an event without a payload, an answer without a number).
    Nothing {
        /// Where.
        namespace: &'a str,
    },
}

impl Decoded<'_> {
    /// Binary messages that belong to it.
    #[must_use]
    pub const fn attachments(&self) -> usize {
        match self {
            Self::Event { attachments, .. } | Self::Ack { attachments, .. } => *attachments,
            _ => 0,
        }
    }
}

/// Longer namespace names are refused; nothing else bounds them.
const NAMESPACE_BYTES_MAX: usize = 256;
/// Names that applications listen to for things that are no events.
const RESERVED: &[&str] = &[
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
];

/// Reads one packet.
///
/// # Errors
/// The rule that it breaks.
pub fn packet(text: &str) -> Result<Decoded<'_>, Violation> {
    let kind = *text
        .as_bytes()
        .first()
        .ok_or(Violation("empty socket.io packet"))?;
    let rest = &text[text.ceil_char_boundary(1)..];
    let (attachments, rest) = match kind {
        b'5' | b'6' => attachment_count(rest)?,
        _ => (0, rest),
    };
    let (namespace, rest) = namespace(rest)?;
    let (id, payload) = number(rest)?;
    let payload = payload.trim_matches(WHITESPACE);
    match kind {
        b'0' => Ok(Decoded::Connect {
            namespace,
            auth: auth(payload)?,
        }),
        b'1' if payload.is_empty() => Ok(Decoded::Disconnect { namespace }),
        b'1' => Err(Violation("DISCONNECT with a payload")),
        b'2' | b'5' if payload.is_empty() && attachments == 0 => Ok(Decoded::Nothing { namespace }),
        b'2' | b'5' => {
            let (name, args) = event(payload)?;
            Ok(Decoded::Event {
                namespace,
                ack: id,
                name,
                args,
                attachments,
            })
        }
        b'3' | b'6' => {
            let args = if payload.is_empty() {
                ""
            } else {
                array(payload)?
            };
            Ok(match id {
                Some(id) => Decoded::Ack {
                    namespace,
                    id,
                    args,
                    attachments,
                },
                None => Decoded::Nothing { namespace },
            })
        }
        b'4' => Err(Violation("CONNECT_ERROR from a client")),
        _ => Err(Violation("unknown socket.io packet type")),
    }
}

const WHITESPACE: [char; 4] = [' ', '\t', '\n', '\r'];

fn attachment_count(text: &str) -> Result<(usize, &str), Violation> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text[digits..]
        .strip_prefix('-')
        .ok_or(Violation("illegal attachments"))?;
    let count = text[..digits]
        .parse()
        .map_err(|_| Violation("illegal attachments"))?;
    if count == 0 {
        Err(Violation("illegal attachments"))
    } else {
        Ok((count, rest))
    }
}

fn namespace(text: &str) -> Result<(&str, &str), Violation> {
    if !text.starts_with('/') {
        return Ok(("/", text));
    }
    let (name, rest) = text.split_once(',').unwrap_or((text, ""));
    if name.len() > NAMESPACE_BYTES_MAX {
        return Err(Violation("namespace name too long"));
    }
    Ok((name, rest))
}

fn number(text: &str) -> Result<(Option<u64>, &str), Violation> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Ok((None, text));
    }
    let id = text[..digits]
        .parse()
        .map_err(|_| Violation("ack id too large"))?;
    Ok((Some(id), &text[digits..]))
}

fn auth(payload: &str) -> Result<Option<&str>, Violation> {
    if payload.is_empty() {
        return Ok(None);
    }
    json(payload)?;
    if payload.starts_with('{') {
        Ok(Some(payload))
    } else {
        Err(Violation("CONNECT payload is no object"))
    }
}

/// The name and the text of the other values.
fn event(payload: &str) -> Result<(Cow<'_, str>, &str), Violation> {
    let inside = array(payload)?;
    let (first, rest) = split_first(inside);
    let name = match first.as_bytes().first() {
        Some(b'"') => {
            let name: Cow<'_, str> = match &first[1..first.len() - 1] {
                plain if !plain.contains('\\') => Cow::Borrowed(plain),
                _ => serde_json::from_str::<String>(first)
                    .map(Cow::Owned)
                    .map_err(|_| Violation("invalid event name"))?,
            };
            if RESERVED.contains(&&*name) {
                return Err(Violation("reserved event name"));
            }
            name
        }
        Some(b'-' | b'0'..=b'9') => Cow::Borrowed(first),
        _ => return Err(Violation("event name is neither text nor number")),
    };
    Ok((name, rest))
}

/// The inside of a JSON array.
fn array(payload: &str) -> Result<&str, Violation> {
    json(payload)?;
    let inside = payload
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inside
        .map(|inside| inside.trim_matches(WHITESPACE))
        .ok_or(Violation("payload is no array"))
}

fn json(text: &str) -> Result<(), Violation> {
    serde_json::from_str::<&RawValue>(text)
        .map(drop)
        .map_err(|_| Violation("invalid JSON"))
}

/// Splits valid JSON values at the comma after the first, which must be a text or a number.
fn split_first(values: &str) -> (&str, &str) {
    let mut is_text = false;
    let mut is_escaped = false;
    for (at, byte) in values.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b',' if !is_text => {
                let first = values[..at].trim_end_matches(WHITESPACE);
                return (first, values[at + 1..].trim_start_matches(WHITESPACE));
            }
            _ => {}
        }
    }
    (values, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event<'a>(
        ack: Option<u64>,
        name: &'a str,
        args: &'a str,
        attachments: usize,
    ) -> Decoded<'a> {
        Decoded::Event {
            namespace: "/",
            ack,
            name: name.into(),
            args,
            attachments,
        }
    }

    #[test]
    fn packets_as_clients_send_them() {
        let connect = |namespace, auth| Decoded::Connect { namespace, auth };
        for (text, expected) in [
            ("0", connect("/", None)),
            ("0{}", connect("/", Some("{}"))),
            ("0/admin", connect("/admin", None)),
            (
                r#"0/admin,{"token":"x"}"#,
                connect("/admin", Some(r#"{"token":"x"}"#)),
            ),
            ("00{}", connect("/", Some("{}"))),
            ("1", Decoded::Disconnect { namespace: "/" }),
            (
                "1/admin",
                Decoded::Disconnect {
                    namespace: "/admin",
                },
            ),
            (
                "1/admin,",
                Decoded::Disconnect {
                    namespace: "/admin",
                },
            ),
            ("2", Decoded::Nothing { namespace: "/" }),
            ("3", Decoded::Nothing { namespace: "/" }),
            ("3[1]", Decoded::Nothing { namespace: "/" }),
            (r#"2["a"]"#, event(None, "a", "", 0)),
            (r#"2["a"] "#, event(None, "a", "", 0)),
            ("2[1]", event(None, "1", "", 0)),
            (r#"2["connection",1]"#, event(None, "connection", "1", 0)),
            (
                r#"2["a b:c", {"z":1,"a":1.50} ,null]"#,
                event(None, "a b:c", r#"{"z":1,"a":1.50} ,null"#, 0),
            ),
            (r#"2["a,\"b\"",1]"#, event(None, "a,\"b\"", "1", 0)),
            (r#"2007["a"]"#, event(Some(7), "a", "", 0)),
            (
                r#"52-9["a",{"_placeholder":true,"num":0}]"#,
                event(Some(9), "a", r#"{"_placeholder":true,"num":0}"#, 2),
            ),
            (
                r#"3/x,12["r"]"#,
                Decoded::Ack {
                    namespace: "/x",
                    id: 12,
                    args: r#""r""#,
                    attachments: 0,
                },
            ),
            (
                "312[]",
                Decoded::Ack {
                    namespace: "/",
                    id: 12,
                    args: "",
                    attachments: 0,
                },
            ),
            (
                "61-1[0]",
                Decoded::Ack {
                    namespace: "/",
                    id: 1,
                    args: "0",
                    attachments: 1,
                },
            ),
        ] {
            assert_eq!(packet(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_the_reference_closes_a_connection_for() {
        for text in [
            "",
            "0[]",
            "0null",
            "0/admin,\"x\"",
            "0{",
            "1{}",
            "1[]",
            "2[]",
            "2{}",
            "2[null]",
            "2[true]",
            "2[[]]",
            "2[{}]",
            r#"2["connect"]"#,
            r#"2["disconnecting"]"#,
            r#"2["newListener",1]"#,
            r#"2["conn\u0065ct"]"#,
            "2[",
            r#"2["a"]x"#,
            r#"2["a",]"#,
            "3{}",
            "31{}",
            "4[]",
            "4{}",
            "4",
            "2abc[1]",
            "2-1[1]",
            "21.5[1]",
            "7",
            "8[]",
            "9",
            "a",
            "é",
            "5[1]",
            "51[1]",
            "5a-[1]",
            "51.5-[1]",
            "50-[1]",
            "5-[1]",
            r#"5["a"]"#,
            "51-",
            "299999999999999999999999[1]",
            r#"2["\ud800"]"#,
        ] {
            assert!(packet(text).is_err(), "{text} gave {:?}", packet(text));
        }
        let long = format!("0/{},", "x".repeat(300));
        assert_eq!(packet(&long), Err(Violation("namespace name too long")));
        let deep = format!("2[\"a\",{}{}]", "[".repeat(100_000), "]".repeat(100_000));
        drop(packet(&deep));
    }

    proptest! {
        #[test]
        fn any_text_never_panics(text in "\\PC{0,64}") {
            drop(packet(&text));
        }

        #[test]
        fn any_text_near_a_packet_never_panics(
            text in r#"[0-9]{1,3}-?(/[a-z]{0,3},)?[0-9]{0,3}[\[\]{}",:a-z0-9\\ ]{0,24}"#
        ) {
            drop(packet(&text));
        }

        #[test]
        fn names_and_args_survive_untouched(name in ".{1,20}", number in any::<f64>(), text in ".{0,20}") {
            let args = serde_json::to_string(&(number, &text)).unwrap();
            let args = &args[1..args.len() - 1];
            let encoded = serde_json::to_string(&name).unwrap();
            let packet_text = format!("2[{encoded},{args}]");
            match packet(&packet_text) {
                Ok(Decoded::Event { name: found, args: rest, .. }) => {
                    prop_assert_eq!(&*found, &name);
                    prop_assert_eq!(rest, args);
                }
                other => prop_assert!(RESERVED.contains(&&*name), "{:?}", other),
            }
        }
    }
}
