//! CONNECT: who is this, and the rooms everybody is in.

use std::rc::Rc;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::{Context, Session, now};
use crate::auth::Credentials;
use crate::delivery::fanout::Fanout;
use crate::server::{ConnectError, Namespace, Socket};
use crate::telemetry::metrics;
use crate::types::{Code, Problem, RoomName};

pub(super) fn register(namespace: &mut Namespace, context: &Arc<Context>) {
    let context = Arc::clone(context);
    namespace.middleware(move |socket, auth| {
        let context = Arc::clone(&context);
        async move {
            enter(&context, &socket, auth.as_deref())
                .await
                .map_err(refusal)
        }
    });
    namespace.on_connect(join_own_rooms);
    namespace.on_disconnecting(|socket, reason| {
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
    let fanout = socket
        .local()
        .part::<Fanout>()
        .ok_or_else(|| Problem::new(Code::Unavailable, "this node is starting; try again"))?;
    tracing::debug!(socket = %socket.id(), user = %identity.user(), "connected");
    socket.set_data(Session::new(identity, fanout));
    Ok(())
}

fn refusal(problem: Problem) -> ConnectError {
    metrics::CONNECT_ERRORS.of(problem.code).add(1);
    ConnectError {
        data: super::problem_data(&problem),
        message: problem.message,
    }
}

/// The user's own room and the announcements for everybody.
fn join_own_rooms(socket: &Socket) {
    metrics::SOCKETS_OPEN.up();
    let Some(session) = socket.data::<Session>() else {
        return;
    };
    let own = RoomName::parse(&format!("user:{}", session.identity.user()));
    let everybody = RoomName::parse("global:announcements");
    for room in [own, everybody].into_iter().flatten() {
        let (socket, session) = (socket.clone(), Rc::clone(&session));
        socket.clone().spawn(async move {
            // Nothing to catch up: a socket that just came has missed nothing of these.
            drop(
                session
                    .fanout
                    .attach(&socket, &room, crate::types::ShardId(0))
                    .await,
            );
        });
    }
}
