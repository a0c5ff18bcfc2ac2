//! The history of every room, for good.
//!
//! Rows arrive at least once and in any order; where each belongs is its position. An event is
//! there once: at a position nothing is ever replaced, and the same event at another position is
//! moved there only if that epoch is higher (it was applied again after its shard lost it).
//!
//! Not here: how complete the archive is (its consumer group's lag says so), and what a row means.

mod lane;
mod postgres;
mod queue;
mod read;
mod sql;

use std::sync::Arc;

use crate::backend::statement::Statement;
use crate::backend::{self, error as database};
use crate::types::{EventId, Kind, Position, RoomName, ShardPosition, Timestamp, UserId};

pub use postgres::Store as PostgresStore;
pub use sql::Store;

use self::read::Reader;

/// One durable event, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The room it is in.
    pub room: RoomName,
    /// Its place there.
    pub position: Position,
    /// Its place among the events of its shard.
    pub shard: ShardPosition,
    /// The event.
    pub id: EventId,
    /// Its type.
    pub kind: String,
    /// Who caused it.
    pub user_id: UserId,
    /// When it happened, by its envelope.
    pub at: Timestamp,
    /// The envelope's JSON.
    pub payload: String,
}

/// Which side of a position. A position of epoch 0 is one whose epoch the client did not say: then
/// only `seq` counts, which goes on across epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The newest before this position; without one, the newest of all.
    Before(Option<Position>),
    /// The oldest after this position.
    After(Position),
}

/// Why the archive did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The storage failed; nothing of what was asked was done.
    #[error("the archive could not be written or read")]
    Storage(#[source] Arc<database::Error>),
    /// A row cannot be read as what was written.
    #[error("the archive holds a row that is not valid: {0}")]
    Row(String),
    /// The archive was closed.
    #[error("the archive is closed")]
    Closed,
}

impl Error {
    /// Whose fault it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Storage(cause) => cause.kind(),
            Self::Row(_) => Kind::Internal,
            Self::Closed => Kind::Unavailable,
        }
    }

    /// True if the same may succeed later.
    #[must_use]
    pub fn retry(&self) -> bool {
        matches!(self, Self::Storage(cause) if cause.retry())
    }
}

impl From<database::Error> for Error {
    fn from(error: database::Error) -> Self {
        match error {
            database::Error::Closed => Self::Closed,
            error => Self::Storage(Arc::new(error)),
        }
    }
}

/// The archive. Cheap to clone; clones are the same archive.
#[derive(Debug, Clone)]
pub enum Archive {
    /// In the SQLite file of embedded mode.
    Sql(Store),
    /// In PostgreSQL, shared by the nodes of a cluster.
    Postgres(PostgresStore),
}

impl Archive {
    /// The archive in a SQLite file.
    #[must_use]
    pub fn sql(database: &backend::sql::Database) -> Self {
        Self::Sql(Store::open(database))
    }

    /// The archive in PostgreSQL.
    #[must_use]
    pub fn postgres(database: &backend::postgres::Database) -> Self {
        Self::Postgres(PostgresStore::new(database))
    }

    /// Keeps rows and, in the same transaction, runs what follows from them; returns when it is
    /// durable. Waits while too many others do. When cancelled, all of it or nothing may be kept.
    /// A statement that the database refuses is a defect: it is logged, and the rows are kept.
    /// The statements are of the kind that may run in any order, any number of times.
    pub async fn upsert(&self, rows: Vec<Row>, statements: Vec<Statement>) -> Result<(), Error> {
        match self {
            Self::Sql(store) => store.upsert(rows, statements).await,
            Self::Postgres(store) => store.upsert(rows, statements).await,
        }
    }

    /// Rows of a room on one side of a position, at most `limit`, ascending.
    pub async fn page(&self, room: &RoomName, page: Page, limit: usize) -> Result<Vec<Row>, Error> {
        self.reader().page(room, page, limit).await
    }

    /// The highest position of a room.
    pub async fn top(&self, room: &RoomName) -> Result<Option<Position>, Error> {
        self.reader().top(room).await
    }

    /// The highest position of every room.
    pub async fn tops(&self) -> Result<Vec<(RoomName, Position)>, Error> {
        self.reader().tops().await
    }

    /// Asks whether it answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn probe(&self) -> Result<(), Error> {
        self.reader().probe().await
    }

    fn reader(&self) -> &Reader {
        match self {
            Self::Sql(store) => store.reader(),
            Self::Postgres(store) => store.reader(),
        }
    }
}

/// The databases' integers are signed. Counters never come near the sign, but positions that clients
/// ask for may.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
