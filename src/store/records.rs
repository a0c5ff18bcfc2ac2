//! Records of the operator's own kinds: complaints, profiles of other systems, and so on.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::row::{self, args};
use super::{Error, Store};
use crate::types::Timestamp;

/// A record.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
        let Some(row) = self.read_one(BY_ID, args![kind, id]).await? else {
            return Ok(None);
        };
        Ok(Some(Record {
            kind: kind.to_owned(),
            id: id.to_owned(),
            data: row::json(&row, 0)?,
            version: row.integer(1),
            updated_at: row::time(&row, 2),
        }))
    }

    /// Writes a record; false when a higher version is there, or a deletion of the same or a higher.
    pub async fn put_record(&self, record: &Record) -> Result<bool, Error> {
        let args = args![
            record.kind.as_str(),
            record.id.as_str(),
            record.data.get(),
            record.version,
            record.updated_at,
        ];
        Ok(!self.change(PUT, args).await?.is_empty())
    }

    /// Deletes a record and remembers the version; false when a higher version is there.
    pub async fn delete_record(
        &self,
        kind: &str,
        id: &str,
        version: i64,
        at: Timestamp,
    ) -> Result<bool, Error> {
        let args = args![kind, id, version, at];
        Ok(!self.change(DELETE, args).await?.is_empty())
    }
}

const BY_ID: &str = "
    SELECT data, version, updated_at FROM domain_record
    WHERE kind = $1 AND id = $2 AND data IS NOT NULL";
const PUT: &str = "
    INSERT INTO domain_record (kind, id, data, version, updated_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (kind, id) DO UPDATE SET
        data = excluded.data, version = excluded.version, updated_at = excluded.updated_at
    WHERE excluded.version > domain_record.version
        OR (excluded.version = domain_record.version AND domain_record.data IS NOT NULL)
    RETURNING version";
const DELETE: &str = "
    INSERT INTO domain_record (kind, id, data, version, updated_at) VALUES ($1, $2, NULL, $3, $4)
    ON CONFLICT (kind, id) DO UPDATE SET
        data = NULL, version = excluded.version, updated_at = excluded.updated_at
    WHERE excluded.version >= domain_record.version
    RETURNING version";
