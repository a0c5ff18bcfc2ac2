//! What the sockets say and understand: Socket.IO packets as WebSocket text, in two vocabularies.
//!
//! A packet is recognised by its first bytes and otherwise left as it is: the generator never parses
//! an event's JSON.

use std::fmt::Write as _;

/// Which events a server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// A plain relay: `join` with a room name (acknowledged); `publish {room, data}` comes to every
    /// member as `event {room, data}`; `echo` is acknowledged with its argument.
    Relay,
    /// Vestibule itself: `join:conversation`, `message:send` (acknowledged once it is durable),
    /// `message:new`.
    Vestibule,
}

/// What a session's id calls its node.
pub(super) type Node = [u8; 4];

/// A packet from the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// Engine.IO is open; the session, as text.
    Open(&'a [u8]),
    /// A heartbeat; the answer carries the same data.
    Ping(&'a [u8]),
    /// The namespace is joined.
    Connected,
    /// The namespace is refused; the text says why.
    Refused(&'a [u8]),
    /// An event with everything in it, as text.
    Event(&'a [u8]),
    /// The answer to an event of ours, and its arguments as text.
    Ack { id: u32, arguments: &'a [u8] },
    /// The server ends the session or the namespace.
    Closed,
    /// Nothing the generator cares about.
    Other,
}

impl<'a> Packet<'a> {
    /// Recognises the text of one WebSocket message.
    pub(super) fn read(text: &'a [u8]) -> Self {
        match text {
            [b'4', b'2', ..] => Self::Event(text),
            [b'4', b'3', rest @ ..] => {
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let id = str::from_utf8(&rest[..digits])
                    .ok()
                    .and_then(|id| id.parse().ok());
                id.map_or(Self::Other, |id| Self::Ack {
                    id,
                    arguments: &rest[digits..],
                })
            }
            [b'0', session @ ..] => Self::Open(session),
            [b'2', data @ ..] => Self::Ping(data),
            [b'4', b'0', ..] => Self::Connected,
            [b'4', b'4', why @ ..] => Self::Refused(why),
            [b'1', ..] | [b'4', b'1', ..] => Self::Closed,
            _ => Self::Other,
        }
    }
}

impl Dialect {
    /// CONNECT to the main namespace.
    pub(super) fn connect(token: Option<&str>) -> String {
        token.map_or_else(
            || "40".to_owned(),
            |token| format!("40{}", serde_json::json!({ "token": token })),
        )
    }

    /// Asks to join `room`; the answer has id 0.
    pub(super) fn join(self, room: &str) -> String {
        match self {
            Self::Relay => format!(r#"420["join","{room}"]"#),
            Self::Vestibule => {
                format!(r#"420["join:conversation",{{"conversationId":"{room}"}}]"#)
            }
        }
    }

    /// An event for `room`. Where publishing is acknowledged, the answer has id `seq + 1`.
    pub(super) fn publish(self, room: &str, content: &str, seq: u32) -> String {
        let mut text = String::with_capacity(content.len() + room.len() + 128);
        let written = match self {
            Self::Relay => {
                write!(
                    text,
                    r#"42["publish",{{"room":"{room}","data":"{content}"}}]"#
                )
            }
            Self::Vestibule => {
                // The stamp at the front of the content is unique to the event.
                let id = &content[..content.len().min(super::stamp::STAMP_BYTES)];
                let ack = u64::from(seq) + 1;
                write!(
                    text,
                    r#"42{ack}["message:send",{{"conversationId":"{room}","content":"{content}","clientMessageId":"{id}"}}]"#
                )
            }
        };
        written.expect("a String takes everything");
        text
    }

    /// A question that is answered with the same content.
    pub(super) fn echo(content: &str, id: u32) -> String {
        format!(r#"42{id}["echo","{content}"]"#)
    }

    /// Which node a session is on, where its id says so: a letter for the worker, then four for the node.
    pub(super) fn node(self, session: &[u8]) -> Option<Node> {
        if self != Self::Vestibule {
            return None;
        }
        let key = br#""sid":""#;
        let at = memchr::memmem::find(session, key)? + key.len() + 1;
        session.get(at..at + 4)?.try_into().ok()
    }

    /// True if the server acknowledges what is published.
    pub(super) fn acknowledges(self) -> bool {
        self == Self::Vestibule
    }

    /// True if an event (as text) is one that was published.
    pub(super) fn is_delivery(self, text: &[u8]) -> bool {
        text.starts_with(match self {
            Self::Relay => br#"42["event","#,
            Self::Vestibule => br#"42["message:new","#,
        })
    }
}

/// `Ok` if an acknowledgement does not say `ok: false`, else the error's code (or the whole text).
pub(super) fn outcome(arguments: &[u8]) -> Result<(), String> {
    if memchr::memmem::find(arguments, br#""ok":true"#).is_some() {
        return Ok(());
    }
    let answer: serde_json::Value = serde_json::from_slice(arguments).unwrap_or_default();
    if answer[0]["ok"] != false {
        return Ok(());
    }
    let code = answer[0]["error"]["code"].as_str().map(ToOwned::to_owned);
    Err(code.unwrap_or_else(|| answer[0].to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_known_by_their_first_bytes() {
        for (text, packet) in [
            ("0{\"sid\":\"x\"}", Packet::Open(b"{\"sid\":\"x\"}")),
            ("2", Packet::Ping(b"")),
            ("2probe", Packet::Ping(b"probe")),
            ("40{\"sid\":\"x\"}", Packet::Connected),
            (
                "44{\"message\":\"no\"}",
                Packet::Refused(b"{\"message\":\"no\"}"),
            ),
            ("42[\"event\"]", Packet::Event(b"42[\"event\"]")),
            (
                "4317[1]",
                Packet::Ack {
                    id: 17,
                    arguments: b"[1]",
                },
            ),
            ("43[1]", Packet::Other),
            ("4399999999999[1]", Packet::Other),
            ("41", Packet::Closed),
            ("1", Packet::Closed),
            ("6", Packet::Other),
            ("", Packet::Other),
        ] {
            assert_eq!(Packet::read(text.as_bytes()), packet, "{text}");
        }
    }

    #[test]
    fn what_is_said_is_the_json_the_servers_expect() {
        let json = |text: &str| -> serde_json::Value {
            serde_json::from_str(text.trim_start_matches(|c: char| c.is_ascii_digit())).unwrap()
        };
        assert_eq!(json(&Dialect::connect(Some("a\"b")))["token"], "a\"b");
        assert_eq!(Dialect::connect(None), "40");
        assert_eq!(json(&Dialect::Relay.join("r1"))[1], "r1");
        assert_eq!(
            json(&Dialect::Vestibule.join("r1"))[1]["conversationId"],
            "r1"
        );
        let relay = json(&Dialect::Relay.publish("r1", "hello", 0));
        assert_eq!(
            (&relay[0], &relay[1]["data"]),
            (&"publish".into(), &"hello".into())
        );
        let send = Dialect::Vestibule.publish("r1", "hello", 6);
        assert!(send.starts_with("427["), "{send}");
        assert_eq!(json(&send)[1]["clientMessageId"], "hello");
        assert!(Dialect::Vestibule.is_delivery(br#"42["message:new",{}]"#));
        assert!(!Dialect::Vestibule.is_delivery(br#"42["user:online",{}]"#));
    }

    #[test]
    fn a_refusal_is_known_by_its_code() {
        assert_eq!(outcome(br#"[{"ok":true,"id":"x"}]"#), Ok(()));
        assert_eq!(outcome(b"[]"), Ok(()));
        let refusal = br#"[{"ok":false,"error":{"code":"rate_limited","message":"m"}}]"#;
        assert_eq!(outcome(refusal), Err("rate_limited".to_owned()));
        assert_eq!(
            outcome(br#"[{"ok":false}]"#),
            Err(r#"{"ok":false}"#.to_owned())
        );
    }
}
