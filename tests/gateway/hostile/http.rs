//! HTTP itself, and its pace.

use std::time::Instant;

use super::{SETTINGS, counted, serves};
use crate::support::node::Node;
use crate::support::within;

/// What is sent, and what it may be answered with. The connection may as well just end.
const REQUESTS: &[(&str, &[u8], &[u16])] = &[
    ("no HTTP at all", b"hello\r\n\r\n", &[400]),
    ("binary", &[0; 1024], &[400]),
    (
        "a TLS hello",
        b"\x16\x03\x01\x02\x00\x01\xfc\r\n\r\n",
        &[400],
    ),
    ("an unknown version", b"GET / HTTP/9.9\r\n\r\n", &[400]),
    ("a bad header", b"GET / HTTP/1.1\r\na b: x\r\n\r\n", &[400]),
    (
        "a bad length",
        b"POST /api/messages HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        &[400],
    ),
    (
        "two lengths",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        &[400],
    ),
    (
        "an unknown coding",
        b"POST /api/messages HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
        &[400, 501],
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

#[tokio::test]
async fn bad_http_is_answered_or_cut_off() {
    let node = Node::with(SETTINGS).await;
    let large = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 << 10));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(5_000));
    let long: [(&str, &[u8], &[u16]); 2] = [
        ("too large headers", large.as_bytes(), &[431]),
        ("too many headers", many.as_bytes(), &[431]),
    ];
    for (what, bytes, statuses) in REQUESTS.iter().chain(&long) {
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
        let began = Instant::now();
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
    let began = Instant::now();
    within("the end of an idle connection", wire.rest()).await;
    let took = began.elapsed().as_secs_f64();
    assert!((2.5..15.0).contains(&took), "closed after {took} s");
    let refused = node
        .scrape()
        .await
        .sum("edge_refused_total{why=\"header_timeout\"}");
    assert!(refused < 0.5, "nobody was slow");
}
