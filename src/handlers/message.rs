//! Durable events: checked against their row, into the log in the order they were sent, acked once
//! the log has them.

use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;

use super::{Context, Session, now, reply, room_for_sending};
use crate::delivery::publish::Draft;
use crate::events::{Row, validate};
use crate::server::{Event, Json, Namespace, Socket};
use crate::telemetry::metrics;
use crate::types::{Code, EventId, Problem, RoomName, Timestamp};

/// The answer once the log has the event.
#[derive(Serialize)]
struct Accepted<'a> {
    ok: bool,
    id: &'a EventId,
    room: &'a RoomName,
    at: Timestamp,
}

pub(super) fn register(namespace: &mut Namespace, context: &Arc<Context>, row: &Arc<Row>) {
    let (context, row) = (Arc::clone(context), Arc::clone(row));
    let Some(name) = row.client_event.clone() else { return };
    namespace.on(&name, move |socket, event| {
        if let Some(session) = socket.data::<Session>() {
            publish(&context, &row, (socket, &session), event);
        }
    });
}

fn publish(context: &Context, row: &Row, (socket, session): (&Socket, &Rc<Session>), mut event: Event) {
    let ack = event.take_ack();
    match begin(context, row, session, &event) {
        Ok((room, pending)) => socket.spawn(async move {
            match (pending.await, ack) {
                (Ok(accepted), Some(ack)) => {
                    let (id, at) = (&accepted.id, accepted.at);
                    ack.send(Json(Accepted { ok: true, id, room: &room, at }));
                }
                (Err(problem), ack) => {
                    metrics::event_error(problem.code);
                    reply::refuse_ack(ack, &problem);
                }
                (Ok(_), None) => {}
            }
        }),
        Err(problem) => {
            metrics::event_error(problem.code);
            reply::refuse_ack(ack, &problem);
        }
    }
}

/// Everything up to the log's queue, without waiting: events enter it in the order they were sent.
fn begin(
    context: &Context,
    row: &Row,
    session: &Session,
    event: &Event,
) -> Result<(RoomName, crate::delivery::publish::Pending), Problem> {
    if event.has_attachments() {
        let message = format!("{} takes JSON only, no binary attachments", event.name());
        return Err(Problem::new(Code::Invalid, message));
    }
    if session.identity.is_expired(now()) {
        return Err(Problem::new(Code::Unauthenticated, "the token has expired; connect with a new one"));
    }
    let data = event.raw(0).ok_or_else(|| Problem::new(Code::Invalid, "the payload is missing"))?;
    let payload = validate::payload(row, &data)?;
    let room = room_for_sending(row, &session.identity, &payload.conversation_id)?;
    let draft = Draft {
        row,
        user: session.identity.user(),
        room: &room,
        payload: &payload,
        at: now(),
    };
    Ok((room.clone(), context.publisher.publish(&draft)?))
}
