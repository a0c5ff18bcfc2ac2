//! Nodes that die, lose their lease or go: who was on them is swept, told once, or handed over.

use std::time::{Duration, Instant};

use vestibule::cluster::presence::{Departure, Presence};

use super::{GRACE, SOON, Teller, Told, a_while, now, of, socket, tell, three, user};
use crate::membership::{Node, TIMES, until};
use crate::shared::Servers;

#[tokio::test]
async fn a_node_that_dies_is_swept_once_and_who_is_elsewhere_stays() {
    let (servers, told) = (Servers::start(2), Told::default());
    let [a, b, c] = three(&servers, &told).await;
    for n in 0..40_u8 {
        b.came(&format!("user-{n}"), n);
        if n % 2 == 0 {
            c.came(&format!("user-{n}"), 100 + n);
        }
    }
    let all = || told.lock().unwrap().len() == 40;
    until("all are online", SOON, all).await;
    // So that the others know the leases to be steady.
    tokio::time::sleep(TIMES.ttl * 3 / 2).await;
    b.crash();
    let start = Instant::now();
    let gone = || {
        (0..40)
            .filter(|n| of(&told, &format!("user-{n}")) == "+-")
            .count()
            == 20
    };
    until("half are offline", TIMES.ttl + Duration::from_secs(3), gone).await;
    assert!(start.elapsed() >= TIMES.ttl - TIMES.renew - Duration::from_millis(100));
    a_while().await;
    for n in 0..40 {
        let expected = if n % 2 == 0 { "+" } else { "+-" };
        assert_eq!(of(&told, &format!("user-{n}")), expected, "{n}");
    }
    assert_eq!(told.lock().unwrap().len(), 60, "each once");
    assert!(a.is_online("user-0").await && !a.is_online("user-1").await);
    let is_left = || servers.redis[0].ask(&["HLEN", "{vb0}:nodes"]).unwrap();
    until("b is forgotten", SOON, || is_left() == "2").await;
}

#[tokio::test]
async fn what_its_teller_did_not_tell_another_tells() {
    let (servers, told) = (Servers::start(1), Told::default());
    let a = Node::join(&servers, "a", "1").await.unwrap();
    let presence = Presence::redis(servers.shards(), a.membership.clone(), GRACE);
    presence.upkeep().await;
    let b = Teller::new(&servers, "b", &told).await;
    b.came("ann", 1);
    until("ann is online", SOON, || of(&told, "ann") == "+").await;
    // Bob comes to a; it takes that to tell it, and dies. Ann goes on.
    presence.came(&user("bob"), &socket(2), now());
    let taken = presence.next(10).await;
    assert_eq!(taken.len(), 1);
    b.came("bob", 3);
    b.went("ann", 1, Departure::Left);
    until("ann is offline", SOON, || of(&told, "ann") == "+-").await;
    assert_eq!(of(&told, "bob"), "");
    a.crash();
    until("bob is online", Duration::from_secs(12), || {
        of(&told, "bob") == "+"
    })
    .await;
    let number = told.lock().unwrap().last().unwrap().1.number;
    assert_eq!(number, taken[0].number, "the same event");
    b.went("bob", 3, Departure::Left);
    until("bob is offline", SOON, || of(&told, "bob") == "+-").await;
}

#[tokio::test]
async fn a_node_that_lost_its_lease_keeps_its_clients_and_tells_of_them_when_it_has_one_again() {
    let (servers, told) = (Servers::start(2), Told::default());
    let a = Teller::new(&servers, "a", &told).await;
    let b = Teller::new(&servers, "b", &told).await;
    tokio::time::sleep(TIMES.ttl * 3 / 2).await;
    for (n, name) in (1..).zip(["ann", "bob", "cid"]) {
        b.came(name, n);
    }
    a.came("cid", 9);
    until("all are online", SOON, || told.lock().unwrap().len() == 3).await;
    // It lives, but cannot renew.
    b.node.crash();
    let gone = || of(&told, "ann") == "+-" && of(&told, "bob") == "+-";
    until(
        "the others think it dead",
        TIMES.ttl + Duration::from_secs(3),
        gone,
    )
    .await;
    a_while().await;
    assert_eq!(
        (of(&told, "ann").as_str(), of(&told, "cid").as_str()),
        ("+-", "+")
    );
    assert!(!b.node.membership.has_duty("nodes") && a.node.membership.has_duty("nodes"));
    b.went("bob", 2, Departure::Left);
    let run = tokio::spawn(b.node.membership.clone().run(std::future::pending()));
    until("ann is online again", SOON, || of(&told, "ann") == "+-+").await;
    a_while().await;
    let all = ["ann", "bob", "cid"].map(|name| of(&told, name));
    assert_eq!(all, ["+-+", "+-", "+"]);
    run.abort();
}

#[tokio::test]
async fn a_node_that_died_while_nobody_knew_of_it_is_swept_too() {
    let (mut servers, told) = (Servers::start(2), Told::default());
    let a = Teller::new(&servers, "a", &told).await;
    let b = Teller::new(&servers, "b", &told).await;
    for n in 0..8 {
        b.came(&format!("user-{n}"), n);
    }
    until("all are online", SOON, || told.lock().unwrap().len() == 8).await;
    // The first shard forgets who lives, and what it knew of its own users.
    b.crash();
    servers.redis[0].lose();
    let kept = || servers.redis[1].ask(&["EXISTS", "{vb1}:pn:b/1"]).unwrap() == "1";
    assert!(kept());
    until(
        "b is swept on the other shard",
        Duration::from_secs(15),
        || !kept(),
    )
    .await;
    assert!(a.node.membership.holds_lease());
    let gone = || {
        let users = (0..8).map(|n| format!("user-{n}"));
        users.filter(|user| of(&told, user) == "+-").count()
    };
    until("those it knew are told to be gone", SOON, || {
        (1..8).contains(&gone())
    })
    .await;
}

#[tokio::test]
async fn a_node_that_goes_hands_its_users_over() {
    let (servers, told) = (Servers::start(1), Told::default());
    let [a, b, _c] = three(&servers, &told).await;
    tokio::time::sleep(TIMES.ttl * 3 / 2).await;
    a.came("ann", 1);
    a.came("bob", 2);
    until("both are online", SOON, || told.lock().unwrap().len() == 2).await;
    a.task.abort();
    a.presence.end(now());
    assert!(a.presence.next(10).await.is_empty());
    a.crash();
    // Ann is back within the grace.
    b.came("ann", 3);
    until("bob is offline", Duration::from_secs(8), || {
        of(&told, "bob") == "+-"
    })
    .await;
    a_while().await;
    assert_eq!(of(&told, "ann"), "+");
    // The last one tells itself.
    let (servers, told) = (Servers::start(1), Told::default());
    let last = Teller::new(&servers, "z", &told).await;
    last.came("ann", 1);
    until("ann is online", SOON, || of(&told, "ann") == "+").await;
    last.task.abort();
    last.presence.end(now());
    tell(&last.presence, "z", &told).await;
    assert_eq!(of(&told, "ann"), "+-");
}
