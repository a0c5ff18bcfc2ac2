//! What clients see of an event.
//!
//! Live frames, events missed at a join and history over REST all come from here, so the same event
//! is the same bytes wherever it is read. Which members a view has, and in which order, is the
//! row's `view`.

use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::events::catalogue::{Catalogue, Member, Row};
use crate::events::envelope::Envelope;
use crate::events::object::pick;
use crate::types::Position;

/// An event as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The server event's name, for example `message:new`.
    pub event: Arc<str>,
    /// Its one argument.
    pub json: String,
}

/// Why an event cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The catalogue has no such type.
    #[error("event type {0:?} is not in the catalogue")]
    UnknownType(String),
    /// The type has no server event.
    #[error("event type {0:?} is not shown to clients")]
    Hidden(String),
    /// The data is not what the type says.
    #[error("the data of {kind:?} is {reason}")]
    Data {
        /// The type.
        kind: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A durable event, in its place.
pub fn view(
    catalogue: &Catalogue,
    envelope: &Envelope,
    position: Position,
) -> Result<View, ViewError> {
    let kind = &envelope.kind;
    let row = catalogue
        .by_type(kind)
        .ok_or_else(|| ViewError::UnknownType(kind.clone()))?;
    build(row, envelope, Some(position))
}

/// An ephemeral event, which has no place.
pub fn view_ephemeral(row: &Row, envelope: &Envelope) -> Result<View, ViewError> {
    build(row, envelope, None)
}

fn build(row: &Row, envelope: &Envelope, position: Option<Position>) -> Result<View, ViewError> {
    let kind = &envelope.kind;
    let event = row
        .server
        .clone()
        .ok_or_else(|| ViewError::Hidden(kind.clone()))?;
    let data = data(row, envelope).map_err(|reason| ViewError::Data {
        kind: kind.clone(),
        reason,
    })?;
    let shown = Shown {
        row,
        envelope,
        position,
        data,
    };
    let json = serde_json::to_string(&shown).expect("its members are strings and valid JSON");
    Ok(View { event, json })
}

/// The members that the view takes from the data, in the row's order.
fn data<'a>(row: &Row, envelope: &'a Envelope) -> Result<Vec<Option<&'a RawValue>>, String> {
    let names = &row.data_members;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let data = pick(envelope.data.get(), names).map_err(|error| error.to_string())?;
    for (name, value) in names.iter().zip(&data) {
        if value.is_none() && row.schema.requires(name) {
            return Err(format!("without `{name}`"));
        }
    }
    Ok(data)
}

struct Shown<'a> {
    row: &'a Row,
    envelope: &'a Envelope,
    position: Option<Position>,
    data: Vec<Option<&'a RawValue>>,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let envelope = self.envelope;
        let mut data = self.data.iter().zip(&self.row.data_members);
        let mut map = serializer.serialize_map(None)?;
        for member in &self.row.view {
            match member {
                Member::Id => map.serialize_entry("id", &envelope.id)?,
                Member::Kind => map.serialize_entry("type", &envelope.kind)?,
                Member::UserId => map.serialize_entry("userId", &envelope.user_id)?,
                Member::Timestamp => map.serialize_entry("timestamp", &envelope.timestamp)?,
                Member::Data => map.serialize_entry("data", &envelope.data)?,
                Member::ConversationId => {
                    if let Some(id) = &envelope.conversation_id {
                        map.serialize_entry("conversationId", id)?;
                    }
                }
                Member::Epoch => {
                    if let Some(position) = self.position {
                        map.serialize_entry("epoch", &position.epoch)?;
                    }
                }
                Member::Seq => {
                    if let Some(position) = self.position {
                        map.serialize_entry("seq", &position.seq)?;
                    }
                }
                Member::OfData => {
                    if let Some((Some(value), name)) = data.next() {
                        map.serialize_entry(name, value)?;
                    }
                }
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Epoch, Seq};

    fn envelope(kind: &str, data: &str) -> Envelope {
        let json = format!(
            r#"{{"id":"e1","type":"{kind}","userId":"a\"nn","conversationId":"42","timestamp":"2026-01-31T12:00:00Z","data":{data}}}"#
        );
        Envelope::parse(json.as_bytes()).unwrap()
    }

    const AT: Position = Position {
        epoch: Epoch(2),
        seq: Seq(7),
    };

    #[test]
    fn a_message_has_the_shape_clients_know() {
        let message = envelope(
            "MESSAGE_SENT",
            r#"{"clientMessageId":"1","content":"h\u00e9 \"x\"","conversationId":"42"}"#,
        );
        let view = view(&Catalogue::builtin(), &message, AT).unwrap();
        assert_eq!(&*view.event, "message:new");
        assert_eq!(
            view.json,
            r#"{"id":"e1","conversationId":"42","userId":"a\"nn","content":"h\u00e9 \"x\"","timestamp":"2026-01-31T12:00:00.000Z","epoch":2,"seq":7}"#
        );
    }

    #[test]
    fn typing_says_who_and_where_and_nothing_else() {
        let typing = envelope("TYPING_START", r#"{"conversationId":"42"}"#);
        let view = view_ephemeral(
            Catalogue::builtin().by_type("TYPING_START").unwrap(),
            &typing,
        )
        .unwrap();
        assert_eq!(&*view.event, "typing:start");
        assert_eq!(view.json, r#"{"conversationId":"42","userId":"a\"nn"}"#);
    }

    #[test]
    fn a_row_that_names_no_view_shows_the_envelope_in_its_place() {
        let catalogue = Catalogue::parse(
            "[[event]]\ntype = \"X\"\ntopic = \"t\"\nroom = \"r\"\nserver = \"x\"\n\
             [[event]]\ntype = \"Y\"\ntopic = \"t\"",
        )
        .unwrap();
        let shown = view(&catalogue, &envelope("X", "[1, 2]"), AT).unwrap();
        assert_eq!(
            shown.json,
            r#"{"id":"e1","type":"X","userId":"a\"nn","conversationId":"42","timestamp":"2026-01-31T12:00:00.000Z","data":[1, 2],"epoch":2,"seq":7}"#
        );
        let hidden = view(&catalogue, &envelope("Y", "1"), AT).unwrap_err();
        assert_eq!(hidden, ViewError::Hidden("Y".to_owned()));
        let unknown = view(&catalogue, &envelope("Z", "1"), AT).unwrap_err();
        assert_eq!(unknown, ViewError::UnknownType("Z".to_owned()));
    }

    #[test]
    fn data_that_is_not_what_the_type_says_is_an_error_not_a_hole() {
        for data in [
            "[]",
            "{}",
            r#"{"content":null}"#,
            r#"{"content":"a","content":"b"}"#,
        ] {
            let wrong = view(&Catalogue::builtin(), &envelope("MESSAGE_SENT", data), AT);
            assert!(matches!(wrong, Err(ViewError::Data { .. })), "{wrong:?}");
        }
    }
}
