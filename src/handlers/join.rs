//! `join:conversation`: into the room at a known position, with what was missed since another.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Context, Session, now, reply, returns};
use crate::cluster::recovery::Joined as Place;
use crate::delivery::fanout::{Attached, rooms_counted};
use crate::delivery::history::{Missed, Shown};
use crate::server::{Ack, Event, Json, Namespace, Socket};
use crate::telemetry::metrics;
use crate::types::{Code, Epoch, Position, Problem, RoomName, Seq, ShardId, ShardPosition};

/// What the client asks.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    conversation_id: String,
    #[serde(default)]
    after: Option<Box<RawValue>>,
}

/// What it is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Joined<'a> {
    ok: bool,
    room: &'a RoomName,
    epoch: Epoch,
    seq: Seq,
    missed: &'a [Shown],
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Position>,
}

/// How long the bus may take to confirm a subscription.
const ATTACH_WITHIN: Duration = Duration::from_secs(5);
/// How long reading what was missed may take.
const MISSED_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn register(namespace: &mut Namespace, context: &Arc<Context>) {
    let context = Arc::clone(context);
    let received = metrics::EVENTS_RECEIVED.of(["join:conversation"]);
    namespace.on_async("join:conversation", move |socket, event| {
        received.add(1);
        let context = Arc::clone(&context);
        async move { join(&context, &socket, event).await }
    });
}

async fn join(context: &Context, socket: &Socket, mut event: Event) {
    let Some(session) = socket.data::<Session>() else {
        return;
    };
    let ack = event.take_ack();
    if let Err(problem) = try_join(context, socket, &session, (&event, &ack)).await {
        reply::refuse_ack(ack, &problem);
    }
}

async fn try_join(
    context: &Context,
    socket: &Socket,
    session: &Rc<Session>,
    (event, ack): (&Event, &Option<Ack>),
) -> Result<(), Problem> {
    let request: Request = reply::object(event)?;
    let after = request.after.as_deref().map(after).transpose()?;
    let room = conversation(&request.conversation_id)?;
    if session.identity.is_expired(now()) {
        return Err(Problem::new(
            Code::Unauthenticated,
            "the token has expired; connect with a new one",
        ));
    }
    let directory = &context.directory;
    directory.may_join(&session.identity, &room).await?;
    let member = socket.member();
    let was_member = member.is_in(room.as_str());
    if !was_member && rooms_counted(member) >= context.rooms_max {
        let message = format!(
            "a socket may be in {} rooms; leave one first",
            context.rooms_max
        );
        return Err(Problem::new(Code::Conflict, message));
    }
    let attached = attach(context, (socket, session), &room).await?;
    // Who was taken out of the conversation meanwhile was not in the room yet to be taken out of it.
    if let Err(refused) = directory.may_join(&session.identity, &room).await {
        socket.leave(room.as_str());
        return Err(refused);
    }
    // Everything sent to the session waits for this, its pings too.
    let from = (after, (attached.shard, attached.at));
    let missed = missed(context, (socket, session), &room, from).await;
    let Missed {
        top,
        events,
        reason,
        next,
    } = match missed {
        Ok(missed) => missed,
        Err(problem) => {
            // Not a member after a refused join, even though it was one for a moment; but who was
            // one before stays one.
            if !was_member {
                socket.leave(room.as_str());
                returns::left(context, (socket, session), &room).await;
            }
            return Err(problem);
        }
    };
    let joined = Joined {
        ok: true,
        room: &room,
        epoch: top.epoch,
        seq: top.seq,
        missed: &events,
        complete: reason.is_none(),
        reason,
        next,
    };
    let answer = ack.as_ref().map(|ack| ack.frame(Json(joined)));
    attached.hold.release(answer.into_iter().collect());
    Ok(())
}

/// What was missed, once the join is written: its client is told of nothing that would be gone with this node.
async fn missed(
    context: &Context,
    joining: (&Socket, &Rc<Session>),
    room: &RoomName,
    (after, (shard, at)): (Option<Position>, (ShardId, ShardPosition)),
) -> Result<Missed, Problem> {
    let place = Place { shard, at };
    returns::joined(context, (joining.0, joining.1), room, place).await?;
    let missed = context.history.missed(room, after, (shard, at));
    let missed = tokio::time::timeout(MISSED_WITHIN, missed).await;
    missed.unwrap_or_else(|_| {
        let message = "what was missed cannot be read right now; try again";
        Err(Problem::new(Code::Unavailable, message).retry_after(Duration::from_secs(1)))
    })
}

async fn attach(
    context: &Context,
    (socket, session): (&Socket, &Rc<Session>),
    room: &RoomName,
) -> Result<Attached, Problem> {
    let shard = context.timeline.shard_of(room);
    let attached = match context.is_away(room) {
        // The socket's next events are not to wait for what is known.
        true => None,
        false => {
            let attached = session.fanout.attach(socket, room, shard);
            let attached = tokio::time::timeout(ATTACH_WITHIN, attached).await;
            attached.ok().flatten()
        }
    };
    attached.ok_or_else(|| {
        Problem::new(
            Code::Unavailable,
            "the room cannot be joined right now; try again",
        )
        .retry_after(Duration::from_secs(1))
    })
}

/// The position that a client has seen.
fn after(data: &RawValue) -> Result<Position, Problem> {
    reply::read(data.get()).map_err(|problem| {
        let message = format!("after is no {{epoch, seq}}: {}", problem.message);
        Problem::field("after", message)
    })
}

/// The room of a conversation.
/// # Errors
/// `invalid` for an id that is empty, too long or holds control characters.
pub fn conversation(id: &str) -> Result<RoomName, Problem> {
    if id.is_empty() || id.len() > CONVERSATION_BYTES_MAX {
        let message = format!(
            "conversationId is {} bytes, allowed are 1 to {CONVERSATION_BYTES_MAX}",
            id.len()
        );
        return Err(Problem::field("conversationId", message));
    }
    RoomName::parse(&format!("conversation:{id}"))
        .map_err(|error| Problem::field("conversationId", error.to_string()))
}

const CONVERSATION_BYTES_MAX: usize = 128;
