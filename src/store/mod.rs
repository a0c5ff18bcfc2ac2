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
mod messages;
mod notifications;
mod presence;
pub mod project;
mod records;
mod replies;
mod sessions;
mod users;

pub use connections::{Connection, Status};
pub use conversations::{
    Conversation, ConversationKind, LastMessage, Listed, Member, NewConversation, Role,
};
pub use error::Error;
pub use messages::{Message, Reaction};
pub use notifications::Notification;
pub use records::Record;
pub use replies::Reply;
pub use sessions::Session;
pub use users::{NewUser, User, UserChanges};

use crate::backend::sql::Database;

/// Everything stored. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    database: Database,
}

impl Store {
    /// The store in the SQLite file of embedded mode.
    #[must_use]
    pub fn sqlite(database: &Database) -> Self {
        Self {
            database: database.clone(),
        }
    }
}
