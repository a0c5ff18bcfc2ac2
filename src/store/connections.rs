//! Connections between users: asked for, accepted, rejected.

use super::{Error, Store};
use crate::types::{Timestamp, UserId};

/// How a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Asked for.
    Pending,
    /// Accepted.
    Accepted,
    /// Rejected; may be asked for again.
    Rejected,
}

/// A connection between two users; there is at most one for a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Its id, which events call `requestId`.
    pub id: String,
    /// Who asked.
    pub from: UserId,
    /// Who was asked.
    pub to: UserId,
    /// How it stands.
    pub status: Status,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
}

impl Store {
    /// Asks for a connection. The one that is there is answered: pending or accepted as it is, a
    /// rejected one pending again, under the new id and in the new direction.
    pub async fn request_connection(
        &self,
        id: &str,
        from: &UserId,
        to: &UserId,
        at: Timestamp,
    ) -> Result<Connection, Error> {
        todo!("{id} {from} {to} {at}")
    }
    /// Accepts or rejects a pending one, by who was asked. The same answer again is no error.
    /// # Errors
    /// [`Error::Missing`] (`connection`): no such request to this user, or answered otherwise.
    pub async fn answer_connection(
        &self,
        id: &str,
        by: &UserId,
        status: Status,
        at: Timestamp,
    ) -> Result<Connection, Error> {
        todo!("{id} {by} {status:?} {at}")
    }
    /// A connection by id.
    pub async fn connection(&self, id: &str) -> Result<Option<Connection>, Error> {
        todo!("{id}")
    }
    /// A user's connections, the newest first, before one of them.
    pub async fn connections_of(
        &self,
        user: &UserId,
        status: Option<Status>,
        before: Option<(Timestamp, String)>,
        limit: usize,
    ) -> Result<Vec<Connection>, Error> {
        todo!("{user} {status:?} {before:?} {limit}")
    }
    /// Whether two users have an accepted connection.
    pub async fn are_connected(&self, one: &UserId, other: &UserId) -> Result<bool, Error> {
        todo!("{one} {other}")
    }
}
