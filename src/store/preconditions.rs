//! Writing a record only over the one that the writer knows.

use super::row::args;
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
    /// Writes a record if what is expected is there and of a lower version; else false.
    pub async fn put_record_if(&self, record: &Record, expected: Expected) -> Result<bool, Error> {
        let (kind, id) = (record.kind.as_str(), record.id.as_str());
        let (data, version, at) = (record.data.get(), record.version, record.updated_at);
        let written = match expected {
            Expected::Nothing => {
                self.change(CREATE, args![kind, id, data, version, at])
                    .await?
            }
            Expected::Version(known) => {
                let args = args![kind, id, data, version, at, known];
                self.change(REPLACE, args).await?
            }
        };
        Ok(!written.is_empty())
    }

    /// Deletes a record if it is still this one, leaving `version`; else false.
    pub async fn delete_record_if(
        &self,
        record: &Record,
        version: i64,
        at: Timestamp,
    ) -> Result<bool, Error> {
        let (kind, id) = (record.kind.as_str(), record.id.as_str());
        let args = args![kind, id, version, at, record.version];
        Ok(!self.change(DELETE, args).await?.is_empty())
    }
}

const CREATE: &str = "
    INSERT INTO domain_record (kind, id, data, version, updated_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (kind, id) DO UPDATE SET
        data = excluded.data, version = excluded.version, updated_at = excluded.updated_at
    WHERE domain_record.data IS NULL AND excluded.version > domain_record.version
    RETURNING version";
const REPLACE: &str = "
    UPDATE domain_record SET data = $3, version = $4, updated_at = $5
    WHERE kind = $1 AND id = $2 AND data IS NOT NULL AND version = $6 AND version < $4
    RETURNING version";
const DELETE: &str = "
    UPDATE domain_record SET data = NULL, version = $3, updated_at = $4
    WHERE kind = $1 AND id = $2 AND data IS NOT NULL AND version = $5 AND version < $3
    RETURNING version";

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::backend::sql::{Database, Options};

    #[tokio::test]
    async fn a_record_is_written_only_over_the_one_that_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(Options::new(folder.path())).await.unwrap();
        let store = Store::sqlite(&database);
        let record = |version| Record {
            kind: "k".to_owned(),
            id: "1".to_owned(),
            data: RawValue::from_string(format!("{{\"v\":{version}}}")).unwrap(),
            version,
            updated_at: Timestamp::from_millis(version),
        };
        let put = async |version, expected| {
            store
                .put_record_if(&record(version), expected)
                .await
                .unwrap()
        };
        assert!(!put(1, Expected::Version(0)).await, "there is none");
        assert!(put(1, Expected::Nothing).await);
        assert!(!put(2, Expected::Nothing).await, "there is one");
        assert!(put(2, Expected::Version(1)).await);
        assert!(!put(3, Expected::Version(1)).await, "it is another by now");
        assert!(!put(2, Expected::Version(2)).await, "versions rise");
        let at = Timestamp::from_millis(9);
        assert!(!store.delete_record_if(&record(1), 5, at).await.unwrap());
        assert!(store.delete_record_if(&record(2), 5, at).await.unwrap());
        assert!(store.record("k", "1").await.unwrap().is_none());
        assert!(
            !put(5, Expected::Nothing).await,
            "a deletion has its version"
        );
        assert!(put(6, Expected::Nothing).await);
        database.close().await;
    }
}
