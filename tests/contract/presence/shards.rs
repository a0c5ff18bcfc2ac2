//! Shards that restart, forget or are silent: nobody comes or goes by that.

use std::time::{Duration, Instant};

use vestibule::cluster::presence::{Departure, Presence};
use vestibule::types::UserId;

use super::{GRACE, SOON, Teller, Told, a_while, now, of, socket, tell, three, user};
use crate::membership::{Node, TIMES, until};
use crate::shared::Servers;

#[tokio::test]
async fn a_shard_that_restarts_or_forgets_makes_nobody_come_or_go() {
    let (mut servers, told) = (Servers::start(1), Told::default());
    let [a, b, _c] = three(&servers, &told).await;
    a.came("ann", 1);
    b.came("ann", 2);
    b.came("bob", 3);
    until("both are online", SOON, || told.lock().unwrap().len() == 2).await;
    for is_lost in [false, true] {
        if is_lost {
            servers.redis[0].lose();
        } else {
            servers.redis[0].kill();
            // It happens while the shard is away.
            a.came("cid", 4);
            servers.redis[0].restart();
        }
        let has = |key: &str| servers.redis[0].ask(&["HKEYS", key]).unwrap_or_default();
        // Both of ann's nodes, and what there is to say of her.
        until("cid", SOON, || of(&told, "cid") == "+").await;
        until("written again", Duration::from_secs(10), || {
            let fields = has("{vb0}:pm");
            fields.contains(".ready") && fields.matches('/').count() == 3
        })
        .await;
        a_while().await;
        assert_eq!(
            (of(&told, "ann").as_str(), of(&told, "bob").as_str()),
            ("+", "+")
        );
        assert!(a.is_online("bob").await && b.is_online("cid").await);
    }
    // And it goes on: ann is still elsewhere, bob is not.
    a.went("ann", 1, Departure::Left);
    b.went("bob", 3, Departure::Left);
    until("bob is offline", SOON, || of(&told, "bob") == "+-").await;
    a_while().await;
    assert_eq!(of(&told, "ann"), "+");
    b.went("ann", 2, Departure::Left);
    until("ann is offline", SOON, || of(&told, "ann") == "+-").await;
}

#[tokio::test]
async fn after_a_loss_nothing_changes_until_every_node_was_heard() {
    let (mut servers, told) = (Servers::start(1), Told::default());
    let nodes = [
        Node::join(&servers, "a", "1").await.unwrap(),
        Node::join(&servers, "b", "1").await.unwrap(),
    ];
    let alone = |node: &Node| Presence::redis(servers.shards(), node.membership.clone(), GRACE);
    let [a, b] = nodes.each_ref().map(alone);
    let knows = |node: &Node| node.live().len() == 2;
    until("both", SOON, || nodes.iter().all(knows)).await;
    a.upkeep().await;
    b.upkeep().await;
    a.came(&user("ann"), &socket(1), now());
    b.came(&user("ann"), &socket(2), now());
    tell(&a, "a", &told).await;
    tell(&b, "b", &told).await;
    assert_eq!(of(&told, "ann"), "+");
    servers.redis[0].lose();
    let until_leases = || nodes.iter().all(|n| n.membership.holds_lease() && knows(n));
    tokio::time::sleep(TIMES.renew * 2).await;
    until("the leases are back", SOON, until_leases).await;
    // a has written its users, b has not: ann leaves a, zed comes to it.
    let written = || {
        servers.redis[0]
            .ask(&["HEXISTS", "{vb0}:pm", "a/1"])
            .unwrap()
            == "1"
    };
    while !written() {
        a.upkeep().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    a.went(&user("ann"), &socket(1), Departure::Left, now());
    a.came(&user("zed"), &socket(3), now());
    for _ in 0..3 {
        tell(&a, "a", &told).await;
        a.upkeep().await;
    }
    assert_eq!(
        (of(&told, "ann").as_str(), of(&told, "zed").as_str()),
        ("+", "")
    );
    let states = a.states(&[user("ann")]).await;
    assert!(!states[0].is_stale);
    let end = Instant::now() + SOON;
    while of(&told, "zed").is_empty() {
        assert!(Instant::now() < end, "zed is not told");
        b.upkeep().await;
        a.upkeep().await;
        tell(&a, "a", &told).await;
    }
    assert_eq!(
        (of(&told, "ann").as_str(), of(&told, "zed").as_str()),
        ("+", "+")
    );
    assert_eq!(b.online_of(&[user("ann"), user("zed")]).await.len(), 2);
}

#[tokio::test]
async fn while_a_shard_is_silent_nobody_goes_and_answers_are_stale() {
    let (mut servers, told) = (Servers::start(2), Told::default());
    let a = Teller::new(&servers, "a", &told).await;
    let b = Teller::new(&servers, "b", &told).await;
    // Some of both shards.
    let names: Vec<String> = (0..8).map(|n| format!("user-{n}")).collect();
    for (n, name) in (0..).zip(&names) {
        a.came(name, n);
    }
    until("all are online", SOON, || told.lock().unwrap().len() == 8).await;
    let users: Vec<UserId> = names.iter().map(|name| user(name)).collect();
    assert_eq!(b.presence.online_of(&users).await.len(), 8);
    servers.redis[0].process().pause();
    let lost = || !a.node.membership.holds_lease() && !b.node.membership.holds_lease();
    until("the leases are lost", SOON, lost).await;
    tokio::time::sleep(TIMES.ttl).await;
    let states = b.presence.states(&users).await;
    let stale = states.iter().filter(|state| state.is_stale).count();
    assert!((1..8).contains(&stale), "{stale}");
    assert!(states.iter().all(|state| state.is_online), "{states:?}");
    assert!(a.is_online("user-0").await, "who is here needs no shard");
    // Comes and goes on while it is silent; of the silent shard later.
    for (n, name) in (0..).zip(&names) {
        a.went(name, n, Departure::Left);
    }
    let gone = || names.iter().filter(|name| of(&told, name) == "+-").count();
    until("those of the other shard are offline", SOON, || {
        gone() == 8 - stale
    })
    .await;
    servers.redis[0].process().resume();
    until("all are offline", Duration::from_secs(10), || gone() == 8).await;
    let held = || a.node.membership.holds_lease() && b.node.membership.holds_lease();
    until("the leases are back", SOON, held).await;
    a_while().await;
    assert_eq!(gone(), 8);
}
