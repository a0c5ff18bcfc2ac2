//! Timelines on Redis shards: one function of `timeline.lua` is the point that orders a room.
//!
//! The ring says on which shard a room is. Each shard has one connection for these calls, which never
//! reconnects silently: a new connection first *enters* the shard (loads the functions, begins an epoch
//! if the server is another process than before), and only then are calls sent.
//!
//! Not here: hearing what is published (the bus), and bringing back what a shard lost.

mod keys;
mod reply;
mod shard;

use std::sync::Arc;

use crate::backend::redis as server;
use crate::placement::{Ring, RingError, Target};
use crate::timeline::entry::Source;
use crate::timeline::{Apply, Error, Limits, Outcome, Range};
use crate::types::{Epoch, Position, RoomName, ShardId, ShardPosition};
use shard::Shard;

/// One shard: its name on the ring, its share, its server.
#[derive(Debug, Clone)]
pub struct ShardOptions {
    /// Decides which rooms are on it; never changes.
    pub name: String,
    /// Its share of the rooms.
    pub weight: u32,
    /// Where it is.
    pub server: server::Options,
}

/// Timelines on shards. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Timeline(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ring: Ring,
    shards: Vec<Shard>,
}

impl Timeline {
    /// Timelines on these shards, numbered in this order. Each is entered now if it answers, else
    /// with the first call.
    ///
    /// # Errors
    /// When the shards cannot share a ring.
    pub async fn open(shards: Vec<ShardOptions>, limits: Limits) -> Result<Self, RingError> {
        let numbered = || (0..).map(ShardId).zip(&shards);
        let targets: Vec<Target> = numbered()
            .map(|(id, shard)| Target {
                id,
                name: shard.name.clone(),
                weight: shard.weight,
            })
            .collect();
        let ring = Ring::new(&targets)?;
        let shards: Vec<Shard> = numbered()
            .map(|(id, shard)| Shard::new(id, shard.server.clone(), limits))
            .collect();
        for shard in &shards {
            if let Err(error) = shard.enter().await {
                tracing::warn!(%error, "a shard does not answer; its rooms wait until it does");
            }
        }
        Ok(Self(Arc::new(Inner { ring, shards })))
    }

    pub(super) async fn apply(&self, apply: Apply) -> Result<Outcome, Error> {
        self.of(&apply.room).apply(apply).await
    }

    pub(super) async fn settled(
        &self,
        room: &RoomName,
        source: &Source,
        offset: u64,
    ) -> Result<(), Error> {
        self.of(room).settled(room, (source, offset)).await
    }

    pub(super) async fn range(
        &self,
        room: &RoomName,
        after: Position,
        up_to: ShardPosition,
        limit: usize,
    ) -> Result<Range, Error> {
        self.of(room).range(room, (after, up_to), limit).await
    }

    pub(super) async fn top(&self, room: &RoomName) -> Result<Position, Error> {
        self.of(room).room_top(room).await
    }

    pub(super) fn epoch(&self, shard: ShardId) -> Epoch {
        self.shard(shard).top().epoch
    }

    pub(super) fn shard_of(&self, room: &RoomName) -> ShardId {
        self.0.ring.shard_of(room.as_str())
    }

    /// The furthest place of a shard that this process was told of.
    pub(super) fn shard_top(&self, shard: ShardId) -> ShardPosition {
        self.shard(shard).top()
    }

    /// Answers `Moved` for a room to callers whose ring is older than `ring_version`.
    ///
    /// # Errors
    /// When the shard does not answer.
    pub async fn tombstone(&self, room: &RoomName, ring_version: u64) -> Result<(), Error> {
        self.of(room).tombstone(room, ring_version).await
    }

    fn of(&self, room: &RoomName) -> &Shard {
        self.shard(self.shard_of(room))
    }

    /// A shard that does not exist is answered for by the last, so that no id can cause a panic.
    fn shard(&self, shard: ShardId) -> &Shard {
        &self.0.shards[usize::from(shard.0).min(self.0.shards.len() - 1)]
    }
}
