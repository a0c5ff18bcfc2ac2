//! Who is here: users by their sockets, over all devices.
//!
//! A user is online from its first socket until 15 s after its last was lost, or at once when the
//! last one left on purpose. [`Change`]s come out once for each user, not for each device.

use std::time::Duration;

use crate::types::{SocketId, Timestamp, UserId};

/// A user came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Who.
    pub user: UserId,
    /// Came or went.
    pub is_online: bool,
    /// When, by the server's clock.
    pub at: Timestamp,
}

/// How a user stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Who.
    pub user: UserId,
    /// Whether the user is online.
    pub is_online: bool,
    /// When last seen here; `None` if the store must be asked.
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
#[derive(Debug, Clone, Default)]
pub struct Memory {}

impl Presence {
    /// Presence within this process; users are kept `grace` after their last socket was lost.
    #[must_use]
    pub fn memory(grace: Duration) -> Self {
        todo!("{grace:?}")
    }
    /// A socket of a user came. A change when the user came with it.
    pub fn came(&self, user: &UserId, socket: &SocketId, now: Timestamp) -> Option<Change> {
        todo!("{user} {socket} {now}")
    }
    /// A socket of a user ended. A change when the user went with it; later ones come from
    /// [`expired`](Self::expired).
    pub fn went(
        &self,
        user: &UserId,
        socket: &SocketId,
        how: Departure,
        now: Timestamp,
    ) -> Option<Change> {
        todo!("{user} {socket} {how:?} {now}")
    }
    /// The users whose grace is over.
    pub fn expired(&self, now: Timestamp) -> Vec<Change> {
        todo!("{now}")
    }
    /// How these users stand, in the order asked.
    pub async fn states(&self, users: &[UserId]) -> Vec<State> {
        todo!("{users:?}")
    }
}
