//! An event in its place, and where in the log it came from.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::{
    Epoch, EventId, Position, RoomName, Seq, ShardId, ShardPosition, ShardSeq, Timestamp,
};

/// What `apply` calls the partition: one stream of records with rising offsets.
///
/// The partition comes first, because it tells two sources apart most often.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    /// The partition's number.
    pub partition: u32,
    /// Rises when the topic was created anew and its offsets began again at 0.
    pub generation: u32,
    /// The topic.
    pub topic: Arc<str>,
}

/// An event in its place. Its JSON is the record of topic `timeline`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The room it is in.
    pub room: RoomName,
    /// The shard that ordered it.
    pub shard: ShardId,
    /// The epoch it was ordered in.
    pub epoch: Epoch,
    /// Its place in the room.
    pub seq: Seq,
    /// Its place in the shard's stream.
    pub shard_seq: ShardSeq,
    /// Where it was read.
    pub source: Source,
    /// Its offset there.
    pub offset: u64,
    /// The event's id.
    pub id: EventId,
    /// The record's time in the log.
    pub at: Timestamp,
    /// The envelope's JSON, byte for byte.
    #[serde(with = "raw")]
    pub payload: Bytes,
}

/// Bytes are no entry, or an entry's payload is no JSON.
#[derive(Debug, thiserror::Error)]
#[error("not a timeline entry: {0}")]
pub struct EntryError(#[from] serde_json::Error);

impl Entry {
    /// Its place in the room.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            seq: self.seq,
        }
    }

    /// Its place in the shard's stream.
    #[must_use]
    pub const fn shard_position(&self) -> ShardPosition {
        ShardPosition {
            epoch: self.epoch,
            shard_seq: self.shard_seq,
        }
    }

    /// As the value of a record in topic `timeline`.
    ///
    /// # Errors
    /// When the payload is not JSON, which the pump has ruled out before it applies.
    pub fn to_json(&self) -> Result<Bytes, EntryError> {
        Ok(Bytes::from(serde_json::to_vec(self)?))
    }

    /// Reads the value of a record in topic `timeline`.
    pub fn from_json(value: &[u8]) -> Result<Self, EntryError> {
        Ok(serde_json::from_slice(value)?)
    }
}

/// The payload stands in the JSON as it is, not as a string.
mod raw {
    use bytes::Bytes;
    use serde::de::Deserializer;
    use serde::ser::{Error, Serializer};
    use serde::{Deserialize, Serialize};
    use serde_json::value::RawValue;

    pub(super) fn serialize<S: Serializer>(json: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_slice(json).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let raw = Box::<RawValue>::deserialize(from)?;
        Ok(Bytes::from(String::from(Box::<str>::from(raw))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(payload: &'static str) -> Entry {
        Entry {
            room: RoomName::parse("conversation:1").unwrap(),
            shard: ShardId(0),
            epoch: Epoch(1),
            seq: Seq(2),
            shard_seq: ShardSeq(3),
            source: Source {
                topic: Arc::from("messages"),
                generation: 0,
                partition: 4,
            },
            offset: 5,
            id: EventId::parse("e").unwrap(),
            at: Timestamp::from_millis(0),
            payload: Bytes::from_static(payload.as_bytes()),
        }
    }

    #[test]
    fn an_entry_reads_back_with_its_payload_byte_for_byte() {
        let entry = entry(r#"{"n":1.00, "text":"\u00e9" }"#);
        let json = entry.to_json().unwrap();
        assert_eq!(
            std::str::from_utf8(&json).unwrap(),
            r#"{"room":"conversation:1","shard":0,"epoch":1,"seq":2,"shardSeq":3,"source":{"partition":4,"generation":0,"topic":"messages"},"offset":5,"id":"e","at":"1970-01-01T00:00:00.000Z","payload":{"n":1.00, "text":"\u00e9" }}"#
        );
        assert_eq!(Entry::from_json(&json).unwrap(), entry);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        assert!(entry("{").to_json().is_err());
        assert!(entry("1 2").to_json().is_err());
        assert!(Entry::from_json(b"{}").is_err());
    }
}
