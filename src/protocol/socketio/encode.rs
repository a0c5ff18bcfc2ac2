//! Packets to clients, each encoded once.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::protocol::frame::Frame;

/// CONNECT: the socket's id, and its private id when the session can be recovered.
#[must_use]
pub fn connect(namespace: &str, id: &str, private_id: Option<&str>) -> Frame {
    let mut text = head('0', 0, namespace, None);
    text.extend([r#"{"sid":""#, id, "\""]);
    if let Some(private_id) = private_id {
        text.extend([r#","pid":""#, private_id, "\""]);
    }
    text.push('}');
    Frame::text(&[&text])
}

/// CONNECT_ERROR, always an object: other clients read nothing else.
#[must_use]
pub fn connect_error(namespace: &str, message: &str, data: Option<&str>) -> Frame {
    let mut text = head('4', 0, namespace, None);
    text.extend([r#"{"message":"#, &quoted(message)]);
    if let Some(data) = data {
        text.extend([r#","data":"#, data]);
    }
    text.push('}');
    Frame::text(&[&text])
}

/// DISCONNECT.
#[must_use]
pub fn disconnect(namespace: &str) -> Frame {
    Frame::text(&[&head('1', 0, namespace, None)])
}

/// EVENT or BINARY_EVENT: `args` are JSON values separated by commas, with placeholders for the
/// attachments.
#[must_use]
pub fn event(
    namespace: &str,
    ack: Option<u32>,
    name: &str,
    args: &str,
    attachments: &[Bytes],
) -> Frame {
    let kind = if attachments.is_empty() { '2' } else { '5' };
    let mut head = head(kind, attachments.len(), namespace, ack.map(u64::from));
    head.push('[');
    head.push_str(&quoted(name));
    let comma = if args.is_empty() { "" } else { "," };
    Frame::group(&[&head, comma, args, "]"], attachments)
}

/// EVENT with an offset as its last element: clients send the last one they saw when they come back.
#[must_use]
pub fn event_with_offset(namespace: &str, name: &str, args: &str, offset: &str) -> Frame {
    let mut head = head('2', 0, namespace, None);
    head.push('[');
    head.push_str(&quoted(name));
    let comma = if args.is_empty() { "" } else { "," };
    Frame::text(&[&head, comma, args, ",\"", offset, "\"]"])
}

/// ACK or BINARY_ACK with the client's own number.
#[must_use]
pub fn ack(namespace: &str, id: u64, args: &str, attachments: &[Bytes]) -> Frame {
    let kind = if attachments.is_empty() { '3' } else { '6' };
    let head = head(kind, attachments.len(), namespace, Some(id));
    Frame::group(&[&head, "[", args, "]"], attachments)
}

/// Everything before the payload, the Engine.IO message type included.
fn head(kind: char, attachments: usize, namespace: &str, ack: Option<u64>) -> String {
    let mut text = String::with_capacity(32 + namespace.len());
    text.push('4');
    text.push(kind);
    if attachments > 0 {
        // Writing into a String cannot fail.
        write!(text, "{attachments}-").unwrap_or_default();
    }
    if namespace != "/" {
        text.extend([namespace, ","]);
    }
    if let Some(id) = ack {
        write!(text, "{id}").unwrap_or_default();
    }
    text
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::Part;
    use crate::protocol::socketio::decode::{self, Decoded};
    use proptest::prelude::*;

    fn text(frame: &Frame) -> String {
        match frame.parts().next() {
            Some(Part::Text(text)) => text.to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn packets_as_clients_expect_them() {
        let attachment = [Bytes::from_static(&[1, 2])];
        for (frame, expected) in [
            (connect("/", "abc", None), r#"40{"sid":"abc"}"#),
            (
                connect("/a", "abc", Some("p")),
                r#"40/a,{"sid":"abc","pid":"p"}"#,
            ),
            (
                connect_error("/x", "Invalid namespace", None),
                r#"44/x,{"message":"Invalid namespace"}"#,
            ),
            (
                connect_error("/", "no", Some(r#"{"code":1}"#)),
                r#"44{"message":"no","data":{"code":1}}"#,
            ),
            (disconnect("/"), "41"),
            (disconnect("/a"), "41/a,"),
            (event("/", None, "e", "", &[]), r#"42["e"]"#),
            (
                event("/a", Some(3), "e\"", "1,{}", &[]),
                r#"42/a,3["e\"",1,{}]"#,
            ),
            (event("/", None, "e", "0", &attachment), r#"451-["e",0]"#),
            (event_with_offset("/", "e", "0", "AQ"), r#"42["e",0,"AQ"]"#),
            (event_with_offset("/a", "e", "", "AQ"), r#"42/a,["e","AQ"]"#),
            (ack("/", 7, "", &[]), "437[]"),
            (ack("/a", 7, "1", &attachment), "461-/a,7[1]"),
        ] {
            assert_eq!(text(&frame), expected);
        }
        assert_eq!(event("/", None, "e", "0", &attachment).parts().count(), 2);
    }

    proptest! {
        #[test]
        fn events_read_back(name in ".{1,20}", id in proptest::option::of(any::<u32>()), n in any::<i32>()) {
            let args = n.to_string();
            let frame = event("/n", id, &format!("x{name}"), &args, &[]);
            let text = text(&frame);
            let expected = Decoded::Event {
                namespace: "/n",
                ack: id.map(u64::from),
                name: format!("x{name}").into(),
                args: &args,
                attachments: 0,
            };
            prop_assert_eq!(decode::packet(&text[1..]), Ok(expected));
        }
    }
}
