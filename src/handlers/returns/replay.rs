//! What a client missed, into its outbox: behind the answer to CONNECT, before what is live.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::watching;
use crate::delivery::catchup::{Catchup, Missed};
use crate::handlers::{Context, Session};
use crate::protocol::frame::Frame;
use crate::protocol::socketio::encode;
use crate::rooms::Hold;
use crate::server::{Json, Socket};
use crate::telemetry::metrics;
use crate::timeline::Vector;
use crate::types::RoomName;

/// What a socket is to be sent first.
pub(in crate::handlers) struct Replay {
    pub(super) hold: Hold,
    pub(super) missed: Vec<Arc<Missed>>,
    /// What the client has seen, of the shards of its rooms.
    pub(super) seen: Vector,
    /// Whom it watched.
    pub(super) watched: Vec<RoomName>,
}

/// Why a client begins anew.
#[derive(Serialize)]
struct Failed {
    reason: &'static str,
}

/// Events sent before it is looked whether the client takes them.
const AT_ONCE: usize = 256;
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Sends a socket that has entered what its client missed, or tells it why it begins anew.
pub(in crate::handlers) fn deliver(context: &Arc<Context>, socket: &Socket) {
    let Some(session) = socket.data::<Session>() else {
        return;
    };
    if let Some(reason) = session.not_resumed.get() {
        socket.emit("recovery:failed", Json(Failed { reason }));
    }
    let taken = session.replay.take();
    let Some(mut replay) = taken else { return };
    watching::again(
        context,
        socket,
        session,
        std::mem::take(&mut replay.watched),
    );
    metrics::RECOVERY_REPLAYED.add(replay.missed.len() as u64);
    let catchup = &context.returns.catchup;
    if replay.missed.len() <= AT_ONCE {
        let frames = frames(catchup, &mut replay.seen, &replay.missed);
        replay.hold.release(frames);
        return;
    }
    let catchup = catchup.clone();
    socket.spawn(async move { in_parts(&catchup, replay).await });
}

async fn in_parts(catchup: &Catchup, mut replay: Replay) {
    let missed = Rc::<[Arc<Missed>]>::from(replay.missed);
    let mut parts = missed.chunks(AT_ONCE).peekable();
    while let Some(part) = parts.next() {
        let frames = frames(catchup, &mut replay.seen, part);
        if parts.peek().is_none() {
            replay.hold.release(frames);
            return;
        }
        replay.hold.send_first(frames);
        while !replay.hold.is_drained() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Each with what this client has seen once it has seen it.
fn frames(catchup: &Catchup, seen: &mut Vector, missed: &[Arc<Missed>]) -> Vec<Frame> {
    let frame = |missed: &Arc<Missed>| {
        // There are no more shards than a vector holds.
        seen.advance(missed.shard, missed.at).ok();
        let shown = catchup.shown(missed)?;
        let offset = seen.to_string();
        Some(encode::event_with_offset(
            "/",
            &shown.event,
            &shown.json,
            &offset,
        ))
    };
    missed.iter().filter_map(frame).collect()
}
