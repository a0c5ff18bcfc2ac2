//! When users were last seen.

use super::{Error, Store};
use crate::types::{Timestamp, UserId};

impl Store {
    /// Remembers when users were last seen; never goes back.
    pub async fn seen(&self, users: &[UserId], at: Timestamp) -> Result<(), Error> {
        todo!("{users:?} {at}")
    }
    /// When these users were last seen; those never seen are left out.
    pub async fn last_seen(&self, users: &[UserId]) -> Result<Vec<(UserId, Timestamp)>, Error> {
        todo!("{users:?}")
    }
}
