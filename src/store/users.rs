//! Accounts.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::list::Listing;
use super::row::{self, args};
use super::{Error, Store, unmet};
use crate::backend::statement::{Row, Statement, Value};
use crate::types::{Secret, Timestamp, UserId};

/// An account.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
        let args = args![
            &new.id,
            new.email.as_str(),
            new.name.as_str(),
            ROLE,
            new.password.reveal().as_str(),
            new.attributes.get(),
            new.at,
        ];
        let created = self.write(vec![Statement::new(CREATE, args).must()]).await;
        match created {
            Err(error) if unmet(&error).is_some() => {
                let is_id = self.is_there(ID_TAKEN, args![&new.id]).await?;
                Err(Error::Exists(if is_id { "user" } else { "email" }))
            }
            Err(error) => Err(error),
            Ok(_) => self.user(&new.id).await?.ok_or(Error::Missing("user")),
        }
    }

    /// An account by id.
    pub async fn user(&self, id: &UserId) -> Result<Option<User>, Error> {
        let found = self.read_one(BY_ID, args![id]).await?;
        found.as_ref().map(read).transpose()
    }

    /// Accounts by id, in any order; unknown ids are left out.
    pub async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, Error> {
        let mut ids: Vec<Value> = ids.iter().map(Value::from).collect();
        ids.dedup();
        let rows = self.read_all(BY_IDS.statements(&[], &ids)).await?;
        rows.iter().map(read).collect()
    }

    /// An account and its password's hash, by e-mail in lower case.
    pub async fn user_by_email(
        &self,
        email: &str,
    ) -> Result<Option<(User, Secret<String>)>, Error> {
        let found = self.read_one(BY_EMAIL, args![email]).await?;
        let with_password = |row: &Row| Ok((read(row)?, Secret::new(row.text(8).to_owned())));
        found.as_ref().map(with_password).transpose()
    }

    /// Changes a profile; `None` when there is no such user.
    pub async fn update_user(
        &self,
        id: &UserId,
        changes: UserChanges,
        at: Timestamp,
    ) -> Result<Option<User>, Error> {
        let attributes = changes.attributes.as_ref().map(|json| json.get());
        let args = args![id, changes.name, attributes, at];
        if self.change(UPDATE, args).await?.is_empty() {
            return Ok(None);
        }
        self.user(id).await
    }

    /// Bans until then, or lifts the ban. Also for users without an account.
    pub async fn ban(
        &self,
        id: &UserId,
        until: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<(), Error> {
        match until {
            Some(until) => self.change(BAN, args![id, until, at]).await?,
            None => self.change(LIFT, args![id]).await?,
        };
        Ok(())
    }

    /// Until when a user is banned, account or not.
    pub async fn banned_until(&self, id: &UserId) -> Result<Option<Timestamp>, Error> {
        let found = self.read_one(BANNED, args![id]).await?;
        Ok(found.and_then(|row| row.time(0)))
    }
}

fn read(row: &Row) -> Result<User, Error> {
    Ok(User {
        id: row::user(row, 0)?,
        email: row.text_or_null(1).map(str::to_owned),
        name: row.text(2).to_owned(),
        role: row.text(3).to_owned(),
        attributes: row::json(row, 4)?,
        created_at: row::time(row, 5),
        updated_at: row::time(row, 6),
        banned_until: row.time(7),
    })
}

/// What everybody begins as.
const ROLE: &str = "user";

const CREATE: &str = "
    INSERT INTO account
        (id, email, name, role, password, attributes, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
    ON CONFLICT DO NOTHING RETURNING id";
const ID_TAKEN: &str = "SELECT id FROM account WHERE id = $1";
const BY_ID: &str = "
    SELECT u.id, u.email, u.name, u.role, u.attributes, u.created_at, u.updated_at, b.until
    FROM account u LEFT JOIN ban b ON b.user_id = u.id WHERE u.id = $1";
static BY_IDS: Listing = Listing::new(
    "SELECT u.id, u.email, u.name, u.role, u.attributes, u.created_at, u.updated_at, b.until
    FROM account u LEFT JOIN ban b ON b.user_id = u.id WHERE u.id IN ({})",
    0,
);
const BY_EMAIL: &str = "
    SELECT u.id, u.email, u.name, u.role, u.attributes, u.created_at, u.updated_at, b.until,
        u.password
    FROM account u LEFT JOIN ban b ON b.user_id = u.id WHERE u.email = $1";
const UPDATE: &str = "
    UPDATE account SET name = COALESCE($2, name), attributes = COALESCE($3, attributes),
        updated_at = $4
    WHERE id = $1 RETURNING id";
const BAN: &str = "
    INSERT INTO ban (user_id, until, at) VALUES ($1, $2, $3)
    ON CONFLICT (user_id) DO UPDATE SET until = excluded.until, at = excluded.at";
const LIFT: &str = "DELETE FROM ban WHERE user_id = $1";
const BANNED: &str = "SELECT until FROM ban WHERE user_id = $1";
