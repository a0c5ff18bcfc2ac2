//! Writing a record only over the one that the writer knows.

use super::{Error, Record, Store};
use crate::types::Timestamp;

/// What must be there for a write to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The record in this version.
    Version(i64),
    /// None, or one that was deleted.
    Nothing,
}

impl Expected {
    /// Whether this is what is there.
    #[must_use]
    pub fn fits(self, current: Option<&Record>) -> bool {
        match self {
            Self::Version(version) => current.is_some_and(|record| record.version == version),
            Self::Nothing => current.is_none(),
        }
    }
}

impl Store {
    /// Writes a record if what is expected is there and of no higher version; else false.
    pub async fn put_record_if(&self, record: &Record, expected: Expected) -> Result<bool, Error> {
        todo!("{record:?} {expected:?}")
    }

    /// Deletes a record if it is still this one, leaving `version`; else false.
    pub async fn delete_record_if(
        &self,
        record: &Record,
        version: i64,
        at: Timestamp,
    ) -> Result<bool, Error> {
        todo!("{record:?} {version} {at}")
    }
}
