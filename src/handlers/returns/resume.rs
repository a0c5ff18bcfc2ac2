//! CONNECT with the private id of a socket: its client takes it over.
//!
//! Who the client is was asked again before, and whether it may be in each room is asked here. The socket
//! that had the place ends at once, also where its link still looks alive. Only when everything that was
//! missed has been found the client gets its socket back; else it begins anew and is told why.

use std::rc::Rc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{Kept, Replay};
use crate::auth::Identity;
use crate::cluster::control::Control;
use crate::cluster::recovery::{Joined, Owner, Saved, Taken, Written};
use crate::delivery::catchup::Returned;
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
    let Saved {
        socket: name,
        rooms,
        ..
    } = saved;
    let (watched, rooms): (Vec<_>, Vec<_>) =
        rooms.into_iter().partition(|(room, _)| is_watched(room));
    let Ok(mut rooms) = allowed(context, &identity, (rooms, own)).await else {
        return before(Resumed::Unavailable);
    };
    let key = (id.clone(), generation);
    let Some(kept) = Kept::taken(&context.returns, key, &rooms) else {
        forget(context, socket, (id, generation));
        return before(Resumed::Unavailable);
    };
    let mut names: Vec<RoomName> = rooms.iter().map(|(room, _)| room.clone()).collect();
    names.extend(
        own.iter()
            .filter(|room| !names.contains(room))
            .cloned()
            .collect::<Vec<_>>(),
    );
    if names.iter().any(|room| context.is_away(room)) {
        return before(Resumed::Unavailable);
    }
    let Entered { at, hold } = enter(socket, fanout, (&names, name)).await?;
    let added = names.split_off(rooms.len());
    for room in &added {
        // It was enrolled meanwhile. What came since the client was last heard of it may see, if that is known.
        let shard = context.timeline.shard_of(room);
        let known = seen
            .as_ref()
            .and_then(|seen| seen.at(shard))
            .or(at.at(shard));
        let at = known.unwrap_or_default();
        rooms.push((room.clone(), Joined { shard, at }));
    }
    let returned = Returned {
        seen: seen.as_ref(),
        rooms: &rooms,
        up_to: &at,
    };
    let missed = timeout(WITHIN, context.returns.catchup.missed(returned)).await;
    let missed = match missed.unwrap_or(Err(Resumed::Unavailable)) {
        Ok(missed) => missed,
        Err(reason) => {
            // Nothing of the rooms goes out for a socket that its client does not know.
            hold.forget();
            forget(context, socket, (id, generation));
            return Ok(Err(NotResumed::After(reason)));
        }
    };
    for (room, joined) in &rooms[names.len()..] {
        kept.note(room, *joined);
        let recovery = &context.returns.recovery;
        let written = recovery.change((&id, generation), room, Some(*joined));
        if timeout(WITHIN, written).await != Ok(Ok(Written::Kept)) {
            hold.forget();
            return Err(again());
        }
    }
    let session = Session::new(identity, Rc::clone(fanout));
    let seen = common(seen.as_ref(), &at);
    let watched = watched.into_iter().map(|(room, _)| room).collect();
    session.replay.replace(Some(Replay {
        hold,
        missed,
        seen,
        watched,
    }));
    session.kept.get_or_init(|| kept);
    socket.set_private_id(id);
    socket.set_data(session);
    Ok(Ok(()))
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
    let taken = match timeout(WITHIN, taking).await {
        Ok(Ok(taken)) => taken,
        Ok(Err(_)) | Err(_) => return Err(again()),
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

/// The rooms in which the user may still be.
async fn allowed(
    context: &Context,
    identity: &Identity,
    (rooms, own): (Vec<(RoomName, Joined)>, &[RoomName]),
) -> Result<Vec<(RoomName, Joined)>, Problem> {
    let mut allowed = Vec::with_capacity(rooms.len());
    for (room, joined) in rooms {
        let may = own.contains(&room) || is_given(&room) || {
            match context.directory.may_join(identity, &room).await {
                Ok(()) => true,
                Err(problem) if problem.code.kind() == Kind::Client => false,
                Err(problem) => return Err(problem),
            }
        };
        if may {
            allowed.push((room, joined));
        }
    }
    Ok(allowed)
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
