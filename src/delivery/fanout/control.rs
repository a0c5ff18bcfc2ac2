//! Control words: whom to close, whom to put where.

use std::rc::Rc;

use super::{Fanout, NAMESPACE, Waiting, rooms_counted};
use crate::cluster::control::Control;
use crate::cluster::recovery::Joined;
use crate::rooms::{Member, Reach};
use crate::server::Socket;
use crate::types::{CloseReason, RoomName, ShardId, UserId};

/// What a control word needs of the rest of the node.
pub struct Duties {
    /// Which shard orders a room.
    pub shard_of: Box<dyn Fn(&RoomName) -> ShardId>,
    /// Rooms that one socket may be in.
    pub rooms_max: usize,
    /// Told of [`Control::TakeOver`], [`Control::Forget`] and [`Control::Recheck`].
    pub others: Box<dyn Fn(&Control)>,
    /// Told that a socket was put into a room at a place, or taken out of it (`None`).
    pub moved: Box<Moved>,
}

/// A socket, a room, and where in its shard the socket joined it; nowhere if it left.
pub type Moved = dyn Fn(&Socket, &RoomName, Option<Joined>);

/// What of a token's id its room is named by.
const TOKEN_BYTES_MAX: usize = 200;

impl Fanout {
    /// Says how to do what control words ask; before [`run`](Self::run), once. Without it sockets are
    /// closed all the same.
    pub fn on_control(&self, duties: Duties) {
        drop(self.duties.set(duties));
    }

    pub(super) fn control(&self, control: &Control) {
        match control {
            Control::CloseToken(token) => {
                close(self.members(token_room(token)));
            }
            Control::CloseUser { user, except } => {
                let spared = except.as_deref().and_then(token_room);
                let mut members = self.members(user_room(user));
                members.retain(|member| {
                    spared
                        .as_ref()
                        .is_none_or(|room| !member.is_in(room.as_str()))
                });
                close(members);
            }
            Control::CloseRoom(room) => close(self.members(Some(room.clone()))),
            Control::JoinRoom { user, room } => self.put(&self.members(user_room(user)), room),
            Control::LeaveRoom { user, room } => {
                self.take_out(&self.members(user_room(user)), room);
            }
            Control::TakeOver { .. } | Control::Forget { .. } | Control::Recheck => {
                if let Some(duties) = self.duties.get() {
                    (duties.others)(control);
                }
            }
        }
    }

    pub(super) fn moved(&self, socket: &Socket, room: &RoomName, joined: Option<Joined>) {
        if let Some(duties) = self.duties.get() {
            (duties.moved)(socket, room, joined);
        }
    }

    pub(super) fn members(&self, room: Option<RoomName>) -> Vec<Rc<Member>> {
        let reach = room.map(|room| Reach {
            namespace: NAMESPACE,
            to: vec![room],
            except: Vec::new(),
        });
        reach.map_or_else(Vec::new, |reach| self.hub.reached(&reach))
    }

    /// Attaches sockets to a room, each at a place in the stream as a join does; they have nothing to
    /// catch up.
    pub fn put(&self, members: &[Rc<Member>], room: &RoomName) {
        let Some(duties) = self.duties.get() else {
            return;
        };
        for member in members {
            if member.is_in(room.as_str()) {
                continue;
            }
            if rooms_counted(member) >= duties.rooms_max {
                tracing::warn!(socket = %member.id(), %room, "a socket is in too many rooms to be put into another");
                continue;
            }
            if let Some(socket) = Socket::of(member) {
                let room = room.clone();
                let shard = (duties.shard_of)(&room);
                let reply = None;
                self.ask(
                    Waiting {
                        socket,
                        room,
                        reply,
                    },
                    shard,
                );
            }
        }
    }

    /// Takes sockets out of a room, also those that are about to be in it: their tick is behind this
    /// word in the stream.
    pub fn take_out(&self, members: &[Rc<Member>], room: &RoomName) {
        for member in members {
            let has_left = self.hub.leave(member, room.as_str()).is_some();
            if has_left && let Some(socket) = Socket::of(member) {
                self.moved(&socket, room, None);
            }
        }
        self.waiting.borrow_mut().retain(|_, waiting| {
            let is_theirs = |member: &Rc<Member>| Rc::ptr_eq(member, waiting.socket.member());
            waiting.room != *room || !members.iter().any(is_theirs)
        });
    }
}

/// The room of the sockets that one token opened. Never subscribed: nothing is published to it.
#[must_use]
pub fn token_room(token_id: &str) -> Option<RoomName> {
    // A foreign id may be longer than a room's name.
    let short = &token_id[..token_id.floor_char_boundary(TOKEN_BYTES_MAX)];
    RoomName::parse(&format!("token:{short}")).ok()
}

/// Whether a room is that of a token, which others must not see.
#[must_use]
pub fn is_of_token(room: &RoomName) -> bool {
    room.as_str().starts_with("token:")
}

/// The room of a user's sockets.
#[must_use]
pub fn user_room(user: &UserId) -> Option<RoomName> {
    RoomName::parse(&format!("user:{user}")).ok()
}

fn close(members: Vec<Rc<Member>>) {
    for socket in members.iter().filter_map(|member| Socket::of(member)) {
        // The client is told first; one that does not read is cut all the same.
        socket.close(CloseReason::ForcedServerClose);
    }
}
