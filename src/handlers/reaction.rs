//! `reaction:add` and `reaction:remove`.
//!
//! The store counts first, then the event carries the count. Both happen under one lock for each
//! message, so that the counts in the log rise and fall in the order in which they were made.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{Mutex, MutexGuard};

use super::change::{Queued, checked, conversation, queue, raw};
use super::lookup::{self, Wanted};
use super::{Accepted, Context, Sender, Session, in_order, now, reply};
use crate::events::{Envelope, random_id};
use crate::server::Namespace;
use crate::store::Reaction;
use crate::telemetry::metrics;
use crate::types::{ConversationId, EventId, Problem, UserId};

/// Added or taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reacting {
    /// `reaction:add`.
    Add,
    /// `reaction:remove`.
    Remove,
}

/// What the client asks.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    message_id: EventId,
    emoji: String,
    #[serde(default)]
    conversation_id: Option<ConversationId>,
}

/// The event's data.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reacted<'a> {
    message_id: &'a EventId,
    conversation_id: &'a ConversationId,
    user_id: &'a UserId,
    emoji: &'a str,
    count: u64,
}

/// The answer.
#[derive(Serialize)]
pub struct Counted {
    #[serde(flatten)]
    accepted: Accepted,
    count: u64,
}

/// A reaction that was counted and is in the log's queue.
pub struct QueuedReaction {
    queued: Queued,
    count: u64,
}

impl QueuedReaction {
    /// The answer once the log has it.
    ///
    /// # Errors
    /// Why it could not be stored.
    pub async fn accepted(self) -> Result<Counted, Problem> {
        Ok(Counted {
            accepted: self.queued.accepted().await?,
            count: self.count,
        })
    }
}

/// One writer at a time for each message: a few locks that messages share, found by hash.
#[derive(Debug, Clone)]
pub struct Turns(Arc<(RandomState, Vec<Mutex<()>>)>);

/// More than there are reactions on their way to the store at once.
const LOCKS: usize = 256;
/// An emoji with its modifiers and joiners.
const EMOJI_BYTES_MAX: usize = 32;

impl Default for Turns {
    fn default() -> Self {
        let locks = (0..LOCKS).map(|_| Mutex::new(())).collect();
        Self(Arc::new((RandomState::new(), locks)))
    }
}

impl Turns {
    async fn of(&self, message: &EventId) -> MutexGuard<'_, ()> {
        let (hasher, locks) = &*self.0;
        let hash = usize::try_from(hasher.hash_one(message) % LOCKS as u64).unwrap_or(0);
        locks[hash].lock().await
    }
}

pub(super) fn register(namespace: &mut Namespace, context: &Arc<Context>) {
    for (name, reacting) in [
        ("reaction:add", Reacting::Add),
        ("reaction:remove", Reacting::Remove),
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
                    let queued = react(&context, sender, &data, reacting).await?;
                    turn.pass();
                    queued.accepted().await
                },
            );
        });
    }
}

/// Adds a reaction or takes it back: `{messageId, emoji}`.
///
/// # Errors
/// What is wrong with the data, or that this user may not.
pub async fn react(
    context: &Context,
    sender: Sender<'_>,
    data: &RawValue,
    reacting: Reacting,
) -> Result<QueuedReaction, Problem> {
    let row = context.row(match reacting {
        Reacting::Add => "reaction:add",
        Reacting::Remove => "reaction:remove",
    })?;
    let request: Request = checked(context, &row, sender, data).await?;
    emoji(&request.emoji)?;
    let wanted = Wanted {
        id: request.message_id,
        conversation: request.conversation_id,
    };
    let message = lookup::message(context, &wanted).await?;
    let conversation = conversation(&message)?;
    let user = sender.identity.user();
    context
        .directory
        .may_send(sender.identity, &message.room)
        .await?;
    lookup::not_deleted(&message)?;
    let _turn = context.turns.of(&message.id).await;
    let (store, at) = (&context.store, now());
    let count = match reacting {
        Reacting::Add => store.react(&message.id, user, &request.emoji, at).await?,
        Reacting::Remove => store.unreact(&message.id, user, &request.emoji, at).await?,
    };
    let reacted = Reacted {
        message_id: &message.id,
        conversation_id: conversation,
        user_id: user,
        emoji: &request.emoji,
        count,
    };
    // Not derived: added, taken back and added again are three events.
    let envelope = Envelope {
        id: random_id(rand::random()),
        kind: row.kind.to_string(),
        user_id: user.clone(),
        conversation_id: Some(conversation.clone()),
        timestamp: at,
        data: raw(&reacted)?,
    };
    let queued = queue(context, &row, envelope)?;
    Ok(QueuedReaction { queued, count })
}

/// What was reacted to a message, by who may read its conversation.
///
/// # Errors
/// `not_found`, or that this user may not.
pub async fn of(
    context: &Context,
    sender: Sender<'_>,
    message: EventId,
) -> Result<Vec<Reaction>, Problem> {
    let wanted = Wanted {
        id: message,
        conversation: None,
    };
    let message = lookup::message(context, &wanted).await?;
    context
        .directory
        .may_join(sender.identity, &message.room)
        .await?;
    Ok(context.store.reactions(&[message.id]).await?)
}

fn emoji(text: &str) -> Result<(), Problem> {
    let is_good = (1..=EMOJI_BYTES_MAX).contains(&text.len())
        && !text.chars().any(|c| c.is_control() || c.is_whitespace());
    if is_good {
        return Ok(());
    }
    let message = format!("emoji is 1 to {EMOJI_BYTES_MAX} bytes without spaces");
    Err(Problem::field("emoji", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emoji_is_short_and_visible() {
        for good in ["👍", "👩‍👩‍👧‍👦", "❤️", ":+1:", "ok"] {
            assert!(emoji(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "\n", &"x".repeat(33)] {
            assert_eq!(emoji(bad).unwrap_err().field.as_deref(), Some("emoji"));
        }
    }

    #[tokio::test]
    async fn one_message_has_one_turn_at_a_time() {
        let turns = Turns::default();
        let message = EventId::parse("m").unwrap();
        let held = turns.of(&message).await;
        let second = tokio::time::timeout(std::time::Duration::ZERO, turns.of(&message));
        assert!(second.await.is_err());
        drop(held);
        drop(turns.of(&message).await);
    }
}
