//! Bytes that no honest client sends: each costs its own connection, is counted, and nobody else
//! notices.
//!
//! The tables say what is sent, how the connection ends, and which counter has grown by one. After
//! each table a fresh client does the node's main job, and no part of the node has panicked.

mod http;
mod polling;
mod websocket;

use super::support::client::Client;
use super::support::eventually;
use super::support::node::Node;

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
