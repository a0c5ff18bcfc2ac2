//! The timeline in this process: for one node, and for tests.
//!
//! Everything is rebuilt at start from topic `timeline`; nothing is lost while the process lives,
//! so the epoch stays. One mutex per shard, held for one call and never across an await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::timeline::entry::{Entry, Source};
use crate::timeline::shard::Shard;
use crate::timeline::{Apply, Ask, Limits, Outcome, Range, Since};
use crate::types::{Epoch, Position, RoomName, ShardId, ShardPosition, Timestamp};

/// The in-memory backend. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Timeline {
    shards: Arc<[Mutex<Shard>]>,
}

impl Timeline {
    /// One shard, which is all that one process needs.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self::with_shards(limits, 1)
    }

    /// Several shards, between 1 and [`crate::timeline::Vector::SHARDS_MAX`]; for tests of what
    /// must hold across shards.
    #[must_use]
    pub fn with_shards(limits: Limits, n_shards: u16) -> Self {
        let n_shards = n_shards.clamp(1, crate::timeline::Vector::SHARDS_MAX);
        Self {
            shards: (0..n_shards)
                .map(|id| Mutex::new(Shard::new(ShardId(id), limits)))
                .collect(),
        }
    }

    pub(super) fn apply(&self, apply: Apply) -> Outcome {
        self.of(&apply.room).apply(apply)
    }

    pub(super) fn settled(&self, room: &RoomName, source: &Source, offset: u64) {
        self.of(room).settled(room, source, offset);
    }

    pub(super) fn range(
        &self,
        room: &RoomName,
        after: Position,
        up_to: ShardPosition,
        limit: usize,
    ) -> Range {
        self.of(room).range(room, after, up_to, limit)
    }

    pub(super) fn since(&self, ask: &Ask) -> Since {
        self.of(&ask.room).since(ask)
    }

    pub(super) fn top(&self, room: &RoomName) -> Position {
        self.of(room).room_top(room)
    }

    pub(super) fn shard_top(&self, shard: ShardId) -> ShardPosition {
        self.shard(shard).top()
    }

    /// The shard of a room. Stable over restarts, because restored entries name their shard.
    pub(super) fn shard_of(&self, room: &RoomName) -> ShardId {
        let n_shards = u64::try_from(self.shards.len()).unwrap_or(1);
        let shard = fnv1a(room.as_str().as_bytes()) % n_shards;
        ShardId(u16::try_from(shard).unwrap_or(0))
    }

    pub(super) fn restore(&self, entry: Entry) {
        self.shard(entry.shard).restore(entry);
    }

    pub(super) fn restore_top(&self, room: &RoomName, top: Position) {
        self.of(room).restore_top(room, top);
    }

    pub(super) fn restore_shard(&self, shard: ShardId, top: ShardPosition) {
        self.shard(shard).restore_shard(top);
    }

    /// Drops what idle rooms keep, at most `rooms_max` rooms of each shard. `apply` does the same a
    /// few rooms at a time, so this matters only while nothing is applied.
    pub fn sweep(&self, now: Timestamp, rooms_max: usize) {
        for shard in self.shards.iter() {
            lock(shard).sweep(now, rooms_max);
        }
    }

    /// Bytes of entries kept in all shards.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).bytes()).sum()
    }

    /// Begins a new epoch of a shard, as if it might have lost writes; for tests.
    pub fn raise(&self, shard: ShardId) -> Epoch {
        self.shard(shard).raise()
    }

    /// Answers `Moved` for a room to callers whose ring is older than `ring_version`; for tests.
    pub fn tombstone(&self, room: &RoomName, ring_version: u64) {
        self.of(room).tombstone(room, ring_version);
    }

    fn of(&self, room: &RoomName) -> MutexGuard<'_, Shard> {
        self.shard(self.shard_of(room))
    }

    /// A shard that does not exist is answered for by the last, so that no id can cause a panic.
    fn shard(&self, shard: ShardId) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(shard.0).min(self.shards.len() - 1)])
    }
}

/// A panic inside a call leaves a shard that is still consistent to read; go on.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// FNV-1a, 64 bits: the same on every machine and in every version.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
