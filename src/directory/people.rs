//! Accounts, logins, bans, and when users were last seen.

use std::sync::Arc;

use super::{Directory, Found};
use crate::store::{self, Session, User};
use crate::types::{Timestamp, UserId};

impl Directory {
    /// A user's account.
    pub async fn user(&self, id: &UserId) -> Result<Found<Option<Arc<User>>>, store::Error> {
        let load = || self.load_user(id);
        let found = self.0.caches.users.get_with(id.as_str(), load).await?;
        Ok(found.into())
    }

    /// Whose an e-mail address is; any case.
    pub async fn user_by_email(&self, email: &str) -> Result<Option<UserId>, store::Error> {
        let email = email.to_lowercase();
        let load = || {
            let (store, email) = (self.0.store.clone(), email.clone());
            async move { Ok(store.user_by_email(&email).await?.map(|(user, _)| user.id)) }
        };
        Ok(self.0.caches.emails.get_with(&email, load).await?.value)
    }

    /// A login or revoked token.
    pub async fn session(
        &self,
        token_id: &str,
    ) -> Result<Found<Option<Arc<Session>>>, store::Error> {
        let load = || {
            let (store, id) = (self.0.store.clone(), token_id.to_owned());
            async move { Ok(store.session(&id).await?.map(Arc::new)) }
        };
        let found = self.0.caches.sessions.get_with(token_id, load).await?;
        Ok(found.into())
    }

    /// Until when a user is banned.
    pub async fn banned_until(&self, id: &UserId) -> Result<Option<Timestamp>, store::Error> {
        let load = || {
            let (store, id) = (self.0.store.clone(), id.clone());
            async move { store.banned_until(&id).await }
        };
        let found = self.0.caches.bans.get_with(id.as_str(), load).await?;
        Ok(found.value)
    }

    /// When a user was last seen, as far as the store knows; who is here now is presence's to say.
    pub async fn last_seen(&self, id: &UserId) -> Result<Option<Timestamp>, store::Error> {
        let load = || {
            let (store, id) = (self.0.store.clone(), id.clone());
            async move {
                let seen = store.last_seen(std::slice::from_ref(&id)).await?;
                Ok(seen.into_iter().next().map(|(_, at)| at))
            }
        };
        let found = self.0.caches.last_seen.get_with(id.as_str(), load).await?;
        Ok(found.value)
    }

    pub(super) fn load_user(
        &self,
        id: &UserId,
    ) -> impl Future<Output = Result<Option<Arc<User>>, store::Error>> + Send + 'static {
        let (store, id) = (self.0.store.clone(), id.clone());
        async move { Ok(store.user(&id).await?.map(Arc::new)) }
    }
}
