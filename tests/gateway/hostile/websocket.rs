//! Frames and packets.

use serde_json::json;

use super::{PAYLOAD_MAX, SETTINGS, counted, serves};
use crate::support::client::{Client, WEBSOCKET};
use crate::support::node::Node;
use crate::support::wire::{
    BINARY, CLOSE, CONTINUATION, LAST, PING, PONG, TEXT, Wire, announced_frame, first_fragment,
    frame, raw_frame, unmasked_frame,
};
use crate::support::within;

/// What is sent by a user who has entered, and why the session ends for it.
struct Case {
    what: &'static str,
    bytes: Vec<u8>,
    reason: &'static str,
}

fn case(reason: &'static str, what: &'static str, bytes: Vec<u8>) -> Case {
    Case {
        what,
        bytes,
        reason,
    }
}

/// Frames that are too large, however that is done.
fn large_frames() -> Vec<Case> {
    let broken = |what, bytes| case("transport_error", what, bytes);
    let too_large = vec![b'x'; PAYLOAD_MAX + 1];
    let half = vec![b'4'; PAYLOAD_MAX / 2 + 1];
    let two_halves = [
        first_fragment(TEXT, &half),
        raw_frame(LAST | CONTINUATION, &half),
    ];
    let many = first_fragment(CONTINUATION, b"").repeat(10_000);
    vec![
        broken("an oversized frame", frame(TEXT, &too_large)),
        broken("an oversized binary frame", frame(BINARY, &too_large)),
        broken("an announced gigabyte", announced_frame(TEXT, 1 << 30)),
        broken("an announced 2^63", announced_frame(BINARY, 1 << 63)),
        broken("fragments beyond the limit", two_halves.concat()),
        broken(
            "very many fragments",
            [first_fragment(TEXT, b"4"), many].concat(),
        ),
    ]
}

/// Frames that RFC 6455 does not allow.
fn bad_frames() -> Vec<Case> {
    let broken = |what, bytes| case("transport_error", what, bytes);
    let unmasked = unmasked_frame(TEXT, b"3");
    let within = [first_fragment(TEXT, b"4"), text("3")].concat();
    vec![
        broken("an unmasked frame", unmasked.clone()),
        broken(
            "an unmasked frame before a masked one",
            [unmasked, text("3")].concat(),
        ),
        broken("a continuation of nothing", frame(CONTINUATION, b"4")),
        broken("a message within a message", within),
        broken("the first reserved bit", raw_frame(0xc0 | TEXT, b"3")),
        broken("the second reserved bit", raw_frame(0xa0 | TEXT, b"3")),
        broken("the third reserved bit", raw_frame(0x90 | TEXT, b"3")),
        broken("a reserved opcode", frame(3, b"3")),
        broken("a reserved control opcode", frame(11, b"3")),
        broken("a fragmented ping", raw_frame(PING, b"x")),
        broken("a ping of 126 bytes", frame(PING, &[0; 126])),
        broken("text that is not UTF-8", frame(TEXT, b"4\xff\xfe")),
        broken(
            "text that ends within a character",
            frame(TEXT, b"4\xe2\x82"),
        ),
    ]
}

/// Packets that are none, or not now.
fn bad_packets() -> Vec<Case> {
    let packet = |what, packet: &str| case("parse_error", what, text(packet));
    let bytes = |what, bytes| case("parse_error", what, bytes);
    let attachments = |count: usize| {
        let places = (0..count).map(|n| json!({"_placeholder": true, "num": n}));
        let places: Vec<_> = places.collect();
        text(&format!("45{count}-{}", json!(["message:send", places])))
    };
    let deep = format!("42[\"a\",{}", "[".repeat(90_000));
    let interrupted = [attachments(1), text("42[\"a\"]")].concat();
    let elsewhere = text("42/other,[\"a\"]");
    vec![
        packet("an empty text", ""),
        packet("an unknown packet", "9"),
        packet("a ping of Engine.IO from the client", "2"),
        packet("an empty message", "4"),
        packet("an unknown Socket.IO packet", "47"),
        packet("an event that is not JSON", "42[\"message:send\","),
        packet("an event without a name", "42[]"),
        packet("an event with a reserved name", "42[\"disconnect\"]"),
        packet("junk after an event", "42[\"a\"]x"),
        packet("very deep JSON", &deep),
        packet("an ack id that is no number", "421x[\"a\"]"),
        bytes("eleven attachments", attachments(11)),
        bytes("binary without a packet", frame(BINARY, b"x")),
        bytes("text while attachments are due", interrupted),
        packet("a CONNECT_ERROR from a client", "44{\"message\":\"x\"}"),
        case("forced_close", "a namespace that was not joined", elsewhere),
        case("forced_close", "a second CONNECT", text("40{}")),
    ]
}
/// A WebSocket whose user has entered.
async fn entered(node: &Node) -> Wire {
    Client::connect(node, "mallory").await.wire
}

fn text(packet: &str) -> Vec<u8> {
    frame(TEXT, packet.as_bytes())
}

#[tokio::test]
async fn a_websocket_that_breaks_a_rule_is_closed_alone() {
    let node = Node::with(SETTINGS).await;
    let mut other = Client::connect(&node, "other").await;
    let lists = [
        (1009, large_frames()),
        (1002, bad_frames()),
        (1005, bad_packets()),
    ];
    let cases = lists
        .into_iter()
        .flat_map(|(status, cases)| cases.into_iter().map(move |case| (status, case)));
    for (status, case) in cases {
        let Case {
            what,
            bytes,
            reason,
        } = case;
        let series = format!("connections_closed_total{{reason=\"{reason}\"}}");
        let before = node.scrape().await.sum(&series);
        let mut wire = entered(&node).await;
        // The node may have closed before it has taken in everything.
        drop(wire.try_send(&bytes).await);
        let code = wire.close_code().await;
        let expected = Some(if what.starts_with("text that") {
            1007
        } else {
            status
        });
        if bytes.len() < PAYLOAD_MAX {
            assert_eq!(code, expected, "{what}");
        }
        counted(&node, &series, before + 1.0, what).await;
    }
    serves(&node).await;
    other.say("elsewhere", "not closed").await;
    let scrape = node.scrape().await;
    assert!(
        scrape.sum("connections_open") <= 2.0,
        "every session is gone"
    );
}

#[tokio::test]
async fn an_oversized_frame_is_closed_with_1009() {
    let node = Node::with(SETTINGS).await;
    let mut wire = entered(&node).await;
    // The head is enough to know.
    wire.send(&announced_frame(TEXT, PAYLOAD_MAX as u64 + 1))
        .await;
    assert_eq!(wire.close_code().await, Some(1009));
    // And the largest one that is allowed is not.
    let mut client = Client::connect(&node, "ada").await;
    let padding = " ".repeat(PAYLOAD_MAX - "42[\"a\"]".len());
    client.wire.send_text(&format!("42[\"a\"]{padding}")).await;
    client.say("lobby", "still here").await;
}

#[tokio::test]
async fn control_frames_are_answered_in_any_place() {
    let node = Node::start().await;
    let mut wire = entered(&node).await;
    // Between the fragments of a message, as RFC 6455 section 5.4 allows.
    wire.send(&first_fragment(TEXT, b"42[\"no such")).await;
    wire.send(&frame(PING, b"are you there?")).await;
    let pong = wire.frame().await.unwrap();
    assert_eq!(
        (pong.opcode, pong.payload.as_slice()),
        (PONG, &b"are you there?"[..])
    );
    wire.send(&raw_frame(LAST | CONTINUATION, b" event\"]"))
        .await;
    wire.send(&frame(PONG, b"unasked")).await;
    wire.send(&text("421[\"message:send\"]")).await;
    assert!(wire.text().await.unwrap().starts_with("431[{\"ok\":false"));
    wire.send(&frame(CLOSE, &1000_u16.to_be_bytes())).await;
    within("the end", wire.rest()).await;
    counted(
        &node,
        "connections_closed_total{reason=\"transport_close\"}",
        1.0,
        "a close",
    )
    .await;
}

#[tokio::test]
async fn a_flood_of_pings_that_reads_nothing_is_closed() {
    let node = Node::start().await;
    let mut wire = Wire::dial_narrow(node.address()).await;
    assert_eq!(wire.upgrade(WEBSOCKET, "").await.status, 101);
    let connect = format!("40{}", json!({ "token": node.token("mallory") }));
    wire.send(&text(&connect)).await;
    let before = node.memory();
    let burst = frame(PING, &[0x61; 125]).repeat(1_000);
    // More pongs than the kernel keeps for somebody who does not read.
    let mut bursts = 0;
    while wire.try_send(&burst).await.is_ok() {
        bursts += 1;
        assert!(bursts < 1_000, "the node goes on answering");
    }
    let grown = node.memory().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes for one flood");
    let series = "connections_closed_total{reason=\"slow_consumer\"}";
    counted(&node, series, 1.0, "a flood of pings").await;
    counted(
        &node,
        "sockets_closed_total{reason=\"slow_consumer\"}",
        1.0,
        "its socket",
    )
    .await;
    serves(&node).await;
}
