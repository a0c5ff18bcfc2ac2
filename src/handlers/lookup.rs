//! Finds a message by its id, as it is at this moment.
//!
//! The store follows the archive by moments, so a message that was just sent, and what just became
//! of one, may be in the room's timeline only. A client that says in which conversation the message
//! is gets it from there at once; without that the store is asked again for a while.

use std::time::Duration;

use memchr::memmem;

use super::Context;
use crate::events::Envelope;
use crate::store::Message;
use crate::timeline::Entry;
use crate::types::{
    Code, ConversationId, Epoch, EventId, Position, Problem, RoomName, ShardPosition, ShardSeq,
};

/// Which message.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Its id.
    pub(super) id: EventId,
    /// Where it is, if the client said so.
    pub(super) conversation: Option<ConversationId>,
}

/// How long the store is waited for, each step. The archive is behind by less on a node that keeps
/// up; an id that nobody has is told after all of them.
const WAITS: [Duration; 6] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(160),
    Duration::from_millis(320),
];

/// Everything that the shard has.
const NOW: ShardPosition = ShardPosition {
    epoch: Epoch(u64::MAX),
    shard_seq: ShardSeq(u64::MAX),
};

const SENT: &str = "MESSAGE_SENT";
const EDITED: &str = "MESSAGE_EDITED";
const DELETED: &str = "MESSAGE_DELETED";

/// The message, deleted or not.
///
/// # Errors
/// `not_found`, or that a store does not answer.
pub(super) async fn message(context: &Context, wanted: &Wanted) -> Result<Message, Problem> {
    if let Some(conversation) = &wanted.conversation {
        let room = super::conversation_room(conversation.as_str())?;
        let entries = recent(context, &room, Position::default()).await?;
        let sent = entries.iter().rposition(|entry| entry.id == wanted.id);
        if let Some(sent) = sent.and_then(|at| Some((at, as_sent(&entries[at])?))) {
            let (at, mut message) = sent;
            fold(&mut message, &entries[at + 1..]);
            return Ok(message);
        }
    }
    let mut message = stored(context, wanted).await?;
    let entries = recent(context, &message.room, message.position).await?;
    fold(&mut message, &entries);
    Ok(message)
}

async fn stored(context: &Context, wanted: &Wanted) -> Result<Message, Problem> {
    let mut waits = WAITS.iter();
    loop {
        if let Some(message) = context.store.message(&wanted.id).await? {
            return Ok(message);
        }
        let Some(wait) = waits.next() else {
            return Err(Problem::new(Code::NotFound, "there is no such message"));
        };
        tokio::time::sleep(*wait).await;
    }
}

async fn recent(
    context: &Context,
    room: &RoomName,
    after: Position,
) -> Result<Vec<std::sync::Arc<Entry>>, Problem> {
    let range = context.timeline.range(room, after, NOW, usize::MAX).await;
    range.map(|range| range.entries).map_err(|error| {
        tracing::debug!(%error, "a timeline did not answer");
        Problem::new(Code::Unavailable, "the room cannot be read now; try again")
            .retry_after(Duration::from_secs(1))
    })
}

fn as_sent(entry: &Entry) -> Option<Message> {
    let envelope = Envelope::parse(&entry.payload).ok()?;
    (envelope.kind == SENT).then(|| Message {
        id: envelope.id,
        room: entry.room.clone(),
        position: entry.position(),
        user: envelope.user_id,
        conversation: envelope.conversation_id,
        at: envelope.timestamp,
        content: None,
        edited_at: None,
        deleted_at: None,
    })
}

/// Does to a message what later events of its room say. Doing it twice changes nothing.
fn fold(message: &mut Message, later: &[std::sync::Arc<Entry>]) {
    let id = memmem::Finder::new(message.id.as_str().as_bytes());
    // Most entries are about other messages, which is told without reading them.
    for entry in later.iter().filter(|e| id.find(&e.payload).is_some()) {
        let Ok(envelope) = Envelope::parse(&entry.payload) else {
            continue;
        };
        let Ok(change) = serde_json::from_str::<Change>(envelope.data.get()) else {
            continue;
        };
        if change.message_id != message.id {
            continue;
        }
        match envelope.kind.as_str() {
            EDITED => message.edited_at = Some(envelope.timestamp),
            DELETED => message.deleted_at = Some(envelope.timestamp),
            _ => {}
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    message_id: EventId,
}

/// A refusal for what cannot be done to a deleted message.
///
/// # Errors
/// `conflict` when it was deleted.
pub(super) fn not_deleted(message: &Message) -> Result<(), Problem> {
    match message.deleted_at {
        None => Ok(()),
        Some(at) => Err(Problem::new(
            Code::Conflict,
            format!("the message was deleted at {at}"),
        )),
    }
}
