//! What the product knows for good: users, sessions, conversations, connections, groups,
//! notifications, records.
//!
//! One port over SQL as data ([`Statement`](crate::backend::statement::Statement)), so every
//! database runs the same text. Each call is one transaction; a repeated call changes nothing.
//! Times come in as arguments.
//!
//! Not here: caches (`directory`), permissions, and events: the caller publishes what happened after
//! the call, with an id derived from what was stored, so that a retry is the same event.

mod connections;
mod conversations;
mod error;
mod groups;
mod list;
mod listed;
mod messages;
mod notifications;
mod preconditions;
mod presence;
pub mod project;
mod records;
mod replies;
mod row;
mod sessions;
mod sweep;
mod users;

pub use connections::{Connection, Status};
pub use conversations::{
    Conversation, ConversationKind, LastMessage, Listed, Member, NewConversation, Role,
};
pub use error::Error;
pub use messages::{Message, Reaction};
pub use notifications::Notification;
pub use preconditions::Expected;
pub use records::Record;
pub use replies::Reply;
pub use sessions::Session;
pub use sweep::Sweeper;
pub use users::{NewUser, User, UserChanges};

use crate::backend::database::Database;
use crate::backend::statement::{Row, Statement, Value};
use crate::backend::{error as database, postgres, sql};

/// Everything stored. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    database: Database,
}

impl Store {
    /// The store in the SQLite file of embedded mode.
    #[must_use]
    pub fn sqlite(database: &sql::Database) -> Self {
        Self {
            database: database.into(),
        }
    }

    /// The store in PostgreSQL, shared by the nodes of a cluster.
    #[must_use]
    pub fn postgres(database: &postgres::Database) -> Self {
        Self {
            database: database.into(),
        }
    }

    /// One transaction.
    async fn write(&self, batch: Vec<Statement>) -> Result<Vec<Vec<Row>>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.database.write(batch).await?)
    }

    /// One statement that changes something; its rows.
    async fn change<const N: usize>(
        &self,
        sql: &'static str,
        args: [Value; N],
    ) -> Result<Vec<Row>, Error> {
        let answers = self.write(vec![Statement::new(sql, args)]).await?;
        Ok(answers.into_iter().next().unwrap_or_default())
    }

    async fn read<const N: usize>(
        &self,
        sql: &'static str,
        args: [Value; N],
    ) -> Result<Vec<Row>, Error> {
        Ok(self.database.read(Statement::new(sql, args)).await?)
    }

    async fn read_one<const N: usize>(
        &self,
        sql: &'static str,
        args: [Value; N],
    ) -> Result<Option<Row>, Error> {
        Ok(self.read(sql, args).await?.into_iter().next())
    }

    async fn is_there<const N: usize>(
        &self,
        sql: &'static str,
        args: [Value; N],
    ) -> Result<bool, Error> {
        Ok(self.read_one(sql, args).await?.is_some())
    }

    async fn read_all(&self, statements: Vec<Statement>) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        for statement in statements {
            rows.append(&mut self.database.read(statement).await?);
        }
        Ok(rows)
    }

    /// Deletes in steps, so that no transaction is long; answers how many rows went. The statement
    /// deletes at most [`STEP`] rows and answers one for each.
    async fn delete_before(
        &self,
        sql: &'static str,
        before: crate::types::Timestamp,
    ) -> Result<u64, Error> {
        let mut deleted = 0;
        loop {
            let rows = self.change(sql, row::args![before, STEP]).await?;
            deleted += rows.len() as u64;
            if rows.len() < STEP {
                return Ok(deleted);
            }
        }
    }
}

/// Rows deleted at once: a few milliseconds of the writer.
const STEP: usize = 500;

/// The place of the statement in its batch that did not find what it must.
fn unmet(error: &Error) -> Option<usize> {
    match error {
        Error::Storage(cause) => match **cause {
            database::Error::Unmet(index) => Some(index),
            _ => None,
        },
        _ => None,
    }
}
