//! Builds the timeline of embedded mode again at start, before anything is applied.
//!
//! From the archive comes how high each room has counted; from the pump's last commit, how high each
//! shard; from topic `timeline`, the recent entries themselves, what is applied of each source and
//! which ids were seen. What was applied and did not reach the topic before a crash is applied again
//! by the pump, in the same order, and gets the same places.

use std::collections::BTreeSet;
use std::time::Duration;

use super::TIMELINE_TOPIC;
use super::archive::{self, Failure};
use super::pump::{self, Settled};
use crate::archive::Archive;
use crate::cluster::bus::Bus;
use crate::eventlog::EventLog;
use crate::timeline::{Entry, Timeline};
use crate::types::ShardId;

/// Where a timeline is built from, and what is built.
#[derive(Debug, Clone)]
pub struct Restore {
    /// Topic `timeline`, and the pump's last commit.
    pub log: EventLog,
    /// How high each room has counted.
    pub archive: Archive,
    /// What is built.
    pub timeline: Timeline,
    /// Is told where each shard's stream begins.
    pub bus: Bus,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restored {
    /// Rooms that the archive knows.
    pub rooms: usize,
    /// Entries of topic `timeline`.
    pub entries: usize,
}

impl Restore {
    /// Builds the timeline. `lookback` is how much of the topic is read before what is not committed:
    /// at least what a timeline keeps and for how long it remembers ids.
    pub async fn run(self, lookback: Duration) -> Result<Restored, Failure> {
        let mut restored = Restored::default();
        let mut shards = BTreeSet::from([ShardId::default()]);
        for (room, top) in self.archive.tops().await? {
            shards.insert(self.timeline.shard_of(&room));
            self.timeline.restore_top(&room, top);
            restored.rooms += 1;
        }
        for (shard, top) in Settled::of(&self.log).shards {
            shards.insert(ShardId(shard));
            self.timeline.restore_shard(ShardId(shard), top);
        }
        let mut replay = self
            .log
            .replay(TIMELINE_TOPIC, &[pump::GROUP, archive::GROUP], lookback)
            .await?;
        loop {
            let records = replay.next(BATCH).await?;
            if records.is_empty() {
                break;
            }
            for record in &records {
                match Entry::from_json(&record.value) {
                    Ok(entry) => {
                        shards.insert(entry.shard);
                        self.timeline.restore(entry);
                        restored.entries += 1;
                    }
                    // The archiver will find it too, and put it aside.
                    Err(error) => tracing::error!(%error, partition = record.partition,
                        offset = record.offset, "a record of topic timeline can not be read"),
                }
            }
        }
        for shard in shards {
            self.bus.begin(shard, self.timeline.shard_top(shard));
        }
        Ok(restored)
    }
}

const BATCH: usize = 1_024;
