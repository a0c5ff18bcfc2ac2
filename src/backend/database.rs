//! One of the databases that hold rows: they run the same texts.

use std::sync::Arc;

use super::error::Error;
use super::statement::{Row, Statement};
use super::{postgres, sql};

/// A database. Cheap to clone; clones are the same.
#[derive(Debug, Clone)]
pub enum Database {
    /// The SQLite file of embedded mode.
    Sqlite(sql::Database),
    /// A PostgreSQL server.
    Postgres(postgres::Database),
}

impl Database {
    /// Runs a batch as one transaction and answers the rows of each statement; returns when it is
    /// durable. When cancelled, it may or may not be done.
    ///
    /// # Errors
    /// [`Error::Unmet`] and [`Error::Unique`] say that nothing of this batch was done, and why. After
    /// [`Error::Unavailable`] it may have been done: the answer was lost.
    pub async fn write(&self, batch: Vec<Statement>) -> Result<Vec<Vec<Row>>, Arc<Error>> {
        match self {
            Self::Sqlite(database) => database.write(batch).await,
            Self::Postgres(database) => database.write(batch).await.map_err(Arc::new),
        }
    }

    /// Runs a statement that only reads. It sees every batch that was answered before.
    ///
    /// # Errors
    /// When the database does not answer, or refuses.
    pub async fn read(&self, statement: Statement) -> Result<Vec<Row>, Error> {
        match self {
            Self::Sqlite(database) => database.read(statement).await,
            Self::Postgres(database) => database.read(&statement).await,
        }
    }
}

impl From<&sql::Database> for Database {
    fn from(database: &sql::Database) -> Self {
        Self::Sqlite(database.clone())
    }
}

impl From<&postgres::Database> for Database {
    fn from(database: &postgres::Database) -> Self {
        Self::Postgres(database.clone())
    }
}
