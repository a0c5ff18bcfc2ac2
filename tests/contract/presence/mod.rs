//! Presence that nodes share, with nodes in one process.

#![expect(
    clippy::disallowed_methods,
    reason = "the nodes of a test have no drain"
)]

mod crowds;
mod nodes;
mod shards;
mod users;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;
use vestibule::cluster::presence::{Change, Departure, Presence};
use vestibule::types::{SocketId, Timestamp, UserId};

use crate::membership::{Node, TIMES};
use crate::shared::Servers;

/// What was told in the cluster: by whom, and what.
pub(super) type Told = Arc<Mutex<Vec<(String, Change)>>>;

pub(super) const GRACE: Duration = Duration::from_millis(300);
pub(super) const SOON: Duration = Duration::from_secs(5);

/// A node with its presence, and the task that tells.
pub(super) struct Teller {
    pub(super) node: Node,
    pub(super) presence: Presence,
    pub(super) task: JoinHandle<()>,
}

impl Teller {
    pub(super) async fn new(servers: &Servers, id: &str, told: &Told) -> Self {
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

    pub(super) fn came(&self, name: &str, n: u8) {
        self.presence.came(&user(name), &socket(n), now());
    }

    pub(super) fn went(&self, name: &str, n: u8, how: Departure) {
        self.presence.went(&user(name), &socket(n), how, now());
    }

    /// The whole node ends without a word.
    pub(super) fn crash(&self) {
        self.task.abort();
        self.node.crash();
    }

    pub(super) async fn is_online(&self, name: &str) -> bool {
        let states = self.presence.states(&[user(name)]).await;
        states[0].is_online
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) async fn tell(presence: &Presence, name: &str, told: &Told) {
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

pub(super) fn now() -> Timestamp {
    SystemTime::now().into()
}

pub(super) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

pub(super) fn socket(n: u8) -> SocketId {
    SocketId::parse(&format!("{n:020}")).unwrap()
}

/// What was told of a user: + and -, each transition once, in the order of telling.
pub(super) fn of(told: &Told, name: &str) -> String {
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
pub(super) async fn a_while() {
    tokio::time::sleep(GRACE + TIMES.ttl).await;
}

pub(super) async fn three(servers: &Servers, told: &Told) -> [Teller; 3] {
    [
        Teller::new(servers, "a", told).await,
        Teller::new(servers, "b", told).await,
        Teller::new(servers, "c", told).await,
    ]
}
