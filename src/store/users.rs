//! Accounts.

use serde_json::value::RawValue;

use super::{Error, Store};
use crate::types::{Secret, Timestamp, UserId};

/// An account.
#[derive(Debug, Clone)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Lower case; `None` for users that only tokens of others name.
    pub email: Option<String>,
    /// What others are shown.
    pub name: String,
    /// `user`, `moderator` or `admin`.
    pub role: String,
    /// Whatever else the profile holds: a JSON object.
    pub attributes: Box<RawValue>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// Set while the user may not enter; far in the future for good.
    pub banned_until: Option<Timestamp>,
}

/// An account to be made.
#[derive(Debug)]
pub struct NewUser {
    /// Its id.
    pub id: UserId,
    /// In lower case.
    pub email: String,
    /// What others are shown.
    pub name: String,
    /// The argon2id hash in PHC form.
    pub password: Secret<String>,
    /// A JSON object.
    pub attributes: Box<RawValue>,
    /// Now.
    pub at: Timestamp,
}

/// What of a profile changes.
#[derive(Debug, Default)]
pub struct UserChanges {
    /// The name.
    pub name: Option<String>,
    /// A JSON object that replaces the attributes.
    pub attributes: Option<Box<RawValue>>,
}

impl Store {
    /// Makes an account.
    /// # Errors
    /// [`Error::Exists`] (`email`, `user`).
    pub async fn create_user(&self, new: NewUser) -> Result<User, Error> {
        todo!("{new:?}")
    }
    /// An account by id.
    pub async fn user(&self, id: &UserId) -> Result<Option<User>, Error> {
        todo!("{id}")
    }
    /// Accounts by id, in any order; unknown ids are left out.
    pub async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, Error> {
        todo!("{ids:?}")
    }
    /// An account and its password's hash, by e-mail in lower case.
    pub async fn user_by_email(
        &self,
        email: &str,
    ) -> Result<Option<(User, Secret<String>)>, Error> {
        todo!("{email}")
    }
    /// Changes a profile; `None` when there is no such user.
    pub async fn update_user(
        &self,
        id: &UserId,
        changes: UserChanges,
        at: Timestamp,
    ) -> Result<Option<User>, Error> {
        todo!("{id} {changes:?} {at}")
    }
    /// Bans until then, or lifts the ban. Also for users without an account.
    pub async fn ban(
        &self,
        id: &UserId,
        until: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<(), Error> {
        todo!("{id} {until:?} {at}")
    }
    /// Until when a user is banned, account or not.
    pub async fn banned_until(&self, id: &UserId) -> Result<Option<Timestamp>, Error> {
        todo!("{id}")
    }
}
