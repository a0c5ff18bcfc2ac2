//! Connections between users: asked for, accepted, rejected.

use super::row::{self, args};
use super::{Error, Store, unmet};
use crate::backend::error as database;
use crate::backend::statement::{Row, Statement};
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
    /// # Errors
    /// [`Error::Exists`] (`connection`): the id is another pair's.
    pub async fn request_connection(
        &self,
        id: &str,
        from: &UserId,
        to: &UserId,
        at: Timestamp,
    ) -> Result<Connection, Error> {
        let (low, high) = (from.min(to), from.max(to));
        let batch = vec![
            Statement::new(ASK_AGAIN, args![id, low, high, from, to, at]),
            Statement::new(ASK, args![id, low, high, from, to, at]),
            Statement::new(OF_PAIR, args![low, high]).must(),
        ];
        let answers = self.write(batch).await.map_err(|error| {
            let is_taken = unmet(&error).is_some() || is_unique(&error);
            if is_taken {
                Error::Exists("connection")
            } else {
                error
            }
        })?;
        last(&answers)
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
        let batch = vec![
            Statement::new(ANSWER, args![id, by, status.text(), at]),
            Statement::new(ANSWERED, args![id, by, status.text()]).must(),
        ];
        let answers = self.write(batch).await.map_err(|error| {
            if unmet(&error).is_some() {
                Error::Missing("connection")
            } else {
                error
            }
        })?;
        last(&answers)
    }

    /// A connection by id.
    pub async fn connection(&self, id: &str) -> Result<Option<Connection>, Error> {
        let found = self.read_one(BY_ID, args![id]).await?;
        found.as_ref().map(read).transpose()
    }

    /// A user's connections, the newest first, before one of them.
    pub async fn connections_of(
        &self,
        user: &UserId,
        status: Option<Status>,
        before: Option<(Timestamp, String)>,
        limit: usize,
    ) -> Result<Vec<Connection>, Error> {
        let status = status.map_or("", Status::text);
        let (at, id) = before.map_or((i64::MAX, String::new()), |(at, id)| (at.as_millis(), id));
        let rows = self.read(OF_USER, args![user, status, at, id, limit]);
        rows.await?.iter().map(read).collect()
    }

    /// Whether two users have an accepted connection.
    pub async fn are_connected(&self, one: &UserId, other: &UserId) -> Result<bool, Error> {
        let (low, high) = (one.min(other), one.max(other));
        self.is_there(CONNECTED, args![low, high]).await
    }
}

impl Status {
    /// Its word, as clients read it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
        }
    }

    /// The status of this word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Accepted, Self::Rejected]
            .into_iter()
            .find(|status| status.text() == text)
    }
}

fn is_unique(error: &Error) -> bool {
    matches!(error, Error::Storage(cause) if matches!(**cause, database::Error::Unique(_)))
}

fn last(answers: &[Vec<Row>]) -> Result<Connection, Error> {
    let row = answers.last().and_then(|rows| rows.first());
    read(row.ok_or(Error::Missing("connection"))?)
}

fn read(row: &Row) -> Result<Connection, Error> {
    let status = Status::parse(row.text(3));
    Ok(Connection {
        id: row.text(0).to_owned(),
        from: row::user(row, 1)?,
        to: row::user(row, 2)?,
        status: status.ok_or_else(|| Error::Row(format!("status {:?}", row.text(3))))?,
        created_at: row::time(row, 4),
        updated_at: row::time(row, 5),
    })
}

const ASK_AGAIN: &str = "
    UPDATE connection SET id = $1, from_user = $4, to_user = $5, status = 'pending',
        created_at = $6, updated_at = $6
    WHERE low = $2 AND high = $3 AND status = 'rejected'";
const ASK: &str = "
    INSERT INTO connection (id, low, high, from_user, to_user, status, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, 'pending', $6, $6)
    ON CONFLICT DO NOTHING";
const OF_PAIR: &str = "
    SELECT id, from_user, to_user, status, created_at, updated_at
    FROM connection WHERE low = $1 AND high = $2";
const ANSWER: &str = "
    UPDATE connection SET status = $3, updated_at = $4
    WHERE id = $1 AND to_user = $2 AND status = 'pending'";
const ANSWERED: &str = "
    SELECT id, from_user, to_user, status, created_at, updated_at
    FROM connection WHERE id = $1 AND to_user = $2 AND status = $3";
const BY_ID: &str = "
    SELECT id, from_user, to_user, status, created_at, updated_at
    FROM connection WHERE id = $1";
const OF_USER: &str = "
    SELECT id, from_user, to_user, status, created_at, updated_at
    FROM connection WHERE (from_user = $1 OR to_user = $1) AND ($2 = '' OR status = $2)
        AND (created_at, id) < ($3, $4)
    ORDER BY created_at DESC, id DESC LIMIT $5";
const CONNECTED: &str = "
    SELECT id FROM connection WHERE low = $1 AND high = $2 AND status = 'accepted'";
