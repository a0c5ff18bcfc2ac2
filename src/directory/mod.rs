//! What handlers ask of the store, cached: who somebody is, who is in what, who sees whom.
//!
//! Cache-aside over [`Store`](crate::store::Store): a miss is read once however many ask
//! (single-flight), a change forgets the value here and, over the bus, everywhere. When the store
//! does not answer, an old value is served and marked stale where there is one.
//!
//! Not here: writing (callers use the store, then say what to forget), and messages.

mod memberships;
mod people;
mod records;
mod visibility;

use std::sync::Arc;

use crate::auth::Identity;
use crate::cluster::bus::Bus;
use crate::store::{self, Conversation, Listed, Record, Role, Session, Store, User};
use crate::types::{ConversationId, Problem, RoomName, Timestamp, UserId};

/// A value, and whether it is older than it should be because the store did not answer.
#[derive(Debug, Clone)]
pub struct Found<T> {
    /// The value.
    pub value: T,
    /// True when the store did not answer and this was kept.
    pub is_stale: bool,
}

/// The cached view. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    store: Store,
    bus: Bus,
}

impl Directory {
    /// A view of this store, that tells and hears of changes over this bus.
    #[must_use]
    pub fn new(store: Store, bus: Bus) -> Self {
        Self { store, bus }
    }

    /// The store behind it, for writing.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// A user's account.
    pub async fn user(&self, id: &UserId) -> Result<Found<Option<Arc<User>>>, store::Error> {
        todo!("{id}")
    }
    /// A login or revoked token.
    pub async fn session(
        &self,
        token_id: &str,
    ) -> Result<Found<Option<Arc<Session>>>, store::Error> {
        todo!("{token_id}")
    }
    /// Until when a user is banned.
    pub async fn banned_until(&self, id: &UserId) -> Result<Option<Timestamp>, store::Error> {
        todo!("{id}")
    }
    /// A conversation.
    pub async fn conversation(
        &self,
        id: &ConversationId,
    ) -> Result<Option<Arc<Conversation>>, store::Error> {
        todo!("{id}")
    }
    /// The first page (at most 100) of a user's conversations.
    pub async fn conversations_of(
        &self,
        user: &UserId,
    ) -> Result<Found<Arc<Vec<Listed>>>, store::Error> {
        todo!("{user}")
    }
    /// A user's role in a conversation.
    pub async fn role(
        &self,
        id: &ConversationId,
        user: &UserId,
    ) -> Result<Option<Role>, store::Error> {
        todo!("{id} {user}")
    }
    /// The same, if it is cached.
    #[must_use]
    pub fn role_now(&self, id: &ConversationId, user: &UserId) -> Option<Option<Role>> {
        todo!("{id} {user}")
    }
    /// A user's courses and buildings.
    pub async fn groups_of(&self, user: &UserId) -> Result<Arc<Vec<RoomName>>, store::Error> {
        todo!("{user}")
    }
    /// A record of an operator's kind.
    pub async fn record(
        &self,
        kind: &str,
        id: &str,
    ) -> Result<Found<Option<Arc<Record>>>, store::Error> {
        todo!("{kind} {id}")
    }

    /// Whether `viewer` may see whether `user` is online: itself, an accepted connection, a shared
    /// conversation or course.
    pub async fn is_visible(&self, viewer: &UserId, user: &UserId) -> Result<bool, store::Error> {
        todo!("{viewer} {user}")
    }

    /// Whether an identity may join a room and read its history: the token's claims first, then
    /// what is stored (conversation members, courses, buildings).
    /// # Errors
    /// `forbidden` with the reason, or that the store does not answer.
    pub async fn may_join(&self, identity: &Identity, room: &RoomName) -> Result<(), Problem> {
        todo!("{identity:?} {room}")
    }
    /// Whether an identity may send there.
    /// # Errors
    /// As [`may_join`](Self::may_join).
    pub async fn may_send(&self, identity: &Identity, room: &RoomName) -> Result<(), Problem> {
        todo!("{identity:?} {room}")
    }
    /// The same, if it can be told without asking the store.
    #[must_use]
    pub fn may_send_now(
        &self,
        identity: &Identity,
        room: &RoomName,
    ) -> Option<Result<(), Problem>> {
        todo!("{identity:?} {room}")
    }

    /// A user's account changed.
    pub fn user_changed(&self, id: &UserId) {
        todo!("{id}")
    }
    /// A login ended, or a user was banned or the ban lifted.
    pub fn session_changed(&self, token_id: &str) {
        todo!("{token_id}")
    }
    /// A user was banned, or the ban lifted.
    pub fn ban_changed(&self, user: &UserId) {
        todo!("{user}")
    }
    /// A user became or ceased to be a member, or its role changed.
    pub fn membership_changed(&self, id: &ConversationId, user: &UserId) {
        todo!("{id} {user}")
    }
    /// Something in a conversation that lists show: title, members, last message. `users` are those whose
    /// lists are affected, as far as the caller knows them.
    pub fn list_changed(&self, users: &[UserId]) {
        todo!("{users:?}")
    }
    /// A user's courses or buildings changed.
    pub fn groups_changed(&self, user: &UserId) {
        todo!("{user}")
    }
    /// A connection between these changed.
    pub fn connection_changed(&self, one: &UserId, other: &UserId) {
        todo!("{one} {other}")
    }
    /// A record was written or deleted.
    pub fn record_changed(&self, kind: &str, id: &str) {
        todo!("{kind} {id}")
    }

    /// Another node says: forget this.
    pub fn forget(&self, cache: &str, key: &str) {
        todo!("{cache} {key}")
    }
}
