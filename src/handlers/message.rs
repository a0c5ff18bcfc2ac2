//! Durable events: checked against their row, into the log in the order they were sent, acked once
//! the log has them.

use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;

use super::{Context, Session, answer, envelope, in_order, reply};
use crate::delivery::publish::Publishing;
use crate::events::Row;
use crate::server::{Event, Socket};
use crate::types::{EventId, Problem, RoomName, Timestamp};

/// The answer once the log has an event.
#[derive(Debug, Serialize)]
pub struct Accepted {
    ok: bool,
    /// The event.
    pub id: EventId,
    /// The room it goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomName>,
    /// When the log took it.
    pub at: Timestamp,
}

impl Accepted {
    /// An event that is on its way into the log; the answer when it is there.
    ///
    /// # Errors
    /// Why it could not be stored.
    pub async fn when(
        published: Publishing,
        id: EventId,
        room: Option<RoomName>,
    ) -> Result<Self, Problem> {
        let at = published.await?.at;
        Ok(Self {
            ok: true,
            id,
            room,
            at,
        })
    }
}

/// An event of a row that says it all.
pub(super) fn publish(
    context: &Arc<Context>,
    row: &Arc<Row>,
    (socket, session): (&Socket, &Rc<Session>),
    event: Event,
) {
    let data = reply::payload(&event);
    let (envelope, room) = match data.and_then(|data| envelope(row, &session.identity, data)) {
        Ok(formed) => formed,
        Err(problem) => return reply::refuse(event, &problem),
    };
    if session.order.is_empty()
        && let Some(checked) = context.check_now(row, session.sender(socket), room.as_ref())
    {
        match checked.and_then(|()| context.publisher.publish(row, &envelope)) {
            Ok(pending) => answer(socket, event, Accepted::when(pending, envelope.id, room)),
            Err(problem) => reply::refuse(event, &problem),
        }
        return;
    }
    let (context, row) = (Arc::clone(context), Arc::clone(row));
    let (socket, session) = (socket.clone(), Rc::clone(session));
    in_order(
        (&socket.clone(), &session.clone()),
        event,
        |turn| async move {
            let sender = session.sender(&socket);
            context.check(&row, sender, room.as_ref()).await?;
            let pending = context.publisher.publish(&row, &envelope)?;
            turn.pass();
            Accepted::when(pending, envelope.id, room).await
        },
    );
}
