//! A user's notifications. Kept up by [`project`](super::project).

use serde_json::value::RawValue;

use super::row::{self, args};
use super::{Error, Store};
use crate::backend::statement::{Row, Statement};
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
        let (epoch, seq) = before.map_or((u64::MAX, u64::MAX), |at| match at.epoch.0 {
            // A place without an epoch counts by its seq, which goes on across epochs.
            0 => (u64::MAX, at.seq.0),
            epoch => (epoch, at.seq.0),
        });
        let is_bare = before.is_some_and(|at| at.epoch.0 == 0);
        let sql = match (unread_only, is_bare) {
            (false, false) => OF_USER,
            (true, false) => UNREAD_OF_USER,
            (false, true) => OF_USER_BY_SEQ,
            (true, true) => UNREAD_OF_USER_BY_SEQ,
        };
        let rows = self.read(sql, args![user, epoch, seq, limit]).await?;
        rows.iter().map(|found| read(user, found)).collect()
    }

    /// How many are unread.
    pub async fn unread_notifications(&self, user: &UserId) -> Result<u64, Error> {
        let found = self.read_one(UNREAD, args![user]).await?;
        Ok(found.map_or(0, |found| row::count(&found, 0)))
    }

    /// Marks these as read, or all; answers how many were unread.
    pub async fn read_notifications(
        &self,
        user: &UserId,
        ids: Option<&[EventId]>,
        at: Timestamp,
    ) -> Result<u64, Error> {
        let Some(ids) = ids else {
            return Ok(self.change(READ_ALL, args![user, at]).await?.len() as u64);
        };
        let mut count = 0;
        for ids in ids.chunks(super::STEP) {
            let read = |id| Statement::new(READ, args![user, id, at]);
            let answers = self.write(ids.iter().map(read).collect()).await?;
            count += answers.iter().map(|rows| rows.len() as u64).sum::<u64>();
        }
        Ok(count)
    }
}

fn read(user: &UserId, row: &Row) -> Result<Notification, Error> {
    Ok(Notification {
        id: row::event(row, 0)?,
        kind: row.text(1).to_owned(),
        user: user.clone(),
        data: row::json(row, 2)?,
        at: row::time(row, 3),
        position: row::position(row, 4),
        read_at: row.time(6),
    })
}

const OF_USER: &str = "
    SELECT event_id, kind, data, at, epoch, seq, read_at FROM notification
    WHERE user_id = $1 AND (epoch, seq) < ($2, $3) ORDER BY epoch DESC, seq DESC LIMIT $4";
const UNREAD_OF_USER: &str = "
    SELECT event_id, kind, data, at, epoch, seq, read_at FROM notification
    WHERE user_id = $1 AND (epoch, seq) < ($2, $3) AND read_at IS NULL
    ORDER BY epoch DESC, seq DESC LIMIT $4";
const OF_USER_BY_SEQ: &str = "
    SELECT event_id, kind, data, at, epoch, seq, read_at FROM notification
    WHERE user_id = $1 AND epoch <= $2 AND seq < $3 ORDER BY epoch DESC, seq DESC LIMIT $4";
const UNREAD_OF_USER_BY_SEQ: &str = "
    SELECT event_id, kind, data, at, epoch, seq, read_at FROM notification
    WHERE user_id = $1 AND epoch <= $2 AND seq < $3 AND read_at IS NULL
    ORDER BY epoch DESC, seq DESC LIMIT $4";
const UNREAD: &str = "SELECT COUNT(*) FROM notification WHERE user_id = $1 AND read_at IS NULL";
const READ_ALL: &str = "
    UPDATE notification SET read_at = $2 WHERE user_id = $1 AND read_at IS NULL
    RETURNING event_id";
const READ: &str = "
    UPDATE notification SET read_at = $3
    WHERE user_id = $1 AND event_id = $2 AND read_at IS NULL RETURNING event_id";
