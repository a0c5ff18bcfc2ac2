//! What a record of the log is, and so where it goes. Decided by its bytes and the catalogue alone,
//! so that it is decided the same way again after a crash.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::cluster::bus::Ephemeral;
use crate::eventlog::Record;
use crate::events::{Catalogue, Durability, Envelope, view_ephemeral};
use crate::types::{EventId, RoomName};

/// Where a record goes.
#[derive(Debug)]
pub(super) enum Route {
    /// Into a room's timeline.
    Timeline { room: RoomName, id: EventId },
    /// To whoever is in the room now, without a place.
    Members(Arc<Ephemeral>),
    /// Nowhere: only other consumers of the log read it.
    Nowhere,
    /// It can never be applied.
    Dead(Fault),
}

/// Why a record can never be applied.
#[derive(Debug)]
pub(super) struct Fault {
    /// From a short list, for operators to search by.
    pub(super) class: &'static str,
    pub(super) message: String,
    pub(super) id: Option<EventId>,
}

/// Decides where a record goes.
pub(super) fn route(catalogue: &Catalogue, record: &Record) -> Route {
    if record.value.len() > PAYLOAD_BYTES_MAX {
        let message = format!(
            "event is {} bytes, the limit is {PAYLOAD_BYTES_MAX}",
            record.value.len()
        );
        return Route::Dead(Fault {
            class: "too_large",
            message,
            id: None,
        });
    }
    let envelope = match Envelope::parse(&record.value) {
        Ok(envelope) => envelope,
        Err(error) => {
            return Route::Dead(Fault {
                class: "undecodable",
                message: error.to_string(),
                id: None,
            });
        }
    };
    let dead = |class, message| {
        Route::Dead(Fault {
            class,
            message,
            id: Some(envelope.id.clone()),
        })
    };
    let Some(row) = catalogue.by_type(&envelope.kind) else {
        return dead(
            "unknown_type",
            format!("event type {:?} is not known", envelope.kind),
        );
    };
    // An ephemeral event was shown already; the log has a copy for its other consumers.
    let is_copy = row.durability == Durability::Ephemeral;
    if is_copy || row.room.is_none() || (!row.is_in_timeline && row.server.is_none()) {
        return Route::Nowhere;
    }
    let room = match row.room_of(&envelope) {
        Ok(room) => room,
        Err(problem) => return dead("unknown_room", problem.message),
    };
    if row.is_in_timeline {
        return Route::Timeline {
            room,
            id: envelope.id,
        };
    }
    let view = view_ephemeral(row, &envelope);
    match view.and_then(|view| Ok((view.event, raw(&envelope.kind, view.json)?))) {
        Ok((event, data)) => Route::Members(Arc::new(Ephemeral {
            room,
            event,
            data,
            except: None,
        })),
        Err(error) => dead("not_shown", error.to_string()),
    }
}

fn raw(kind: &str, json: String) -> Result<Box<RawValue>, crate::events::ViewError> {
    RawValue::from_string(json).map_err(|error| crate::events::ViewError::Data {
        kind: kind.to_owned(),
        reason: error.to_string(),
    })
}

/// With the rest of its entry it still fits into a record of topic `timeline`.
const PAYLOAD_BYTES_MAX: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::Timestamp;

    fn routed(value: &str) -> Route {
        let record = Record {
            topic: Arc::from("messages"),
            partition: 0,
            offset: 0,
            key: Arc::from("ann"),
            value: Bytes::from(value.to_owned()),
            at: Timestamp::default(),
            headers: crate::eventlog::Headers::default(),
        };
        route(&Catalogue::builtin(), &record)
    }

    const SENT: &str = r#"{"id":"e1","type":"MESSAGE_SENT","userId":"ann","conversationId":"42","timestamp":"2026-01-31T12:00:00.000Z","data":{"content":"hi"}}"#;

    #[test]
    fn an_event_goes_to_its_rooms_timeline() {
        let Route::Timeline { room, id } = routed(SENT) else {
            panic!("has a room")
        };
        assert_eq!((room.as_str(), id.as_str()), ("conversation:42", "e1"));
    }

    #[test]
    fn what_can_never_be_applied_is_named() {
        let huge = SENT.replace("hi", &"x".repeat(3 << 20));
        let cases = [
            ("not JSON".to_owned(), "undecodable"),
            (SENT.replace("MESSAGE_SENT", "NO_SUCH_TYPE"), "unknown_type"),
            (
                SENT.replace(r#""conversationId":"42","#, ""),
                "unknown_room",
            ),
            (
                SENT.replace("\"42\"", &format!("\"{}\"", "x".repeat(128))),
                "timeline",
            ),
            (huge, "too_large"),
        ];
        for (value, class) in cases {
            match routed(&value) {
                Route::Dead(fault) => assert_eq!(fault.class, class),
                other => assert_eq!(class, "timeline", "{other:?}"),
            }
        }
    }
}
