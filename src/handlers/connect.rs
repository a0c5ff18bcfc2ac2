//! CONNECT: who is this, and the rooms everybody is in.
//!
//! A socket is in its own rooms before its CONNECT is answered, so that nothing that comes to them
//! after the answer is missed. What comes to them before it waits behind it. A revocation or an
//! enrolment may overtake a socket that nobody can find yet: both are asked about once more when it
//! can be found.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::value::RawValue;

use super::watch::{Watch, end_if_refused};
use super::{Context, Session, now, presence};
use crate::auth::{Credentials, Identity};
use crate::delivery::fanout::{Fanout, token_room, user_room};
use crate::server::{ConnectError, Namespace, Socket};
use crate::telemetry::metrics;
use crate::types::{Code, Problem, RoomName};

/// Rooms that a socket is put into by itself; more courses than that are joined on request.
const OWN_ROOMS_MAX: usize = 64;
/// How long the bus may take to confirm the subscriptions.
const ATTACH_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn register(namespace: &mut Namespace, context: &Arc<Context>) {
    let asked = Arc::clone(context);
    namespace.middleware(move |socket, auth| {
        let context = Arc::clone(&asked);
        async move {
            enter(&context, &socket, auth.as_deref())
                .await
                .map_err(refusal)
        }
    });
    let here = Arc::clone(context);
    namespace.on_connect(move |socket| {
        presence::came(&here, socket);
        entered(&here, socket);
    });
    let context = Arc::clone(context);
    namespace.on_disconnecting(move |socket, reason| {
        presence::went(&context, socket, reason);
        metrics::SOCKETS_OPEN.down();
        metrics::SOCKETS_CLOSED.of(reason).add(1);
        if let Some(session) = socket.data::<Session>() {
            session.typing.end(socket);
        }
    });
}

async fn enter(context: &Context, socket: &Socket, auth: Option<&RawValue>) -> Result<(), Problem> {
    let handshake = socket.handshake();
    let credentials = Credentials {
        auth: auth.map(RawValue::get),
        authorization: handshake.header("authorization"),
        cookie: handshake.header("cookie"),
    };
    let identity = context
        .authenticator
        .authenticate(&credentials, now())
        .await?;
    context.accounts.check(&identity, now()).await?;
    let fanout = socket
        .local()
        .part::<Fanout>()
        .ok_or_else(|| Problem::new(Code::Unavailable, "this node is starting; try again"))?;
    let rooms = own_rooms(context, &identity).await?;
    tracing::debug!(socket = %socket.id(), user = %identity.user(), "connected");
    let by_token = identity.token_id().and_then(token_room);
    socket.set_data(Session::new(identity, Rc::clone(&fanout)));
    if !socket.admit() {
        // It ended meanwhile: nobody reads the answer.
        return Ok(());
    }
    if let Some(room) = by_token {
        socket.join(&room);
    }
    attach(context, socket, (&fanout, &rooms)).await
}

/// Puts a socket into rooms, at a place in each one's stream. Nothing to catch up: a socket that
/// just came has missed nothing of them.
async fn attach(
    context: &Context,
    socket: &Socket,
    (fanout, rooms): (&Fanout, &[RoomName]),
) -> Result<(), Problem> {
    let attaching = rooms.iter().map(|room| {
        let shard = context.timeline.shard_of(room);
        fanout.attach(socket, room, shard)
    });
    let attached = tokio::time::timeout(ATTACH_WITHIN, join_all(attaching)).await;
    if attached.is_ok_and(|all| all.iter().all(Option::is_some)) {
        return Ok(());
    }
    let message = "the user's rooms cannot be joined right now; try again";
    Err(Problem::new(Code::Unavailable, message).retry_after(Duration::from_secs(1)))
}

/// The user's own room, the announcements for everybody, and the user's courses and buildings, by
/// claim or by enrolment.
async fn own_rooms(context: &Context, identity: &Identity) -> Result<Vec<RoomName>, Problem> {
    let everybody = RoomName::parse("global:announcements").ok();
    let mut rooms: Vec<_> = user_room(identity.user())
        .into_iter()
        .chain(everybody)
        .collect();
    let claimed = identity.rooms().iter().filter(|claim| is_one_group(claim));
    rooms.extend(claimed.filter_map(|claim| RoomName::parse(claim).ok()));
    for room in context.directory.groups_of(identity.user()).await?.iter() {
        if !rooms.contains(room) {
            rooms.push(room.clone());
        }
    }
    rooms.truncate(OWN_ROOMS_MAX.min(context.rooms_max));
    Ok(rooms)
}

/// Whether a claim names one course or building, and not a pattern of them.
fn is_one_group(claim: &str) -> bool {
    is_group(claim) && !claim.contains('*')
}

fn is_group(room: &str) -> bool {
    room.starts_with("course:") || room.starts_with("building:")
}

/// The socket can be found by its token and user from now on.
fn entered(context: &Arc<Context>, socket: &Socket) {
    metrics::SOCKETS_OPEN.up();
    let Some(session) = socket.data::<Session>() else {
        return;
    };
    if let Some(watch) = socket.local().part::<Watch>() {
        watch.note(session.identity.expires_at());
    }
    let (context, socket) = (Arc::clone(context), socket.clone());
    let before = socket.rooms();
    socket.clone().spawn(async move {
        let checked = context.accounts.check(&session.identity, now()).await;
        end_if_refused(&socket, checked);
        context.directory.active(session.identity.user());
        // Without an answer of the store it stays where the store said a moment ago.
        if let Ok(own) = own_rooms(&context, &session.identity).await {
            move_on(&context, &socket, &session, (before, own)).await;
        }
    });
}

/// Follows what was enrolled and withdrawn while the socket entered.
async fn move_on(
    context: &Context,
    socket: &Socket,
    session: &Session,
    (before, own): (Vec<RoomName>, Vec<RoomName>),
) {
    let groups = before.iter().filter(|room| is_group(room.as_str()));
    for room in groups.filter(|room| !own.contains(room)) {
        socket.leave(room.as_str());
    }
    let missing: Vec<_> = own
        .into_iter()
        .filter(|room| !before.contains(room))
        .collect();
    if let Err(problem) = attach(context, socket, (&session.fanout, &missing)).await {
        tracing::warn!(socket = %socket.id(), %problem.message, "not in all of its rooms");
    }
}

fn refusal(problem: Problem) -> ConnectError {
    metrics::CONNECT_ERRORS.of(problem.code).add(1);
    ConnectError {
        data: super::problem_data(&problem),
        message: problem.message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_claims_of_one_room_are_joined() {
        for (claim, is_one) in [
            ("course:bio-101", true),
            ("building:7", true),
            ("course:*", false),
            ("course:bio-*", false),
            ("conversation:1", false),
            ("user:bob", false),
            ("*", false),
        ] {
            assert_eq!(is_one_group(claim), is_one, "{claim}");
        }
    }
}
