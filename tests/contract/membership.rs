//! Who lives and who has a duty, with nodes in one process.

#![expect(
    clippy::disallowed_methods,
    reason = "the nodes of a test have no drain"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vestibule::cluster::membership::{
    JoinError, Load, Member, Membership, Partitions, Times, duty_presence,
};
use vestibule::types::{NodeId, ShardId, Timestamp};

use crate::shared::Servers;

/// A fifth of what is usual, so that tests are quick.
pub(crate) const TIMES: Times = Times {
    ttl: Duration::from_millis(1_500),
    renew: Duration::from_millis(400),
    poll: Duration::from_millis(200),
};

pub(crate) fn member(id: &str, boot: &str) -> Member {
    Member {
        id: NodeId::parse(id).unwrap(),
        boot: boot.to_owned(),
        address: Some(([127, 0, 0, 1], 7_000).into()),
        version: "1".to_owned(),
        started: Timestamp::from_millis(5),
        shards: Vec::new(),
        load: Load::default(),
        pumps: Partitions::default(),
    }
}

/// A node that renews its lease until it is told to leave, or crashes.
pub(crate) struct Node {
    pub(crate) membership: Membership,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Node {
    pub(crate) async fn join(servers: &Servers, id: &str, boot: &str) -> Result<Self, JoinError> {
        let load = || Load {
            connections: 7,
            cpu: 0.5,
            leaving: false,
        };
        let membership = Membership::join(servers.shards(), member(id, boot), TIMES, load).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let run = membership.clone().run(async { drop(stopped.await) });
        Ok(Self {
            membership,
            stop: Some(stop),
            task: tokio::spawn(run),
        })
    }

    pub(crate) async fn leave(mut self) {
        drop(self.stop.take());
        (&mut self.task).await.unwrap();
    }

    /// Ends without a word.
    pub(crate) fn crash(&self) {
        self.task.abort();
    }

    pub(crate) fn live(&self) -> Vec<String> {
        let view = self.membership.view();
        let ids = view.live.iter().map(|live| live.member.id.to_string());
        ids.collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, within: Duration, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + within;
    while !is_so() {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn nodes_see_each_other_and_share_the_duties() {
    let servers = Servers::start(2);
    let mut nodes = Vec::new();
    for id in ["a", "b", "c"] {
        nodes.push(Node::join(&servers, id, "1").await.unwrap());
    }
    for node in &nodes {
        until("all three", SOON, || node.live() == ["a", "b", "c"]).await;
    }
    let mut has_some = [false; 3];
    for n in 0..32 {
        let duty = duty_presence(ShardId(n));
        let holders: Vec<bool> = nodes.iter().map(|n| n.membership.has_duty(&duty)).collect();
        assert_eq!(holders.iter().filter(|has| **has).count(), 1, "{duty}");
        let holder = holders.iter().position(|has| *has).unwrap();
        has_some[holder] = true;
        for node in &nodes {
            let named = node.membership.duty_of(&duty).unwrap();
            assert_eq!(named.as_str(), ["a", "b", "c"][holder]);
        }
    }
    assert_eq!(has_some, [true; 3]);
    let report = serde_json::to_value(nodes[0].membership.report()).unwrap();
    assert_eq!(report["nodes"][1]["load"]["connections"], 7);
    assert!(report["nodes"][1]["leaseRemainingMs"].as_u64().unwrap() > 0);
    assert_eq!(report["shards"].as_array().unwrap().len(), 2);
    assert_eq!(report["shards"][1]["share"], 0.5);
    assert_eq!(report["shards"][1]["reachable"], true);
    assert_eq!(report["duties"].as_object().unwrap().len(), 4);
    // Who leaves is gone at once.
    let last = nodes.pop().unwrap();
    last.leave().await;
    for node in &nodes {
        until("two are left", Duration::from_secs(1), || {
            node.live() == ["a", "b"]
        })
        .await;
    }
}

#[tokio::test]
async fn who_does_not_renew_is_gone_and_its_duties_are_others() {
    let servers = Servers::start(1);
    let a = Node::join(&servers, "a", "1").await.unwrap();
    let b = Node::join(&servers, "b", "1").await.unwrap();
    until("both", SOON, || a.live().len() == 2 && b.live().len() == 2).await;
    // So that nobody has to wait until everybody had the time to renew.
    tokio::time::sleep(TIMES.ttl * 3 / 2).await;
    // What it says just before its death is known after it.
    let pumps: Partitions = [(Arc::from("messages"), 3)].into_iter().collect();
    b.membership.announce(pumps.clone());
    let is_known = || a.membership.view().live[1].member.pumps == pumps;
    until("what b pumps", SOON, is_known).await;
    b.crash();
    until("b is gone", TIMES.ttl * 2, || {
        let view = a.membership.view();
        view.gone.len() == 1 && a.live() == ["a"]
    })
    .await;
    let gone = a.membership.view().gone[0].clone();
    assert_eq!((gone.name(), &gone.pumps), ("b/1".to_owned(), &pumps));
    let ago = gone.renewed.elapsed();
    assert!(
        ago >= TIMES.ttl - Duration::from_millis(50) && ago < TIMES.ttl * 2,
        "{ago:?}"
    );
    assert!((0..16).all(|n| a.membership.has_duty(&duty_presence(ShardId(n)))));
    // It no longer believes to have its lease, although it was never told.
    assert!(!b.membership.holds_lease());
    a.membership.forget(&gone).await.unwrap();
    until("forgotten", SOON, || a.membership.view().gone.is_empty()).await;
    // Who leaves has handed over what it pumped.
    let c = Node::join(&servers, "c", "1").await.unwrap();
    c.membership.announce(pumps);
    until("c", SOON, || a.live() == ["a", "c"]).await;
    c.leave().await;
    until("c is gone", SOON, || a.membership.view().gone.len() == 1).await;
    assert!(a.membership.view().gone[0].pumps.is_empty());
}

#[tokio::test]
async fn two_living_nodes_cannot_have_one_id() {
    let servers = Servers::start(1);
    let first = Node::join(&servers, "a", "1").await.unwrap();
    let start = Instant::now();
    let refused = Node::join(&servers, "a", "2").await;
    let error = refused.err().unwrap();
    assert!(
        matches!(&error, JoinError::Taken(id) if id == "a"),
        "{error}"
    );
    assert!(!error.retry() && start.elapsed() < TIMES.ttl);
    assert!(first.membership.holds_lease());
    // One that crashed is waited for: its lease is not renewed.
    first.crash();
    let again = Node::join(&servers, "a", "2").await.unwrap();
    assert!(again.membership.holds_lease());
    assert_eq!(again.live(), ["a"]);
}

#[tokio::test]
async fn without_the_first_shard_there_are_no_duties_and_nobody_is_dead() {
    let mut servers = Servers::start(2);
    let a = Node::join(&servers, "a", "1").await.unwrap();
    let b = Node::join(&servers, "b", "1").await.unwrap();
    until("both", SOON, || a.live().len() == 2 && b.live().len() == 2).await;
    servers.redis[0].process().pause();
    let none = || !a.membership.holds_lease() && !b.membership.holds_lease();
    until("the leases are lost", TIMES.ttl * 2, none).await;
    assert!(!a.membership.has_duty("nodes") && !b.membership.has_duty("nodes"));
    assert_eq!(a.live(), ["a", "b"], "what was known last");
    tokio::time::sleep(TIMES.ttl).await;
    servers.redis[0].process().resume();
    let both = || a.membership.holds_lease() && b.membership.holds_lease();
    until("the leases are back", Duration::from_secs(10), both).await;
    until("both again", SOON, || {
        a.live().len() == 2 && b.live().len() == 2
    })
    .await;
    let view = a.membership.view();
    assert!(view.gone.is_empty(), "{view:?}");
    let shared = |duty: &str| {
        let has = [&a, &b].map(|node| node.membership.has_duty(duty));
        has.iter().filter(|has| **has).count()
    };
    assert_eq!(shared("nodes"), 1);
    // An empty server forgets everybody at once: nobody is dead for that.
    servers.redis[0].lose();
    until("the leases are back", Duration::from_secs(10), both).await;
    until("both once more", Duration::from_secs(10), || {
        a.live().len() == 2
    })
    .await;
    assert!(a.membership.view().gone.is_empty());
}
