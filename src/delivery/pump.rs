//! From the log into the rooms.
//!
//! Per record: apply (the room's next place), publish, append to topic `timeline`, and only when that
//! is durable the offset is stored. In this first form one consumer applies in the log's order.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;

use crate::cluster::bus::{Bus, Publication};
use crate::eventlog::{Append, Cause, Consumer, Error, EventLog, Record};
use crate::events::{Catalogue, Envelope};
use crate::telemetry::labels::Applied;
use crate::telemetry::metrics;
use crate::timeline::{Apply, Entry, Outcome, Source, Timeline};
use crate::types::{NodeId, RoomName};

/// The topic of ordered events.
pub const TIMELINE: &str = "timeline";
/// The consumer group.
pub const GROUP: &str = "pump";

/// Takes events from the log to their rooms' timelines.
pub struct Pump {
    /// The log.
    pub log: EventLog,
    /// Rooms' order.
    pub timeline: Timeline,
    /// To the workers.
    pub bus: Bus,
    /// What events mean.
    pub catalogue: Arc<Catalogue>,
    /// Named in dead letters.
    pub node: NodeId,
}

const BATCH: usize = 256;
const COMMIT_EVERY: Duration = Duration::from_millis(300);
const UNSETTLED_MAX: usize = 8192;

struct Settling {
    topic: Arc<str>,
    partition: u32,
    offset: u64,
    what: Option<(RoomName, Source)>,
    append: Option<Append>,
}

async fn settle(mut settling: Settling) -> Result<Settling, Error> {
    if let Some(append) = settling.append.take() {
        append.await?;
    }
    Ok(settling)
}

impl Pump {
    /// Runs until `stop` resolves and what was begun is settled.
    ///
    /// # Errors
    /// When the log ends.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let topics = self.catalogue.topics();
        let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
        let mut consumer = self.log.consumer(GROUP, &topics).await?;
        let mut settling = FuturesOrdered::new();
        let mut prev: HashMap<(RoomName, Source), u64> = HashMap::new();
        let mut commit = tokio::time::interval(COMMIT_EVERY);
        let mut stop = pin!(stop);
        let mut is_stopping = false;
        loop {
            tokio::select! {
                biased;
                Some(done) = settling.next(), if !settling.is_empty() => {
                    self.settled(&mut consumer, done?).await;
                }
                () = &mut stop, if !is_stopping => is_stopping = true,
                _ = commit.tick() => consumer.commit("").await?,
                records = consumer.poll(BATCH), if !is_stopping && settling.len() < UNSETTLED_MAX => {
                    for record in records? {
                        let next = self.record(&record, &mut prev).await?;
                        settling.push_back(settle(next));
                    }
                }
            }
            if is_stopping && settling.is_empty() {
                consumer.commit("").await?;
                return Ok(());
            }
        }
    }

    async fn settled(&self, consumer: &mut Consumer, done: Settling) {
        if let Some((room, source)) = &done.what {
            // The memory timeline always answers.
            drop(self.timeline.settled(room, source, done.offset).await);
        }
        consumer.store(&done.topic, done.partition, done.offset + 1);
    }

    async fn record(
        &self,
        record: &Record,
        prev: &mut HashMap<(RoomName, Source), u64>,
    ) -> Result<Settling, Error> {
        let mut settling = Settling {
            topic: Arc::clone(&record.topic),
            partition: record.partition,
            offset: record.offset,
            what: None,
            append: None,
        };
        let source = Source { topic: Arc::clone(&record.topic), generation: 0, partition: record.partition };
        let room = Envelope::parse(&record.value).map_err(|e| e.to_string()).and_then(|envelope| {
            let row = self.catalogue.by_type(&envelope.kind).ok_or("unknown type")?;
            let room = row.room_of(&envelope).map_err(|p| p.message)?;
            Ok((room, envelope.id))
        });
        let (room, id) = match room {
            Ok(found) => found,
            Err(message) => {
                let cause = Cause { class: "undecodable", message, attempts: 1, node: &self.node, id: None };
                metrics::DELIVERY_APPLIED.of(Applied::DeadLetter).add(1);
                metrics::DELIVERY_DEAD_LETTERS.of([&record.topic]).add(1);
                settling.append = Some(self.log.dead_letter(record, &cause)?);
                return Ok(settling);
            }
        };
        if prev.len() > 100_000 {
            prev.clear();
        }
        let before = prev.insert((room.clone(), source.clone()), record.offset);
        let apply = Apply {
            epoch: self.timeline.epoch(self.timeline.shard_of(&room)),
            ring_version: 0,
            source: source.clone(),
            offset: record.offset,
            prev: before,
            id,
            at: record.at,
            payload: record.value.clone(),
            room: room.clone(),
        };
        let Ok(outcome) = self.timeline.apply(apply).await else { return Ok(settling) };
        let entry = match outcome {
            Outcome::Applied { entry, published } => {
                metrics::DELIVERY_APPLIED.of(Applied::Applied).add(1);
                if !published {
                    self.bus.publish(publication(&entry)).await;
                }
                Some(entry)
            }
            Outcome::Duplicate { entry, settled } => {
                metrics::DELIVERY_APPLIED.of(Applied::Duplicate).add(1);
                entry.filter(|_| !settled)
            }
            Outcome::DuplicateId { .. } => {
                metrics::DELIVERY_APPLIED.of(Applied::DuplicateId).add(1);
                None
            }
            other => {
                tracing::error!(?other, "an event could not be applied");
                None
            }
        };
        if let Some(entry) = entry {
            let json = serde_json::to_vec(&*entry).unwrap_or_default();
            settling.append = Some(self.log.append_patiently(TIMELINE, room.as_str(), Bytes::from(json))?);
            settling.what = Some((room, source));
        }
        Ok(settling)
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
