//! Who may join a room and who may send to it: the token's claims, then what is stored.
//!
//! | kind | beside what the token grants |
//! |---|---|
//! | `conversation:{id}` | its members |
//! | `course:{id}`, `building:{id}` | who is enrolled |
//! | anything else | nobody |
//!
//! Nobody joins a room of presence (`presence:{id}`) this way: sockets are put there after
//! [`is_visible`](Directory::is_visible) was asked.

use super::Directory;
use crate::auth::{Identity, permissions};
use crate::types::{ConversationId, Problem, RoomName};

/// Where a membership of a room is stored.
enum Kind {
    Conversation(ConversationId),
    Group,
}

impl Kind {
    fn of(room: &RoomName) -> Option<Self> {
        let (kind, id) = room.as_str().split_once(':')?;
        match kind {
            "conversation" => ConversationId::parse(id).ok().map(Self::Conversation),
            "course" | "building" if !id.is_empty() => Some(Self::Group),
            _ => None,
        }
    }
}

impl Directory {
    /// Whether an identity may join a room and read its history: the token's claims first, then
    /// what is stored (conversation members, courses, buildings).
    /// # Errors
    /// `forbidden` with the reason, or that the store does not answer.
    pub async fn may_join(&self, identity: &Identity, room: &RoomName) -> Result<(), Problem> {
        match permissions::may_join(identity, room) {
            Err(_) if self.is_member(identity, room).await? => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Whether an identity may send there.
    /// # Errors
    /// As [`may_join`](Self::may_join).
    pub async fn may_send(&self, identity: &Identity, room: &RoomName) -> Result<(), Problem> {
        match permissions::may_send(identity, room) {
            Err(_) if self.is_member(identity, room).await? => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// The same, if it can be told without asking the store.
    #[must_use]
    pub fn may_send_now(
        &self,
        identity: &Identity,
        room: &RoomName,
    ) -> Option<Result<(), Problem>> {
        let Err(refusal) = permissions::may_send(identity, room) else {
            return Some(Ok(()));
        };
        let user = identity.user();
        let is_member = match Kind::of(room) {
            Some(Kind::Conversation(id)) => self.role_now(&id, user)?.is_some(),
            Some(Kind::Group) => self.groups_now(user)?.contains(room),
            None => false,
        };
        Some(if is_member {
            Ok(())
        } else {
            Err(refusal.into())
        })
    }

    async fn is_member(&self, identity: &Identity, room: &RoomName) -> Result<bool, Problem> {
        let user = identity.user();
        Ok(match Kind::of(room) {
            Some(Kind::Conversation(id)) => self.role(&id, user).await?.is_some(),
            Some(Kind::Group) => self.groups_of(user).await?.contains(room),
            None => false,
        })
    }
}
