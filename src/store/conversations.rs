//! Conversations, their members, and how far each has read.

use serde_json::value::RawValue;

use super::{Error, Store};
use crate::types::{ConversationId, EventId, Position, Timestamp, UserId};

/// What a conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConversationKind {
    /// Of two users, there once for each pair.
    Direct,
    /// Of any number.
    Group,
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read and send.
    Member,
    /// Also edit and delete others' messages, and add and remove members.
    Moderator,
    /// Also give roles.
    Owner,
}

/// A conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// What it is.
    pub kind: ConversationKind,
    /// Its title; empty for direct ones.
    pub title: String,
    /// Who made it.
    pub creator: UserId,
    /// When.
    pub created_at: Timestamp,
    /// How many members it has.
    pub member_count: u64,
}

/// A conversation to be made.
#[derive(Debug, Clone)]
pub struct NewConversation {
    /// Its id.
    pub id: ConversationId,
    /// What it is. A direct one has exactly two members.
    pub kind: ConversationKind,
    /// Its title.
    pub title: String,
    /// Who makes it; becomes its owner.
    pub creator: UserId,
    /// The other members.
    pub others: Vec<UserId>,
    /// Now.
    pub at: Timestamp,
}

/// A member of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// What it may do.
    pub role: Role,
    /// Since when.
    pub joined_at: Timestamp,
}

/// The newest message of a conversation.
#[derive(Debug, Clone)]
pub struct LastMessage {
    /// Its id.
    pub id: EventId,
    /// Where it stands.
    pub position: Position,
    /// Who sent it.
    pub user: UserId,
    /// When.
    pub at: Timestamp,
    /// Its content now, as JSON; `null` once it was deleted.
    pub content: Box<RawValue>,
}

/// A conversation in a user's list.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Which.
    pub conversation: Conversation,
    /// The user's role in it.
    pub role: Role,
    /// The newest message, if there is one.
    pub last: Option<LastMessage>,
    /// Messages of others after the user's cursor that are not deleted; at most 1,000 are counted.
    pub unread: u64,
    /// How far the user has read.
    pub read: Position,
    /// For direct conversations, the other user.
    pub other: Option<UserId>,
    /// When something happened last: what the list is ordered by, newest first.
    pub active_at: Timestamp,
}

impl Store {
    /// Makes a conversation. Made again with the same id by the same user, or direct for the same
    /// pair, the one that is there is answered.
    /// # Errors
    /// [`Error::Exists`] (`conversation`) when the id is another's.
    pub async fn create_conversation(&self, new: NewConversation) -> Result<Conversation, Error> {
        todo!("{new:?}")
    }
    /// A conversation by id.
    pub async fn conversation(&self, id: &ConversationId) -> Result<Option<Conversation>, Error> {
        todo!("{id}")
    }
    /// The direct conversation of a pair.
    pub async fn direct(
        &self,
        one: &UserId,
        other: &UserId,
    ) -> Result<Option<Conversation>, Error> {
        todo!("{one} {other}")
    }
    /// Members by user id, after one.
    pub async fn members(
        &self,
        id: &ConversationId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<Member>, Error> {
        todo!("{id} {after:?} {limit}")
    }
    /// A user's role in it.
    pub async fn role(&self, id: &ConversationId, user: &UserId) -> Result<Option<Role>, Error> {
        todo!("{id} {user}")
    }
    /// Adds members or changes their role; answers who was not a member before.
    pub async fn add_members(
        &self,
        id: &ConversationId,
        users: &[UserId],
        role: Role,
        at: Timestamp,
    ) -> Result<Vec<UserId>, Error> {
        todo!("{id} {users:?} {role:?} {at}")
    }
    /// Takes a member out; false if it was none.
    pub async fn remove_member(&self, id: &ConversationId, user: &UserId) -> Result<bool, Error> {
        todo!("{id} {user}")
    }
    /// A user's conversations, the most recently active first, those active before `before` (time,
    /// id) only.
    pub async fn conversations_of(
        &self,
        user: &UserId,
        before: Option<(Timestamp, ConversationId)>,
        limit: usize,
    ) -> Result<Vec<Listed>, Error> {
        todo!("{user} {before:?} {limit}")
    }
    /// Whether two users are in one conversation.
    pub async fn share_conversation(&self, one: &UserId, other: &UserId) -> Result<bool, Error> {
        todo!("{one} {other}")
    }
    /// Moves a user's cursor forward; false if it stood there or further already. Any room name:
    /// conversations without a row have cursors too.
    pub async fn read_up_to(
        &self,
        id: &ConversationId,
        user: &UserId,
        position: Position,
        at: Timestamp,
    ) -> Result<bool, Error> {
        todo!("{id} {user} {position} {at}")
    }
    /// How far each of (at most `limit`) members has read.
    pub async fn cursors(
        &self,
        id: &ConversationId,
        limit: usize,
    ) -> Result<Vec<(UserId, Position)>, Error> {
        todo!("{id} {limit}")
    }
}
