//! Who is here: users by their sockets, over all devices.
//!
//! A user is online from the first socket until some time (the grace) after the last was lost, or at
//! once when the last one left on purpose. What others are to be told comes out once for each user,
//! not for each device, and in order; one task takes it ([`Presence::next`]), tells it and says so.
//!
//! Not here: telling (`delivery::presence`), who may know (`directory`), and when users were last seen
//! before this node knew them (the store).

pub mod redis;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use self::redis::{Places, Shared};
use crate::backend::redis::Shards;
use crate::cluster::membership::Membership;
use crate::telemetry::metrics;
use crate::types::{SocketId, Timestamp, UserId};
use table::Table;

/// A user came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Who.
    pub user: UserId,
    /// Came or went.
    pub is_online: bool,
    /// When, by the server's clock.
    pub at: Timestamp,
    /// Of who went: when the last socket ended.
    pub last_seen: Option<Timestamp>,
    /// Its number among all changes of this user, where nodes share them: the same change has the same
    /// number, whoever tells it.
    pub number: Option<u64>,
}

/// How far a listener has heard who came and went anywhere.
#[derive(Debug, Default)]
pub struct Cursor(Places);

/// Who came and went anywhere.
#[derive(Debug, Default)]
pub struct Heard {
    /// Who, and whether it came; of one user in order.
    pub changes: Vec<(UserId, bool)>,
    /// Whether there may have been others before these: everybody has to be asked for.
    pub is_partial: bool,
}

/// How a user stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Who.
    pub user: UserId,
    /// Whether the user is online.
    pub is_online: bool,
    /// When last seen here; `None` if the user is online or the store must be asked.
    pub last_seen: Option<Timestamp>,
    /// Whether the shard that knows did not answer, and this is what was known here.
    pub is_stale: bool,
}

/// How a socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// The client left.
    Left,
    /// The link was lost, or the node drains: the client may be back at once.
    Lost,
}

/// Everybody's presence. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Presence {
    /// Of this process.
    Memory(Memory),
    /// Of all nodes.
    Redis(Shared),
}

/// Presence within this process.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Held for one look-up or one change.
    table: Mutex<Table>,
    changed: Notify,
}

impl Presence {
    /// Presence within this process; users are kept `grace` after their last socket was lost.
    #[must_use]
    pub fn memory(grace: Duration) -> Self {
        Self::Memory(Memory::new(grace))
    }

    /// Presence that all nodes share, on shards that load [`LIBRARY`](self::redis::LIBRARY). What has to be
    /// told comes out once in the cluster; [`upkeep`](Self::upkeep) is to be called about once a second.
    #[must_use]
    pub fn redis(shards: Shards, membership: Membership, grace: Duration) -> Self {
        Self::Redis(Shared::new(Memory::new(grace), shards, membership, grace))
    }

    /// A socket of a user came, or is still here.
    pub fn came(&self, user: &UserId, socket: &SocketId, now: Timestamp) {
        self.change(|table| table.came(user, socket, now));
    }

    /// A socket of a user ended.
    pub fn went(&self, user: &UserId, socket: &SocketId, how: Departure, now: Timestamp) {
        self.change(|table| table.went(user, socket, how, now));
    }

    /// Ends the graces that are over.
    pub fn expire(&self, now: Timestamp) {
        self.change(|table| table.expire(now));
    }

    /// The node goes, and with it everybody who is left. Where other nodes live, they are told of later and
    /// by those: whoever is back with them by then was never away.
    pub fn end(&self, now: Timestamp) {
        if let Self::Redis(shared) = self
            && shared.is_handed_over()
        {
            return;
        }
        self.change(|table| table.end(now));
    }

    /// What others are to be told, at most so much. Whoever takes it has to tell it, then say so
    /// ([`told`](Self::told)).
    pub async fn next(&self, max: usize) -> Vec<Change> {
        let changes = match self {
            Self::Memory(memory) => memory.with(|table| table.changes(max)),
            Self::Redis(shared) => shared.next(max).await,
        };
        metrics::PRESENCE_CHANGES.add(changes.len() as u64);
        changes
    }

    /// These were told.
    pub async fn told(&self, changes: &[Change]) {
        if let Self::Redis(shared) = self {
            shared.told(changes).await;
        }
    }

    /// Whether there may be other nodes, and what comes and goes there is heard by [`since`](Self::since).
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Redis(_))
    }

    /// Who came and went on any node since the last call with this cursor; `None` where there is one node, and
    /// [`next`](Self::next) brings all of them.
    pub async fn since(&self, cursor: &mut Cursor) -> Option<Heard> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(shared) => Some(shared.since(&mut cursor.0).await),
        }
    }

    /// Does what nodes owe each other, once a second by the task that tells.
    pub async fn upkeep(&self) {
        if let Self::Redis(shared) = self {
            shared.upkeep().await;
        }
    }

    /// Resolves when [`next`](Self::next) may have something, for one waiter. Cancel-safe.
    pub async fn changed(&self) {
        if let Self::Redis(shared) = self
            && shared.has_next()
        {
            return;
        }
        let Memory(inner) = self.local();
        while !lock(inner).has_changes() {
            inner.changed.notified().await;
        }
    }

    /// When the next grace ends, if anybody is in one.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.with(|table| table.next_expiry())
    }

    /// How these users stand, in the order asked.
    pub async fn states(&self, users: &[UserId]) -> Vec<State> {
        match self {
            Self::Memory(memory) => {
                memory.with(|table| users.iter().map(|user| table.state(user)).collect())
            }
            Self::Redis(shared) => shared.states(users).await,
        }
    }

    /// Those of these users who are online.
    pub async fn online_of(&self, users: &[UserId]) -> Vec<UserId> {
        match self {
            Self::Memory(memory) => memory.with(|table| {
                let online = users.iter().filter(|user| table.is_online(user));
                online.cloned().collect()
            }),
            Self::Redis(shared) => {
                let states = shared.states(users).await.into_iter();
                let online = states.filter(|state| state.is_online);
                online.map(|state| state.user).collect()
            }
        }
    }

    /// Everybody who is online here.
    #[must_use]
    pub fn everybody(&self) -> Vec<UserId> {
        self.with(|table| table.everybody())
    }

    /// When users were last here whom the store does not know of, at most so many.
    #[must_use]
    pub fn unsaved(&self, max: usize) -> Vec<(UserId, Timestamp)> {
        self.with(|table| table.unsaved(max))
    }

    /// The store knows these.
    pub fn saved(&self, seen: &[(UserId, Timestamp)]) {
        self.with(|table| table.saved(seen));
    }

    fn local(&self) -> &Memory {
        match self {
            Self::Memory(memory) => memory,
            Self::Redis(shared) => shared.local(),
        }
    }

    fn change(&self, act: impl FnOnce(&mut Table)) {
        let Memory(inner) = self.local();
        let (online, has_changes) = {
            let mut table = lock(inner);
            act(&mut table);
            (table.online(), table.has_changes())
        };
        metrics::PRESENCE_ONLINE.set(f64::from(u32::try_from(online).unwrap_or(u32::MAX)));
        if has_changes {
            inner.changed.notify_one();
        }
    }

    fn with<R>(&self, act: impl FnOnce(&mut Table) -> R) -> R {
        self.local().with(act)
    }
}

impl Memory {
    fn new(grace: Duration) -> Self {
        Self(Arc::new(Inner {
            table: Mutex::new(Table::new(grace)),
            changed: Notify::new(),
        }))
    }

    fn with<R>(&self, act: impl FnOnce(&mut Table) -> R) -> R {
        act(&mut lock(&self.0))
    }
}

fn lock(inner: &Inner) -> MutexGuard<'_, Table> {
    inner.table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_changes_is_woken_by_them() {
        let presence = Presence::memory(Duration::from_secs(15));
        let ann = UserId::parse("ann").unwrap();
        let socket = SocketId::parse(&"s".repeat(20)).unwrap();
        let ((), ()) = tokio::join!(presence.changed(), async {
            tokio::task::yield_now().await;
            presence.came(&ann, &socket, Timestamp::from_millis(7));
        });
        let changes = presence.next(10).await;
        assert_eq!((changes.len(), changes[0].is_online), (1, true));
        let states = presence.states(std::slice::from_ref(&ann)).await;
        assert!(states[0].is_online && states[0].last_seen.is_none());
        assert_eq!(presence.online_of(std::slice::from_ref(&ann)).await, [ann]);
    }
}
