//! Makes an envelope of what a client sent.

use serde_json::value::RawValue;

use crate::events::catalogue::Row;
use crate::events::envelope::Envelope;
use crate::events::id::{derived_id, random_id};
use crate::events::object::{pick, text};
use crate::events::validate::validate;
use crate::types::{Code, ConversationId, Problem, RoomName, Timestamp, UserId};

/// Who sends, and what only the caller can give.
#[derive(Debug, Clone)]
pub struct Author {
    /// The sender, as the token says.
    pub user: UserId,
    /// Now.
    pub at: Timestamp,
    /// 16 random bytes: the id of an event that has no client's id.
    pub random: [u8; 16],
}

/// Checks an event's data and forms its envelope, and the room it goes to if it goes to one.
///
/// `conversationId` and `clientMessageId` are taken from the data where the row's schema has them.
/// Whether the sender may send there is the caller's question.
pub fn form(
    row: &Row,
    author: Author,
    data: Box<RawValue>,
) -> Result<(Envelope, Option<RoomName>), Problem> {
    validate(row, &data)?;
    let (conversation_id, client_id) = ids(row, &data)?;
    let mut envelope = Envelope {
        id: random_id(author.random),
        kind: row.kind.to_string(),
        user_id: author.user,
        conversation_id,
        timestamp: author.at,
        data,
    };
    let room = row
        .room
        .is_some()
        .then(|| row.room_of(&envelope))
        .transpose()?;
    if let Some(client_id) = client_id {
        let data = canonical(&envelope.data);
        envelope.id = derived_id(&[
            envelope.user_id.as_str(),
            room.as_ref().map_or("", RoomName::as_str),
            &envelope.kind,
            &client_id,
            &data,
        ]);
    }
    Ok((envelope, room))
}

/// The data with its members in one order and nothing between them: a retry is the same event
/// whichever way and library wrote it.
fn canonical(data: &RawValue) -> String {
    match serde_json::from_str::<serde_json::Value>(data.get()) {
        Ok(value) => value.to_string(),
        Err(_) => data.get().to_owned(),
    }
}

fn ids(row: &Row, data: &RawValue) -> Result<(Option<ConversationId>, Option<String>), Problem> {
    const NAMES: [&str; 2] = ["conversationId", "clientMessageId"];
    let members =
        pick(data.get(), &NAMES).map_err(|error| Problem::new(Code::Invalid, error.to_string()))?;
    let mut found = NAMES.iter().zip(members).map(|(name, member)| {
        member
            .filter(|_| row.schema.names(name))
            .and_then(text)
            .map(|text| text.into_owned())
    });
    let (conversation, client_id) = (found.next().flatten(), found.next().flatten());
    let conversation = conversation
        .map(|id| ConversationId::parse(&id))
        .transpose()
        .map_err(|error| Problem::field("conversationId", error.to_string()))?;
    Ok((conversation, client_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Catalogue;

    fn send(data: &str, random: u8) -> Result<(Envelope, Option<RoomName>), Problem> {
        let catalogue = Catalogue::builtin();
        let author = Author {
            user: UserId::parse("ann").unwrap(),
            at: Timestamp::from_millis(0),
            random: [random; 16],
        };
        let data = RawValue::from_string(data.to_owned()).unwrap();
        form(catalogue.by_client("message:send").unwrap(), author, data)
    }

    #[test]
    fn a_message_becomes_an_envelope_for_its_room() {
        let (envelope, room) = send(r#"{"conversationId":"42","content":"hi"}"#, 0).unwrap();
        assert_eq!(room.unwrap().as_str(), "conversation:42");
        assert_eq!(
            envelope.to_json(),
            r#"{"id":"AAAAAAAAAAAAAAAAAAAAAA","type":"MESSAGE_SENT","userId":"ann","conversationId":"42","timestamp":"1970-01-01T00:00:00.000Z","data":{"conversationId":"42","content":"hi"}}"#
        );
    }

    #[test]
    fn a_retry_has_the_same_id_and_anything_else_another() {
        let id = |data: &str, random| send(data, random).unwrap().0.id;
        let data = r#"{"conversationId":"42","content":"hi","clientMessageId":"1"}"#;
        assert_eq!(id(data, 0), id(data, 1));
        assert_ne!(id(data, 0), id(&data.replace("hi", "ho"), 0));
        assert_ne!(id(data, 0), id(&data.replace("42", "43"), 0));
        let anonymous = r#"{"conversationId":"42","content":"hi"}"#;
        assert_ne!(id(anonymous, 0), id(anonymous, 1));
    }

    #[test]
    fn what_is_wrong_is_told_by_field() {
        assert_eq!(send("{}", 0).unwrap_err().field.as_deref(), Some("content"));
        let long = format!(
            r#"{{"conversationId":"1","content":"x","clientMessageId":"{}"}}"#,
            "x".repeat(129)
        );
        assert_eq!(
            send(&long, 0).unwrap_err().field.as_deref(),
            Some("clientMessageId")
        );
    }
}
