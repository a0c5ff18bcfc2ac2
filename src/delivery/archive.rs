//! From topic `timeline` into the archive.

use std::pin::pin;
use std::time::Duration;

use crate::archive::{Archive, Row};
use crate::delivery::pump::TIMELINE;
use crate::eventlog::{Error, EventLog, Record};
use crate::events::Envelope;
use crate::telemetry::metrics;
use crate::timeline::Entry;

/// Writes ordered events to the archive.
pub struct Archiver {
    /// The log.
    pub log: EventLog,
    /// Where to.
    pub archive: Archive,
}

const BATCH: usize = 500;

impl Archiver {
    /// Runs until `stop` resolves.
    ///
    /// # Errors
    /// When the log ends.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let mut consumer = self.log.consumer("archive", &[TIMELINE]).await?;
        let mut stop = pin!(stop);
        loop {
            let records = tokio::select! {
                records = consumer.poll(BATCH) => records?,
                () = &mut stop => return consumer.commit("").await,
            };
            let rows: Vec<Row> = records.iter().filter_map(row).collect();
            metrics::ARCHIVE_ROWS.add(rows.len() as u64);
            while let Err(error) = self.archive.upsert(rows.clone()).await {
                tracing::warn!(%error, "the archive cannot be written; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            for record in &records {
                consumer.store(&record.topic, record.partition, record.offset + 1);
            }
            consumer.commit("").await?;
        }
    }
}

fn row(record: &Record) -> Option<Row> {
    let entry: Entry = serde_json::from_slice(&record.value).ok()?;
    let envelope = Envelope::parse(&entry.payload).ok()?;
    Some(Row {
        room: entry.room.clone(),
        position: entry.position(),
        shard: entry.shard_position(),
        id: entry.id.clone(),
        kind: envelope.kind,
        user_id: envelope.user_id,
        at: entry.at,
        payload: String::from_utf8(entry.payload.to_vec()).ok()?,
    })
}
