//! How many of a crowd are online, counted on each node.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use vestibule::backend::sql::{Database, Options};
use vestibule::cluster::bus::{Bus, Delivery, Stream};
use vestibule::cluster::presence::Departure;
use vestibule::delivery::crowd::Crowds;
use vestibule::store::{ConversationKind, NewConversation, Store};
use vestibule::types::{ConversationId, RoomName};

use super::{SOON, Teller, Told, now, three, user};
use crate::shared::Servers;

/// What a node's sockets in the crowd's room were told: the last count, and what it makes of the changes.
async fn heard(stream: &mut Stream, online: &mut BTreeSet<String>) -> Option<u64> {
    let mut count = None;
    while let Some(Delivery::Ephemeral(event)) = stream.try_recv() {
        let told: serde_json::Value = serde_json::from_str(event.data.get()).unwrap();
        for change in told["changes"].as_array().unwrap() {
            let user = change["userId"].as_str().unwrap().to_owned();
            match change["online"].as_bool().unwrap() {
                true => online.insert(user),
                false => online.remove(&user),
            };
        }
        count = told["online"].as_u64();
    }
    count
}

#[tokio::test]
async fn each_node_counts_a_crowd_whose_members_are_on_all_of_them() {
    let servers = Servers::start(2);
    let told = Told::default();
    let nodes = three(&servers, &told).await;
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(Options::new(folder.path())).await.unwrap();
    let store = Store::sqlite(&database);
    let id = ConversationId::parse("42").unwrap();
    let new = NewConversation {
        id: id.clone(),
        kind: ConversationKind::Group,
        title: "t".to_owned(),
        creator: user("u0"),
        others: (1..20).map(|n| user(&format!("u{n}"))).collect(),
        at: now(),
    };
    store.create_conversation(new).await.unwrap();
    nodes[0].came("u0", 1);
    nodes[2].came("u1", 2);
    until_online(&nodes[1], &["u0", "u1"]).await;
    // Two nodes watch; the third has members only.
    let room = RoomName::parse("crowd:42").unwrap();
    let mut watching = Vec::new();
    for node in &nodes[..2] {
        let bus = Bus::memory();
        let crowds = Crowds::new(store.clone(), node.presence.clone(), bus.clone());
        let (port, stream) = bus.attach(64);
        port.subscribe(&room);
        let crowd = crowds.watch(&id).await.unwrap();
        assert_eq!(crowd.online(), 2);
        let online: BTreeSet<String> = ["u0", "u1"].map(str::to_owned).into();
        watching.push((crowds, crowd, stream, online, port));
    }
    let mut check = async |expected: &[&str]| {
        let end = Instant::now() + SOON;
        for (crowds, crowd, stream, online, _) in &mut watching {
            let mut count = None;
            while crowd.online() != expected.len() || !online.iter().eq(expected) {
                assert!(Instant::now() < end, "{online:?}, {expected:?}");
                crowds.tell().await;
                count = heard(stream, online).await.or(count);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(count, Some(expected.len() as u64));
            // Nothing is told twice, also when it is read anew.
            crowds.tell().await;
            assert_eq!(heard(stream, online).await, None);
        }
    };
    nodes[0].came("u2", 3);
    nodes[1].came("u3", 4);
    nodes[2].came("u4", 5);
    nodes[2].came("stranger", 6);
    check(&["u0", "u1", "u2", "u3", "u4"]).await;
    // On another node too: nothing changes when one of them goes.
    nodes[0].came("u4", 7);
    nodes[2].went("u1", 2, Departure::Left);
    check(&["u0", "u2", "u3", "u4"]).await;
    nodes[2].went("u4", 5, Departure::Left);
    nodes[1].went("u3", 4, Departure::Left);
    check(&["u0", "u2", "u4"]).await;
    // What the shards do not remember is asked for.
    nodes[1].came("u5", 8);
    nodes[2].came("u6", 9);
    until_online(&nodes[0], &["u5", "u6"]).await;
    for (n, server) in servers.redis.iter().enumerate() {
        server.ask(&["DEL", &format!("{{vb{n}}}:pf")]).unwrap();
    }
    check(&["u0", "u2", "u4", "u5", "u6"]).await;
}

async fn until_online(node: &Teller, users: &[&str]) {
    let end = Instant::now() + SOON;
    for name in users {
        while !node.is_online(name).await {
            assert!(Instant::now() < end, "{name} did not come");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
