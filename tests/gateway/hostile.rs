//! Bytes that no honest client sends: each costs its own connection, is counted, and nobody else
//! notices.
//!
//! The tables say what is sent, how the connection ends, and which counter has grown by one. After
//! every case a fresh client does the node's main job, and no part of the node has panicked.

use serde_json::json;

use super::support::client::{Client, POLLING, WEBSOCKET};
use super::support::node::Node;
use super::support::wire::{
    BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Wire, announced_frame, first_fragment, frame,
    raw_frame, unmasked_frame,
};
use super::support::{eventually, within};

const PAYLOAD_MAX: usize = 100_000;
const SETTINGS: &[(&str, &str)] = &[
    ("edge.header_timeout", "1s"),
    ("transport.max_payload", "100000B"),
];

/// A fresh client does what clients come for.
async fn serves(node: &Node) {
    let mut client = Client::connect(node, "honest").await;
    client.join("lobby").await;
    let id = client.say("lobby", "still there?").await;
    assert_eq!(client.shown().await.unwrap().id, id);
    node.is_well().await;
}

/// Waits until a counter stands at a value, and fails if it goes beyond.
async fn counted(node: &Node, series: &str, expected: f64, what: &str) {
    let found = eventually(&format!("{what}: {series} is {expected}"), async || {
        let found = node.scrape().await.sum(series);
        (found >= expected).then_some(found)
    })
    .await;
    assert!(
        (found - expected).abs() < 0.5,
        "{what}: {series} is {found}, not {expected}"
    );
}

/// A WebSocket whose user has entered.
async fn entered(node: &Node) -> Wire {
    Client::connect(node, "mallory").await.wire
}

fn text(packet: &str) -> Vec<u8> {
    frame(TEXT, packet.as_bytes())
}

fn websocket_cases() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let too_large = vec![b'x'; PAYLOAD_MAX + 1];
    let half = vec![b'4'; PAYLOAD_MAX / 2 + 1];
    let fragments = |first: Vec<u8>, second: Vec<u8>| [first, second].concat();
    let attachments = |count: usize| {
        let places: Vec<_> = (0..count)
            .map(|n| json!({"_placeholder": true, "num": n}))
            .collect();
        text(&format!("45{count}-{}", json!(["message:send", places])))
    };
    vec![
        (
            "an oversized frame",
            frame(TEXT, &too_large),
            "transport_error",
        ),
        (
            "an oversized binary frame",
            frame(BINARY, &too_large),
            "transport_error",
        ),
        (
            "an announced gigabyte",
            announced_frame(TEXT, 1 << 30),
            "transport_error",
        ),
        (
            "an announced 2^63",
            announced_frame(BINARY, 1 << 63),
            "transport_error",
        ),
        (
            "fragments beyond the limit",
            fragments(
                first_fragment(TEXT, &half),
                raw_frame(0x80 | CONTINUATION, &half),
            ),
            "transport_error",
        ),
        (
            "very many fragments",
            fragments(
                first_fragment(TEXT, b"4"),
                first_fragment(CONTINUATION, b"").repeat(10_000),
            ),
            "transport_error",
        ),
        (
            "an unmasked frame",
            unmasked_frame(TEXT, b"3"),
            "transport_error",
        ),
        (
            "an unmasked frame before a masked one",
            fragments(unmasked_frame(TEXT, b"3"), text("3")),
            "transport_error",
        ),
        (
            "a continuation of nothing",
            frame(CONTINUATION, b"4"),
            "transport_error",
        ),
        (
            "a message within a message",
            fragments(first_fragment(TEXT, b"4"), text("3")),
            "transport_error",
        ),
        (
            "a first reserved bit",
            raw_frame(0xc0 | TEXT, b"3"),
            "transport_error",
        ),
        (
            "a second reserved bit",
            raw_frame(0xa0 | TEXT, b"3"),
            "transport_error",
        ),
        (
            "a third reserved bit",
            raw_frame(0x90 | TEXT, b"3"),
            "transport_error",
        ),
        ("a reserved opcode", frame(3, b"3"), "transport_error"),
        (
            "a reserved control opcode",
            frame(11, b"3"),
            "transport_error",
        ),
        (
            "a fragmented ping",
            raw_frame(PING, b"x"),
            "transport_error",
        ),
        (
            "a ping of 126 bytes",
            frame(PING, &[0; 126]),
            "transport_error",
        ),
        (
            "text that is not UTF-8",
            frame(TEXT, b"4\xff\xfe"),
            "transport_error",
        ),
        (
            "text that ends within a character",
            frame(TEXT, b"4\xe2\x82"),
            "transport_error",
        ),
        ("an empty text", text(""), "parse_error"),
        ("an unknown packet", text("9"), "parse_error"),
        (
            "a ping of Engine.IO from the client",
            text("2"),
            "parse_error",
        ),
        ("an empty message", text("4"), "parse_error"),
        ("an unknown Socket.IO packet", text("47"), "parse_error"),
        (
            "an event that is not JSON",
            text("42[\"message:send\","),
            "parse_error",
        ),
        ("an event without a name", text("42[]"), "parse_error"),
        (
            "an event with a reserved name",
            text("42[\"disconnect\"]"),
            "parse_error",
        ),
        ("junk after an event", text("42[\"a\"]x"), "parse_error"),
        (
            "very deep JSON",
            text(&format!("42[\"a\",{}", "[".repeat(90_000))),
            "parse_error",
        ),
        (
            "an ack id that is no number",
            text("421x[\"a\"]"),
            "parse_error",
        ),
        ("eleven attachments", attachments(11), "parse_error"),
        (
            "binary without a packet",
            frame(BINARY, b"x"),
            "parse_error",
        ),
        (
            "text while attachments are due",
            fragments(attachments(1), text("42[\"a\"]")),
            "parse_error",
        ),
        (
            "a packet for a namespace that was not joined",
            text("42/other,[\"a\"]"),
            "forced_close",
        ),
        ("a second CONNECT", text("40{}"), "forced_close"),
        (
            "a CONNECT_ERROR from a client",
            text("44{\"message\":\"x\"}"),
            "parse_error",
        ),
    ]
}

#[tokio::test]
async fn a_websocket_that_breaks_a_rule_is_closed_alone() {
    let node = Node::with(SETTINGS).await;
    let mut other = Client::connect(&node, "other").await;
    for (what, bytes, reason) in websocket_cases() {
        let series = format!("connections_closed_total{{reason=\"{reason}\"}}");
        let before = node.scrape().await.sum(&series);
        let mut wire = entered(&node).await;
        // The node may have closed before it has taken in everything.
        drop(wire.try_send(&bytes).await);
        let code = wire.close_code().await;
        let expected = if reason == "transport_error" {
            Some(1009)
        } else {
            Some(1005)
        };
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
    wire.send(&raw_frame(0x80 | CONTINUATION, b" event\"]"))
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

/// A polling session: its path.
async fn session(wire: &mut Wire) -> String {
    let open = wire.get(POLLING, "").await.text();
    let open: serde_json::Value = serde_json::from_str(&open[1..]).unwrap();
    format!("{POLLING}&sid={}", open["sid"].as_str().unwrap())
}

#[tokio::test]
async fn a_second_get_ends_the_session() {
    let node = Node::with(SETTINGS).await;
    let (mut first, mut second) = (node.dial().await, node.dial().await);
    let path = session(&mut first).await;
    first.request(&format!("GET {path}"), "", b"").await;
    // Which of them came first is the node's to say.
    second.request(&format!("GET {path}"), "", b"").await;
    let answers = [
        first.response().await.unwrap(),
        second.response().await.unwrap(),
    ];
    let mut statuses = answers.each_ref().map(|answer| answer.status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);
    let parked = answers.iter().find(|answer| answer.status == 200).unwrap();
    assert_eq!(parked.text(), "1");
    gone(&mut first, &path).await;
    counted(
        &node,
        "connections_closed_total{reason=\"transport_error\"}",
        1.0,
        "two GETs",
    )
    .await;
    serves(&node).await;
}

async fn gone(wire: &mut Wire, path: &str) {
    let answer = wire.get(path, "").await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.json(),
        json!({ "code": 1, "message": "Session ID unknown" })
    );
}

#[tokio::test]
async fn a_second_post_ends_the_session() {
    let node = Node::with(SETTINGS).await;
    let (mut first, mut second) = (node.dial().await, node.dial().await);
    let path = session(&mut first).await;
    // Its body is not all there, so it goes on until the other came.
    let start = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n4");
    first.send(start.as_bytes()).await;
    let second = eventually("the first is being read", async || {
        let answer = second.post(&path, "", b"3").await;
        (answer.status == 400).then_some(answer)
    })
    .await;
    assert_eq!(second.status, 400);
    counted(
        &node,
        "connections_closed_total{reason=\"transport_error\"}",
        1.0,
        "two POSTs",
    )
    .await;
    // Cut off already, when the other was read before it.
    drop(first.try_send(b"4").await);
    assert!(
        first
            .response()
            .await
            .is_none_or(|answer| answer.status == 400)
    );
    gone(&mut node.dial().await, &path).await;
    serves(&node).await;
}

#[tokio::test]
async fn bad_polling_bodies_are_refused() {
    let node = Node::with(SETTINGS).await;
    let too_large = vec![b'4'; PAYLOAD_MAX + 1];
    let octets = "content-type: application/octet-stream\r\n";
    // What is sent, the status, and why the session ends, if it does.
    let table: &[(&str, &str, &[u8], u16, Option<&str>)] = &[
        ("a binary body", octets, b"\x04", 400, Some("parse_error")),
        ("too large a body", "", &too_large, 413, None),
        ("an unknown packet", "", b"9", 400, Some("parse_error")),
        ("an empty body", "", b"", 400, Some("parse_error")),
        (
            "a trailing separator",
            "",
            b"3\x1e",
            400,
            Some("parse_error"),
        ),
        (
            "a doubled separator",
            "",
            b"3\x1e\x1e3",
            400,
            Some("parse_error"),
        ),
        ("bad base64", "", b"b!!!!", 400, Some("parse_error")),
        ("what is not UTF-8", "", b"4\xff", 400, Some("parse_error")),
        ("a ping", "", b"2", 400, Some("parse_error")),
        (
            "an event before CONNECT",
            "",
            b"42[\"a\"]",
            400,
            Some("forced_close"),
        ),
    ];
    for (what, headers, body, status, reason) in table {
        let mut wire = node.dial().await;
        let path = session(&mut wire).await;
        let series = format!(
            "connections_closed_total{{reason=\"{}\"}}",
            reason.unwrap_or("")
        );
        let before = node.scrape().await.sum(&series);
        let answer = wire.post(&path, headers, body).await;
        assert_eq!(answer.status, *status, "{what}: {}", answer.text());
        if reason.is_some() {
            counted(&node, &series, before + 1.0, what).await;
            gone(&mut node.dial().await, &path).await;
        } else {
            let connect = format!("40{}", json!({ "token": node.token("ada") }));
            let answer = node.dial().await.post(&path, "", connect.as_bytes()).await;
            assert_eq!(answer.text(), "ok", "{what}: the session lives on");
        }
    }
    serves(&node).await;
}

#[tokio::test]
async fn an_endless_body_is_refused_before_it_is_kept() {
    let node = Node::with(SETTINGS).await;
    let mut wire = node.dial().await;
    let path = session(&mut wire).await;
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    wire.send(head.as_bytes()).await;
    let chunk = [b"ffff\r\n".as_slice(), &[b'4'; 0xffff], b"\r\n"].concat();
    for _ in 0..3 {
        drop(wire.try_send(&chunk).await);
    }
    assert_eq!(wire.response().await.unwrap().status, 413);
    serves(&node).await;
}

#[tokio::test]
async fn a_get_that_is_given_up_ends_the_session() {
    let node = Node::start().await;
    let mut wire = node.dial().await;
    let path = session(&mut wire).await;
    let mut parked = node.dial().await;
    parked.request(&format!("GET {path}"), "", b"").await;
    // A POST that is answered after it shows that it is parked.
    assert_eq!(wire.post(&path, "", b"3").await.text(), "ok");
    drop(parked);
    counted(
        &node,
        "connections_closed_total{reason=\"transport_error\"}",
        1.0,
        "a GET",
    )
    .await;
    gone(&mut wire, &path).await;
}

#[tokio::test]
async fn bad_handshakes_are_refused_with_their_code() {
    let node = Node::start().await;
    let table = [
        (
            "transport=polling",
            5,
            "Unsupported protocol version",
            "unsupported_version",
        ),
        (
            "EIO=3&transport=polling",
            5,
            "Unsupported protocol version",
            "unsupported_version",
        ),
        ("EIO=4", 0, "Transport unknown", "transport_unknown"),
        (
            "EIO=4&transport=carrier-pigeon",
            0,
            "Transport unknown",
            "transport_unknown",
        ),
        (
            "EIO=4&transport=polling&sid=x",
            1,
            "Session ID unknown",
            "session_unknown",
        ),
        (
            "EIO=4&transport=polling&sid=%00%ff",
            1,
            "Session ID unknown",
            "session_unknown",
        ),
        ("EIO=4&transport=websocket", 3, "Bad request", "bad_request"),
    ];
    for (query, code, message, label) in table {
        let series = format!("engineio_handshake_errors_total{{code=\"{label}\"}}");
        let before = node.scrape().await.sum(&series);
        let answer = node.get(&format!("/socket.io/?{query}"), None).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(
            answer.json(),
            json!({ "code": code, "message": message }),
            "{query}"
        );
        counted(&node, &series, before + 1.0, query).await;
    }
    let foreign = "origin: https://evil.example\r\n";
    let answer = node.dial().await.upgrade(WEBSOCKET, foreign).await;
    assert_eq!((answer.status, answer.text().as_str()), (400, "Forbidden"));
    serves(&node).await;
}

#[tokio::test]
async fn bad_http_is_answered_or_cut_off() {
    let node = Node::with(SETTINGS).await;
    let large = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 << 10));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(5_000));
    let table: &[(&str, &[u8], &[u16])] = &[
        ("no HTTP at all", b"hello\r\n\r\n", &[400]),
        ("binary", &[0; 1024], &[400]),
        (
            "a TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            &[400],
        ),
        ("an unknown version", b"GET / HTTP/9.9\r\n\r\n", &[400]),
        (
            "a bad header name",
            b"GET / HTTP/1.1\r\nbad name: x\r\n\r\n",
            &[400],
        ),
        (
            "a bad length",
            b"POST /api/messages HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
            &[400],
        ),
        (
            "two lengths",
            b"POST /api/messages HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            &[400],
        ),
        (
            "an unknown coding",
            b"POST /api/messages HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
            &[400, 501],
        ),
        ("too large headers", large.as_bytes(), &[431]),
        ("too many headers", many.as_bytes(), &[431]),
        (
            "an absolute path elsewhere",
            b"GET http://x/ HTTP/1.1\r\nhost: y\r\n\r\n",
            &[200, 400, 404],
        ),
        (
            "a path with dots",
            b"GET /../../etc/passwd HTTP/1.1\r\nhost: y\r\n\r\n",
            &[404],
        ),
        (
            "an odd method",
            b"BREW /api/messages HTTP/1.1\r\nhost: y\r\n\r\n",
            &[405],
        ),
        (
            "a tunnel",
            b"CONNECT x:1 HTTP/1.1\r\nhost: y\r\n\r\n",
            &[400, 404, 405],
        ),
        (
            "a bad HTTP/2 frame",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            &[],
        ),
    ];
    for (what, bytes, statuses) in table {
        let mut wire = node.dial().await;
        drop(wire.try_send(bytes).await);
        if statuses.is_empty() {
            within(what, wire.rest()).await;
        } else if let Some(answer) = wire.response().await {
            assert!(
                statuses.contains(&answer.status),
                "{what}: {}",
                answer.status
            );
        }
    }
    serves(&node).await;
}

#[tokio::test]
async fn headers_that_come_too_slowly_are_cut_off() {
    let node = Node::with(SETTINGS).await;
    let series = "edge_refused_total{why=\"header_timeout\"}";
    let starts: [&[u8]; 3] = [
        b"",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ",
    ];
    for (count, start) in (1_u32..).zip(starts) {
        let mut wire = node.dial().await;
        let began = std::time::Instant::now();
        wire.send(start).await;
        within("the end of a slow request", wire.rest()).await;
        let took = began.elapsed().as_secs_f64();
        assert!((0.9..10.0).contains(&took), "cut off after {took} s");
        counted(&node, series, f64::from(count), "a slow request").await;
    }
    serves(&node).await;
}

#[tokio::test]
async fn a_connection_may_rest_between_requests_for_its_own_time() {
    let node = Node::with(&[("edge.header_timeout", "1s"), ("edge.idle_timeout", "3s")]).await;
    let mut wire = node.dial().await;
    assert_eq!(wire.get("/api/nothing", "").await.status, 404);
    let began = std::time::Instant::now();
    within("the end of an idle connection", wire.rest()).await;
    let took = began.elapsed().as_secs_f64();
    assert!((2.5..15.0).contains(&took), "closed after {took} s");
    let refused = node
        .scrape()
        .await
        .sum("edge_refused_total{why=\"header_timeout\"}");
    assert!(refused < 0.5, "nobody was slow");
}
