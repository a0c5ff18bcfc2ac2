//! `leave:conversation`.

use serde::{Deserialize, Serialize};

use super::{Session, join, reply};
use crate::server::{Json, Namespace};
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

pub(super) fn register(namespace: &mut Namespace) {
    let received = metrics::EVENTS_RECEIVED.of(["leave:conversation"]);
    namespace.on("leave:conversation", move |socket, event| {
        received.add(1);
        let room = reply::object(&event)
            .and_then(|request: Request| join::conversation(&request.conversation_id));
        match room {
            Ok(room) => {
                if let Some(session) = socket.data::<Session>() {
                    session.typing.stop(socket, room.as_str());
                }
                // Leaving a room twice is no mistake: the answer may have been lost.
                socket.leave(room.as_str());
                event.ack(Json(Left {
                    ok: true,
                    room: &room,
                }));
            }
            Err(problem) => reply::refuse(event, &problem),
        }
    });
}
