//! Long-polling requests and handshakes.

use std::time::Duration;

use serde_json::json;

use super::{PAYLOAD_MAX, SETTINGS, counted, serves};
use crate::support::client::{POLLING, WEBSOCKET};
use crate::support::eventually;
use crate::support::node::Node;
use crate::support::wire::Wire;

/// A node that is not overloaded has read a request by then.
const PARKED_WITHIN: Duration = Duration::from_millis(200);

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
    let octets = "content-type: application/octet-stream\r\n";
    let table: &[(&str, &str, &[u8], &str)] = &[
        ("a binary body", octets, b"\x04", "parse_error"),
        ("an unknown packet", "", b"9", "parse_error"),
        ("an empty body", "", b"", "parse_error"),
        ("a trailing separator", "", b"3\x1e", "parse_error"),
        ("a doubled separator", "", b"3\x1e\x1e3", "parse_error"),
        ("bad base64", "", b"b!!!!", "parse_error"),
        ("what is not UTF-8", "", b"4\xff", "parse_error"),
        ("a ping", "", b"2", "parse_error"),
        ("an event too early", "", b"42[\"a\"]", "forced_close"),
    ];
    for (what, headers, body, reason) in table {
        let mut wire = node.dial().await;
        let path = session(&mut wire).await;
        let series = format!("connections_closed_total{{reason=\"{reason}\"}}");
        let before = node.scrape().await.sum(&series);
        let answer = wire.post(&path, headers, body).await;
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        counted(&node, &series, before + 1.0, what).await;
        gone(&mut node.dial().await, &path).await;
    }
    serves(&node).await;
}

#[tokio::test]
async fn too_large_a_body_costs_the_request_and_not_the_session() {
    let node = Node::with(SETTINGS).await;
    let mut wire = node.dial().await;
    let path = session(&mut wire).await;
    let answer = wire.post(&path, "", &[b'4'; PAYLOAD_MAX + 1]).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    let connect = format!("40{}", json!({ "token": node.token("ada") }));
    let answer = node.dial().await.post(&path, "", connect.as_bytes()).await;
    assert_eq!(answer.text(), "ok", "the session lives on");
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
    let series = "connections_closed_total{reason=\"transport_error\"}";
    let mut given_up = 0;
    // Nothing outside tells when a request is parked; one that was given up before is no request.
    let path = eventually("a GET that is given up ends its session", async || {
        let path = session(&mut wire).await;
        let mut parked = node.dial().await;
        parked.request(&format!("GET {path}"), "", b"").await;
        tokio::time::sleep(PARKED_WITHIN).await;
        drop(parked);
        tokio::time::sleep(PARKED_WITHIN).await;
        given_up += 1;
        (node.scrape().await.sum(series) > 0.5).then_some(path)
    })
    .await;
    gone(&mut wire, &path).await;
    assert!(given_up <= 3, "noticed only the {given_up}th time");
    serves(&node).await;
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
