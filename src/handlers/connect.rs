//! CONNECT: who is this, and the rooms everybody is in.
//!
//! A socket is in its own rooms before its CONNECT is answered, so that nothing that comes to them
//! after the answer is missed. What comes to them before it waits behind it. A revocation or an
//! enrolment may overtake a socket that nobody can find yet: both are asked about once more when it
//! can be found.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout, timeout_at};

use super::returns::{self, Asked, NotResumed};
use super::watch::{Watch, end_if_refused};
use super::{Context, Session, now, presence};
use crate::auth::{Credentials, Identity};
use crate::cluster::recovery::Joined;
use crate::delivery::degraded;
use crate::delivery::fanout::{Fanout, token_room, user_room};
use crate::server::{ConnectError, Namespace, Socket};
use crate::telemetry::labels::{Label as _, Resumed};
use crate::telemetry::metrics;
use crate::types::{Code, Problem, RoomName};

/// Rooms that a socket is put into by itself; more courses than that are joined on request.
const OWN_ROOMS_MAX: usize = 64;
/// How long the bus may take to confirm the subscriptions.
const ATTACH_WITHIN: Duration = Duration::from_secs(5);
/// How often is looked whether a shard that does not answer is away.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often is looked whether a socket that waits for its rooms is still there.
const LATER_LOOK_EVERY: Duration = Duration::from_secs(2);

pub(super) fn register(namespace: &mut Namespace, context: &Arc<Context>) {
    let asked = Arc::clone(context);
    namespace.middleware(move |socket, auth| {
        let context = Arc::clone(&asked);
        async move { in_turn(&context, &socket, auth.as_deref()).await }
    });
    let here = Arc::clone(context);
    namespace.on_connect(move |socket| {
        presence::came(&here, socket);
        entered(&here, socket);
        returns::deliver(&here, socket);
        if is_superseded(socket) {
            returns::take_over(socket);
            return;
        }
        degraded::tell_one(socket, &here.health);
    });
    let context = Arc::clone(context);
    namespace.on_disconnecting(move |socket, reason| {
        presence::went(&context, socket, reason);
        metrics::SOCKETS_OPEN.down();
        metrics::SOCKETS_CLOSED.of(reason).add(1);
        if let Some(session) = socket.data::<Session>() {
            session.typing.end(socket);
            returns::ended(&context, socket, &session, reason);
        }
    });
}

/// Lets a socket in when it is its turn.
async fn in_turn(
    context: &Context,
    socket: &Socket,
    auth: Option<&RawValue>,
) -> Result<(), ConnectError> {
    let asked = returns::asked(auth).filter(|_| context.returns.is_on());
    // Held until the answer is known.
    let Some(_turn) = context.admission.pass(asked.is_some()).await else {
        let problem = Problem::new(
            Code::Overloaded,
            "too many clients come at once; come again",
        );
        return Err(problem.retry_after(context.admission.again_after()).into());
    };
    if socket.has_ended() {
        // Nobody reads the answer; and its client may be back elsewhere by now, where it must be left alone.
        return Ok(());
    }
    enter(context, socket, (auth, asked)).await
}

async fn enter(
    context: &Context,
    socket: &Socket,
    (auth, asked): (Option<&RawValue>, Option<Asked>),
) -> Result<(), ConnectError> {
    let handshake = socket.handshake();
    let credentials = Credentials {
        auth: auth.map(RawValue::get),
        authorization: handshake.header("authorization"),
        cookie: handshake.header("cookie"),
    };
    let identity = context
        .authenticator
        .authenticate(&credentials, now())
        .await
        .map_err(Problem::from)?;
    context.accounts.check(&identity, now()).await?;
    let fanout = socket
        .local()
        .part::<Fanout>()
        .ok_or_else(|| Problem::new(Code::Unavailable, "this node is starting; try again"))?;
    let rooms = own_rooms(context, &identity).await?;
    tracing::debug!(socket = %socket.id(), user = %identity.user(), "connected");
    let by_token = identity.token_id().and_then(token_room);
    let mut not_resumed = socket.not_resumed();
    if let Some(asked) = asked
        && not_resumed.is_none()
    {
        if socket.has_ended() {
            return Ok(());
        }
        let who = (socket, identity.clone());
        let resumed = returns::resume(context, who, &fanout, (asked, &rooms)).await;
        match resumed {
            Ok(Ok(())) => {
                metrics::RECOVERY_RESUMES.of(Resumed::Recovered).add(1);
                by_token.map(|room| socket.join(&room));
                return Ok(());
            }
            Ok(Err(reason)) => match came_anew(reason) {
                (reason, false) => not_resumed = Some(reason),
                (reason, true) => {
                    return Err(ConnectError {
                        begins_anew: Some(reason),
                        ..ConnectError::new("the socket begins anew")
                    });
                }
            },
            Err(problem) => {
                metrics::RECOVERY_RESUMES.of(Resumed::Abandoned).add(1);
                return Err(problem.into());
            }
        }
    }
    let session = Session::new(identity, Rc::clone(&fanout));
    session.not_resumed.set(not_resumed);
    if let Some(kept) = returns::Kept::new(&context.returns) {
        session.kept.get_or_init(|| kept);
    }
    socket.set_data(session);
    if !socket.admit() {
        // It ended meanwhile: nobody reads the answer.
        return Ok(());
    }
    if let Some(room) = by_token {
        socket.join(&room);
    }
    attach(context, socket, (&fanout, &rooms)).await?;
    if let Some(session) = socket.data::<Session>() {
        returns::begin(context, socket, &session).await;
    }
    Ok(())
}

/// The reason, and whether another socket has to be made.
fn came_anew(reason: NotResumed) -> (&'static str, bool) {
    let (reason, is_another) = match reason {
        NotResumed::Before(reason) => (reason, false),
        NotResumed::After(reason) => (reason, true),
    };
    metrics::RECOVERY_RESUMES.of(reason).add(1);
    (Resumed::VALUES[reason.index()], is_another)
}

/// Whether its client has come back elsewhere while it was entering.
fn is_superseded(socket: &Socket) -> bool {
    let watch = socket.local().part::<Watch>();
    watch.is_some_and(|watch| watch.is_superseded(socket))
}

/// Puts a socket into rooms, at a place in each one's stream. Nothing to catch up: a socket that
/// just came has missed nothing of them.
///
/// Rooms of shards that are known to be away are not waited for: stock clients that are refused do not come
/// back by themselves. The socket is told what does not work, and is in those rooms as soon as it works.
async fn attach(
    context: &Context,
    socket: &Socket,
    (fanout, rooms): (&Rc<Fanout>, &[RoomName]),
) -> Result<(), Problem> {
    let mut missing: HashSet<&RoomName> = rooms.iter().collect();
    let attaching = rooms.iter().map(|room| {
        let (fanout, socket, room) = (Rc::clone(fanout), socket.clone(), room.clone());
        let shard = context.timeline.shard_of(&room);
        let context = context.clone();
        async move {
            let attached = fanout.attach(&socket, &room, shard).await;
            if let Some(attached) = &attached {
                let (shard, at) = (attached.shard, attached.at);
                returns::moved_in(&context, &socket, &room, Joined { shard, at });
            }
            (room, attached.is_some())
        }
    });
    let mut attaching: FuturesUnordered<_> = attaching.collect();
    let end = Instant::now() + ATTACH_WITHIN;
    while !missing.iter().all(|room| context.is_away(room)) {
        let look = end.min(Instant::now() + LOOK_EVERY);
        match timeout_at(look, attaching.next()).await {
            Ok(Some((room, true))) => missing.remove(&room),
            Err(_elapsed) if Instant::now() < end => continue,
            Ok(Some((_, false)) | None) | Err(_) => {
                let message = "the user's rooms cannot be joined right now; try again";
                let problem = Problem::new(Code::Unavailable, message);
                return Err(problem.retry_after(Duration::from_secs(1)));
            }
        };
    }
    if !missing.is_empty() {
        socket.spawn(attach_later(socket.clone(), attaching));
    }
    Ok(())
}

/// Waits for what puts a socket into rooms, as long as there is a socket.
async fn attach_later<F>(socket: Socket, mut attaching: FuturesUnordered<F>)
where
    F: Future<Output = (RoomName, bool)>,
{
    while !socket.has_ended() {
        if let Ok(None) = timeout(LATER_LOOK_EVERY, attaching.next()).await {
            return;
        }
    }
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
        returns::moved(context, socket, room, None);
    }
    let missing: Vec<_> = own
        .into_iter()
        .filter(|room| !before.contains(room))
        .collect();
    if let Err(problem) = attach(context, socket, (&session.fanout, &missing)).await {
        tracing::warn!(socket = %socket.id(), %problem.message, "not in all of its rooms");
    }
}

impl From<Problem> for ConnectError {
    fn from(problem: Problem) -> Self {
        metrics::CONNECT_ERRORS.of(problem.code).add(1);
        Self {
            data: super::problem_data(&problem),
            is_passing: matches!(problem.code, Code::Unavailable | Code::Overloaded),
            begins_anew: None,
            message: problem.message,
        }
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
