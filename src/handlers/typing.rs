//! Ephemeral events: relayed to whoever is there, never in a timeline. `typing:start` ends by itself,
//! with a `typing:stop`.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{Context, Session, envelope, in_order, reply};
use crate::cluster::bus::{Bus, Ephemeral};
use crate::delivery::publish::Publisher;
use crate::events::{Envelope, Row, View, Who, view_ephemeral};
use crate::server::{Event, Json, Socket};
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
    ended: Notice,
}

/// Something that whoever is in a room now is told.
#[derive(Clone)]
struct Notice {
    bus: Bus,
    room: RoomName,
    view: View,
    /// For the log's other consumers, where the row has a topic.
    copy: Option<Copy>,
}

#[derive(Clone)]
struct Copy {
    publisher: Publisher,
    row: Arc<Row>,
    envelope: Envelope,
}

#[derive(Serialize)]
struct Done {
    ok: bool,
}

/// The event type that begins typing, and is ended by the node if nobody else does.
const START: &str = "TYPING_START";
/// The event type that ends typing, whoever says so.
const STOP: &str = "TYPING_STOP";

/// Rooms that one socket may be typing in at once.
const ROOMS_MAX: usize = 16;

impl Typing {
    /// Ends typing in one room.
    pub(super) fn stop(&self, socket: &Socket, room: &str) {
        let active = self.rooms.borrow_mut().remove(room);
        if let Some(active) = active {
            active.ended.tell(socket);
        }
    }

    /// Ends typing everywhere.
    pub(super) fn end(&self, socket: &Socket) {
        let all = std::mem::take(&mut *self.rooms.borrow_mut());
        for active in all.into_values() {
            active.ended.tell(socket);
        }
    }
}

impl Notice {
    fn new(
        context: &Context,
        row: &Arc<Row>,
        envelope: Envelope,
        room: RoomName,
    ) -> Result<Self, Problem> {
        let view = view_ephemeral(row, &envelope)
            .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
        let copy = row.topic.is_some().then(|| Copy {
            publisher: context.publisher.clone(),
            row: Arc::clone(row),
            envelope,
        });
        Ok(Self {
            bus: context.bus.clone(),
            room,
            view,
            copy,
        })
    }

    fn tell(&self, socket: &Socket) {
        let Ok(data) = RawValue::from_string(self.view.json.clone()) else {
            return;
        };
        let dropped = self.bus.publish_ephemeral(Arc::new(Ephemeral {
            room: self.room.clone(),
            event: Arc::clone(&self.view.event),
            data,
            except: Some(socket.id().clone()),
        }));
        metrics::BUS_EPHEMERAL_DROPPED.add(dropped as u64);
        if let Some(Copy {
            publisher,
            row,
            envelope,
        }) = &self.copy
        {
            // Nobody waits for it: what is lost of it was ephemeral.
            drop(publisher.publish(row, envelope));
        }
    }
}

/// An ephemeral event of a row that says it all, or typing.
pub(super) fn relay(
    context: &Arc<Context>,
    row: &Arc<Row>,
    (socket, session): (&Socket, &Rc<Session>),
    event: Event,
) {
    let formed = formed(row, (socket, session), &event);
    let (envelope, room) = match formed {
        Ok(formed) => formed,
        Err(problem) => return reply::refuse(event, &problem),
    };
    let sender = session.sender(socket);
    let allowed = match row.who {
        // It joined, so it may send there.
        Who::Members => context.limit_now(row, sender),
        Who::Anyone | Who::Services => context.check_now(row, sender, Some(&room)),
    };
    if let Some(allowed) = allowed {
        let told = allowed.and_then(|()| tell(context, row, (socket, session), (envelope, room)));
        return match told {
            Ok(()) => event.ack(Json(Done { ok: true })),
            Err(problem) => reply::refuse(event, &problem),
        };
    }
    let (context, row) = (Arc::clone(context), Arc::clone(row));
    let (socket, session) = (socket.clone(), Rc::clone(session));
    // In its turn: a stop that overtook its start would leave somebody typing.
    in_order(
        (&socket.clone(), &session.clone()),
        event,
        |turn| async move {
            context.limit(&row, session.sender(&socket)).await?;
            // Whoever ended meanwhile has stopped typing already.
            if socket.is_connected() {
                tell(&context, &row, (&socket, &session), (envelope, room))?;
            }
            turn.pass();
            Ok(Done { ok: true })
        },
    );
}

fn formed(
    row: &Row,
    (socket, session): (&Socket, &Rc<Session>),
    event: &Event,
) -> Result<(Envelope, RoomName), Problem> {
    let (envelope, room) = envelope(row, &session.identity, reply::payload(event)?)?;
    let room = room.ok_or_else(|| Problem::new(Code::Internal, "it goes to no room"))?;
    if row.who == Who::Members && !socket.member().is_in(room.as_str()) {
        let message = format!("join {room} first");
        return Err(Problem::new(Code::Forbidden, message));
    }
    Ok((envelope, room))
}

fn tell(
    context: &Context,
    row: &Arc<Row>,
    (socket, session): (&Socket, &Rc<Session>),
    (envelope, room): (Envelope, RoomName),
) -> Result<(), Problem> {
    match &*row.kind {
        STOP => {
            session.typing.stop(socket, room.as_str());
            Ok(())
        }
        START => {
            let catalogue = context.vocabulary.current();
            let end = catalogue.by_type(STOP).ok_or_else(|| {
                Problem::new(Code::NotFound, format!("the catalogue has no {STOP}"))
            })?;
            let ended = Envelope {
                kind: STOP.to_owned(),
                ..envelope.clone()
            };
            let ended = Notice::new(context, end, ended, room.clone())?;
            let started = Notice::new(context, row, envelope, room)?;
            start(context.typing_for, (socket, session), ended, &started)
        }
        _ => {
            Notice::new(context, row, envelope, room)?.tell(socket);
            Ok(())
        }
    }
}

/// Tells the room once, and again only after it ended; later notices move the end.
fn start(
    lasts: Duration,
    (socket, session): (&Socket, &Rc<Session>),
    ended: Notice,
    started: &Notice,
) -> Result<(), Problem> {
    let until = Instant::now() + lasts;
    let key: Box<str> = ended.room.as_str().into();
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
        rooms.insert(key.clone(), Active { until, ended });
    }
    started.tell(socket);
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
