//! Timelines on Redis shards: one function of `timeline.lua` is the point that orders a room.
//!
//! The ring says on which shard a room is. Each shard has one connection for these calls, which never
//! reconnects silently: a new connection first *enters* the shard (loads the functions, begins an epoch
//! if the server is another process than before), and only then are calls sent.
//!
//! Not here: hearing what is published (the bus), and bringing back what a shard lost.

mod gate;
mod keys;
mod link;
mod raise;
mod reply;
mod shard;

use std::sync::Arc;

use tokio::sync::Notify;

use crate::backend::redis as server;
use crate::placement::{Ring, RingError, Target};
use crate::timeline::{Apply, Error, Limits, Outcome, Range, Settle, Settlement};
use crate::types::{Epoch, Position, RoomName, ShardId, ShardPosition};
use shard::Shard;

pub use raise::Raise;
pub use server::ShardOptions;

/// How timelines are kept.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How much.
    pub limits: Limits,
    /// Whether somebody calls [`Timeline::begin_raise`] when [`Timeline::raise_needed`] says so. If not,
    /// a shard whose server is another process begins its next epoch with what it has.
    pub is_raised: bool,
    /// Replicas of each shard that must have an entry before it counts as settled.
    pub replicas: u32,
}

/// Timelines on shards. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Timeline(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ring: Ring,
    shards: Vec<Shard>,
    needs_raise: Arc<Notify>,
}

impl Timeline {
    /// Timelines on these shards, numbered in this order. Each is entered now if it answers, else
    /// with the first call.
    ///
    /// # Errors
    /// When the shards cannot share a ring.
    pub async fn open(shards: Vec<ShardOptions>, options: Options) -> Result<Self, RingError> {
        let numbered = || (0..).map(ShardId).zip(&shards);
        let targets: Vec<Target> = numbered()
            .map(|(id, shard)| Target {
                id,
                name: shard.name.clone(),
                weight: shard.weight,
            })
            .collect();
        let ring = Ring::new(&targets)?;
        let needs_raise = Arc::new(Notify::new());
        let shards: Vec<Shard> = numbered()
            .map(|(id, shard)| Shard::new((id, shard), &options, Arc::clone(&needs_raise)))
            .collect();
        // Whoever raises epochs is not at work yet.
        for shard in shards.iter().filter(|_| !options.is_raised) {
            if let Err(error) = shard.enter().await {
                tracing::warn!(%error, "a shard does not answer; its rooms wait until it does");
            }
        }
        Ok(Self(Arc::new(Inner {
            ring,
            shards,
            needs_raise,
        })))
    }

    pub(super) async fn apply_all(
        &self,
        shard: ShardId,
        applies: Vec<Apply>,
    ) -> Vec<Result<Outcome, Error>> {
        self.shard(shard).apply_all(applies).await
    }

    pub(super) async fn settle_all(
        &self,
        shard: ShardId,
        settles: &[Settle],
    ) -> Vec<Result<Settlement, Error>> {
        self.shard(shard).settle_all(settles).await
    }

    pub(super) async fn gate(&self, shard: ShardId) -> Result<bool, Error> {
        self.shard(shard).gate().await
    }

    /// All shards.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.0.shards.iter().map(|shard| shard.id)
    }

    /// A shard's name on the ring.
    #[must_use]
    pub fn name(&self, shard: ShardId) -> &str {
        &self.shard(shard).name
    }

    /// Whether a room is on a shard.
    #[must_use]
    pub fn is_on(&self, room: &RoomName, shard: ShardId) -> bool {
        self.shard_of(room) == shard
    }

    /// Whether a shard was there when it was asked last.
    #[must_use]
    pub fn is_reachable(&self, shard: ShardId) -> bool {
        self.shard(shard).is_entered()
    }

    /// Enters a shard that is not entered, to see whether it is there.
    ///
    /// # Errors
    /// When it is not.
    pub async fn probe(&self, shard: ShardId) -> Result<(), Error> {
        self.shard(shard).probe().await
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

    pub(super) async fn tops(
        &self,
        shard: ShardId,
        rooms: &[RoomName],
    ) -> Result<Vec<Position>, Error> {
        self.shard(shard).room_tops(rooms).await
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
