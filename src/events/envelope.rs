//! An event and its metadata, as the log holds it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::events::object::{ObjectError, pick, text};
use crate::types::{ConversationId, EventId, Timestamp, UserId};

/// What happened, to whom it belongs, when.
///
/// On input `eventType` is accepted for `type` (which wins if both are there), and members that are
/// not known are ignored. `data` keeps its text: the order of keys and the writing of numbers survive.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The event's id: a retry has the same.
    pub id: EventId,
    /// The event type, for example `MESSAGE_SENT`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose event it is: the sender.
    pub user_id: UserId,
    /// The conversation it belongs to, if it belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// When it was accepted.
    pub timestamp: Timestamp,
    /// What the type says about it.
    pub data: Box<RawValue>,
}

/// Bytes are no envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// They are not one JSON object in UTF-8.
    #[error("envelope is {0}")]
    NotAnObject(String),
    /// A member is missing.
    #[error("envelope has no `{0}`")]
    Missing(&'static str),
    /// A member is wrong.
    #[error("envelope's `{field}` is wrong: {reason}")]
    Wrong {
        /// Which.
        field: &'static str,
        /// Why.
        reason: String,
    },
}

impl EnvelopeError {
    /// The member that is missing or wrong.
    #[must_use]
    pub const fn field(&self) -> Option<&'static str> {
        match self {
            Self::NotAnObject(_) => None,
            Self::Missing(field) | Self::Wrong { field, .. } => Some(field),
        }
    }
}

/// Event types are at most this long; they are metric labels and log fields.
const KIND_BYTES_MAX: usize = 64;

const MEMBERS: [&str; 7] = [
    "id",
    "type",
    "eventType",
    "userId",
    "conversationId",
    "timestamp",
    "data",
];

impl Envelope {
    /// Reads an envelope's JSON.
    pub fn parse(json: &[u8]) -> Result<Self, EnvelopeError> {
        let json = std::str::from_utf8(json)
            .map_err(|_| EnvelopeError::NotAnObject("not in UTF-8".to_owned()))?;
        let found = pick(json, &MEMBERS).map_err(|error| match error {
            ObjectError::NotAnObject(_) => EnvelopeError::NotAnObject(error.to_string()),
            ObjectError::Twice(name) => {
                let field = MEMBERS
                    .into_iter()
                    .find(|member| *member == name)
                    .unwrap_or("data");
                wrong(field, "it is given twice")
            }
        })?;
        let take = |index: usize| {
            let member = found.get(index).copied().flatten();
            member.ok_or(EnvelopeError::Missing(MEMBERS[index]))
        };
        Ok(Self {
            id: read("id", take(0)?, EventId::parse)?,
            kind: read(
                "type",
                take(1).or_else(|missing| take(2).map_err(|_| missing))?,
                kind,
            )?,
            user_id: read("userId", take(3)?, UserId::parse)?,
            conversation_id: take(4)
                .ok()
                .map(|raw| read("conversationId", raw, ConversationId::parse))
                .transpose()?,
            timestamp: read("timestamp", take(5)?, str::parse::<Timestamp>)?,
            data: take(6)?.to_owned(),
        })
    }

    /// Its JSON, as the log holds it.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an envelope's members are strings and valid JSON")
    }
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(from)?;
        Self::parse(raw.get().as_bytes()).map_err(serde::de::Error::custom)
    }
}

fn read<T, E: fmt::Display>(
    field: &'static str,
    raw: &RawValue,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, EnvelopeError> {
    let text = text(raw).ok_or_else(|| wrong(field, "it is not a string"))?;
    parse(&text).map_err(|error| wrong(field, error))
}

fn kind(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > KIND_BYTES_MAX {
        return Err(format!(
            "it is {} bytes, allowed are 1 to {KIND_BYTES_MAX}",
            text.len()
        ));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("it holds the character {c:?}")),
        None => Ok(text.to_owned()),
    }
}

fn wrong(field: &'static str, reason: impl fmt::Display) -> EnvelopeError {
    EnvelopeError::Wrong {
        field,
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FULL: &str = r#"{"id":"e1","type":"MESSAGE_SENT","userId":"ann","conversationId":"42","timestamp":"2026-01-31T12:00:00.000Z","data":{"content":"hi","n":1.00}}"#;

    #[test]
    fn an_envelope_reads_back_byte_for_byte() {
        let envelope = Envelope::parse(FULL.as_bytes()).unwrap();
        assert_eq!(envelope.to_json(), FULL);
        assert_eq!(
            serde_json::from_str::<Envelope>(FULL).unwrap().to_json(),
            FULL
        );
    }

    #[test]
    fn foreign_writings_of_an_envelope_are_accepted() {
        let cases = [
            FULL.replace("\"type\"", "\"eventType\""),
            FULL.replace("\"type\"", "\"eventType\":\"OLD\",\"type\""),
            FULL.replace("\"id\"", "\"trace\":{\"id\":[1]},\"id\""),
            FULL.replace("12:00:00.000Z", "14:00:00+02:00"),
            FULL.replace(',', " ,\n"),
        ];
        for case in cases {
            let envelope = Envelope::parse(case.as_bytes()).unwrap();
            assert_eq!(envelope.kind, "MESSAGE_SENT", "{case}");
            assert_eq!(
                envelope.timestamp.to_string(),
                "2026-01-31T12:00:00.000Z",
                "{case}"
            );
        }
        let none = FULL.replace(r#""conversationId":"42""#, r#""conversationId":null"#);
        assert_eq!(
            Envelope::parse(none.as_bytes()).unwrap().conversation_id,
            None
        );
    }

    #[test]
    fn a_mistake_names_its_field() {
        let cases = [
            (FULL.replace("\"id\"", "\"ID\""), Some("id")),
            (FULL.replace("\"type\"", "\"kind\""), Some("type")),
            (FULL.replace("\"ann\"", "7"), Some("userId")),
            (FULL.replace("\"ann\"", "\"\""), Some("userId")),
            (FULL.replace("\"42\"", "\"a\\nb\""), Some("conversationId")),
            (FULL.replace("2026-01-31", "today"), Some("timestamp")),
            (FULL.replace("\"data\"", "\"dat\""), Some("data")),
            (FULL.replace("MESSAGE_SENT", ""), Some("type")),
            (
                FULL.replace("\"id\":\"e1\"", "\"id\":\"e1\",\"id\":\"e2\""),
                Some("id"),
            ),
            (FULL.replace('}', ""), None),
            (format!("[{FULL}]"), None),
            (String::new(), None),
        ];
        for (json, field) in cases {
            assert_eq!(
                Envelope::parse(json.as_bytes()).unwrap_err().field(),
                field,
                "{json}"
            );
        }
        assert_eq!(
            Envelope::parse(b"\xff").unwrap_err().to_string(),
            "envelope is not in UTF-8"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(Envelope::parse(&bytes));
        }
    }
}
