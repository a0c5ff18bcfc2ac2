//! A message that a client names by its id.

use super::Context;
use crate::delivery::whereabouts;
use crate::store::Message;
use crate::types::{Code, ConversationId, EventId, Problem};

/// Which message.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Its id.
    pub(super) id: EventId,
    /// Where it is, if the client said so: found sooner then, when it was just sent elsewhere.
    pub(super) conversation: Option<ConversationId>,
}

/// The message as it is at this moment, deleted or not.
///
/// # Errors
/// `not_found`, or that a store does not answer.
pub(super) async fn message(context: &Context, wanted: &Wanted) -> Result<Message, Problem> {
    let conversation = wanted.conversation.as_ref();
    let room = conversation.map(|id| super::conversation_room(id.as_str()));
    let room = room.transpose()?;
    let mut found = context.history.message(&wanted.id, room.as_ref()).await?;
    if found.is_none()
        && let Some(room) = whereabouts::elsewhere(&wanted.id).await
    {
        found = context.history.message_of(&wanted.id, &room).await?;
    }
    found.ok_or_else(|| Problem::new(Code::NotFound, "there is no such message"))
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
