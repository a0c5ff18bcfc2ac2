//! A member that stops reading is closed, and costs the others nothing.

use serde_json::json;

use super::support::client::{Client, Incoming, POLLING, Shown};
use super::support::node::Node;
use super::support::wire::Wire;
use super::support::{eventually, within};

/// More in all than the kernel's buffers and an outbox hold for somebody who does not read.
const MESSAGES: usize = 1_500;
const BYTES: usize = 16_000;
const IN_FLIGHT: usize = 16;
/// Many times what the node may keep: recent records, the room's recent messages, one outbox.
const MANY: usize = 9_000;
/// Nearly all of it is there after the first tenth; eight times as much sent took half as much more.
const MEMORY_MAX: usize = 132 << 20;

async fn slow_member(node: &Node) -> Client {
    let wire = Wire::dial_narrow(node.address()).await;
    let mut slow = Client::over(wire, &node.token("slow")).await;
    slow.join("lobby").await;
    slow
}

/// Sends everything, some messages in flight.
async fn send_all(client: &mut Client, count: usize) {
    let (mut sent, mut acked) = (0, 0);
    while acked < count {
        while sent < count && sent - acked < IN_FLIGHT {
            let content = format!("{sent:0>BYTES$}");
            let data = json!({ "conversationId": "lobby", "content": content });
            assert!(client.emit("message:send", &data).await.1);
            sent += 1;
        }
        match client.next().await {
            Some(Incoming::Ack { data, .. }) => {
                assert_eq!(data["ok"], true, "{data}");
                acked += 1;
            }
            Some(Incoming::Event { .. }) => {}
            None => panic!("the sender was closed"),
        }
    }
}

/// Reads everything; fails unless it comes in order and whole.
async fn read_all(client: &mut Client, count: usize) {
    for number in 0..count {
        let Some(Shown { seq, content, .. }) = client.shown().await else {
            panic!("closed ({:?}) after {number}", client.close_code);
        };
        assert_eq!(seq, number as u64 + 1);
        assert_eq!(content, format!("{number:0>BYTES$}"));
    }
}

#[tokio::test]
async fn a_member_that_stops_reading_is_closed_and_the_others_get_everything() {
    let node = Node::start().await;
    let mut slow = slow_member(&node).await;
    let mut fast = Client::connect(&node, "fast").await;
    fast.join("lobby").await;
    let mut sender = Client::connect(&node, "sender").await;
    let before = node.memory();
    tokio::join!(send_all(&mut sender, MANY), read_all(&mut fast, MANY));
    let grown = node.memory().saturating_sub(before);
    assert!(
        grown < MEMORY_MAX,
        "{grown} bytes more for {} sent",
        MANY * BYTES
    );

    eventually("the slow member is closed", async || {
        let scrape = node.scrape().await;
        let closed = scrape.sum("connections_closed_total{reason=\"slow_consumer\"}");
        (closed >= 1.0).then_some(())
    })
    .await;
    let scrape = node.scrape().await;
    for (series, expected) in [
        ("connections_closed_total", 1.0),
        ("sockets_closed_total{reason=\"slow_consumer\"}", 1.0),
        ("sockets_open", 2.0),
        ("connections_open", 2.0),
    ] {
        let found = scrape.sum(series);
        assert!(
            (found - expected).abs() < 0.5,
            "{series} is {found}, not {expected}"
        );
    }
    eventually("the overflow is counted", async || {
        (node.scrape().await.sum("rooms_outbox_overflows_total") >= 1.0).then_some(())
    })
    .await;
    // What it did get is the beginning, in order; nothing was left out before the end.
    let mut count = 0;
    while let Some(shown) = within("what is left, then the end", slow.shown()).await {
        count += 1;
        assert_eq!(shown.seq, count);
    }
    assert!(count < MANY as u64);
    node.is_well().await;
}

#[tokio::test]
async fn a_closed_slow_member_comes_back_and_gets_what_it_missed() {
    let node = Node::start().await;
    let mut slow = slow_member(&node).await;
    let mut sender = Client::connect(&node, "sender").await;
    send_all(&mut sender, MESSAGES).await;
    let mut last = None;
    while let Some(shown) = slow.shown().await {
        last = Some(shown);
    }
    let last = last.expect("something fits everywhere");
    let mut back = Client::connect(&node, "slow").await;
    let mut after = (last.epoch, last.seq);
    loop {
        let data = json!({
            "conversationId": "lobby",
            "after": { "epoch": after.0, "seq": after.1 },
        });
        let ack = back.ask_ok("join:conversation", &data).await;
        if ack["complete"] == false {
            // Further away than the room's recent messages go: told, not left out in silence.
            assert_eq!(ack["reason"], "trimmed", "{ack}");
            return;
        }
        for missed in ack["missed"].as_array().unwrap() {
            let shown = Shown::from(&missed["data"]);
            assert_eq!(shown.seq, after.1 + 1);
            after = (shown.epoch, shown.seq);
        }
        if ack.get("next").is_none() {
            assert_eq!(after.1, MESSAGES as u64);
            return;
        }
    }
}

#[tokio::test]
async fn a_polling_member_that_never_polls_is_closed() {
    let node = Node::start().await;
    let mut wire = node.dial().await;
    let open = wire.get(POLLING, "").await.text();
    let open: serde_json::Value = serde_json::from_str(&open[1..]).unwrap();
    let path = format!("{POLLING}&sid={}", open["sid"].as_str().unwrap());
    let join = json!(["join:conversation", { "conversationId": "lobby" }]);
    let connect = format!("40{}", json!({ "token": node.token("slow") }));
    let mut seen = String::new();
    // An event before the answer to CONNECT would end the session, as the protocol says.
    for (packet, answer) in [(connect, "40{"), (format!("421{join}"), "431[")] {
        assert_eq!(wire.post(&path, "", packet.as_bytes()).await.text(), "ok");
        while !seen.contains(answer) {
            seen.push_str(&wire.get(&path, "").await.text());
        }
    }
    let mut sender = Client::connect(&node, "sender").await;
    send_all(&mut sender, MESSAGES).await;
    eventually("it is closed", async || {
        let series = "connections_closed_total{reason=\"slow_consumer\"}";
        (node.scrape().await.sum(series) >= 1.0).then_some(())
    })
    .await;
    assert_eq!(wire.get(&path, "").await.status, 400);
    node.is_well().await;
}
