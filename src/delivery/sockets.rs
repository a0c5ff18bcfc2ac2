//! Which sockets are in a room, over all nodes.
//!
//! Every live node is asked over the internal listener and answers for itself; who does not answer in time
//! is named, so that nobody takes a part for the whole.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cluster::internal::Peers;
use crate::delivery::fanout::is_of_token;
use crate::server::{Io, SocketInfo};
use crate::types::{NodeId, RoomName};

/// Where nodes ask each other.
pub const TARGET: &str = "/sockets";

/// How long the other nodes have.
const WITHIN: Duration = Duration::from_secs(2);
/// Sockets of one worker in an answer. More than this is a crowd, of which nobody wants a list.
const SOCKETS_MAX: usize = 1_000;

#[derive(Debug, Serialize, Deserialize)]
struct Question {
    room: RoomName,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Own {
    sockets: Vec<SocketInfo>,
    has_more: bool,
}

/// A socket and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Located {
    /// Its node; `None` where there is only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// The socket.
    #[serde(flatten)]
    pub socket: SocketInfo,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Found {
    /// The sockets, those of this node first.
    pub sockets: Vec<Located>,
    /// Whether that is all of them.
    pub complete: bool,
    /// The nodes that did not answer.
    pub missing: Vec<NodeId>,
}

/// The sockets in a room, of this node and of those that `peers` knows.
pub async fn in_room(io: &Io, peers: Option<&Peers>, room: &RoomName) -> Found {
    let own = here(io, room).await;
    let Some(peers) = peers else {
        return found(vec![(None, own)], Vec::new());
    };
    let question = Question { room: room.clone() };
    let body = serde_json::to_vec(&question).unwrap_or_default();
    let gathered = peers.ask_all(TARGET, Bytes::from(body), WITHIN).await;
    let mut missing = gathered.missing;
    let mut all = vec![(Some(peers.nodes().me().clone()), own)];
    for (node, answer) in gathered.answers {
        match serde_json::from_slice::<Own>(&answer) {
            Ok(own) => all.push((Some(node), own)),
            Err(error) => {
                tracing::warn!(%node, %error, "a node's answer cannot be read");
                missing.push(node);
            }
        }
    }
    found(all, missing)
}

/// What another node's question is answered; `None` when it cannot be read.
pub async fn answer(io: &Io, question: &[u8]) -> Option<Bytes> {
    let question: Question = serde_json::from_slice(question).ok()?;
    let own = here(io, &question.room).await;
    serde_json::to_vec(&own).ok().map(Bytes::from)
}

async fn here(io: &Io, room: &RoomName) -> Own {
    let (mut sockets, has_more) = io.to(room.as_str()).fetch_sockets(SOCKETS_MAX).await;
    for socket in &mut sockets {
        // The room of a token names its id, which is nobody's business.
        socket.rooms.retain(|room| !is_of_token(room));
    }
    Own { sockets, has_more }
}

fn found(all: Vec<(Option<NodeId>, Own)>, missing: Vec<NodeId>) -> Found {
    let mut found = Found {
        complete: missing.is_empty(),
        missing,
        sockets: Vec::new(),
    };
    for (node, own) in all {
        found.complete &= !own.has_more;
        let located = own.sockets.into_iter().map(|socket| Located {
            node: node.clone(),
            socket,
        });
        found.sockets.extend(located);
    }
    found
}
