//! Who is here: users by their sockets, over all devices.
//!
//! A user is online from the first socket until some time (the grace) after the last was lost, or at
//! once when the last one left on purpose. What others are to be told comes out once for each user,
//! not for each device, and in order; one task takes it ([`Presence::next`]) and tells it.
//!
//! Not here: telling (`delivery::presence`), who may know (`directory`), and when users were last seen
//! before this node knew them (the store).

mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

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
        Self::Memory(Memory(Arc::new(Inner {
            table: Mutex::new(Table::new(grace)),
            changed: Notify::new(),
        })))
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

    /// The node goes, and with it everybody who is left.
    pub fn end(&self, now: Timestamp) {
        self.change(|table| table.end(now));
    }

    /// What others are to be told, at most so much. Whoever takes it has to tell it.
    #[must_use]
    pub fn changes(&self, max: usize) -> Vec<Change> {
        let changes = self.with(|table| table.changes(max));
        metrics::PRESENCE_CHANGES.add(changes.len() as u64);
        changes
    }

    /// Resolves when [`changes`](Self::changes) may have something, for one waiter. Cancel-safe.
    pub async fn changed(&self) {
        let Self::Memory(Memory(inner)) = self;
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
    #[expect(clippy::unused_async, reason = "a shared table has to be asked")]
    pub async fn states(&self, users: &[UserId]) -> Vec<State> {
        self.with(|table| users.iter().map(|user| table.state(user)).collect())
    }

    /// Those of these users who are online.
    #[expect(clippy::unused_async, reason = "a shared table has to be asked")]
    pub async fn online_of(&self, users: &[UserId]) -> Vec<UserId> {
        self.with(|table| {
            let online = users.iter().filter(|user| table.is_online(user));
            online.cloned().collect()
        })
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

    fn change(&self, act: impl FnOnce(&mut Table)) {
        let Self::Memory(Memory(inner)) = self;
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
        let Self::Memory(Memory(inner)) = self;
        act(&mut lock(inner))
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
        let changes = presence.changes(10);
        assert_eq!((changes.len(), changes[0].is_online), (1, true));
        let states = presence.states(std::slice::from_ref(&ann)).await;
        assert!(states[0].is_online && states[0].last_seen.is_none());
        assert_eq!(presence.online_of(std::slice::from_ref(&ann)).await, [ann]);
    }
}
