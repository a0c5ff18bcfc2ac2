//! `private-message`: a message into the conversation of two, which is made when it is not there.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::change::{Queued, raw};
use super::{Accepted, Context, Sender, Session, conversation, envelope, in_order, now, reply};
use crate::server::Namespace;
use crate::telemetry::metrics;
use crate::types::{Code, ConversationId, Problem, UserId};

/// What the client asks.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    to_user_id: String,
    message: Box<RawValue>,
    #[serde(default)]
    client_message_id: Option<Box<RawValue>>,
}

/// The data of the message that it becomes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent<'a> {
    conversation_id: &'a ConversationId,
    content: &'a RawValue,
    to_user_id: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_message_id: Option<&'a RawValue>,
}

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SentPrivately {
    #[serde(flatten)]
    accepted: Accepted,
    conversation_id: ConversationId,
}

/// A private message in the log's queue.
pub struct QueuedPrivately {
    queued: Queued,
    conversation: ConversationId,
}

impl QueuedPrivately {
    /// The answer once the log has it.
    ///
    /// # Errors
    /// Why it could not be stored.
    pub async fn accepted(self) -> Result<SentPrivately, Problem> {
        Ok(SentPrivately {
            accepted: self.queued.accepted().await?,
            conversation_id: self.conversation,
        })
    }
}

const EVENT: &str = "private-message";

pub(super) fn register(namespace: &mut Namespace, context: &Arc<Context>) {
    let context = Arc::clone(context);
    let received = metrics::EVENTS_RECEIVED.of([EVENT]);
    namespace.on(EVENT, move |socket, event| {
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
                let queued = send(&context, session.sender(&socket), &data).await?;
                turn.pass();
                queued.accepted().await
            },
        );
    });
}

/// Sends a private message: `{toUserId, message, clientMessageId?}`.
///
/// # Errors
/// What is wrong with the data, or that this user sends too much.
pub async fn send(
    context: &Context,
    sender: Sender<'_>,
    data: &RawValue,
) -> Result<QueuedPrivately, Problem> {
    let request: Request =
        reply::read(data.get()).map_err(|message| Problem::new(Code::Invalid, message))?;
    let to = UserId::parse(&request.to_user_id)
        .map_err(|error| Problem::field("toUserId", error.to_string()))?;
    let from = sender.identity.user();
    if to == *from {
        let message = "a private message goes to somebody else";
        return Err(Problem::field("toUserId", message));
    }
    let row = context.row("message:send")?;
    let id = conversation::direct_id(from, &to);
    let sent = Sent {
        conversation_id: &id,
        content: &request.message,
        to_user_id: &to,
        client_message_id: request.client_message_id.as_deref(),
    };
    // Formed first: what is refused makes no conversation.
    let (mut formed, _) = envelope(&row, sender.identity, raw(&sent)?).map_err(as_sent)?;
    context.limit(&row, sender).await?;
    let (direct, _) = conversation::direct(context, from, &to, now()).await?;
    if direct.id != id {
        // Made under another id, by a service that chose one.
        let sent = Sent {
            conversation_id: &direct.id,
            ..sent
        };
        (formed, _) = envelope(&row, sender.identity, raw(&sent)?)?;
    }
    let queued = super::change::queue(context, &row, formed)?;
    Ok(QueuedPrivately {
        queued,
        conversation: direct.id,
    })
}

/// The same, for a client that calls the text `content`.
#[must_use]
pub fn as_content(mut problem: Problem) -> Problem {
    if problem.field.as_deref() == Some("message") {
        problem.field = Some("content".to_owned());
        problem.message = problem.message.replacen("message", "content", 1);
    }
    problem
}

/// What is wrong, by the names that the client used.
fn as_sent(mut problem: Problem) -> Problem {
    if problem.field.as_deref() == Some("content") {
        problem.field = Some("message".to_owned());
        problem.message = problem.message.replacen("content", "message", 1);
    }
    problem
}
