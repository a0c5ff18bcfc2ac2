//! `leave:conversation`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Context, Session, join, reply, returns};
use crate::server::{Event, Json, Namespace, Socket};
use crate::telemetry::metrics;
use crate::types::RoomName;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    conversation_id: String,
}

#[derive(Serialize)]
struct Left<'a> {
    ok: bool,
    room: &'a RoomName,
}

pub(super) fn register(namespace: &mut Namespace, context: &Arc<Context>) {
    let received = metrics::EVENTS_RECEIVED.of(["leave:conversation"]);
    let context = Arc::clone(context);
    namespace.on_async("leave:conversation", move |socket, event| {
        received.add(1);
        let context = Arc::clone(&context);
        async move { leave(&context, &socket, event).await }
    });
}

async fn leave(context: &Context, socket: &Socket, event: Event) {
    let room = reply::object(&event)
        .and_then(|request: Request| join::conversation(&request.conversation_id));
    match room {
        Ok(room) => {
            let session = socket.data::<Session>();
            if let Some(session) = &session {
                session.typing.stop(socket, room.as_str());
            }
            // Leaving a room twice is no mistake: the answer may have been lost.
            socket.leave(room.as_str());
            if let Some(session) = &session {
                returns::left(context, (socket, session), &room).await;
            }
            event.ack(Json(Left {
                ok: true,
                room: &room,
            }));
        }
        Err(problem) => reply::refuse(event, &problem),
    }
}
