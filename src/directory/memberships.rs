//! Conversations and who is in them; courses and buildings.

use std::sync::Arc;

use super::caches::{List, pair};
use super::{Directory, Found};
use crate::store::{self, Conversation, Listed, Role};
use crate::types::{ConversationId, RoomName, UserId};

/// Conversations in the cached first page of a user's list.
const LIST_MAX: usize = 100;

/// Members that are told of one event, at most.
pub const MEMBERS_MAX: usize = 1_000;

impl Directory {
    /// A conversation.
    pub async fn conversation(
        &self,
        id: &ConversationId,
    ) -> Result<Option<Arc<Conversation>>, store::Error> {
        let load = || {
            let (store, id) = (self.0.store.clone(), id.clone());
            async move { Ok(store.conversation(&id).await?.map(Arc::new)) }
        };
        let conversations = &self.0.caches.conversations;
        Ok(conversations.get_with(id.as_str(), load).await?.value)
    }

    /// The first page (at most 100) of a user's conversations.
    pub async fn conversations_of(
        &self,
        user: &UserId,
    ) -> Result<Found<Arc<Vec<Listed>>>, store::Error> {
        self.0.active.note(user);
        let (lists, key) = (&self.0.caches.lists, user.as_str());
        if lists
            .peek(key)
            .is_some_and(|list| list.is_outdated(&self.0.activity))
        {
            lists.expire(key);
        }
        let found = lists.get_with(key, || self.load_list(user)).await?;
        Ok(Found {
            value: Arc::clone(&found.value.page),
            is_stale: found.is_stale,
        })
    }

    /// The members of a conversation by id, at most [`MEMBERS_MAX`].
    pub async fn members(&self, id: &ConversationId) -> Result<Arc<[UserId]>, store::Error> {
        let load = || {
            let (store, id) = (self.0.store.clone(), id.clone());
            async move {
                let members = store.members(&id, None, MEMBERS_MAX).await?;
                Ok(members.into_iter().map(|member| member.user).collect())
            }
        };
        let found = self.0.caches.members.get_with(id.as_str(), load).await?;
        Ok(found.value)
    }

    /// A user's role in a conversation.
    pub async fn role(
        &self,
        id: &ConversationId,
        user: &UserId,
    ) -> Result<Option<Role>, store::Error> {
        let load = || {
            let (store, id, user) = (self.0.store.clone(), id.clone(), user.clone());
            async move { store.role(&id, &user).await }
        };
        let key = pair(id.as_str(), user.as_str());
        Ok(self.0.caches.roles.get_with(&key, load).await?.value)
    }

    /// The same, if it is cached.
    #[must_use]
    pub fn role_now(&self, id: &ConversationId, user: &UserId) -> Option<Option<Role>> {
        self.0.caches.roles.now(&pair(id.as_str(), user.as_str()))
    }

    /// A user's courses and buildings.
    pub async fn groups_of(&self, user: &UserId) -> Result<Arc<Vec<RoomName>>, store::Error> {
        let load = || self.load_groups(user);
        Ok(self
            .0
            .caches
            .groups
            .get_with(user.as_str(), load)
            .await?
            .value)
    }

    /// The same, if it is cached.
    pub(super) fn groups_now(&self, user: &UserId) -> Option<Arc<Vec<RoomName>>> {
        self.0.caches.groups.now(user.as_str())
    }

    pub(super) fn load_list(
        &self,
        user: &UserId,
    ) -> impl Future<Output = Result<Arc<List>, store::Error>> + Send + 'static {
        let (store, user) = (self.0.store.clone(), user.clone());
        let read_at = self.0.activity.now();
        async move {
            let page = store.conversations_of(&user, None, LIST_MAX).await?;
            let page = Arc::new(page);
            Ok(Arc::new(List { page, read_at }))
        }
    }

    pub(super) fn load_groups(
        &self,
        user: &UserId,
    ) -> impl Future<Output = Result<Arc<Vec<RoomName>>, store::Error>> + Send + 'static {
        let (store, user) = (self.0.store.clone(), user.clone());
        async move { Ok(Arc::new(store.groups_of(&user).await?)) }
    }
}
