//! What a client's socket was, for the case that its client comes back: whose it is, its id, its rooms and where
//! it joined each.
//!
//! It is kept from the moment of each join and leave, not from a disconnect that somebody noticed, so that
//! it outlives the node. Whoever takes a socket over raises its *generation*: what its owner before still
//! writes changes nothing. It is forgotten some time after its last owner was heard of.
//!
//! Not here: what was missed meanwhile (`delivery::catchup`), and whether the client may come back (the
//! handlers).

mod memory;
pub mod redis;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use self::memory::Memory;
use self::redis::Shared;
use crate::backend::redis::Shards;
use crate::types::{
    Kind, Position, PrivateId, RoomName, ShardId, ShardPosition, ShardSeq, SocketId, UserId,
};

/// Where in its shard's stream a socket joined a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// The shard that the room was on.
    pub shard: ShardId,
    /// The place in its stream: what is after it is for the socket.
    pub at: ShardPosition,
}

/// `SHARD/EPOCH-SHARD_SEQ`.
impl fmt::Display for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, at } = self;
        write!(f, "{shard}/{}-{}", at.epoch, at.shard_seq)
    }
}

impl FromStr for Joined {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let none = "a place of a join is SHARD/EPOCH-SHARD_SEQ";
        let (shard, at) = text.split_once('/').ok_or(none)?;
        let Position { epoch, seq } = at.parse().map_err(|_| none)?;
        Ok(Self {
            shard: ShardId(shard.parse().map_err(|_| none)?),
            at: ShardPosition {
                epoch,
                shard_seq: ShardSeq(seq.0),
            },
        })
    }
}

/// What is kept of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Whose it is.
    pub user: UserId,
    /// Its public id.
    pub socket: SocketId,
    /// Its rooms.
    pub rooms: Vec<(RoomName, Joined)>,
}

/// Who owns a socket: the worker of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A worker of this process.
    Here(usize),
    /// Another process.
    Elsewhere,
    /// Nobody any more.
    Nobody,
}

/// What became of an attempt to take a socket over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is the caller's now.
    Yes {
        /// What the caller's writes carry from now on.
        generation: u64,
        /// What was kept of it.
        saved: Saved,
        /// Whose it was until now.
        before: Owner,
    },
    /// Nothing is kept under this id for this user.
    Unknown,
    /// What is kept was written before its shard may have lost writes.
    Untrusted,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is kept.
    Kept,
    /// Somebody else has taken the socket over: nothing was changed.
    TakenOver,
    /// Nothing that counts is kept any more: [`begin`](Recovery::begin) again, with everything.
    Gone,
    /// There is no room for another one.
    Full,
}

/// Why it is not known what became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The shard does not answer.
    #[error("shard {shard} does not answer")]
    Unavailable {
        /// Which one.
        shard: ShardId,
    },
}

impl Error {
    /// Whose fault it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind::Unavailable
    }

    /// Whether the same call can succeed later.
    #[must_use]
    pub const fn retry(&self) -> bool {
        true
    }
}

/// How often owners say that their sockets live.
#[must_use]
pub fn touch_every(window: Duration) -> Duration {
    (window / 4).clamp(Duration::from_millis(200), Duration::from_secs(15))
}

/// The port. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Recovery {
    /// Nothing is kept: clients that come back begin anew.
    Off,
    /// In this process, for as long as it lives.
    Memory(Memory),
    /// On the shards, for all nodes.
    Redis(Shared),
}

impl Recovery {
    /// In this process: at most `count_max` sockets, each for `window` after it ended.
    #[must_use]
    pub fn memory(window: Duration, count_max: usize) -> Self {
        Self::Memory(Memory::new(window, count_max))
    }

    /// On shards that load [`LIBRARY`](self::redis::LIBRARY): each socket for at least `window` after its
    /// owner was heard of.
    #[must_use]
    pub fn redis(shards: Shards, window: Duration) -> Self {
        Self::Redis(Shared::new(shards, window))
    }

    /// Whether anything is kept.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !matches!(self, Self::Off)
    }

    /// The shard that keeps what is under an id, where shards do.
    #[must_use]
    pub fn shard_of(&self, id: &PrivateId) -> Option<ShardId> {
        match self {
            Self::Redis(shared) => Some(shared.shard_of(id)),
            Self::Off | Self::Memory(_) => None,
        }
    }

    /// Keeps everything that a socket is, unless somebody has taken it over. `worker`: its owner here.
    pub async fn begin(
        &self,
        (id, generation): (&PrivateId, u64),
        saved: &Saved,
        worker: usize,
    ) -> Result<Written, Error> {
        match self {
            Self::Off => Ok(Written::Full),
            Self::Memory(memory) => Ok(memory.begin((id, generation), saved, worker)),
            Self::Redis(shared) => shared.begin((id, generation), saved, worker).await,
        }
    }

    /// A socket joined a room at a place, or left it (`None`).
    pub async fn change(
        &self,
        (id, generation): (&PrivateId, u64),
        room: &RoomName,
        joined: Option<Joined>,
    ) -> Result<Written, Error> {
        match self {
            Self::Off => Ok(Written::Gone),
            Self::Memory(memory) => Ok(memory.change((id, generation), room, joined)),
            Self::Redis(shared) => shared.change((id, generation), room, joined).await,
        }
    }

    /// Takes a user's socket over, for a worker of this process.
    pub async fn take(&self, id: &PrivateId, user: &UserId, worker: usize) -> Result<Taken, Error> {
        match self {
            Self::Off => Ok(Taken::Unknown),
            Self::Memory(memory) => Ok(memory.take(id, user, worker)),
            Self::Redis(shared) => shared.take(id, user, worker).await,
        }
    }

    /// These sockets live; one answer for each.
    pub async fn touch(&self, sockets: &[(PrivateId, u64)]) -> Vec<Result<Written, Error>> {
        match self {
            Self::Off => vec![Ok(Written::Kept); sockets.len()],
            Self::Memory(memory) => memory.touch(sockets),
            Self::Redis(shared) => shared.touch(sockets).await,
        }
    }

    /// A socket ended; nothing of it is kept if its client is not to come back (`is_over`).
    pub async fn end(
        &self,
        (id, generation): (&PrivateId, u64),
        is_over: bool,
    ) -> Result<(), Error> {
        match self {
            Self::Off => Ok(()),
            Self::Memory(memory) => {
                memory.end((id, generation), is_over);
                Ok(())
            }
            Self::Redis(shared) => shared.end((id, generation), is_over).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Epoch;

    #[test]
    fn a_place_of_a_join_reads_back() {
        let joined = Joined {
            shard: ShardId(7),
            at: ShardPosition {
                epoch: Epoch(2),
                shard_seq: ShardSeq(40),
            },
        };
        assert_eq!(joined.to_string(), "7/2-40");
        assert_eq!("7/2-40".parse(), Ok(joined));
        for bad in ["", "7", "7/", "x/2-40", "7/2-x"] {
            assert!(bad.parse::<Joined>().is_err(), "{bad}");
        }
    }
}
