//! Sessions by token id, and tokens that were revoked.

use super::{Error, Store};
use crate::types::{Timestamp, UserId};

/// A login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Claim `jti` of its token.
    pub token_id: String,
    /// Whose.
    pub user: UserId,
    /// The device, as its user agent says, cut.
    pub device: String,
    /// The address it was opened from.
    pub address: String,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// When it was ended.
    pub revoked_at: Option<Timestamp>,
}

impl Store {
    /// Remembers a login.
    pub async fn open_session(&self, session: &Session) -> Result<(), Error> {
        todo!("{session:?}")
    }
    /// A login or a revoked token; `None` for tokens that were neither made nor revoked here.
    pub async fn session(&self, token_id: &str) -> Result<Option<Session>, Error> {
        todo!("{token_id}")
    }
    /// A user's live logins, the newest first.
    pub async fn sessions_of(&self, user: &UserId, now: Timestamp) -> Result<Vec<Session>, Error> {
        todo!("{user} {now}")
    }
    /// Ends a login, or remembers that a token made elsewhere is revoked until `expires_at`.
    /// False if it had been ended before.
    pub async fn revoke_session(&self, session: &Session, at: Timestamp) -> Result<bool, Error> {
        todo!("{session:?} {at}")
    }
    /// Ends all logins of a user but one; answers the token ids that ended.
    pub async fn revoke_sessions_of(
        &self,
        user: &UserId,
        except: Option<&str>,
        at: Timestamp,
    ) -> Result<Vec<String>, Error> {
        todo!("{user} {except:?} {at}")
    }
    /// Forgets what ended before `before`.
    pub async fn forget_sessions(&self, before: Timestamp) -> Result<u64, Error> {
        todo!("{before}")
    }
}
