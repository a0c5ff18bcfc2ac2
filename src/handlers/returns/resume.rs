//! CONNECT with the private id of a socket: its client takes it over.
//!
//! Who the client is was asked again before, and whether it may be in each room is asked here. The socket
//! that had the place ends at once, also where its link still looks alive. Only when everything that was
//! missed has been found the client gets its socket back; else it begins anew and is told why.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{Kept, Replay};
use crate::auth::Identity;
use crate::cluster::control::Control;
use crate::cluster::recovery::{Joined, Owner, Saved, Taken, Written};
use crate::delivery::catchup::{Missed, Returned};
use crate::delivery::fanout::{Entered, Fanout, is_of_token, is_watched};
use crate::handlers::watch::Watch;
use crate::handlers::{Context, Session};
use crate::lifecycle::health::What;
use crate::server::{Local, Socket};
use crate::telemetry::labels::Resumed;
use crate::timeline::Vector;
use crate::types::{Code, Kind, PrivateId, Problem, RoomName, SocketId};

/// What a client that comes back says.
pub(in crate::handlers) struct Asked {
    id: PrivateId,
    /// Up to where it has seen events; `Err` when that is not what a node told it.
    seen: Result<Option<Vector>, ()>,
}

/// Why a client did not get its socket back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::handlers) enum NotResumed {
    /// The new socket is as new as any.
    Before(Resumed),
    /// It was in the place of the one before already: another one has to be made.
    After(Resumed),
}

/// How long the shard of a private id, those of the rooms, and what was missed may take, each.
const WITHIN: Duration = Duration::from_secs(5);
/// How long another worker may take to end a socket.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

/// What a client says with CONNECT; `None` when it does not come back.
pub(in crate::handlers) fn asked(auth: Option<&RawValue>) -> Option<Asked> {
    #[derive(serde::Deserialize)]
    struct Said {
        pid: Option<Box<RawValue>>,
        offset: Option<Box<RawValue>>,
    }
    let said: Said = serde_json::from_str(auth?.get()).ok()?;
    let text = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).map_err(drop);
    let id = text(said.pid.as_deref()?).ok()?;
    let seen = said.offset.as_deref().map(|offset| {
        let offset = text(offset)?;
        offset.parse::<Vector>().map_err(drop)
    });
    Some(Asked {
        id: PrivateId::parse(&id).ok()?,
        seen: seen.transpose(),
    })
}

/// Gives a socket that is about to enter the place of the one that its client had before; `own` are the rooms
/// that a user is put into by itself.
///
/// # Errors
/// When it cannot be told right now: the client is to come again.
pub(in crate::handlers) async fn resume(
    context: &Context,
    (socket, identity): (&Socket, Identity),
    fanout: &Rc<Fanout>,
    (asked, own): (Asked, &[RoomName]),
) -> Result<Result<(), NotResumed>, Problem> {
    let before = |reason| Ok(Err(NotResumed::Before(reason)));
    let Asked { id, seen } = asked;
    let Ok(seen) = seen else {
        return before(Resumed::PositionUnknown);
    };
    let (generation, saved) = match take(context, socket, (&id, &identity)).await? {
        Ok(taken) => taken,
        Err(reason) => return before(reason),
    };
    let key = (id, generation);
    let Ok(rooms) = Rooms::of(context, &identity, (saved.rooms, own)).await else {
        return before(Resumed::Unavailable);
    };
    let Some(kept) = Kept::taken(&context.returns, key.clone(), &rooms.joined) else {
        forget(context, socket, key);
        return before(Resumed::Unavailable);
    };
    let entered = enter(socket, fanout, (&rooms.names(), saved.socket)).await?;
    let found = rooms.missed(context, (socket, &identity), (seen.as_ref(), &entered.at));
    let found = timeout(WITHIN, found).await;
    let missed = match found.unwrap_or(Err(Resumed::Unavailable)) {
        Ok(missed) => missed,
        Err(reason) => {
            // Nothing of the rooms goes out for a socket that its client does not know.
            entered.hold.forget();
            forget(context, socket, key);
            return Ok(Err(NotResumed::After(reason)));
        }
    };
    if !rooms
        .are_written(context, (&kept, &key), (seen.as_ref(), &entered.at))
        .await
    {
        entered.hold.forget();
        return Err(again());
    }
    let session = Session::new(identity, Rc::clone(fanout));
    session.replay.replace(Some(Replay {
        seen: common(seen.as_ref(), &entered.at),
        hold: entered.hold,
        missed,
        watched: rooms.watched,
    }));
    session.kept.get_or_init(|| kept);
    socket.set_private_id(key.0);
    socket.set_data(session);
    Ok(Ok(()))
}

/// The rooms into which a socket is put again.
struct Rooms {
    /// Those that it was in, and where it had joined them.
    joined: Vec<(RoomName, Joined)>,
    /// Those into which its user was put meanwhile.
    added: Vec<RoomName>,
    /// Where it was told of others' presence.
    watched: Vec<RoomName>,
}

impl Rooms {
    /// Those in which the user may still be.
    async fn of(
        context: &Context,
        identity: &Identity,
        (saved, own): (Vec<(RoomName, Joined)>, &[RoomName]),
    ) -> Result<Self, Problem> {
        let (watched, saved): (Vec<_>, Vec<_>) =
            saved.into_iter().partition(|(room, _)| is_watched(room));
        let mut joined = Vec::with_capacity(saved.len());
        for (room, place) in saved {
            if own.contains(&room) || is_allowed(context, identity, &room).await? {
                joined.push((room, place));
            }
        }
        let is_new = |room: &&RoomName| joined.iter().all(|(known, _)| known != *room);
        let rooms = Self {
            added: own.iter().filter(is_new).cloned().collect(),
            joined,
            watched: watched.into_iter().map(|(room, _)| room).collect(),
        };
        match rooms.names().iter().any(|room| context.is_away(room)) {
            true => Err(again()),
            false => Ok(rooms),
        }
    }

    fn names(&self) -> Vec<RoomName> {
        let joined = self.joined.iter().map(|(room, _)| room);
        joined.chain(&self.added).cloned().collect()
    }

    /// All of them with their places. Of those that came meanwhile a client may see what came since it was
    /// last heard of, if that is known.
    fn places(
        &self,
        context: &Context,
        (seen, at): (Option<&Vector>, &Vector),
    ) -> Vec<(RoomName, Joined)> {
        let place = |room: &RoomName| {
            let shard = context.timeline.shard_of(room);
            let known = seen.and_then(|seen| seen.at(shard));
            let at = known.or_else(|| at.at(shard)).unwrap_or_default();
            (room.clone(), Joined { shard, at })
        };
        let joined = self.joined.iter().cloned();
        joined.chain(self.added.iter().map(place)).collect()
    }

    /// What was missed of them, once the socket is in them.
    async fn missed(
        &self,
        context: &Context,
        (socket, identity): (&Socket, &Identity),
        (seen, up_to): (Option<&Vector>, &Vector),
    ) -> Result<Vec<Arc<Missed>>, Resumed> {
        let mut rooms = self.places(context, (seen, up_to));
        // Who was taken out of one of them meanwhile was not in it yet to be taken out of it.
        for (room, _) in &self.joined {
            let kind = room.as_str().starts_with("conversation:");
            let is_allowed = !kind || is_allowed(context, identity, room).await.unwrap_or(true);
            if !is_allowed {
                socket.leave(room.as_str());
                rooms.retain(|(known, _)| known != room);
            }
        }
        let returned = Returned {
            seen,
            rooms: &rooms,
            up_to,
        };
        context.returns.catchup.missed(returned).await
    }

    /// Writes those that came meanwhile; false when it could not be done, or somebody else has the socket.
    async fn are_written(
        &self,
        context: &Context,
        (kept, key): (&Kept, &(PrivateId, u64)),
        positions: (Option<&Vector>, &Vector),
    ) -> bool {
        let places = self.places(context, positions);
        for (room, joined) in &places[self.joined.len()..] {
            kept.note(room, *joined);
            let recovery = &context.returns.recovery;
            let written = recovery.change((&key.0, key.1), room, Some(*joined));
            if timeout(WITHIN, written).await != Ok(Ok(Written::Kept)) {
                return false;
            }
        }
        true
    }
}

/// Takes over what is kept, and ends whoever still has it.
async fn take(
    context: &Context,
    socket: &Socket,
    (id, identity): (&PrivateId, &Identity),
) -> Result<Result<(u64, Saved), Resumed>, Problem> {
    let recovery = &context.returns.recovery;
    let name = recovery
        .shard_of(id)
        .and_then(|shard| context.timeline.shard_name(shard));
    if name.is_some_and(|name| context.health.is_down(What::Rooms, name)) {
        return Ok(Err(Resumed::Unavailable));
    }
    let taking = recovery.take(id, identity.user(), socket.local().index());
    let Ok(Ok(taken)) = timeout(WITHIN, taking).await else {
        return Err(again());
    };
    let (generation, saved, before) = match taken {
        Taken::Yes {
            generation,
            saved,
            before,
        } => (generation, saved, before),
        Taken::Unknown => return Ok(Err(Resumed::Unknown)),
        Taken::Untrusted => return Ok(Err(Resumed::Untrusted)),
    };
    match before {
        Owner::Nobody => {}
        Owner::Here(worker) => {
            let local = socket.local();
            let ending = end_here(local, worker, (saved.socket.clone(), generation));
            if timeout(ENDED_WITHIN, ending).await.is_err() {
                return Err(again());
            }
        }
        Owner::Elsewhere => {
            context.bus.control(Control::TakeOver {
                socket: saved.socket.clone(),
                generation,
            });
        }
    }
    Ok(Ok((generation, saved)))
}

/// Ends a socket of this process; returns when it has ended, so that its user has not gone after it came.
async fn end_here(local: &Rc<Local>, worker: usize, (socket, generation): (SocketId, u64)) {
    let end = move |local: &Rc<Local>| {
        if let Some(watch) = local.part::<Watch>() {
            watch.take_over(&socket, generation);
        }
    };
    if worker == local.index() {
        end(local);
        return;
    }
    let (done, is_done) = tokio::sync::oneshot::channel();
    let act = move |local: &Rc<Local>| {
        end(local);
        if done.send(()).is_err() {
            tracing::debug!("nobody waits for the end of a socket any more");
        }
    };
    if local.io().mailboxes().run(worker, act).await {
        is_done.await.ok();
    }
}

/// Whether a user may still be in a room.
async fn is_allowed(
    context: &Context,
    identity: &Identity,
    room: &RoomName,
) -> Result<bool, Problem> {
    if is_given(room) {
        return Ok(true);
    }
    match context.directory.may_join(identity, room).await {
        Ok(()) => Ok(true),
        Err(problem) if problem.code.kind() == Kind::Client => Ok(false),
        Err(problem) => Err(problem),
    }
}

/// Whether a room is of those that only an emitter puts sockets into, whom nobody has to ask.
fn is_given(room: &RoomName) -> bool {
    let kinds = ["conversation:", "course:", "building:", "user:", "global:"];
    let is_known = kinds.iter().any(|kind| room.as_str().starts_with(kind));
    !is_known && !is_of_token(room)
}

async fn enter(
    socket: &Socket,
    fanout: &Rc<Fanout>,
    (rooms, name): (&[RoomName], SocketId),
) -> Result<Entered, Problem> {
    let entering = fanout.enter(socket, rooms, |socket| socket.resume(name));
    let entered = timeout(WITHIN, entering).await;
    entered.ok().flatten().ok_or_else(again)
}

/// What the client has seen of the shards of its rooms: others would only take place.
fn common(seen: Option<&Vector>, at: &Vector) -> Vector {
    let mut common = Vector::default();
    for (shard, place) in seen.into_iter().flat_map(Vector::iter) {
        if at.at(shard).is_some() {
            common.advance(shard, place).ok();
        }
    }
    common
}

/// Nobody comes back to what could not be given back.
fn forget(context: &Context, socket: &Socket, (id, generation): (PrivateId, u64)) {
    let recovery = context.returns.recovery.clone();
    socket.spawn(async move {
        if let Err(error) = recovery.end((&id, generation), true).await {
            tracing::debug!(%error, "the end of a socket was not written");
        }
    });
}

fn again() -> Problem {
    let message = "the socket cannot be given back right now; try again";
    Problem::new(Code::Unavailable, message).retry_after(Duration::from_secs(1))
}
