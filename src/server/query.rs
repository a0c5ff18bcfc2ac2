//! Asking which sockets there are, from anywhere.

use std::net::IpAddr;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::io::Emitter;
use super::socket::Socket;
use crate::types::{RoomName, SocketId, Timestamp};

/// A socket as others may know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SocketInfo {
    /// Its public id.
    pub id: SocketId,
    /// The rooms it is in, without that of its own id.
    pub rooms: Vec<RoomName>,
    /// Its client's address.
    pub address: IpAddr,
    /// When its session was opened.
    pub since: Timestamp,
}

impl SocketInfo {
    fn of(socket: &Socket) -> Self {
        let handshake = socket.handshake();
        Self {
            id: socket.id().clone(),
            rooms: socket.rooms(),
            address: handshake.address,
            since: handshake.at,
        }
    }
}

impl Emitter {
    /// The sockets of this process that it reaches, at most `max` of each worker, and whether there
    /// are more. Each worker answers for the moment at which it is asked.
    pub async fn fetch_sockets(&self, max: usize) -> (Vec<SocketInfo>, bool) {
        if self.is_nobody() {
            return (Vec::new(), false);
        }
        let mailboxes = self.io.mailboxes();
        let asked = (0..mailboxes.all().len()).map(async |index| {
            let (reply, answer) = oneshot::channel();
            let reach = self.reach.clone();
            let is_asked = mailboxes.run(index, move |local| {
                let members = local.hub().reached(&reach);
                let sockets = members.iter().filter_map(|member| Socket::of(member));
                let found: Vec<_> = sockets
                    .take(max)
                    .map(|socket| SocketInfo::of(&socket))
                    .collect();
                // Nobody waits any more when the question was given up.
                drop(reply.send((found, members.len() > max)));
            });
            if is_asked.await {
                answer.await.ok()
            } else {
                None
            }
        });
        let answers = join_all(asked).await;
        let mut all = (Vec::new(), false);
        for (found, has_more) in answers.into_iter().flatten() {
            all.0.extend(found);
            all.1 |= has_more;
        }
        all
    }
}
