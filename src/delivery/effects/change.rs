//! Changes of what is stored that follow from events: each may be made again.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::{RawValue, to_raw_value};

use super::Parts;
use crate::cluster::control::Control;
use crate::store::{self, Record};
use crate::types::{RoomName, Timestamp, UserId};

/// A change, and when it happened.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) what: What,
    pub(super) version: i64,
    pub(super) at: Timestamp,
}

#[derive(Debug)]
pub(super) enum What {
    /// These members of a record replace those of the same name.
    Upsert {
        kind: Arc<str>,
        id: String,
        data: Box<RawValue>,
    },
    Delete {
        kind: Arc<str>,
        id: String,
    },
    Invalidate {
        kind: Arc<str>,
        id: String,
    },
    Join {
        room: RoomName,
        user: UserId,
    },
    Leave {
        room: RoomName,
        user: UserId,
    },
}

impl Change {
    /// What it is about: changes of one thing are made one after the other.
    pub(super) fn subject(&self) -> (&str, &str) {
        match &self.what {
            What::Upsert { kind, id, .. }
            | What::Delete { kind, id }
            | What::Invalidate { kind, id } => (kind, id),
            What::Join { room, user } | What::Leave { room, user } => {
                (room.as_str(), user.as_str())
            }
        }
    }

    /// Makes it, and has caches forget what it changed.
    pub(super) async fn make(&self, parts: &Parts) -> Result<(), store::Error> {
        let directory = &parts.directory;
        match &self.what {
            What::Upsert { kind, id, data } => {
                self.upsert(directory.store(), (kind, id), data).await?;
                directory.record_changed(kind, id);
            }
            What::Delete { kind, id } => {
                let store = directory.store();
                store.delete_record(kind, id, self.version, self.at).await?;
                directory.record_changed(kind, id);
            }
            What::Invalidate { kind, id } => directory.record_changed(kind, id),
            What::Join { room, user } => {
                directory.store().enroll(room, user, self.at).await?;
                directory.groups_changed(user);
                let (room, user) = (room.clone(), user.clone());
                parts.bus.control(Control::JoinRoom { user, room });
            }
            What::Leave { room, user } => {
                directory.store().withdraw(room, user).await?;
                directory.groups_changed(user);
                let (room, user) = (room.clone(), user.clone());
                parts.bus.control(Control::LeaveRoom { user, room });
            }
        }
        Ok(())
    }

    async fn upsert(
        &self,
        store: &store::Store,
        (kind, id): (&str, &str),
        data: &RawValue,
    ) -> Result<(), store::Error> {
        let current = store.record(kind, id).await?;
        // Made before, or overtaken by a later one.
        if current
            .as_ref()
            .is_some_and(|record| record.version >= self.version)
        {
            return Ok(());
        }
        let data = match &current {
            Some(current) => merge(&current.data, data),
            None => data.to_owned(),
        };
        let record = Record {
            kind: kind.to_owned(),
            id: id.to_owned(),
            data,
            version: self.version,
            updated_at: self.at,
        };
        store.put_record(&record).await.map(drop)
    }
}

/// The members of an object with those of another put over them; a `null` takes a member out.
fn merge(old: &RawValue, new: &RawValue) -> Box<RawValue> {
    type Members = BTreeMap<String, Box<RawValue>>;
    let members = |data: &RawValue| serde_json::from_str::<Members>(data.get());
    let (Ok(mut merged), Ok(new)) = (members(old), members(new)) else {
        return new.to_owned();
    };
    merged.extend(new);
    merged.retain(|_, value| value.get() != "null");
    to_raw_value(&merged).unwrap_or_else(|_| new_object())
}

fn new_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_replace_and_null_takes_out() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let merged = |old, new| merge(&raw(old), &raw(new)).get().to_owned();
        assert_eq!(
            merged(
                r#"{"a":1.00,"b":{"x":1},"c":2}"#,
                r#"{"b":{"y":2},"c":null,"d":null}"#
            ),
            r#"{"a":1.00,"b":{"y":2}}"#
        );
        assert_eq!(merged("[]", r#"{"a":1}"#), r#"{"a":1}"#);
    }
}
