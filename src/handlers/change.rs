//! `message:edit` and `message:delete`: by who sent the message, or by a moderator of its group.
//!
//! The event carries all that clients are shown. Its own `(epoch, seq)` is its place in the room,
//! like every event's; where the message itself stands is `messageEpoch` and `messageSeq`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::lookup::{self, Wanted};
use super::{Accepted, Context, Sender, Session, in_order, now, reply};
use crate::delivery::publish::Publishing;
use crate::events::{Envelope, Row, derived_id, random_id, validate};
use crate::server::Namespace;
use crate::store::{ConversationKind, Message, Role};
use crate::telemetry::metrics;
use crate::types::{
    Code, ConversationId, Epoch, EventId, Problem, RoomName, Seq, Timestamp, UserId,
};

/// An event in the log's queue, in its place behind what its sender sent before.
pub struct Queued {
    pub(super) pending: Publishing,
    pub(super) id: EventId,
    pub(super) room: RoomName,
}

impl Queued {
    /// The answer once the log has it.
    ///
    /// # Errors
    /// Why it could not be stored.
    pub async fn accepted(self) -> Result<Accepted, Problem> {
        Accepted::when(self.pending, self.id, Some(self.room)).await
    }
}

/// What both ask.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Which {
    message_id: EventId,
    #[serde(default)]
    conversation_id: Option<ConversationId>,
    #[serde(default)]
    client_message_id: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    content: Box<RawValue>,
}

/// The data of both events: a message, and who did what to it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Changed<'a> {
    message_id: &'a EventId,
    id: &'a EventId,
    conversation_id: &'a ConversationId,
    user_id: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a RawValue>,
    timestamp: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    edited_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<Timestamp>,
    by: &'a UserId,
    message_epoch: Epoch,
    message_seq: Seq,
}

/// One of the two, as a function of the event's payload.
#[derive(Clone, Copy)]
enum Change {
    Edit,
    Delete,
}

pub(super) fn register(namespace: &mut Namespace, context: &Arc<Context>) {
    for (name, change) in [
        ("message:edit", Change::Edit),
        ("message:delete", Change::Delete),
    ] {
        let context = Arc::clone(context);
        let received = metrics::EVENTS_RECEIVED.of([name]);
        namespace.on(name, move |socket, event| {
            received.add(1);
            let Some(session) = socket.data::<Session>() else {
                return;
            };
            let data = match reply::payload(&event) {
                Ok(data) => data,
                Err(problem) => return reply::refuse(event, &problem),
            };
            let (context, socket) = (Arc::clone(&context), socket.clone());
            in_order(
                (&socket.clone(), &session.clone()),
                event,
                move |turn| async move {
                    let sender = session.sender(&socket);
                    let queued = change_message(&context, sender, &data, change).await?;
                    turn.pass();
                    queued.accepted().await
                },
            );
        });
    }
}

/// Edits a message: `{messageId, content}`.
///
/// # Errors
/// What is wrong with the data, or that this user may not.
pub async fn edit(
    context: &Context,
    sender: Sender<'_>,
    data: &RawValue,
) -> Result<Queued, Problem> {
    change_message(context, sender, data, Change::Edit).await
}

/// Deletes a message: `{messageId}`.
///
/// # Errors
/// As [`edit`].
pub async fn delete(
    context: &Context,
    sender: Sender<'_>,
    data: &RawValue,
) -> Result<Queued, Problem> {
    change_message(context, sender, data, Change::Delete).await
}

async fn change_message(
    context: &Context,
    sender: Sender<'_>,
    data: &RawValue,
    change: Change,
) -> Result<Queued, Problem> {
    let row = context.row(match change {
        Change::Edit => "message:edit",
        Change::Delete => "message:delete",
    })?;
    let which: Which = checked(context, &row, sender, data).await?;
    let wanted = Wanted {
        id: which.message_id.clone(),
        conversation: which.conversation_id.clone(),
    };
    let message = lookup::message(context, &wanted).await?;
    let conversation = conversation(&message)?;
    context
        .directory
        .may_send(sender.identity, &message.room)
        .await?;
    may_change(context, sender.identity.user(), (&message, conversation)).await?;
    lookup::not_deleted(&message)?;
    let content = match change {
        Change::Edit => Some(read::<Content>(data)?.content),
        Change::Delete => None,
    };
    let at = now();
    let changed = Changed {
        message_id: &message.id,
        id: &message.id,
        conversation_id: conversation,
        user_id: &message.user,
        content: content.as_deref(),
        timestamp: message.at,
        edited_at: matches!(change, Change::Edit).then_some(at),
        deleted_at: matches!(change, Change::Delete).then_some(at),
        by: sender.identity.user(),
        message_epoch: message.position.epoch,
        message_seq: message.position.seq,
    };
    let envelope = Envelope {
        id: event_id(&row, sender, &which, content.as_deref()),
        kind: row.kind.to_string(),
        user_id: sender.identity.user().clone(),
        conversation_id: Some(conversation.clone()),
        timestamp: at,
        data: raw(&changed)?,
    };
    queue(context, &row, envelope)
}

/// A message is deleted once, whoever does it; an edit is the same as another when the client says so.
fn event_id(row: &Row, sender: Sender<'_>, which: &Which, content: Option<&RawValue>) -> EventId {
    let message = which.message_id.as_str();
    match (content, &which.client_message_id) {
        (None, _) => derived_id(&[&row.kind, message]),
        (Some(content), Some(client_id)) => derived_id(&[
            sender.identity.user().as_str(),
            &row.kind,
            message,
            client_id,
            content.get(),
        ]),
        (Some(_), None) => random_id(rand::random()),
    }
}

/// The data as a row wants it, from a user whose token holds and who has not sent too many.
pub(super) async fn checked<T: serde::de::DeserializeOwned>(
    context: &Context,
    row: &Row,
    sender: Sender<'_>,
    data: &RawValue,
) -> Result<T, Problem> {
    if sender.identity.is_expired(now()) {
        let message = "the token has expired; connect with a new one";
        return Err(Problem::new(Code::Unauthenticated, message));
    }
    validate(row, data)?;
    let read = read(data)?;
    // Before the message is looked for, so that guessing ids is limited too.
    context.limit(row, sender).await?;
    Ok(read)
}

fn read<T: serde::de::DeserializeOwned>(data: &RawValue) -> Result<T, Problem> {
    reply::read(data.get()).map_err(|message| Problem::new(Code::Invalid, message))
}

/// The conversation of a message.
pub(super) fn conversation(message: &Message) -> Result<&ConversationId, Problem> {
    let conversation = message.conversation.as_ref();
    conversation.ok_or_else(|| Problem::new(Code::NotFound, "there is no such message"))
}

/// Who sent it may change it, and in a group its moderators.
async fn may_change(
    context: &Context,
    user: &UserId,
    (message, conversation): (&Message, &ConversationId),
) -> Result<(), Problem> {
    if message.user == *user {
        return Ok(());
    }
    let directory = &context.directory;
    let is_group = directory
        .conversation(conversation)
        .await?
        .is_some_and(|conversation| conversation.kind == ConversationKind::Group);
    let role = directory.role(conversation, user).await?;
    if is_group && role.is_some_and(|role| role >= Role::Moderator) {
        return Ok(());
    }
    Err(Problem::new(
        Code::Forbidden,
        "only who sent a message, or a moderator of its group, may change it",
    ))
}

/// Into the log's queue.
pub(super) fn queue(context: &Context, row: &Row, envelope: Envelope) -> Result<Queued, Problem> {
    let room = row.room_of(&envelope)?;
    let pending = context.publisher.publish(row, &envelope)?;
    Ok(Queued {
        pending,
        id: envelope.id,
        room,
    })
}

/// A value as the data of an event.
pub(super) fn raw(value: &impl Serialize) -> Result<Box<RawValue>, Problem> {
    serde_json::value::to_raw_value(value)
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))
}
