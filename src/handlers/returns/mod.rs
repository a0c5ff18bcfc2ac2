//! Clients that come back: what is kept of each socket, and giving it back.
//!
//! What a socket is, is written before its client is told of it: the rooms of its CONNECT before the answer,
//! each later join before its own. So whatever a client knows of is there when its node is lost. A socket
//! whose place cannot be written works as any other; its client is not given a private id and begins anew
//! when it comes back.

mod kept;
mod replay;
mod resume;
mod watching;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use super::{Context, Session};
use crate::cluster::recovery::{self, Error, Joined, Recovery, Written};
use crate::config;
use crate::delivery::catchup::Catchup;
use crate::server::Socket;
use crate::telemetry::metrics;
use crate::types::{CloseReason, Code, Problem, RoomName};

pub(super) use self::kept::Kept;
pub(super) use self::replay::{Replay, deliver};
pub(super) use self::resume::{Asked, NotResumed, asked, resume};
pub(super) use self::watching::{unwatched, watched};

/// What giving sockets back needs. Cheap to clone.
#[derive(Clone)]
pub struct Returns {
    recovery: Recovery,
    catchup: Catchup,
    window: Duration,
    sessions_max: usize,
    /// Sockets of this node that clients can come back to.
    count: Arc<AtomicUsize>,
}

impl Returns {
    /// By these; what was missed is found by `catchup`.
    #[must_use]
    pub fn new((recovery, section): (Recovery, &config::Recovery), catchup: Catchup) -> Self {
        Self {
            recovery,
            catchup,
            window: section.window.get(),
            sessions_max: section.sessions_max,
            count: Arc::default(),
        }
    }

    pub(super) const fn is_on(&self) -> bool {
        self.recovery.is_on()
    }

    /// How often sockets say that they live.
    pub(super) fn touch_every(&self) -> Duration {
        recovery::touch_every(self.window)
    }

    /// A place for one more socket, if there is one.
    fn place(&self) -> Option<Place> {
        if !self.is_on() {
            return None;
        }
        let place = Place(Arc::clone(&self.count));
        let others = self.count.fetch_add(1, Ordering::Relaxed);
        (others < self.sessions_max).then_some(place)
    }
}

/// One socket that its client can come back to.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sockets written at the same time when a shard has lost them.
const WRITTEN_AT_ONCE: usize = 64;
/// How long writing may take until a join is refused.
const WRITTEN_WITHIN: Duration = Duration::from_secs(3);

/// Writes a new socket with the rooms that it was put into. Without a shard that takes it, it goes without.
pub(super) async fn begin(context: &Context, socket: &Socket, session: &Session) {
    let Some(kept) = session.kept.get() else {
        return;
    };
    let written = tokio::time::timeout(WRITTEN_WITHIN, write_all(context, socket, session)).await;
    match written {
        Ok(Ok(Written::Kept)) => {
            kept.is_written.set(true);
            socket.set_private_id(kept.id.clone());
            // What came while it was written is written now.
            for (room, joined) in kept.unwritten() {
                moved(context, socket, &room, Some(joined));
            }
        }
        outcome => {
            tracing::debug!(socket = %socket.id(), ?outcome, "its client will not be able to come back to it");
        }
    }
}

async fn write_all(
    context: &Context,
    socket: &Socket,
    session: &Session,
) -> Result<Written, Error> {
    let Some(kept) = session.kept.get() else {
        return Ok(Written::Full);
    };
    let saved = kept.saved(socket, session.identity.user());
    let key = (&kept.id, kept.generation);
    let worker = socket.local().index();
    context.returns.recovery.begin(key, &saved, worker).await
}

/// A socket joined a room at a place. It stays at that place if it is in the room already: what it missed
/// is counted from there.
///
/// # Errors
/// `unavailable` when that could not be written: then the join must not be acknowledged.
pub(super) async fn joined(
    context: &Context,
    (socket, session): (&Socket, &Session),
    room: &RoomName,
    joined: Joined,
) -> Result<(), Problem> {
    let Some(kept) = session.kept.get().filter(|kept| kept.note(room, joined)) else {
        return Ok(());
    };
    if !kept.is_written.get() {
        return Ok(());
    }
    let written = change(context, (socket, session), room, Some(joined)).await;
    if written.is_err() {
        kept.forget(room);
    }
    written
}

/// A socket left a room. That nobody could write this down is no reason to keep it in.
pub(super) async fn left(
    context: &Context,
    (socket, session): (&Socket, &Session),
    room: &RoomName,
) {
    let Some(kept) = session.kept.get().filter(|kept| kept.forget(room)) else {
        return;
    };
    if !kept.is_written.get() {
        return;
    }
    if let Err(problem) = change(context, (socket, session), room, None).await {
        tracing::debug!(socket = %socket.id(), %room, %problem, "a leave was not written");
    }
}

/// A socket was put into a room when it connected, or later because the room's shard was away.
pub(super) fn moved_in(context: &Context, socket: &Socket, room: &RoomName, place: Joined) {
    let Some(session) = socket.data::<Session>() else {
        return;
    };
    match session.kept.get() {
        // It is in the first write.
        Some(kept) if !kept.is_written.get() => {
            kept.note(room, place);
        }
        Some(_) => moved(context, socket, room, Some(place)),
        None => {}
    }
}

/// A socket was put into a room, or taken out of it, by somebody else.
pub(super) fn moved(context: &Context, socket: &Socket, room: &RoomName, place: Option<Joined>) {
    let Some(session) = socket.data::<Session>() else {
        return;
    };
    if session.kept.get().is_none() {
        return;
    }
    let (context, other, room) = (context.clone(), socket.clone(), room.clone());
    socket.spawn(async move {
        match place {
            Some(place) => {
                let done = joined(&context, (&other, &session), &room, place).await;
                if let Err(problem) = done {
                    tracing::debug!(socket = %other.id(), %room, %problem, "a join was not written");
                }
            }
            None => left(&context, (&other, &session), &room).await,
        }
    });
}

async fn change(
    context: &Context,
    (socket, session): (&Socket, &Session),
    room: &RoomName,
    joined: Option<Joined>,
) -> Result<(), Problem> {
    let Some(kept) = session.kept.get() else {
        return Ok(());
    };
    let recovery = &context.returns.recovery;
    let writing = async {
        match recovery
            .change((&kept.id, kept.generation), room, joined)
            .await
        {
            // It expired, or its shard has lost it.
            Ok(Written::Gone) => write_all(context, socket, session).await,
            outcome => outcome,
        }
    };
    match tokio::time::timeout(WRITTEN_WITHIN, writing).await {
        Ok(Ok(Written::TakenOver)) => {
            take_over(socket);
            Err(Problem::new(
                Code::Conflict,
                "another connection has taken this socket over",
            ))
        }
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Problem::new(
            Code::Unavailable,
            "the socket's rooms cannot be written down right now; try again",
        )
        .retry_after(Duration::from_secs(1))),
    }
}

/// These sockets live; those that are not known any more are written anew.
pub(super) async fn touch(context: &Context, sockets: Vec<(Socket, Rc<Session>)>) {
    let kept = sockets.iter().map(|(_, session)| {
        let kept = session.kept.get();
        kept.map(|kept| (kept.id.clone(), kept.generation))
    });
    let Some(kept) = kept.collect::<Option<Vec<_>>>() else {
        return;
    };
    let touched = context.returns.recovery.touch(&kept).await;
    let touched = sockets.iter().zip(touched);
    let written = touched.map(async |((socket, session), touched)| {
        let written = match touched {
            Ok(Written::Gone) if socket.is_connected() => write_all(context, socket, session).await,
            outcome => outcome,
        };
        if written == Ok(Written::TakenOver) {
            take_over(socket);
        }
    });
    // After a shard was raised all of its sockets are written anew.
    stream::iter(written)
        .buffer_unordered(WRITTEN_AT_ONCE)
        .collect::<()>()
        .await;
}

/// Its client has come back elsewhere.
pub(super) fn take_over(socket: &Socket) {
    if !socket.has_ended() {
        metrics::RECOVERY_TAKEN_OVER.add(1);
        socket.taken_over();
    }
}

/// A socket has ended.
pub(super) fn ended(context: &Context, socket: &Socket, session: &Session, reason: CloseReason) {
    let Some(kept) = session.kept.get() else {
        return;
    };
    if !kept.is_written.get() || reason == CloseReason::TakenOver {
        return;
    }
    let recovery = context.returns.recovery.clone();
    let (id, generation) = (kept.id.clone(), kept.generation);
    socket.spawn(async move {
        let ended = recovery.end((&id, generation), is_over(reason)).await;
        if let Err(error) = ended {
            // It is forgotten when its time is over.
            tracing::debug!(%error, "the end of a socket was not written");
        }
    });
}

/// Whether who left like this does not come back to the same socket.
const fn is_over(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::ClientNamespaceDisconnect
            | CloseReason::ServerNamespaceDisconnect
            | CloseReason::ForcedServerClose
            | CloseReason::SessionRevoked
            | CloseReason::ParseError
    )
}
