//! `typing:start` and `typing:stop`: relayed, never stored, ended by themselves.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{Context, Session, envelope, reply};
use crate::cluster::bus::{Bus, Ephemeral};
use crate::events::{Catalogue, Envelope, Row, View, view_ephemeral};
use crate::server::{Event, Json, Namespace, Socket};
use crate::telemetry::metrics;
use crate::types::{Code, Problem, RoomName};

/// Where a socket is typing, and until when that holds.
#[derive(Default)]
pub(super) struct Typing {
    rooms: RefCell<HashMap<Box<str>, Active>>,
    /// Rooms for which a task waits: one each, however often typing starts and stops.
    timed: RefCell<HashSet<Box<str>>>,
}

struct Active {
    until: Instant,
    notice: Notice,
}

#[derive(Clone)]
struct Notice {
    bus: Bus,
    room: RoomName,
    /// What the room is told when it ends.
    ended: View,
}

#[derive(Serialize)]
struct Done {
    ok: bool,
}

/// The event type that ends typing, whoever says so.
const STOP: &str = "TYPING_STOP";

/// Rooms that one socket may be typing in at once.
const ROOMS_MAX: usize = 16;

impl Typing {
    /// Ends typing in one room.
    pub(super) fn stop(&self, socket: &Socket, room: &str) {
        let active = self.rooms.borrow_mut().remove(room);
        if let Some(active) = active {
            active.notice.tell(socket, &active.notice.ended);
        }
    }

    /// Ends typing everywhere.
    pub(super) fn end(&self, socket: &Socket) {
        let all = std::mem::take(&mut *self.rooms.borrow_mut());
        for active in all.into_values() {
            active.notice.tell(socket, &active.notice.ended);
        }
    }
}

impl Notice {
    fn tell(&self, socket: &Socket, view: &View) {
        let Ok(data) = RawValue::from_string(view.json.clone()) else {
            return;
        };
        let dropped = self.bus.publish_ephemeral(Arc::new(Ephemeral {
            room: self.room.clone(),
            event: Arc::clone(&view.event),
            data,
            except: Some(socket.id().clone()),
        }));
        metrics::BUS_EPHEMERAL_DROPPED.add(dropped as u64);
    }
}

pub(super) fn register(namespace: &mut Namespace, context: &Arc<Context>, event: &Arc<str>) {
    let (context, name) = (Arc::clone(context), Arc::clone(event));
    let received = metrics::EVENTS_RECEIVED.of([event]);
    namespace.on(event, move |socket, event| {
        received.add(1);
        let row = context.catalogue.by_client(&name);
        let (Some(session), Some(row)) = (socket.data::<Session>(), row) else {
            return;
        };
        match relay(&context, row, (socket, &session), &event) {
            Ok(()) => event.ack(Json(Done { ok: true })),
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
    let (envelope, room) = envelope(row, &session.identity, reply::payload(event)?)?;
    if !socket.member().is_in(room.as_str()) {
        return Err(Problem::new(Code::Forbidden, "join the conversation first"));
    }
    if row.kind.as_ref() == STOP {
        session.typing.stop(socket, room.as_str());
        return Ok(());
    }
    let started = shown(&context.catalogue, &envelope)?;
    let ended = Envelope {
        kind: STOP.to_owned(),
        ..envelope
    };
    let notice = Notice {
        bus: context.bus.clone(),
        room,
        ended: shown(&context.catalogue, &ended)?,
    };
    start(context.typing_for, (socket, session), notice, &started)
}

fn shown(catalogue: &Catalogue, envelope: &Envelope) -> Result<View, Problem> {
    view_ephemeral(catalogue, envelope)
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))
}

/// Tells the room once, and again only after it ended; later notices move the end.
fn start(
    lasts: Duration,
    (socket, session): (&Socket, &Rc<Session>),
    notice: Notice,
    started: &View,
) -> Result<(), Problem> {
    let until = Instant::now() + lasts;
    let key: Box<str> = notice.room.as_str().into();
    {
        let mut rooms = session.typing.rooms.borrow_mut();
        if let Some(active) = rooms.get_mut(&key) {
            active.until = until;
            return Ok(());
        }
        if rooms.len() >= ROOMS_MAX {
            let message = format!("typing in {ROOMS_MAX} conversations at once is enough");
            return Err(Problem::new(Code::RateLimited, message).retry_after(lasts));
        }
        rooms.insert(
            key.clone(),
            Active {
                until,
                notice: notice.clone(),
            },
        );
    }
    notice.tell(socket, started);
    if !session.typing.timed.borrow_mut().insert(key.clone()) {
        return Ok(());
    }
    let (socket, session) = (socket.clone(), Rc::clone(session));
    socket.clone().spawn(async move {
        loop {
            let until = session
                .typing
                .rooms
                .borrow()
                .get(&key)
                .map(|active| active.until);
            let Some(until) = until else { break };
            if Instant::now() >= until {
                break;
            }
            tokio::time::sleep_until(until).await;
        }
        session.typing.timed.borrow_mut().remove(&key);
        session.typing.stop(&socket, &key);
    });
    Ok(())
}
