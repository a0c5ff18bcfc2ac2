//! `/api/rooms/{room}/sockets`: who is in a room, over all nodes; and putting all of them out.

use http::{Method, Request};
use hyper::body::Incoming;
use serde::Serialize;

use super::events::require;
use super::{Answer, Api, problem, request};
use crate::cluster::control::Control;
use crate::cluster::internal::Peers;
use crate::delivery::sockets;
use crate::server::current;
use crate::types::{Code, Problem, RoomName};

/// Scope of tokens that may look into rooms.
const READ: &str = "rooms:read";
/// Scope of tokens that may close a room's sockets.
const WRITE: &str = "rooms:write";

#[derive(Serialize)]
struct Told {
    ok: bool,
}

impl Api {
    pub(super) async fn room_sockets(&self, request: Request<Incoming>, room: &str) -> Answer {
        let identity = self.identity(request.headers()).await?;
        let is_reading = *request.method() == Method::GET;
        require(&identity, if is_reading { READ } else { WRITE })?;
        let room = request::segment(room, "room")?;
        let room =
            RoomName::parse(&room).map_err(|error| Problem::field("room", error.to_string()))?;
        if is_reading {
            let here = current(|local| (local.io().clone(), local.part::<Peers>()));
            let (io, peers) =
                here.ok_or_else(|| Problem::new(Code::Internal, "asked outside of a worker"))?;
            let found = sockets::in_room(&io, peers.as_deref(), &room).await;
            return Ok(problem::json(&found));
        }
        // Every node hears of it at once, and closes its own.
        self.context.bus.control(Control::CloseRoom(room));
        Ok(problem::json(&Told { ok: true }))
    }
}
