//! The order of a room and its recent events.
//!
//! [`Timeline::apply`] is the one point where a room's order is made: it takes the room's next `seq`
//! and its shard's next `shard_seq`, or says why not. What is applied of a (room, source) is always
//! a prefix of the log, whoever applies it and how often: redelivery, rebalances and owners that
//! outlived their lease are harmless.
//!
//! Not here: publishing (the caller hands an applied entry to the bus), history beyond what is kept
//! (the archive's), and deciding which shard a room is on (the ring's).

mod dedup;
mod entry;
mod memory;
mod position;
mod range;
pub mod redis;
mod room;
mod shard;
mod since;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::types::{
    Epoch, EventId, Kind, Position, RoomName, ShardId, ShardPosition, ShardSeq, Timestamp,
};

pub use entry::{Entry, EntryError, Source};
pub use memory::Timeline as Memory;
pub use position::{Vector, VectorError};
pub use since::{Ask, End, Since};

/// How much a timeline keeps. All times are differences of the records' own times, so that applying
/// the same log again gives the same answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries kept per room; entries not yet settled are kept beyond it.
    pub entries_max: usize,
    /// Entries kept per room however old, as long as the room is not idle.
    pub keep_min: usize,
    /// Older entries are trimmed; a room without a new one for this long drops all of them.
    pub ttl: Duration,
    /// How long an event id is remembered.
    pub dedup_window: Duration,
    /// Ids remembered per room; a busier room forgets its oldest early.
    pub ids_max: usize,
    /// Bytes of entries kept per shard; beyond it the rooms longest without a new entry drop theirs.
    pub bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries_max: 1_000,
            keep_min: 50,
            ttl: Duration::from_secs(3_600),
            dedup_window: Duration::from_secs(20 * 60),
            // 800 events a second for the whole default window; about 130 MB for such a room.
            ids_max: 1_000_000,
            bytes_max: 256 << 20,
        }
    }
}

/// One record of the log on its way into a room.
#[derive(Debug, Clone)]
pub struct Apply {
    /// The room it goes to.
    pub room: RoomName,
    /// The epoch the caller believes the room's shard is in.
    pub epoch: Epoch,
    /// The version of the ring by which the caller chose the shard.
    pub ring_version: u64,
    /// The partition it was read from.
    pub source: Source,
    /// Its offset there.
    pub offset: u64,
    /// The offset of the record that the caller sent before it, in this session, from this source
    /// to this room; `None` for the first.
    pub prev: Option<u64>,
    /// The event's id; the same id within the dedup window is the same event.
    pub id: EventId,
    /// The record's time in the log.
    pub at: Timestamp,
    /// The envelope's JSON.
    pub payload: Bytes,
}

/// What became of a record.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It took its place.
    Applied {
        /// The entry it became.
        entry: Arc<Entry>,
        /// Whether it is on the bus already; if not, the caller publishes it.
        published: bool,
    },
    /// This or a later record of the source was applied to the room before.
    Duplicate {
        /// Its entry, when it is still kept. A record that was a [`Outcome::DuplicateId`] has none.
        entry: Option<Arc<Entry>>,
        /// Whether its record in topic `timeline` is known to be durable. If not, produce it again.
        settled: bool,
    },
    /// The record before it did not land: rewind to the one after `last`.
    Gap {
        /// The last offset of the source that was applied to the room.
        last: Option<u64>,
    },
    /// A client's retry of an event that has its place. The source has advanced past it.
    DuplicateId {
        /// Where the event stands.
        original: Position,
    },
    /// The caller's epoch is not the shard's.
    Stale {
        /// The shard's epoch.
        epoch: Epoch,
    },
    /// The room is on another shard.
    Moved {
        /// The ring's version since when.
        ring_version: u64,
    },
}

/// An entry whose record in topic `timeline` is durable.
#[derive(Debug, Clone)]
pub struct Settle {
    /// The entry.
    pub entry: Arc<Entry>,
    /// The epoch in which the shard was seen to have it: its own, or a later one that it outlived.
    pub seen_in: Epoch,
    /// The partition and offset of its record.
    pub record: Option<(u32, u64)>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It may be trimmed now, and its source may be committed.
    Done,
    /// The shard is in another epoch, and may have lost the entry: its record in the log is not done.
    Stale {
        /// The shard's epoch.
        epoch: Epoch,
    },
    /// The room was moved, and its old shard had lost the entry before: its record in the log is not done.
    Lost,
}

/// A room and the place of its last event.
pub type RoomTop = (RoomName, Position);

/// A stretch of a room.
#[derive(Debug, Clone)]
pub struct Range {
    /// In order.
    pub entries: Vec<Arc<Entry>>,
    /// False when something between `after` and `top` is not kept here, or when `after` is no place
    /// in this room: ask the archive, or tell the client to reload.
    pub complete: bool,
    /// The room's top, of what is not after `up_to`.
    pub top: Position,
    /// Whether the limit cut the stretch short.
    pub more: bool,
    /// What is the latest that the room no longer keeps.
    pub trimmed: Option<Trimmed>,
}

/// The latest entry that a room no longer keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trimmed {
    /// Where it stands in the room.
    pub position: Position,
    /// The shard on which it was written: another one than the room's if the room came from there.
    pub home: ShardId,
    /// Where it stands in that shard, if that is known; it is not for what was never loaded.
    pub shard: Option<ShardPosition>,
}

/// Why a timeline gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The shard does not answer; whether a call took effect is unknown, so repeat it.
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
        match self {
            Self::Unavailable { .. } => Kind::Unavailable,
        }
    }

    /// Whether the same call can succeed later; every call may be repeated safely.
    #[must_use]
    pub const fn retry(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// The port: every room's order and recent events. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Timeline {
    /// In this process; rebuilt from the log at start.
    Memory(Memory),
    /// On Redis shards.
    Redis(redis::Timeline),
}

impl Timeline {
    /// Gives a record its place in its room, once.
    ///
    /// Checked in this order: moved, stale, duplicate, gap, duplicate id. Not cancel-safe in the
    /// sense that a dropped call may have taken effect; repeating it is.
    pub async fn apply(&self, apply: Apply) -> Result<Outcome, Error> {
        let shard = self.shard_of(&apply.room);
        let mut outcomes = self.apply_all(shard, vec![apply]).await;
        outcomes.pop().unwrap_or(Err(Error::Unavailable { shard }))
    }

    /// Gives records of one shard their places, in this order; one answer for each. Every apply goes to
    /// `shard`, whatever the ring says of its room.
    pub async fn apply_all(
        &self,
        shard: ShardId,
        applies: Vec<Apply>,
    ) -> Vec<Result<Outcome, Error>> {
        match self {
            Self::Memory(timeline) => applies
                .into_iter()
                .map(|apply| Ok(timeline.apply(apply)))
                .collect(),
            Self::Redis(timeline) => timeline.apply_all(shard, applies).await,
        }
    }

    /// Notes that entries of one shard are durable in topic `timeline`: they may be trimmed now. One
    /// answer for each.
    pub async fn settle_all(
        &self,
        shard: ShardId,
        settles: &[Settle],
    ) -> Vec<Result<Settlement, Error>> {
        match self {
            Self::Memory(timeline) => settles
                .iter()
                .map(|Settle { entry, .. }| {
                    timeline.settled(&entry.room, &entry.source, entry.offset);
                    Ok(Settlement::Done)
                })
                .collect(),
            Self::Redis(timeline) => timeline.settle_all(shard, settles).await,
        }
    }

    /// [`settle_all`](Self::settle_all) for one entry.
    pub async fn settle(&self, entry: &Arc<Entry>) -> Result<Settlement, Error> {
        let shard = entry.shard;
        let settle = Settle {
            entry: Arc::clone(entry),
            seen_in: entry.epoch,
            record: None,
        };
        let mut answers = self.settle_all(shard, &[settle]).await;
        answers.pop().unwrap_or(Err(Error::Unavailable { shard }))
    }

    /// Whether as many replicas of a shard as are asked for have what was applied and settled before.
    pub async fn gate(&self, shard: ShardId) -> Result<bool, Error> {
        match self {
            Self::Memory(_) => Ok(true),
            Self::Redis(timeline) => timeline.gate(shard).await,
        }
    }

    /// The entries after `after` and not after `up_to`, at most `limit`.
    ///
    /// An `after` of epoch 0 counts by its `seq` alone. `complete` is judged against the whole room,
    /// so an `after` between `up_to` and the room's real top gives nothing, completely.
    pub async fn range(
        &self,
        room: &RoomName,
        after: Position,
        up_to: ShardPosition,
        limit: usize,
    ) -> Result<Range, Error> {
        match self {
            Self::Memory(timeline) => Ok(timeline.range(room, after, up_to, limit)),
            Self::Redis(timeline) => timeline.range(room, after, up_to, limit).await,
        }
    }

    /// The same by a place on the shard on which the caller hears the room, though the room may have
    /// moved to another one since: what is written there comes after all of it.
    pub async fn range_on(
        &self,
        room: &RoomName,
        after: Position,
        up_to: (ShardId, ShardPosition),
        limit: usize,
    ) -> Result<Range, Error> {
        match self {
            Self::Memory(timeline) => Ok(timeline.range(room, after, up_to.1, limit)),
            Self::Redis(timeline) => timeline.range_on(room, after, up_to, limit).await,
        }
    }

    /// What rooms of one shard got since a place in its stream, in one round trip; one answer for each.
    pub async fn since_all(&self, shard: ShardId, asks: &[Ask]) -> Vec<Result<Since, Error>> {
        match self {
            Self::Memory(timeline) => asks.iter().map(|ask| Ok(timeline.since(ask))).collect(),
            Self::Redis(timeline) => timeline.since_all(shard, asks).await,
        }
    }

    /// The last place of a shard's stream in an epoch that has ended, if that is known: what was seen
    /// beyond it was lost.
    pub async fn end_of(&self, shard: ShardId, epoch: Epoch) -> Result<Option<ShardSeq>, Error> {
        match self {
            // Nothing is lost while the process lives, and no epoch ends.
            Self::Memory(_) => Ok(None),
            Self::Redis(timeline) => timeline.end_of(shard, epoch).await,
        }
    }

    /// The place of the room's last event; `seq` 0 when it has none.
    pub async fn top(&self, room: &RoomName) -> Result<Position, Error> {
        match self {
            Self::Memory(timeline) => Ok(timeline.top(room)),
            Self::Redis(timeline) => timeline.top(room).await,
        }
    }

    /// The same for many rooms of one shard.
    pub async fn tops(&self, shard: ShardId, rooms: &[RoomName]) -> Result<Vec<Position>, Error> {
        match self {
            Self::Memory(timeline) => Ok(rooms.iter().map(|room| timeline.top(room)).collect()),
            Self::Redis(timeline) => timeline.tops(shard, rooms).await,
        }
    }

    /// The shards that may be away, with their names; none in this process.
    #[must_use]
    pub fn shards(&self) -> Vec<(ShardId, String)> {
        match self {
            Self::Memory(_) => Vec::new(),
            Self::Redis(timeline) => timeline
                .shards()
                .map(|shard| (shard, timeline.name(shard).to_owned()))
                .collect(),
        }
    }

    /// A shard's name, where shards may be away.
    #[must_use]
    pub fn shard_name(&self, shard: ShardId) -> Option<&str> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(timeline) => Some(timeline.name(shard)),
        }
    }

    /// Asks whether a shard gives records their places.
    ///
    /// # Errors
    /// When it does not.
    pub async fn probe(&self, shard: ShardId) -> Result<(), Error> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(timeline) => timeline.probe(shard).await,
        }
    }

    /// Whether what is applied is published by the shard itself, over a network, and not by the caller.
    #[must_use]
    pub const fn publishes(&self) -> bool {
        matches!(self, Self::Redis(_))
    }

    /// The epoch a shard is in.
    #[must_use]
    pub fn epoch(&self, shard: ShardId) -> Epoch {
        match self {
            Self::Memory(timeline) => timeline.shard_top(shard).epoch,
            Self::Redis(timeline) => timeline.epoch(shard),
        }
    }

    /// The shard a room is on.
    #[must_use]
    pub fn shard_of(&self, room: &RoomName) -> ShardId {
        match self {
            Self::Memory(timeline) => timeline.shard_of(room),
            Self::Redis(timeline) => timeline.shard_of(room),
        }
    }

    /// The shards on which a room's events may be published: its own first, and while it may not have left it
    /// the one on which it was.
    #[must_use]
    pub fn places(&self, room: &RoomName) -> Vec<ShardId> {
        match self {
            Self::Memory(timeline) => vec![timeline.shard_of(room)],
            Self::Redis(timeline) => {
                let view = timeline.view();
                let was = view.was(room.as_str());
                std::iter::once(view.room(room.as_str()))
                    .chain(was)
                    .collect()
            }
        }
    }

    /// The version of the ring by which rooms are placed.
    #[must_use]
    pub fn ring_version(&self) -> u64 {
        match self {
            Self::Memory(_) => 0,
            Self::Redis(timeline) => timeline.view().plan.version,
        }
    }

    /// Whether the ring has ever changed, so that rooms may hold what was written on another shard.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::Redis(timeline) => timeline.view().plan.fence > 0,
        }
    }

    /// Makes a shard refuse callers who place rooms by an older ring.
    ///
    /// # Errors
    /// When the shard does not answer.
    pub async fn fence(&self, shard: ShardId) -> Result<(), Error> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(timeline) => timeline.fence(shard).await,
        }
    }

    /// The place of the last entry of a shard: where its bus begins after a start.
    #[must_use]
    pub fn shard_top(&self, shard: ShardId) -> ShardPosition {
        match self {
            Self::Memory(timeline) => timeline.shard_top(shard),
            Self::Redis(timeline) => timeline.shard_top(shard),
        }
    }

    /// At start: a room goes on above this place, though its entries are not known here.
    pub fn restore_top(&self, room: &RoomName, top: Position) {
        match self {
            Self::Memory(timeline) => timeline.restore_top(room, top),
            // What a shard has outlives this process.
            Self::Redis(_) => {}
        }
    }

    /// At start: a shard goes on above this place (the archive's highest), should none of its
    /// entries be left in the log.
    pub fn restore_shard(&self, shard: ShardId, top: ShardPosition) {
        match self {
            Self::Memory(timeline) => timeline.restore_shard(shard, top),
            // What a shard has outlives this process.
            Self::Redis(_) => {}
        }
    }

    /// At start: puts an entry of topic `timeline` back, with its place; it is settled. In any order
    /// relative to [`Timeline::restore_top`], itself in the topic's order, repeats allowed.
    pub fn restore(&self, entry: Entry) {
        match self {
            Self::Memory(timeline) => timeline.restore(entry),
            // What a shard has outlives this process.
            Self::Redis(_) => {}
        }
    }
}
