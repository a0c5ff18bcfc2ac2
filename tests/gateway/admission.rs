//! Many who come at once: how many are let in, and what the others are told.

use serde_json::Value;

use super::support::client::{Client, POLLING, is_sent_away};
use super::support::eventually;
use super::support::node::Node;

#[tokio::test]
async fn a_handshake_beyond_the_places_is_told_to_come_again() {
    let node = Node::with(&[("admission.opening_max", "2")]).await;
    // Who is in takes no place.
    let _inside = [
        Client::connect(&node, "ada").await,
        Client::connect(&node, "bo").await,
        Client::connect(&node, "cy").await,
    ];
    let mut open = node.dial().await;
    for _ in 0..2 {
        assert_eq!(open.get(POLLING, "").await.status, 200);
    }
    is_sent_away(&mut open, 1..=5).await;
    let counted = node.scrape().await;
    let refused = counted.sum("admission_refused_total{at=\"handshake\"}");
    assert!((refused - 2.0).abs() < 0.1, "{refused}");
    // Who says nothing after the handshake keeps others out for some seconds only.
    eventually("the silent ones lose their places", async || {
        (node.scrape().await.sum("admission_opening") < 1.0).then_some(())
    })
    .await;
    assert_eq!(open.get(POLLING, "").await.status, 200);
    node.is_well().await;
}

#[tokio::test]
async fn who_asks_for_a_namespace_that_is_not_there_takes_no_place() {
    let node = Node::with(&[("admission.opening_max", "1")]).await;
    let mut stray = node.dial().await;
    let open = stray.get(POLLING, "").await;
    let handshake: Value = serde_json::from_str(&open.text()[1..]).unwrap();
    let session = format!("{POLLING}&sid={}", handshake["sid"].as_str().unwrap());
    is_sent_away(&mut node.dial().await, 1..=5).await;
    stray.post(&session, "", b"40/nowhere,{}").await;
    let answer = stray.get(&session, "").await;
    assert!(
        answer.text().starts_with("44/nowhere,"),
        "{}",
        answer.text()
    );
    // It is connected all the same, and may ask for another one.
    assert_eq!(node.dial().await.get(POLLING, "").await.status, 200);
}
