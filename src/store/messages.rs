//! What became of messages: edited, deleted, reacted to. Kept up by [`project`](super::project).

use serde_json::value::RawValue;

use super::{Error, Store};
use crate::types::{ConversationId, EventId, Position, RoomName, Timestamp, UserId};

/// A message as it is now.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id.
    pub id: EventId,
    /// Its room.
    pub room: RoomName,
    /// Where it stands.
    pub position: Position,
    /// Who sent it.
    pub user: UserId,
    /// The conversation, if the room is one.
    pub conversation: Option<ConversationId>,
    /// When it was sent.
    pub at: Timestamp,
    /// The new content, as JSON, if it was edited.
    pub content: Option<Box<RawValue>>,
    /// When it was edited last.
    pub edited_at: Option<Timestamp>,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
}

/// How many users reacted to a message with an emoji.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaction {
    /// The message.
    pub message: EventId,
    /// The emoji.
    pub emoji: String,
    /// How many.
    pub count: u64,
    /// Who, at most 100, the first ones first.
    pub users: Vec<UserId>,
}

impl Store {
    /// A message by id. Follows the archive: a message of this moment may not be there yet.
    pub async fn message(&self, id: &EventId) -> Result<Option<Message>, Error> {
        todo!("{id}")
    }
    /// Those of these messages that were edited or deleted.
    pub async fn changed(&self, room: &RoomName, ids: &[EventId]) -> Result<Vec<Message>, Error> {
        todo!("{room} {ids:?}")
    }
    /// Reactions of these messages.
    pub async fn reactions(&self, ids: &[EventId]) -> Result<Vec<Reaction>, Error> {
        todo!("{ids:?}")
    }
    /// Adds a reaction at once and answers how many there are; a repeated one counts once.
    pub async fn react(
        &self,
        message: &EventId,
        user: &UserId,
        emoji: &str,
        at: Timestamp,
    ) -> Result<u64, Error> {
        todo!("{message} {user} {emoji} {at}")
    }
    /// Takes a reaction back and answers how many are left.
    pub async fn unreact(
        &self,
        message: &EventId,
        user: &UserId,
        emoji: &str,
        at: Timestamp,
    ) -> Result<u64, Error> {
        todo!("{message} {user} {emoji} {at}")
    }
}
