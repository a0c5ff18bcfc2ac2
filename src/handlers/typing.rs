//! `typing:start` and `typing:stop`: relayed, never stored, ended by themselves.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::to_raw_value;
use tokio::time::Instant;

use super::{Context, Session, reply, room_for_sending};
use crate::cluster::bus::{Bus, Ephemeral};
use crate::events::{Row, validate};
use crate::server::{Event, Json, Namespace, Socket};
use crate::types::{Code, Problem, RoomName};

/// Where a socket is typing, and until when that holds.
#[derive(Default)]
pub(super) struct Typing {
    rooms: RefCell<HashMap<Box<str>, Active>>,
}

struct Active {
    until: Instant,
    notice: Notice,
}

#[derive(Clone)]
struct Notice {
    bus: Bus,
    room: RoomName,
    stopped: Arc<str>,
    data: Box<serde_json::value::RawValue>,
}

#[derive(Serialize)]
struct Ok {
    ok: bool,
}

/// The other members are told who types where.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Who<'a> {
    conversation_id: &'a str,
    user_id: &'a crate::types::UserId,
}

/// Rooms that one socket may be typing in at once.
const ROOMS_MAX: usize = 16;

impl Typing {
    /// Ends typing in one room.
    pub(super) fn stop(&self, socket: &Socket, room: &str) {
        let active = self.rooms.borrow_mut().remove(room);
        if let Some(active) = active {
            active.notice.tell(socket, &active.notice.stopped);
        }
    }

    /// Ends typing everywhere.
    pub(super) fn end(&self, socket: &Socket) {
        let all = std::mem::take(&mut *self.rooms.borrow_mut());
        for active in all.into_values() {
            active.notice.tell(socket, &active.notice.stopped);
        }
    }
}

impl Notice {
    fn tell(&self, socket: &Socket, event: &Arc<str>) {
        self.bus.publish_ephemeral(Arc::new(Ephemeral {
            room: self.room.clone(),
            event: Arc::clone(event),
            data: self.data.clone(),
            except: Some(socket.id().clone()),
        }));
    }
}

pub(super) fn register(namespace: &mut Namespace, context: &Arc<Context>, row: &Arc<Row>) {
    let (context, row) = (Arc::clone(context), Arc::clone(row));
    let Some(name) = row.client_event.clone() else { return };
    namespace.on(&name, move |socket, event| {
        let Some(session) = socket.data::<Session>() else { return };
        match relay(&context, &row, (socket, &session), &event) {
            Result::Ok(()) => event.ack(Json(Ok { ok: true })),
            Err(problem) => reply::refuse(event, &problem),
        }
    });
}

fn relay(
    context: &Context,
    row: &Row,
    (socket, session): (&Socket, &Rc<Session>),
    event: &Event,
) -> Result<(), Problem> {
    let data = event.raw(0).ok_or_else(|| Problem::new(Code::Invalid, "the payload is missing"))?;
    let payload = validate::payload(row, &data)?;
    let room = room_for_sending(row, &session.identity, &payload.conversation_id)?;
    if !socket.member().is_in(room.as_str()) {
        return Err(Problem::new(Code::Forbidden, "join the conversation first"));
    }
    let Some(stops) = &row.expires_as else {
        session.typing.stop(socket, room.as_str());
        return Result::Ok(());
    };
    let who = Who { conversation_id: &payload.conversation_id, user_id: session.identity.user() };
    let data = to_raw_value(&who).map_err(|e| Problem::new(Code::Internal, e.to_string()))?;
    let notice =
        Notice { bus: context.bus.clone(), room, stopped: Arc::clone(stops), data };
    start(context.typing_for, (socket, session), notice, &row.server_event)
}

/// Tells the room once, and again only after it ended; later notices move the end.
fn start(
    lasts: Duration,
    (socket, session): (&Socket, &Rc<Session>),
    notice: Notice,
    started: &Arc<str>,
) -> Result<(), Problem> {
    let until = Instant::now() + lasts;
    let key: Box<str> = notice.room.as_str().into();
    {
        let mut rooms = session.typing.rooms.borrow_mut();
        if let Some(active) = rooms.get_mut(&key) {
            active.until = until;
            return Result::Ok(());
        }
        if rooms.len() >= ROOMS_MAX {
            let message = format!("typing in {ROOMS_MAX} conversations at once is enough");
            return Err(Problem::new(Code::RateLimited, message).retry_after(lasts));
        }
        rooms.insert(key.clone(), Active { until, notice: notice.clone() });
    }
    notice.tell(socket, started);
    let (socket, session) = (socket.clone(), Rc::clone(session));
    socket.clone().spawn(async move {
        loop {
            let Some(until) = session.typing.rooms.borrow().get(&key).map(|active| active.until)
            else {
                return;
            };
            if Instant::now() >= until {
                break;
            }
            tokio::time::sleep_until(until).await;
        }
        session.typing.stop(&socket, &key);
    });
    Result::Ok(())
}
