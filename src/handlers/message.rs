//! Durable events: checked against their row, into the log in the order they were sent, acked once
//! the log has them.

use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;

use super::{Context, Session, envelope, reply};
use crate::delivery::publish::Publishing;
use crate::events::Row;
use crate::server::{Event, Json, Namespace, Socket};
use crate::telemetry::metrics;
use crate::types::{EventId, Problem, RoomName, Timestamp};

/// The answer once the log has the event.
#[derive(Serialize)]
struct Accepted<'a> {
    ok: bool,
    id: &'a EventId,
    room: &'a RoomName,
    at: Timestamp,
}

pub(super) fn register(namespace: &mut Namespace, context: &Arc<Context>, event: &Arc<str>) {
    let (context, name) = (Arc::clone(context), Arc::clone(event));
    let received = metrics::EVENTS_RECEIVED.of([event]);
    namespace.on(event, move |socket, event| {
        received.add(1);
        let row = context.catalogue.by_client(&name);
        if let (Some(session), Some(row)) = (socket.data::<Session>(), row) {
            publish(&context, row, (socket, &session), event);
        }
    });
}

fn publish(
    context: &Context,
    row: &Row,
    (socket, session): (&Socket, &Rc<Session>),
    mut event: Event,
) {
    let ack = event.take_ack();
    match begin(context, row, session, &event) {
        Ok((id, room, pending)) => socket.spawn(async move {
            let done = pending.await;
            // An event without an ack holds its own place in flight until here.
            drop(event);
            match done {
                Ok(appended) => {
                    if let Some(ack) = ack {
                        ack.send(Json(Accepted {
                            ok: true,
                            id: &id,
                            room: &room,
                            at: appended.at,
                        }));
                    }
                }
                Err(problem) => reply::refuse_ack(ack, &problem),
            }
        }),
        Err(problem) => reply::refuse_ack(ack, &problem),
    }
}

/// Everything up to the log's queue, without waiting: events enter it in the order they were sent.
fn begin(
    context: &Context,
    row: &Row,
    session: &Session,
    event: &Event,
) -> Result<(EventId, RoomName, Publishing), Problem> {
    let data = reply::payload(event)?;
    let (envelope, room) = envelope(row, &session.identity, data)?;
    let pending = context.publisher.publish(row, &envelope)?;
    Ok((envelope.id, room, pending))
}
