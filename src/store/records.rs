//! Records of the operator's own kinds: complaints, profiles of other systems, and so on.

use serde_json::value::RawValue;

use super::{Error, Store};
use crate::types::Timestamp;

/// A record.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its kind, for example `complaints`.
    pub kind: String,
    /// Its id within the kind.
    pub id: String,
    /// A JSON object.
    pub data: Box<RawValue>,
    /// Of two writes the one with the higher version stays, whichever comes later.
    pub version: i64,
    /// When it was written.
    pub updated_at: Timestamp,
}

impl Store {
    /// A record that is there.
    pub async fn record(&self, kind: &str, id: &str) -> Result<Option<Record>, Error> {
        todo!("{kind} {id}")
    }
    /// Writes a record; false when a higher version, or its deletion, is there.
    pub async fn put_record(&self, record: &Record) -> Result<bool, Error> {
        todo!("{record:?}")
    }
    /// Deletes a record and remembers the version; false when a higher version is there.
    pub async fn delete_record(
        &self,
        kind: &str,
        id: &str,
        version: i64,
        at: Timestamp,
    ) -> Result<bool, Error> {
        todo!("{kind} {id} {version} {at}")
    }
}
