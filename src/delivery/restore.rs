//! At start: the timeline in memory, from what is durable.

use std::time::Duration;

use crate::archive::Archive;
use crate::delivery::pump::TIMELINE;
use crate::eventlog::EventLog;
use crate::timeline::{Entry, Timeline};

/// Rebuilds the timeline before the pump starts.
///
/// # Errors
/// When a store cannot be read.
pub async fn restore(
    (log, archive, timeline): (&EventLog, &Archive, &Timeline),
    lookback: Duration,
) -> anyhow::Result<u64> {
    for (room, top) in archive.tops().await? {
        timeline.restore_top(&room, top);
    }
    let mut replay = log.replay(TIMELINE, lookback).await?;
    let mut count = 0;
    loop {
        let records = replay.next(1024).await?;
        if records.is_empty() {
            return Ok(count);
        }
        for record in records {
            match serde_json::from_slice::<Entry>(&record.value) {
                Ok(entry) => {
                    timeline.restore(entry);
                    count += 1;
                }
                Err(error) => tracing::error!(offset = record.offset, %error, "not a timeline entry"),
            }
        }
    }
}
