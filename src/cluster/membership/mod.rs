//! Which nodes live, and which of them does what must be done once.
//!
//! Each node holds a lease on the first shard and renews it. A node that cannot renew it stops its
//! once-only duties, by its own clock and before the others think it gone, and keeps its clients. The
//! duties are placed on the live nodes by a ring of their own. For a moment after a change two nodes may
//! see different rings: what is done by duty has to be safe when two do it at once.
//!
//! Not here: the order of rooms, which never depends on leases, and what a duty is.

mod driver;
mod lease;
mod partitions;
mod redis;
mod report;
mod table;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use self::redis as shard;
use crate::backend::redis::{Error as ServerError, Shards};
use crate::cluster::nodes::{NodeInfo, Nodes};
use crate::placement::Ring;
use crate::types::{Kind, NodeId, ShardId, Timestamp};
use lease::Lease;

pub use self::redis::{LIBRARY, living};
pub use lease::Times;
pub use partitions::Partitions;
pub use report::{NodeReport, Report, ShardReport};

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its name.
    pub id: NodeId,
    /// Of this start of its process; another one's is another's.
    pub boot: String,
    /// Where other nodes reach it.
    pub address: Option<SocketAddr>,
    /// What it runs.
    pub version: String,
    /// When it started.
    pub started: Timestamp,
    /// The shards that its configuration names; none in a node from before it said so.
    #[serde(default)]
    pub shards: Vec<String>,
    /// How busy it is.
    pub load: Load,
    /// Whose records it takes into their rooms.
    #[serde(default)]
    pub pumps: Partitions,
}

/// How busy a node is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// Clients that are connected, by sessions.
    pub connections: u32,
    /// Processor time used in a second of time; 1 is one core.
    pub cpu: f32,
    /// It drains: its clients are on their way to others.
    #[serde(default)]
    pub leaving: bool,
}

/// A node that lives.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// Who.
    pub member: Member,
    /// What was left of its lease when it was looked at.
    pub left: Duration,
}

/// A node whose lease is over, and of which something may be left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Who.
    pub node: NodeId,
    /// Of which start.
    pub boot: String,
    /// When it last renewed its lease, by this node's clock.
    pub renewed: Instant,
    /// What it pumped, as it said last; nothing of a node that gave its lease back.
    pub pumps: Partitions,
}

impl Gone {
    /// `NODE/BOOT`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.node, self.boot)
    }
}

/// Who lives, as this node knows.
#[derive(Debug, Default)]
pub struct View {
    /// In the order of their ids.
    pub live: Vec<Live>,
    /// Who is not swept yet.
    pub gone: Vec<Gone>,
    /// By how many milliseconds the first shard's clock is ahead of this machine's.
    pub ahead: i64,
    /// Of the live ones, numbered in their order.
    ring: Option<Ring>,
}

/// Why a node cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Another process with this id lives.
    #[error("a node with the id {0:?} is running; give each node its own")]
    Taken(String),
    /// The first shard does not answer.
    #[error("the first redis shard does not answer")]
    Unavailable(#[source] ServerError),
}

impl JoinError {
    /// Whose fault it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Taken(_) => Kind::Client,
            Self::Unavailable(_) => Kind::Unavailable,
        }
    }

    /// Whether the same can succeed later.
    #[must_use]
    pub const fn retry(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// Membership as this node has it. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Membership {
    /// The only node there is: it has every duty.
    Alone(Arc<Member>),
    /// One of several.
    Shared(Shared),
}

/// One of several nodes.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    shards: Shards,
    me: Mutex<Member>,
    times: Times,
    lease: Mutex<Lease>,
    view: watch::Sender<Arc<View>>,
    reached: Mutex<Vec<ShardReport>>,
    load: Box<dyn Fn() -> Load + Send + Sync>,
    /// Told when this node has something new to say of itself.
    news: Notify,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

/// How long a node that holds no lease is still asked for its sessions.
const REMEMBERED: Duration = Duration::from_secs(20);

/// The duty of pumping a partition whose node is gone, until the group has given it to another.
#[must_use]
pub fn duty_pump(topic: &str, partition: u32) -> String {
    format!("pump:{topic}:{partition}")
}

/// The duty of forgetting nodes that were swept.
pub const DUTY_NODES: &str = "nodes";
/// The duty of bringing rooms to their places after a change of the ring.
pub const DUTY_RING: &str = "ring";

/// The duty of keeping a shard's presence.
#[must_use]
pub fn duty_presence(shard: ShardId) -> String {
    format!("presence:{}", shard.0)
}

impl Membership {
    /// The only node.
    #[must_use]
    pub fn alone(me: Member) -> Self {
        Self::Alone(Arc::new(me))
    }

    /// True when this node has to do what is done once, as far as it knows: it holds its lease, and the
    /// ring names it.
    #[must_use]
    pub fn has_duty(&self, duty: &str) -> bool {
        match self {
            Self::Alone(_) => true,
            Self::Shared(shared) => {
                let view = shared.0.view.borrow().clone();
                shared.holds_lease() && view.duty_of(duty) == Some(&shared.me().id)
            }
        }
    }

    /// Who has a duty.
    #[must_use]
    pub fn duty_of(&self, duty: &str) -> Option<NodeId> {
        match self {
            Self::Alone(me) => Some(me.id.clone()),
            Self::Shared(shared) => shared.0.view.borrow().duty_of(duty).cloned(),
        }
    }

    /// Whether this node surely has its lease.
    #[must_use]
    pub fn holds_lease(&self) -> bool {
        match self {
            Self::Alone(_) => true,
            Self::Shared(shared) => shared.holds_lease(),
        }
    }

    /// How long leases last.
    #[must_use]
    pub fn times(&self) -> Times {
        match self {
            Self::Alone(_) => Times::default(),
            Self::Shared(shared) => shared.0.times,
        }
    }

    /// This node.
    #[must_use]
    pub fn me(&self) -> Member {
        match self {
            Self::Alone(me) => Member::clone(me),
            Self::Shared(shared) => shared.me(),
        }
    }

    /// Who lives and who died, as this node knows.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        match self {
            Self::Alone(me) => Arc::new(View::new(
                vec![Live {
                    member: Member::clone(me),
                    left: Duration::MAX,
                }],
                Vec::new(),
            )),
            Self::Shared(shared) => shared.0.view.borrow().clone(),
        }
    }

    /// Is told of every look at who lives; `None` where there is one node.
    #[must_use]
    pub fn watch(&self) -> Option<watch::Receiver<Arc<View>>> {
        match self {
            Self::Alone(_) => None,
            Self::Shared(shared) => Some(shared.0.view.subscribe()),
        }
    }

    /// Resolves when the others have had the time to look and find this node. Until then a request that
    /// comes to one of them for a session here is for an unknown one.
    pub async fn is_known(&self) {
        if let Self::Shared(shared) = self {
            tokio::time::sleep(shared.0.times.poll.mul_f64(1.5)).await;
        }
    }

    /// Keeps the lease and looks who lives, until `stop`; then the lease is given back.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        match self {
            Self::Alone(_) => stop.await,
            Self::Shared(shared) => driver::run(&shared.0, stop).await,
        }
    }

    /// Keeps the table of nodes as this node knows it, for ever; with one node the table is set once.
    ///
    /// A node whose lease is over stays in it for a moment: it may only be cut off from the first shard, and
    /// then still has its clients. Whoever asks one that is dead is told so by the network.
    pub async fn keep(self, nodes: Nodes) {
        let Some(mut looks) = self.watch() else {
            return nodes.set(self.view().infos());
        };
        let mut known: HashMap<NodeId, (NodeInfo, Instant)> = HashMap::new();
        loop {
            let (view, now) = (looks.borrow_and_update().clone(), Instant::now());
            for info in view.infos() {
                known.insert(info.id.clone(), (info, now));
            }
            known.retain(|_, (_, seen)| now.duration_since(*seen) < REMEMBERED);
            nodes.set(known.values().map(|(info, _)| info.clone()).collect());
            nodes.set_clock(view.ahead);
            if looks.changed().await.is_err() {
                return;
            }
        }
    }

    /// Says which partitions this node pumps now; the others know it at their next look.
    pub fn announce(&self, pumps: Partitions) {
        if let Self::Shared(shared) = self {
            lock(&shared.0.me).pumps = pumps;
            shared.0.news.notify_one();
        }
    }

    /// Nothing is left of a node that is gone.
    ///
    /// # Errors
    /// When the first shard does not answer.
    pub async fn forget(&self, gone: &Gone) -> Result<(), ServerError> {
        match self {
            Self::Alone(_) => Ok(()),
            Self::Shared(shared) => shard::forget(&shared.0.shards, &gone.node, &gone.boot).await,
        }
    }
}

impl Shared {
    fn me(&self) -> Member {
        lock(&self.0.me).clone()
    }

    fn ring(&self) -> report::RingReport {
        let view = self.0.shards.rings().view();
        report::RingReport {
            version: view.plan.version,
            moving: view.plan.before.is_some(),
        }
    }

    fn holds_lease(&self) -> bool {
        lock(&self.0.lease).is_held(Instant::now())
    }
}

impl View {
    /// Of those who live, in the order of their ids, and of those who are gone.
    pub(crate) fn new(live: Vec<Live>, gone: Vec<Gone>) -> Self {
        let names: Vec<String> = live.iter().map(|live| live.member.id.to_string()).collect();
        Self {
            ring: Ring::of_nodes(&names).ok(),
            live,
            gone,
            ahead: 0,
        }
    }

    /// Who has a duty.
    #[must_use]
    pub fn duty_of(&self, duty: &str) -> Option<&NodeId> {
        let place = self.ring.as_ref()?.shard_of(duty);
        self.live
            .get(usize::from(place.0))
            .map(|live| &live.member.id)
    }

    /// The same of those for whom something holds; of everybody if it holds for none.
    #[must_use]
    pub fn among(&self, is_fit: impl Fn(&Member) -> bool) -> Self {
        let mut live = self.live.clone();
        if live.iter().any(|one| is_fit(&one.member)) {
            live.retain(|one| is_fit(&one.member));
        }
        Self::new(live, Vec::new())
    }

    /// Those who can be reached, as other parts know them.
    fn infos(&self) -> Vec<NodeInfo> {
        let info = |live: &Live| {
            Some(NodeInfo {
                id: live.member.id.clone(),
                address: live.member.address?,
                version: live.member.version.as_str().into(),
                load: live.member.load.connections,
            })
        };
        self.live.iter().filter_map(info).collect()
    }

    /// `NODE/BOOT` of everybody who lives.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let name = |live: &Live| format!("{}/{}", live.member.id, live.member.boot);
        self.live.iter().map(name).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
