//! What nodes tell each other's workers beside events: whom to close, where to put somebody, what to
//! forget. Whatever must hold is in the store. A worker that could not be told everything is told
//! [`Control::Recheck`] in its place, and looks it up there.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::types::{RoomName, SocketId, UserId};

/// A word to every worker of every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// Close the sockets that a token opened: logout, revocation.
    CloseToken(Arc<str>),
    /// Close all sockets of a user but those of one token: ban, password change.
    CloseUser {
        /// Whose.
        user: UserId,
        /// The token whose sockets stay.
        except: Option<Arc<str>>,
    },
    /// Close all sockets in a room.
    CloseRoom(RoomName),
    /// Put a user's live sockets into a room.
    JoinRoom {
        /// Whose.
        user: UserId,
        /// Where.
        room: RoomName,
    },
    /// Take a user's live sockets out of a room.
    LeaveRoom {
        /// Whose.
        user: UserId,
        /// From where.
        room: RoomName,
    },
    /// Its client has come back and taken a socket over: whoever still has it as it was in an earlier
    /// generation ends it.
    TakeOver {
        /// Which.
        socket: SocketId,
        /// That of the new owner.
        generation: u64,
    },
    /// Forget a cached value: the cache's name, the key.
    Forget {
        /// The cache.
        cache: Cow<'static, str>,
        /// The key.
        key: Arc<str>,
    },
    /// Words for this worker were lost: forget everything and ask the store about every socket.
    Recheck,
}
