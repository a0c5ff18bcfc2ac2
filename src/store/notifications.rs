//! A user's notifications. Kept up by [`project`](super::project).

use serde_json::value::RawValue;

use super::{Error, Store};
use crate::types::{EventId, Position, Timestamp, UserId};

/// A notification.
#[derive(Debug, Clone)]
pub struct Notification {
    /// Its id.
    pub id: EventId,
    /// The event type.
    pub kind: String,
    /// For whom.
    pub user: UserId,
    /// The event's data.
    pub data: Box<RawValue>,
    /// When it happened.
    pub at: Timestamp,
    /// Its place in the user's room.
    pub position: Position,
    /// When it was read.
    pub read_at: Option<Timestamp>,
}

impl Store {
    /// A user's notifications, the newest first, those before a place only.
    pub async fn notifications(
        &self,
        user: &UserId,
        before: Option<Position>,
        unread_only: bool,
        limit: usize,
    ) -> Result<Vec<Notification>, Error> {
        todo!("{user} {before:?} {unread_only} {limit}")
    }
    /// How many are unread.
    pub async fn unread_notifications(&self, user: &UserId) -> Result<u64, Error> {
        todo!("{user}")
    }
    /// Marks these as read, or all; answers how many were unread.
    pub async fn read_notifications(
        &self,
        user: &UserId,
        ids: Option<&[EventId]>,
        at: Timestamp,
    ) -> Result<u64, Error> {
        todo!("{user} {ids:?} {at}")
    }
}
