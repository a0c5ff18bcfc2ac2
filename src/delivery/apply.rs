//! Records of one shard into their places: apply them, publish them, produce them to topic `timeline`.
//!
//! One batch of a shard at a time comes through here, in one round trip, so the shard's entries reach
//! bus and topic in the order in which they were applied. Whatever can heal is waited out here; the shard
//! waits with it, others do not.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::backoff::Backoff;
use super::progress::Ticket;
use super::{TIMELINE_TOPIC, meter};
use crate::cluster::bus::{Bus, Publication};
use crate::eventlog::{Append, Error, EventLog, Record};
use crate::telemetry::labels::Stage;
use crate::telemetry::trace;
use crate::timeline::{Apply, Entry, Outcome, Source, Timeline};
use crate::types::{Epoch, EventId, RoomName, ShardId};

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
    /// The record of this source that was sent to the room before it.
    pub(super) prev: Option<u64>,
    /// Whether that was looked up.
    pub(super) is_chained: bool,
    /// When the pump had it.
    pub(super) since: Instant,
}

impl Work {
    pub(super) fn new(
        log: &EventLog,
        (ticket, record): (Ticket, Record),
        (room, id): (RoomName, EventId),
    ) -> Self {
        meter::traced_fetched(&id, &record, log);
        Self {
            ticket,
            record,
            room,
            id,
            prev: None,
            is_chained: false,
            since: Instant::now(),
        }
    }

    /// It is about to be sent to its shard.
    pub(super) fn leaves_the_queue(&self) {
        let took = self.since.elapsed();
        meter::stage(Stage::Queued, took);
        meter::traced(&self.id, Stage::Queued, took, &self.room);
    }
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Fate {
    /// It is in its place, and on its way into topic `timeline`.
    Settling(Arc<Entry>, Epoch, Append),
    /// There is nothing left to do for it.
    Done,
    /// Records before it are missing since after this offset.
    Gap { last: Option<u64> },
    /// The shard has begun this epoch: what is not committed may be lost there.
    Raised(Epoch),
    /// The room is on another shard now.
    Moved,
}

/// A batch that was applied, or a log that is closed.
pub(super) struct Applied {
    pub(super) shard: ShardId,
    /// The epoch it was applied in, where that was not known before.
    pub(super) epoch: Epoch,
    pub(super) works: Vec<(Work, Fate)>,
    pub(super) failure: Option<Error>,
}

/// Applies a batch. Not cancel-safe, in that everything may have happened or nothing; applying it again
/// is safe.
///
/// `epoch` is the one in which the caller's records are in their places: an older one than the shard's means
/// that some may be lost. Of an epoch 0 nothing was applied yet.
pub(super) async fn apply(
    reach: Arc<Reach>,
    (shard, epoch): (ShardId, Epoch),
    works: Vec<Work>,
) -> Applied {
    let mut applied = Applied {
        shard,
        epoch,
        works: Vec::with_capacity(works.len()),
        failure: None,
    };
    if let Err(error) = reach.apply(&mut applied, works).await {
        applied.failure = Some(error);
    }
    applied
}

impl Reach {
    async fn apply(&self, applied: &mut Applied, mut works: Vec<Work>) -> Result<(), Error> {
        let shard = applied.shard;
        let mut backoff = Backoff::default();
        while !works.is_empty() {
            let epoch = applied.epoch;
            let calls = works.iter().map(|work| self.call(work, epoch)).collect();
            let sent = Instant::now();
            let outcomes = self.timeline.apply_all(shard, calls).await;
            let took = sent.elapsed();
            meter::stage(Stage::Applied, took);
            let mut again = Vec::new();
            // Rooms of which a record has to be sent again: those behind it come after it.
            let mut behind: HashSet<(RoomName, Source)> = HashSet::new();
            for (work, outcome) in works.into_iter().zip(outcomes) {
                if let Ok(outcome) = &outcome {
                    meter::applied(outcome);
                    let is_elsewhere = matches!(
                        outcome,
                        Outcome::Gap { .. } | Outcome::Stale { .. } | Outcome::Moved { .. }
                    );
                    if !is_elsewhere {
                        meter::traced(&work.id, Stage::Applied, took, &work.room);
                    }
                }
                let place = (work.room.clone(), self.source(&work.record));
                let fate = match outcome {
                    Err(error) => {
                        tracing::debug!(id = %work.id, trace_id = trace::id(&work.id), %error, "an event could not be applied; trying again");
                        behind.insert(place);
                        again.push(work);
                        continue;
                    }
                    Ok(Outcome::Gap { .. }) if behind.contains(&place) => {
                        again.push(work);
                        continue;
                    }
                    // Not heard of any epoch until now: nothing was applied in an older one.
                    Ok(Outcome::Stale { epoch: current }) if epoch == Epoch(0) => {
                        applied.epoch = current;
                        behind.insert(place);
                        again.push(work);
                        continue;
                    }
                    Ok(outcome) => self.judge(outcome, epoch).await?,
                };
                applied.works.push((work, fate));
            }
            works = again;
            if !works.is_empty() && applied.epoch == epoch {
                tracing::warn!(%shard, events = works.len(), "events could not be applied; trying again");
                backoff.wait().await;
            }
        }
        Ok(())
    }

    async fn judge(&self, outcome: Outcome, epoch: Epoch) -> Result<Fate, Error> {
        Ok(match outcome {
            Outcome::Applied { entry, published } => {
                if !published {
                    self.bus.publish(publication(&entry)).await;
                }
                meter::published(entry.at);
                self.produce(entry, epoch).await?
            }
            Outcome::Duplicate {
                entry: Some(entry),
                settled: false,
            } => self.produce(entry, epoch).await?,
            // Without an entry it was trimmed, which only happens to the settled, or it was a
            // retry of another event; that event has its own record and its own settling.
            Outcome::Duplicate { .. } | Outcome::DuplicateId { .. } => Fate::Done,
            Outcome::Gap { last } => Fate::Gap { last },
            Outcome::Stale { epoch } => Fate::Raised(epoch),
            Outcome::Moved { ring_version } => {
                self.ring_version.fetch_max(ring_version, Ordering::Relaxed);
                Fate::Moved
            }
        })
    }

    fn call(&self, work: &Work, epoch: Epoch) -> Apply {
        Apply {
            room: work.room.clone(),
            epoch,
            ring_version: self.ring_version.load(Ordering::Relaxed),
            source: self.source(&work.record),
            offset: work.record.offset,
            prev: work.prev,
            id: work.id.clone(),
            at: work.record.at,
            payload: work.record.value.clone(),
        }
    }

    /// What the timeline calls the partition of a record. A topic that was made anew begins its offsets
    /// again and is another source.
    fn source(&self, record: &Record) -> Source {
        Source {
            topic: Arc::clone(&record.topic),
            generation: self.log.generation(&record.topic),
            partition: record.partition,
        }
    }

    /// Enqueues an entry for topic `timeline`. It must get in, whatever waits before it.
    async fn produce(&self, entry: Arc<Entry>, epoch: Epoch) -> Result<Fate, Error> {
        let json = match entry.to_json() {
            Ok(json) => json,
            Err(error) => {
                // Its payload is an envelope that was read, so this cannot be. If it is all the
                // same, the event was delivered and is in the log, but will not be archived.
                tracing::error!(%error, room = %entry.room, id = %entry.id, trace_id = trace::id(&entry.id), "an entry is no JSON");
                return Ok(Fate::Done);
            }
        };
        let mut backoff = Backoff::default();
        loop {
            let key = entry.room.as_str();
            match self.log.append_patiently(TIMELINE_TOPIC, key, json.clone()) {
                Ok(append) => return Ok(Fate::Settling(entry, epoch, append)),
                Err(error) if error.retry() => {
                    backoff.wait().await;
                }
                Err(error) => return Err(error),
            }
        }
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
