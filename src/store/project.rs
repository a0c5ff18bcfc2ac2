//! From an ordered event to what it changes in the store: pure, and the same however often and in
//! whichever order it is done.
//!
//! The archiver runs these statements in the transaction that archives the event. Every one of them
//! compares places, never times of arrival: the event in the latest place wins, except that a
//! message stays deleted.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::conversations::cursor;
use super::row::args;
use crate::archive::Row;
use crate::backend::statement::Statement;
use crate::events::{self, Catalogue, Envelope};
use crate::types::{ConversationId, EventId, Position, Seq};

/// The statements that bring the store up to an event. `row` is the catalogue's row of its type.
#[must_use]
pub fn statements(row: Option<&events::Row>, event: &Row) -> Vec<Statement> {
    let mut statements: Vec<Statement> = statement(event).into_iter().collect();
    // What goes to many, an announcement, is nobody's own.
    let is_own = event.room.as_str().starts_with("user:");
    if is_own && row.is_some_and(|row| row.server.as_deref() == Some(NOTIFICATION)) {
        statements.extend(notification(event));
    }
    statements
}

/// The same for events that are archived together. Of the messages of a conversation only the
/// newest says when it was active last.
#[must_use]
pub fn batch(catalogue: &Catalogue, events: &[Row]) -> Vec<Statement> {
    let mut newest: BTreeMap<&str, Position> = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind == MESSAGE) {
        let top = newest.entry(event.room.as_str()).or_default();
        *top = (*top).max(event.position);
    }
    let is_outdone = |event: &&Row| {
        event.kind == MESSAGE && newest.get(event.room.as_str()) != Some(&event.position)
    };
    let counts = events.iter().filter(|event| !is_outdone(event));
    counts
        .flat_map(|event| statements(catalogue.by_type(&event.kind).map(|row| &**row), event))
        .collect()
}

const MESSAGE: &str = "MESSAGE_SENT";
const NOTIFICATION: &str = "notification:new";

/// What the events that are projected say.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    message_id: Option<EventId>,
    content: Option<Box<RawValue>>,
    emoji: Option<String>,
    up_to: Option<Seq>,
}

fn statement(event: &Row) -> Option<Statement> {
    if event.kind == MESSAGE {
        return active(event);
    }
    let is_projected = [
        "MESSAGE_EDITED",
        "MESSAGE_DELETED",
        "MESSAGE_READ",
        "REACTION_ADDED",
        "REACTION_REMOVED",
    ];
    if !is_projected.contains(&event.kind.as_str()) {
        return None;
    }
    let envelope = Envelope::parse(event.payload.as_bytes()).ok()?;
    let data: Data = serde_json::from_str(envelope.data.get()).ok()?;
    match event.kind.as_str() {
        "MESSAGE_EDITED" => Some(edited(event, &data.message_id?, &data.content?)),
        "MESSAGE_DELETED" => Some(deleted(event, &data.message_id?)),
        "MESSAGE_READ" => read(event, data.up_to?),
        kind => {
            let is_on = kind == "REACTION_ADDED";
            Some(reacted(event, &data.message_id?, &data.emoji?, is_on))
        }
    }
}

fn active(event: &Row) -> Option<Statement> {
    let conversation = conversation(event)?;
    let Position { epoch, seq } = event.position;
    let args = args![&conversation, epoch.0, seq.0, event.at];
    Some(Statement::new(ACTIVE, args))
}

fn edited(event: &Row, message: &EventId, content: &RawValue) -> Statement {
    let Position { epoch, seq } = event.position;
    let args = args![
        message,
        &event.room,
        content.get(),
        epoch.0,
        seq.0,
        event.at
    ];
    Statement::new(EDITED, args)
}

fn deleted(event: &Row, message: &EventId) -> Statement {
    let Position { epoch, seq } = event.position;
    let args = args![message, &event.room, epoch.0, seq.0, event.at];
    Statement::new(DELETED, args)
}

/// A cursor that would stand beyond its own event is a mistake: it must not hide what comes.
fn read(event: &Row, up_to: Seq) -> Option<Statement> {
    let position = Position {
        epoch: event.position.epoch,
        seq: up_to.min(event.position.seq),
    };
    let conversation = conversation(event)?;
    Some(cursor(&conversation, &event.user_id, position, event.at))
}

fn reacted(event: &Row, message: &EventId, emoji: &str, is_on: bool) -> Statement {
    let Position { epoch, seq } = event.position;
    let args = args![
        message,
        emoji,
        &event.user_id,
        is_on,
        event.at,
        epoch.0,
        seq.0,
    ];
    Statement::new(REACTED, args)
}

fn notification(event: &Row) -> Option<Statement> {
    let envelope = Envelope::parse(event.payload.as_bytes()).ok()?;
    let Position { epoch, seq } = event.position;
    let args = args![
        &event.user_id,
        &event.id,
        event.kind.as_str(),
        envelope.data.get(),
        event.at,
        epoch.0,
        seq.0,
    ];
    Some(Statement::new(NOTIFIED, args))
}

fn conversation(event: &Row) -> Option<ConversationId> {
    let id = event.room.as_str().strip_prefix("conversation:")?;
    ConversationId::parse(id).ok()
}

const ACTIVE: &str = "
    INSERT INTO conversation_activity (conversation, epoch, seq, at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (conversation) DO UPDATE SET
        epoch = excluded.epoch, seq = excluded.seq, at = excluded.at
    WHERE (excluded.epoch, excluded.seq)
        > (conversation_activity.epoch, conversation_activity.seq)";
const EDITED: &str = "
    INSERT INTO message_state
        (message_id, room, content, edited_epoch, edited_seq, edited_at,
        deleted_epoch, deleted_seq)
    VALUES ($1, $2, $3, $4, $5, $6, 0, 0)
    ON CONFLICT (message_id, room) DO UPDATE SET
        content = CASE WHEN message_state.deleted_at IS NULL THEN excluded.content END,
        edited_epoch = excluded.edited_epoch, edited_seq = excluded.edited_seq,
        edited_at = excluded.edited_at
    WHERE (excluded.edited_epoch, excluded.edited_seq)
        > (message_state.edited_epoch, message_state.edited_seq)";
const DELETED: &str = "
    INSERT INTO message_state
        (message_id, room, edited_epoch, edited_seq, deleted_epoch, deleted_seq, deleted_at)
    VALUES ($1, $2, 0, 0, $3, $4, $5)
    ON CONFLICT (message_id, room) DO UPDATE SET
        content = NULL,
        deleted_epoch = excluded.deleted_epoch, deleted_seq = excluded.deleted_seq,
        deleted_at = excluded.deleted_at
    WHERE message_state.deleted_at IS NULL
        OR (excluded.deleted_epoch, excluded.deleted_seq)
            < (message_state.deleted_epoch, message_state.deleted_seq)";
/// An event older than what was asked for since is not heard: what was asked has its own event.
const REACTED: &str = "
    INSERT INTO reaction (message_id, emoji, user_id, is_on, at, epoch, seq, asked_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, 0)
    ON CONFLICT (message_id, emoji, user_id) DO UPDATE SET
        is_on = excluded.is_on, at = excluded.at, epoch = excluded.epoch, seq = excluded.seq
    WHERE (excluded.epoch, excluded.seq) > (reaction.epoch, reaction.seq)
        AND excluded.at >= reaction.asked_at";
const NOTIFIED: &str = "
    INSERT INTO notification (user_id, event_id, kind, data, at, epoch, seq)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (user_id, event_id) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq
    WHERE (excluded.epoch, excluded.seq) > (notification.epoch, notification.seq)";
