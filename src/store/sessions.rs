//! Sessions by token id, and tokens that were revoked.

use serde::{Deserialize, Serialize};

use super::row::{self, args};
use super::{Error, Store};
use crate::backend::statement::Row;
use crate::types::{Timestamp, UserId};

/// A login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
        let args = args![
            session.token_id.as_str(),
            &session.user,
            session.device.as_str(),
            session.address.as_str(),
            session.created_at,
            session.expires_at,
            session.revoked_at,
        ];
        self.change(OPEN, args).await?;
        Ok(())
    }

    /// A login or a revoked token; `None` for tokens that were neither made nor revoked here.
    pub async fn session(&self, token_id: &str) -> Result<Option<Session>, Error> {
        let found = self.read_one(BY_TOKEN, args![token_id]).await?;
        found.as_ref().map(read).transpose()
    }

    /// A user's live logins, the newest first.
    pub async fn sessions_of(&self, user: &UserId, now: Timestamp) -> Result<Vec<Session>, Error> {
        let rows = self.read(LIVE, args![user, now]).await?;
        rows.iter().map(read).collect()
    }

    /// Ends a login, or remembers that a token made elsewhere is revoked until `expires_at`.
    /// False if it had been ended before.
    pub async fn revoke_session(&self, session: &Session, at: Timestamp) -> Result<bool, Error> {
        let args = args![
            session.token_id.as_str(),
            &session.user,
            session.device.as_str(),
            session.address.as_str(),
            session.created_at,
            session.expires_at,
            at,
        ];
        Ok(!self.change(REVOKE, args).await?.is_empty())
    }

    /// Ends all logins of a user but one; answers the token ids that ended.
    pub async fn revoke_sessions_of(
        &self,
        user: &UserId,
        except: Option<&str>,
        at: Timestamp,
    ) -> Result<Vec<String>, Error> {
        // No token has an empty id.
        let args = args![user, except.unwrap_or_default(), at];
        let rows = self.change(REVOKE_OF, args).await?;
        Ok(rows.iter().map(|row| row.text(0).to_owned()).collect())
    }

    /// Forgets what ended by itself before `before`. What was revoked is remembered until then, or
    /// its token would be valid again.
    pub async fn forget_sessions(&self, before: Timestamp) -> Result<u64, Error> {
        self.delete_before(FORGET, before).await
    }
}

fn read(row: &Row) -> Result<Session, Error> {
    Ok(Session {
        token_id: row.text(0).to_owned(),
        user: row::user(row, 1)?,
        device: row.text(2).to_owned(),
        address: row.text(3).to_owned(),
        created_at: row::time(row, 4),
        expires_at: row::time(row, 5),
        revoked_at: row.time(6),
    })
}

const OPEN: &str = "
    INSERT INTO session
        (token_id, user_id, device, address, created_at, expires_at, revoked_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (token_id) DO NOTHING";
const BY_TOKEN: &str = "
    SELECT token_id, user_id, device, address, created_at, expires_at, revoked_at
    FROM session WHERE token_id = $1";
const LIVE: &str = "
    SELECT token_id, user_id, device, address, created_at, expires_at, revoked_at
    FROM session WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2
    ORDER BY created_at DESC, token_id DESC";
const REVOKE: &str = "
    INSERT INTO session
        (token_id, user_id, device, address, created_at, expires_at, revoked_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (token_id) DO UPDATE SET revoked_at = excluded.revoked_at
    WHERE session.revoked_at IS NULL RETURNING token_id";
const REVOKE_OF: &str = "
    UPDATE session SET revoked_at = $3
    WHERE user_id = $1 AND token_id <> $2 AND revoked_at IS NULL AND expires_at > $3
    RETURNING token_id";
const FORGET: &str = "
    DELETE FROM session WHERE token_id IN
        (SELECT token_id FROM session WHERE expires_at < $1 LIMIT $2)
    RETURNING token_id";
