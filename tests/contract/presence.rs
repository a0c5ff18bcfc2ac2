//! Presence that nodes share, with nodes in one process.

#![expect(
    clippy::disallowed_methods,
    reason = "the nodes of a test have no drain"
)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinHandle;
use vestibule::backend::sql::{Database, Options};
use vestibule::cluster::bus::{Bus, Delivery, Stream};
use vestibule::cluster::presence::{Change, Departure, Presence};
use vestibule::delivery::crowd::Crowds;
use vestibule::store::{ConversationKind, NewConversation, Store};
use vestibule::types::{ConversationId, RoomName, SocketId, Timestamp, UserId};

use crate::membership::{Node, TIMES, until};
use crate::shared::Servers;

/// What was told in the cluster: by whom, and what.
type Told = Arc<Mutex<Vec<(String, Change)>>>;

const GRACE: Duration = Duration::from_millis(300);
const SOON: Duration = Duration::from_secs(5);

/// A node with its presence, and the task that tells.
struct Teller {
    node: Node,
    presence: Presence,
    task: JoinHandle<()>,
}

impl Teller {
    async fn new(servers: &Servers, id: &str, told: &Told) -> Self {
        let node = Node::join(servers, id, "1").await.unwrap();
        let presence = Presence::redis(servers.shards(), node.membership.clone(), GRACE);
        let (telling, told, name) = (presence.clone(), Arc::clone(told), id.to_owned());
        presence.upkeep().await;
        let task = tokio::spawn(async move {
            loop {
                let tick = tokio::time::sleep(Duration::from_millis(100));
                tokio::select! { () = telling.changed() => {}, () = tick => {} }
                telling.expire(now());
                tell(&telling, &name, &told).await;
                telling.upkeep().await;
            }
        });
        Self {
            node,
            presence,
            task,
        }
    }

    fn came(&self, name: &str, n: u8) {
        self.presence.came(&user(name), &socket(n), now());
    }

    fn went(&self, name: &str, n: u8, how: Departure) {
        self.presence.went(&user(name), &socket(n), how, now());
    }

    /// The whole node ends without a word.
    fn crash(&self) {
        self.task.abort();
        self.node.crash();
    }

    async fn is_online(&self, name: &str) -> bool {
        let states = self.presence.states(&[user(name)]).await;
        states[0].is_online
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tell(presence: &Presence, name: &str, told: &Told) {
    loop {
        let changes = presence.next(100).await;
        if changes.is_empty() {
            return;
        }
        for change in &changes {
            told.lock().unwrap().push((name.to_owned(), change.clone()));
        }
        presence.told(&changes).await;
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn socket(n: u8) -> SocketId {
    SocketId::parse(&format!("{n:020}")).unwrap()
}

/// What was told of a user: + and -, each transition once, in the order of telling.
fn of(told: &Told, name: &str) -> String {
    let told = told.lock().unwrap();
    let own = told
        .iter()
        .filter(|(_, change)| change.user.as_str() == name);
    let mut numbers = Vec::new();
    let mut signs = String::new();
    for (_, change) in own {
        let number = change.number.unwrap();
        if !numbers.contains(&number) {
            assert!(
                numbers.last().is_none_or(|last| *last < number),
                "out of order: {told:?}"
            );
            numbers.push(number);
            signs.push(if change.is_online { '+' } else { '-' });
        }
    }
    signs
}

/// Long enough for everything that might happen wrongly.
async fn a_while() {
    tokio::time::sleep(GRACE + TIMES.ttl).await;
}

async fn three(servers: &Servers, told: &Told) -> [Teller; 3] {
    [
        Teller::new(servers, "a", told).await,
        Teller::new(servers, "b", told).await,
        Teller::new(servers, "c", told).await,
    ]
}

#[tokio::test]
async fn a_user_on_two_nodes_comes_once_and_goes_once() {
    let (servers, told) = (Servers::start(2), Told::default());
    let [a, b, c] = three(&servers, &told).await;
    a.came("ann", 1);
    b.came("ann", 2);
    until("ann is online", SOON, || of(&told, "ann") == "+").await;
    assert!(c.is_online("ann").await);
    a.went("ann", 1, Departure::Left);
    a_while().await;
    assert_eq!(of(&told, "ann"), "+");
    assert!(a.is_online("ann").await, "elsewhere");
    b.went("ann", 2, Departure::Lost);
    until("ann is offline", SOON, || of(&told, "ann") == "+-").await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let states = c.presence.states(&[user("ann"), user("bob")]).await;
    assert!(!states[0].is_online && states[0].last_seen.is_some() && !states[0].is_stale);
    assert!(!states[1].is_online && states[1].last_seen.is_none());
    assert_eq!(told.lock().unwrap().len(), 2, "each once");
}

#[tokio::test]
async fn who_wanders_between_nodes_was_never_away_and_all_is_told_in_order() {
    let (servers, told) = (Servers::start(2), Told::default());
    let nodes = three(&servers, &told).await;
    for n in 0..30_u8 {
        let (from, to) = (&nodes[usize::from(n) % 3], &nodes[usize::from(n + 1) % 3]);
        to.came("ann", n + 1);
        if n > 0 {
            from.went("ann", n, Departure::Lost);
        }
        // Bob flickers, everywhere.
        from.came("bob", 100 + n);
        tokio::time::sleep(Duration::from_millis(15)).await;
        from.went("bob", 100 + n, Departure::Left);
    }
    a_while().await;
    assert_eq!(of(&told, "ann"), "+");
    // What was over before it was told is not told; what is told alternates, and ends with the truth.
    let bob = of(&told, "bob");
    assert!(
        bob.len().is_multiple_of(2) && bob == "+-".repeat(bob.len() / 2),
        "{bob}"
    );
    let keys = |n: usize| {
        servers.redis[n]
            .ask(&["ZCARD", &format!("{{vb{n}}}:po")])
            .unwrap()
    };
    assert_eq!([keys(0), keys(1)], ["0", "0"], "nothing is left to tell");
}

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
