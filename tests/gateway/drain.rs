//! SIGTERM: what was accepted is answered, clients are sent elsewhere in a way that makes them come
//! back, and the process ends well.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::support::client::{Client, Incoming, POLLING, WEBSOCKET, history, is_sent_away};
use super::support::eventually;
use super::support::node::Node;
use super::support::wire::{Wire, frame};

/// The close code of a node that is going: RFC 6455's registry, "service restart".
const RESTART: u16 = 1012;
const MESSAGES: usize = 200;
/// Clients that send all the time.
const BUSY: usize = 100;

/// The ids of a room's history after the node was started again.
async fn ids_after_restart(node: &mut Node, conversation: &str) -> BTreeSet<String> {
    node.run().await;
    let stored = history(node, conversation, "reader").await;
    stored.into_iter().map(|entry| entry.id).collect()
}

async fn send(client: &mut Client, number: usize) -> bool {
    let data = json!({ "conversationId": "lobby", "content": number.to_string() });
    client.emit("message:send", &data).await.1
}

/// The ids in the acks that still come, until the connection ends.
async fn acked_until_closed(client: &mut Client) -> BTreeSet<String> {
    let mut acked = BTreeSet::new();
    while let Some(incoming) = client.next().await {
        if let Incoming::Ack { data, .. } = incoming {
            assert_eq!(data["ok"], true, "{data}");
            acked.insert(data["id"].as_str().unwrap().to_owned());
        }
    }
    acked
}

#[tokio::test]
async fn what_was_accepted_before_a_drain_is_acknowledged() {
    let mut node = Node::start().await;
    let mut client = Client::connect(&node, "ada").await;
    for number in 0..MESSAGES {
        assert!(send(&mut client, number).await);
    }
    node.signal("TERM");
    let acked = acked_until_closed(&mut client).await;
    assert_eq!(client.close_code, Some(RESTART));
    assert_eq!(
        client.others,
        Vec::<String>::new(),
        "a packet 41 would keep stock clients away"
    );
    drop(client);
    assert!(node.ended().await.success());
    assert_eq!(acked, ids_after_restart(&mut node, "lobby").await);
    assert!(!acked.is_empty());
}

#[tokio::test]
async fn what_is_accepted_during_a_drain_is_acknowledged() {
    let mut node = Node::with(&[("drain.parting", "2s")]).await;
    let (begun, _) = watch::channel(0_usize);
    let begun = Arc::new(begun);
    let mut busy = JoinSet::new();
    for index in 0..BUSY {
        let client = Client::connect(&node, &format!("busy-{index}")).await;
        busy.spawn(keep_sending(client, Arc::clone(&begun)));
    }
    begun
        .subscribe()
        .wait_for(|count| *count >= BUSY)
        .await
        .unwrap();
    node.signal("TERM");
    let acked: BTreeSet<String> = busy.join_all().await.into_iter().flatten().collect();
    assert!(node.ended().await.success());
    let stored = ids_after_restart(&mut node, "lobby").await;
    let untold: Vec<_> = stored.difference(&acked).collect();
    assert!(
        untold.is_empty(),
        "{} of {} accepted were not answered",
        untold.len(),
        stored.len()
    );
    assert_eq!(stored, acked);
}

/// Has one or two messages in flight all the time, until the connection ends; the ids acknowledged.
async fn keep_sending(mut client: Client, begun: Arc<watch::Sender<usize>>) -> BTreeSet<String> {
    let mut acked = BTreeSet::new();
    let mut number = 0;
    while send(&mut client, number).await && send(&mut client, number + 1).await {
        number += 2;
        for _ in 0..2 {
            match client.next().await {
                Some(Incoming::Ack { data, .. }) => {
                    acked.insert(data["id"].as_str().unwrap().to_owned());
                }
                Some(Incoming::Event { .. }) => {}
                None => return acked,
            }
        }
        if number == 10 {
            begun.send_modify(|count| *count += 1);
        }
    }
    acked.append(&mut acked_until_closed(&mut client).await);
    acked
}

#[tokio::test]
async fn a_draining_node_says_so_and_takes_nobody_in() {
    let mut node = Node::with(&[("drain.parting", "2s")]).await;
    // The last of them stays until the end of the parting, which keeps the phase open.
    let mut clients = Vec::new();
    for user in ["ada", "bo", "cy"] {
        clients.push(Client::connect(&node, user).await);
    }
    let mut open = node.dial().await;
    assert_eq!(open.get("/api/nothing", "").await.status, 404);
    assert_eq!(node.operations_get("/readyz").await.status, 200);
    let cluster = node.operations_get("/cluster").await.json();
    assert_eq!(cluster["nodes"].as_array().unwrap().len(), 1, "{cluster}");
    assert_eq!(cluster["nodes"][0]["id"], cluster["node"]);
    assert_eq!(cluster["hasLease"], true);
    assert_eq!(cluster["duties"]["nodes"], cluster["node"]);
    node.signal("TERM");
    eventually("the listener is closed", async || {
        Wire::try_dial(node.address()).await.err().map(drop)
    })
    .await;
    let ready = node.operations_get("/readyz").await;
    assert_eq!(ready.status, 404, "{}", ready.text());
    assert_eq!(ready.json()["status"], "draining");
    assert_eq!(node.operations_get("/healthz").await.status, 200);
    is_sent_away(&mut open, 1..=10).await;
    for mut client in clients {
        while client.next().await.is_some() {}
        assert_eq!(client.close_code, Some(RESTART));
    }
    drop(open);
    assert!(node.ended().await.success());
}

#[tokio::test]
async fn an_unready_node_still_serves() {
    let mut node = Node::with(&[("drain.unready", "1s")]).await;
    node.signal("TERM");
    eventually("readiness says so", async || {
        (node.operations_get("/readyz").await.status == 404).then_some(())
    })
    .await;
    let mut client = Client::connect(&node, "ada").await;
    client.join("lobby").await;
    client.say("lobby", "still here").await;
    while client.next().await.is_some() {}
    assert_eq!(client.close_code, Some(RESTART));
    drop(client);
    assert!(node.ended().await.success());
}

#[tokio::test]
async fn a_polling_client_is_sent_away_by_the_close_of_its_transport() {
    let mut node = Node::start().await;
    let mut wire = node.dial().await;
    let open = wire.get(POLLING, "").await.text();
    let open: serde_json::Value = serde_json::from_str(&open[1..]).unwrap();
    let path = format!("{POLLING}&sid={}", open["sid"].as_str().unwrap());
    let connect = format!("40{}", json!({ "token": node.token("ada") }));
    assert_eq!(wire.post(&path, "", connect.as_bytes()).await.text(), "ok");
    assert!(wire.get(&path, "").await.text().starts_with("40{"));
    wire.request(&format!("GET {path}"), "", b"").await;
    node.signal("TERM");
    let answer = wire.response().await.expect("the request is answered");
    // The second form is for a request that came after the end.
    let packets = answer.text();
    assert!(packets == "1" || packets == "6\x1e1", "{packets:?}");
    drop(wire);
    assert!(node.ended().await.success());
}

#[tokio::test]
async fn an_idle_keep_alive_connection_does_not_hold_up_the_end() {
    let mut node = Node::start().await;
    let mut idle = node.dial().await;
    assert_eq!(idle.get("/api/nothing", "").await.status, 404);
    // And one that never said anything.
    let _silent = node.dial().await;
    let began = Instant::now();
    assert!(node.stop().await.success());
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut node = Node::with(&[("drain.unready", "60s")]).await;
    let mut client = Client::connect(&node, "ada").await;
    client.say("lobby", "before").await;
    node.signal("TERM");
    eventually("the drain begins", async || {
        (node.operations_get("/readyz").await.status == 404).then_some(())
    })
    .await;
    let began = Instant::now();
    node.signal("TERM");
    assert!(node.ended().await.success());
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(ids_after_restart(&mut node, "lobby").await.len(), 1);
}

#[tokio::test]
async fn a_client_that_never_reads_does_not_hold_up_the_end() {
    let mut node = Node::with(&[("drain.parting", "1s"), ("drain.flushing", "1s")]).await;
    let mut wire = Wire::dial_narrow(node.address()).await;
    assert_eq!(wire.upgrade(WEBSOCKET, "").await.status, 101);
    wire.send(&frame(
        1,
        format!("40{}", json!({ "token": node.token("ada") })).as_bytes(),
    ))
    .await;
    let began = Instant::now();
    assert!(node.stop().await.success());
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
}
