//! Puts back what a shard lost, before its next epoch begins.
//!
//! The server of a shard is another process than it was: restarted, promoted, or empty. What it misses of
//! what was settled is in topic `timeline`, behind the offsets that it knows; an empty one gets, beside
//! recent entries, how high each of its rooms has counted from the archive. What was not settled is no
//! commit's, so pumps apply it again. See [`Raise`] for why this is complete.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use super::TIMELINE_TOPIC;
use super::archive::{self, Failure};
use super::pump;
use crate::archive::Archive;
use crate::eventlog::EventLog;
use crate::telemetry::metrics;
use crate::timeline::Entry;
use crate::timeline::redis::{Raise, Timeline};
use crate::types::{Position, RoomName};

/// Raises shards of this process's timeline.
#[derive(Debug, Clone)]
pub struct Raiser {
    /// Topic `timeline`.
    pub log: EventLog,
    /// How high rooms have counted.
    pub archive: Archive,
    /// The shards.
    pub timeline: Timeline,
    /// How much of the topic an empty shard gets back: at least what a timeline keeps and for how long
    /// it remembers ids.
    pub lookback: Duration,
    /// Entries of one room that are put back at most.
    pub entries_max: usize,
}

impl Raiser {
    /// Runs until `stop` resolves.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        loop {
            let raised = tokio::select! {
                () = &mut stop => return,
                raised = self.next() => raised,
            };
            if let Err(error) = raised {
                tracing::warn!(%error, "the epoch of a shard could not be raised; trying again");
                metrics::DELIVERY_RETRIES.add(1);
                // All of a shard's rooms wait for this.
                tokio::time::sleep(TRY_EVERY).await;
            }
        }
    }

    async fn next(&self) -> Result<(), Error> {
        let shard = self.timeline.raise_needed().await;
        let Some(raise) = self.timeline.begin_raise(shard).await? else {
            // Another node does it, or has done it.
            tokio::time::sleep(LOOK_EVERY).await;
            return Ok(());
        };
        let found = self.put_back(raise).await?;
        tracing::info!(%shard, entries = found, "a shard has back what it missed");
        Ok(())
    }

    async fn put_back(&self, mut raise: Raise) -> Result<usize, Error> {
        let shard = raise.shard;
        let lost = self.lost(&raise).await?;
        let mut found = 0;
        for entries in lost.into_values() {
            let entries: Vec<Entry> = entries.into_values().collect();
            found += entries.len();
            self.timeline.restore_entries(&mut raise, &entries).await?;
        }
        if raise.is_empty() {
            let tops = self.archive.tops().await.map_err(Failure::from)?;
            let is_here = |(room, _): &(RoomName, Position)| self.timeline.is_on(room, shard);
            let tops: Vec<_> = tops.into_iter().filter(is_here).collect();
            self.timeline.restore_tops(&raise, &tops).await?;
        }
        self.timeline.end_raise(raise).await?;
        Ok(found)
    }

    /// What the shard may have lost, by room and in each room's order.
    async fn lost(&self, raise: &Raise) -> Result<Lost, Error> {
        let from = (self.lookback, raise.offsets.clone());
        let groups = [pump::GROUP, archive::GROUP];
        let replay = self.log.replay_after(TIMELINE_TOPIC, &groups, from);
        let mut replay = replay.await.map_err(Failure::from)?;
        let (mut lost, mut bytes) = (Lost::new(), 0);
        loop {
            let records = replay.next(BATCH).await.map_err(Failure::from)?;
            if records.is_empty() {
                return Ok(lost);
            }
            // The archiver puts aside what cannot be read.
            let entries = records
                .iter()
                .filter_map(|record| Entry::from_json(&record.value).ok());
            for entry in entries.filter(|entry| self.is_lost(raise, entry)) {
                bytes += entry.payload.len();
                let room = lost.entry(entry.room.clone()).or_default();
                room.insert(entry.position(), entry);
                if room.len() > self.entries_max {
                    room.pop_first();
                }
            }
            if bytes > BYTES_MAX {
                bytes = shrink(&mut lost);
            }
        }
    }

    fn is_lost(&self, raise: &Raise, entry: &Entry) -> bool {
        if entry.shard == raise.shard {
            return entry.shard_position() > raise.at;
        }
        // It was moved here from another shard.
        self.timeline.is_on(&entry.room, raise.shard)
    }
}

/// Entries by room and place.
type Lost = BTreeMap<RoomName, BTreeMap<Position, Entry>>;

/// Keeps the newer half of each room, so that a burst of large events cannot take all memory; what is
/// missing is the archive's to answer.
fn shrink(lost: &mut Lost) -> usize {
    let mut bytes = 0;
    for room in lost.values_mut() {
        for _ in 0..room.len() / 2 {
            room.pop_first();
        }
        bytes += room
            .values()
            .map(|entry| entry.payload.len())
            .sum::<usize>();
    }
    bytes
}

/// Why a shard could not be raised.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Shard(#[from] crate::timeline::Error),
    #[error(transparent)]
    Source(#[from] Failure),
}

const BATCH: usize = 1_024;
const BYTES_MAX: usize = 256 << 20;
const LOOK_EVERY: Duration = Duration::from_millis(50);
const TRY_EVERY: Duration = Duration::from_millis(250);
