//! One record into its place: apply it, publish it, produce it to topic `timeline`.
//!
//! One record of a shard at a time comes through here, so the shard's entries reach bus and topic in
//! the order in which they were applied. Whatever can heal is waited out here; the shard waits with
//! it, others do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::backoff::Backoff;
use super::progress::Ticket;
use super::{TIMELINE_TOPIC, meter};
use crate::cluster::bus::{Bus, Publication};
use crate::eventlog::{Append, Error, EventLog, Record};
use crate::timeline::{Apply, Entry, Outcome, Source, Timeline};
use crate::types::{EventId, RoomName, ShardId};

/// What applying needs.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) log: EventLog,
    pub(super) timeline: Timeline,
    pub(super) bus: Bus,
    /// The newest version of the ring that was heard of.
    pub(super) ring_version: AtomicU64,
}

/// A record on its way into a room.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) ticket: Ticket,
    pub(super) record: Record,
    pub(super) room: RoomName,
    pub(super) id: EventId,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Fate {
    /// It is in its place, and on its way into topic `timeline`.
    Settling(Arc<Entry>, Append),
    /// There is nothing left to do for it.
    Done,
    /// Records before it are missing since after this offset.
    Gap { last: Option<u64> },
}

/// A record that was applied, or a log that is closed.
pub(super) struct Applied {
    pub(super) shard: ShardId,
    pub(super) work: Work,
    pub(super) fate: Result<Fate, Error>,
}

/// Applies one record. Not cancel-safe, in that everything may have happened or nothing; applying
/// it again is safe.
pub(super) async fn apply(
    reach: Arc<Reach>,
    shard: ShardId,
    work: Work,
    prev: Option<u64>,
) -> Applied {
    let fate = reach.apply(shard, &work, prev).await;
    Applied { shard, work, fate }
}

impl Reach {
    async fn apply(&self, shard: ShardId, work: &Work, prev: Option<u64>) -> Result<Fate, Error> {
        let mut epoch = self.timeline.epoch(shard);
        let mut backoff = Backoff::default();
        let mut is_refreshed = false;
        loop {
            let apply = Apply {
                room: work.room.clone(),
                epoch,
                ring_version: self.ring_version.load(Ordering::Relaxed),
                source: source(&work.record),
                offset: work.record.offset,
                prev,
                id: work.id.clone(),
                at: work.record.at,
                payload: work.record.value.clone(),
            };
            let outcome = match self.timeline.apply(apply).await {
                Ok(outcome) => outcome,
                Err(error) => {
                    tracing::warn!(%error, "an event could not be applied; trying again");
                    backoff.wait().await;
                    continue;
                }
            };
            meter::applied(&outcome);
            match outcome {
                Outcome::Applied { entry, published } => {
                    if !published {
                        self.bus.publish(publication(&entry)).await;
                    }
                    meter::published(entry.at);
                    return self.produce(entry).await;
                }
                Outcome::Duplicate {
                    entry: Some(entry),
                    settled: false,
                } => {
                    return self.produce(entry).await;
                }
                // Without an entry it was trimmed, which only happens to the settled, or it was a
                // retry of another event; that event has its own record and its own settling.
                Outcome::Duplicate { .. } | Outcome::DuplicateId { .. } => return Ok(Fate::Done),
                Outcome::Gap { last } => return Ok(Fate::Gap { last }),
                Outcome::Stale { epoch: newer } => epoch = newer,
                Outcome::Moved { ring_version } => {
                    self.ring_version.fetch_max(ring_version, Ordering::Relaxed);
                    epoch = self.timeline.epoch(self.timeline.shard_of(&work.room));
                }
            }
            // Our view was old. Old again means that the new one is not to be had at once.
            if std::mem::replace(&mut is_refreshed, true) {
                backoff.wait().await;
            }
        }
    }

    /// Enqueues an entry for topic `timeline`. It must get in, whatever waits before it.
    async fn produce(&self, entry: Arc<Entry>) -> Result<Fate, Error> {
        let json = match entry.to_json() {
            Ok(json) => json,
            Err(error) => {
                // Its payload is an envelope that was read, so this cannot be. If it is all the
                // same, the event was delivered and is in the log, but will not be archived.
                tracing::error!(%error, room = %entry.room, id = %entry.id, "an entry is no JSON");
                return Ok(Fate::Done);
            }
        };
        let mut backoff = Backoff::default();
        loop {
            let key = entry.room.as_str();
            match self.log.append_patiently(TIMELINE_TOPIC, key, json.clone()) {
                Ok(append) => return Ok(Fate::Settling(entry, append)),
                Err(error) if error.retry() => {
                    backoff.wait().await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// What the timeline calls the partition of a record. A log whose topics were made anew has
/// generations; this one has not.
fn source(record: &Record) -> Source {
    Source {
        topic: Arc::clone(&record.topic),
        generation: 0,
        partition: record.partition,
    }
}

fn publication(entry: &Entry) -> Publication {
    Publication {
        room: entry.room.clone(),
        shard: entry.shard,
        at: entry.shard_position(),
        position: entry.position(),
        id: entry.id.clone(),
        payload: entry.payload.clone(),
    }
}
