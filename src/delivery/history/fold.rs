//! A message as it is now: what was sent, with what became of it since.
//!
//! Two sources say what became of it: the store, which follows the archive, and the room's timeline,
//! which may be ahead of the store. The timeline's entries are a room's last, so that of two edits
//! the one in the timeline is the later. Reactions come from the store alone: they are in it before
//! they are in the log.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use memchr::memmem;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::events::Envelope;
use crate::store::{Message, Reaction};
use crate::timeline::Entry;
use crate::types::{EventId, Timestamp, UserId};

/// What became of the messages of a page.
#[derive(Debug, Default)]
pub(super) struct Changes(HashMap<EventId, Change>);

/// What became of one message.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) content: Option<Box<RawValue>>,
    pub(super) edited_at: Option<Timestamp>,
    pub(super) deleted_at: Option<Timestamp>,
    reactions: Vec<Reaction>,
}

impl Changes {
    /// What the store knows.
    pub(super) fn store(&mut self, changed: Vec<Message>, reactions: Vec<Reaction>) {
        for message in changed {
            let change = self.0.entry(message.id).or_default();
            change.content = message.content;
            change.edited_at = message.edited_at;
            change.deleted_at = message.deleted_at;
        }
        for reaction in reactions {
            let change = self.0.entry(reaction.message.clone()).or_default();
            change.reactions.push(reaction);
        }
    }

    /// What the timeline knows, in order.
    pub(super) fn timeline(&mut self, entries: &[Arc<Entry>]) {
        let marks = KINDS.map(memmem::Finder::new);
        let is_change =
            |entry: &&Arc<Entry>| marks.iter().any(|m| m.find(&entry.payload).is_some());
        // Most entries are no changes, which is told without reading them.
        for entry in entries.iter().filter(is_change) {
            let Ok(envelope) = Envelope::parse(&entry.payload) else {
                continue;
            };
            let Ok(data) = serde_json::from_str::<Data>(envelope.data.get()) else {
                continue;
            };
            let change = || self.0.entry(data.message_id).or_default();
            match (envelope.kind.as_str(), data.content) {
                (EDITED, Some(content)) => {
                    let change = change();
                    change.content = Some(content);
                    change.edited_at = Some(envelope.timestamp);
                }
                (DELETED, _) => {
                    // Only the first deletion says when.
                    change().deleted_at.get_or_insert(envelope.timestamp);
                }
                _ => {}
            }
        }
    }

    /// What became of a message, if anything did.
    pub(super) fn of(&self, id: &EventId) -> Option<&Change> {
        self.0.get(id)
    }
}

const EDITED: &str = "MESSAGE_EDITED";
const DELETED: &str = "MESSAGE_DELETED";
const KINDS: [&str; 2] = [EDITED, DELETED];

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    message_id: EventId,
    content: Option<Box<RawValue>>,
}

/// A reaction as clients read it.
#[derive(serde::Serialize)]
struct Shown<'a> {
    emoji: &'a str,
    count: u64,
    users: &'a [UserId],
}

impl Change {
    /// The view of a message with this in it. Of a deleted one only who, where and when is left.
    pub(super) fn apply(&self, view: &RawValue) -> serde_json::Result<Box<RawValue>> {
        let mut members: Members = serde_json::from_str(view.get())?;
        if let Some(at) = self.deleted_at {
            members
                .0
                .retain(|(name, _)| REMAINS.contains(&name.as_str()));
            members.set("content", to_raw_value("")?);
            members.set("deletedAt", to_raw_value(&at)?);
            return to_raw_value(&members);
        }
        if let Some(at) = self.edited_at {
            if let Some(content) = &self.content {
                members.set("content", content.clone());
            }
            members.set("editedAt", to_raw_value(&at)?);
        }
        if !self.reactions.is_empty() {
            let shown = self.reactions.iter().map(|reaction| Shown {
                emoji: &reaction.emoji,
                count: reaction.count,
                users: &reaction.users,
            });
            members.set("reactions", to_raw_value(&shown.collect::<Vec<_>>())?);
        }
        to_raw_value(&members)
    }
}

/// What a deleted message still says.
const REMAINS: [&str; 7] = [
    "id",
    "conversationId",
    "userId",
    "timestamp",
    "epoch",
    "seq",
    "content",
];

/// A JSON object whose members keep their order and their text.
struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// In its place if it is there, else at the end.
    fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    const VIEW: &str =
        r#"{"id":"e","userId":"ann","content":"a\u00e9","file":1.0,"epoch":1,"seq":2}"#;

    fn at(ms: i64) -> Option<Timestamp> {
        Some(Timestamp::from_millis(ms))
    }

    #[test]
    fn an_edit_changes_the_content_in_its_place() {
        let change = Change {
            content: Some(raw("\"new\"")),
            edited_at: at(0),
            ..Change::default()
        };
        assert_eq!(
            change.apply(&raw(VIEW)).unwrap().get(),
            r#"{"id":"e","userId":"ann","content":"new","file":1.0,"epoch":1,"seq":2,"editedAt":"1970-01-01T00:00:00.000Z"}"#
        );
    }

    #[test]
    fn of_a_deleted_message_nothing_it_said_is_left() {
        let change = Change {
            content: Some(raw("\"new\"")),
            edited_at: at(0),
            deleted_at: at(1),
            reactions: Vec::new(),
        };
        assert_eq!(
            change.apply(&raw(VIEW)).unwrap().get(),
            r#"{"id":"e","userId":"ann","content":"","epoch":1,"seq":2,"deletedAt":"1970-01-01T00:00:00.001Z"}"#
        );
    }

    #[test]
    fn reactions_are_shown_with_their_count() {
        let mut changes = Changes::default();
        let id = EventId::parse("e").unwrap();
        let reaction = Reaction {
            message: id.clone(),
            emoji: "👍".to_owned(),
            count: 200,
            users: vec![UserId::parse("ann").unwrap()],
        };
        changes.store(Vec::new(), vec![reaction]);
        assert_eq!(
            changes.of(&id).unwrap().apply(&raw("{}")).unwrap().get(),
            r#"{"reactions":[{"emoji":"👍","count":200,"users":["ann"]}]}"#
        );
    }
}
