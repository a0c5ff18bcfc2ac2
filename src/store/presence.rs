//! When users were last seen.

use super::list::Listing;
use super::row::{self, args};
use super::{Error, Store};
use crate::backend::statement::{Statement, Value};
use crate::types::{Timestamp, UserId};

impl Store {
    /// Remembers when users were last seen; never goes back.
    pub async fn seen(&self, users: &[UserId], at: Timestamp) -> Result<(), Error> {
        // In one order, so that nodes that tell of the same users do not wait for each other.
        let mut users: Vec<&UserId> = users.iter().collect();
        users.sort_unstable();
        for users in users.chunks(super::STEP) {
            let seen = |user: &&UserId| Statement::new(SEEN, args![*user, at]);
            self.write(users.iter().map(seen).collect()).await?;
        }
        Ok(())
    }

    /// When these users were last seen; those never seen are left out.
    pub async fn last_seen(&self, users: &[UserId]) -> Result<Vec<(UserId, Timestamp)>, Error> {
        let users: Vec<Value> = users.iter().map(Value::from).collect();
        let rows = self.read_all(LAST_SEEN.statements(&[], &users)).await?;
        let seen = rows
            .iter()
            .map(|row| Ok((row::user(row, 0)?, row::time(row, 1))));
        seen.collect()
    }
}

const SEEN: &str = "
    INSERT INTO last_seen (user_id, at) VALUES ($1, $2)
    ON CONFLICT (user_id) DO UPDATE SET at = excluded.at WHERE excluded.at > last_seen.at";
static LAST_SEEN: Listing =
    Listing::new("SELECT user_id, at FROM last_seen WHERE user_id IN ({})", 0);
