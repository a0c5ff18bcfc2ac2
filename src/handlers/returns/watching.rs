//! Whom a socket watches: kept with its rooms, watched again when its client comes back.
//!
//! What came and went meanwhile is kept nowhere, so the client is told how everybody stands instead.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::{WRITTEN_WITHIN, write_all};
use crate::cluster::recovery::{Joined, Written};
use crate::handlers::{Context, Session, presence};
use crate::server::{Json, Socket};
use crate::types::{Code, ConversationId, Problem, RoomName, ShardId, ShardPosition, UserId};

/// A crowd, as its changes are told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Crowd<'a> {
    conversation_id: &'a ConversationId,
    online: usize,
    changes: [(); 0],
}

/// Nothing that is told in these rooms has a place.
const NO_PLACE: Joined = Joined {
    shard: ShardId(0),
    at: ShardPosition {
        epoch: crate::types::Epoch(0),
        shard_seq: crate::types::ShardSeq(0),
    },
};

/// A socket watches these from now on.
///
/// # Errors
/// `unavailable` when that could not be written.
pub(in crate::handlers) async fn watched(
    context: &Context,
    (socket, session): (&Socket, &Session),
    rooms: &[RoomName],
) -> Result<(), Problem> {
    let Some(kept) = session.kept.get().filter(|kept| kept.is_written()) else {
        return Ok(());
    };
    let new = rooms.iter().filter(|room| kept.note(room, NO_PLACE));
    if new.count() == 0 {
        return Ok(());
    }
    let written = tokio::time::timeout(WRITTEN_WITHIN, write_all(context, socket, session)).await;
    if written == Ok(Ok(Written::Kept)) {
        return Ok(());
    }
    for room in rooms {
        kept.forget(room);
    }
    let message = "whom the socket watches cannot be written down right now; try again";
    Err(Problem::new(Code::Unavailable, message).retry_after(Duration::from_secs(1)))
}

/// It watches these no more.
pub(in crate::handlers) fn unwatched(context: &Context, socket: &Socket, rooms: Vec<RoomName>) {
    let Some(session) = socket.data::<Session>() else {
        return;
    };
    let Some(kept) = session.kept.get().filter(|kept| kept.is_written()) else {
        return;
    };
    if rooms.iter().filter(|room| kept.forget(room)).count() == 0 {
        return;
    }
    let (context, other) = (context.clone(), socket.clone());
    socket.spawn(async move {
        if let Err(error) = write_all(&context, &other, &session).await {
            tracing::debug!(%error, "whom a socket watches no more was not written");
        }
    });
}

/// Watches them again, of whom the user may know, and says how they stand.
pub(super) fn again(
    context: &Arc<Context>,
    socket: &Socket,
    session: Rc<Session>,
    rooms: Vec<RoomName>,
) {
    if rooms.is_empty() {
        return;
    }
    let (context, other) = (Arc::clone(context), socket.clone());
    socket.spawn(async move {
        if let Err(problem) = all_again(&context, (&other, &session), &rooms).await {
            tracing::debug!(socket = %other.id(), %problem, "whom it watched it does not watch any more");
        }
    });
}

async fn all_again(
    context: &Context,
    watcher: (&Socket, &Session),
    rooms: &[RoomName],
) -> Result<(), Problem> {
    let after = |room: &RoomName, kind: &str| room.as_str().strip_prefix(kind).map(str::to_owned);
    let users = rooms.iter().filter_map(|room| after(room, "presence:"));
    let users: Vec<UserId> = users.filter_map(|user| UserId::parse(&user).ok()).collect();
    let told = presence::subscribe_users(context, watcher, users.clone()).await?;
    for state in &told {
        watcher.0.emit("presence:state", Json(state));
    }
    let crowds = rooms.iter().filter_map(|room| after(room, "crowd:"));
    for id in crowds.filter_map(|id| ConversationId::parse(&id).ok()) {
        let online = presence::online(context, watcher, id.clone()).await?;
        let crowd = Crowd {
            conversation_id: &id,
            online,
            changes: [],
        };
        watcher.0.emit("presence:state", Json(crowd));
    }
    if told.is_empty() {
        return Ok(());
    }
    // What changed while the rooms were not heard yet, or is known here a moment later, nobody tells again.
    tokio::time::sleep(HEARD_WITHIN).await;
    let (socket, session) = watcher;
    let member = socket.member();
    let is_watched =
        |user: &UserId| presence::room(user).is_some_and(|room| member.is_in(room.as_str()));
    let users = users.into_iter().filter(is_watched).collect();
    let (now, _) = presence::states(context, &session.identity, users).await?;
    for state in now {
        let is_told =
            |one: &presence::State| one.user_id == state.user_id && one.online == state.online;
        if !told.iter().any(is_told) {
            watcher.0.emit("presence:state", Json(state));
        }
    }
    Ok(())
}

/// By then a room is heard, and what is remembered of a user is asked anew.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
