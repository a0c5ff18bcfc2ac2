//! From topic `timeline` into the archive, and into the store what follows from it.
//!
//! A consumer group of its own: when the archive is slow or away, nothing waits but this. Rows are
//! upserted, so that what is read twice is there once.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::backoff::Backoff;
use super::bury::bury;
use super::canary;
use super::route::Fault;
use super::{TIMELINE_TOPIC, meter};
use crate::archive::{Archive, Row};
use crate::directory::Directory;
use crate::eventlog::{Consumer, Error, EventLog, Polled, Record, Revocation};
use crate::events::{Envelope, Vocabulary};
use crate::store::project;
use crate::telemetry::trace::Trace;
use crate::timeline::Entry;
use crate::types::{ConversationId, NodeId};

/// The consumer group of all archivers.
pub const GROUP: &str = "archive";

/// Sizes and times of the archiver.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rows written at once.
    pub batch_max: usize,
    /// How long the first row of a batch waits for more.
    pub linger: Duration,
    /// Time between commits. What is not committed is written again after a crash.
    pub commit_every: Duration,
}

/// What the archive gets at once: the newest is in the rooms' timelines.
const GATHER: Duration = Duration::from_millis(100);

impl Default for Options {
    fn default() -> Self {
        Self {
            batch_max: 256,
            linger: Duration::from_millis(20),
            commit_every: Duration::from_millis(500),
        }
    }
}

/// Moves settled events into the archive.
pub struct Archiver {
    log: EventLog,
    archive: Archive,
    vocabulary: Vocabulary,
    node: NodeId,
    options: Options,
    directory: Option<Directory>,
}

/// What lists of conversations show of them.
const LISTED: [&str; 3] = ["MESSAGE_SENT", "MESSAGE_EDITED", "MESSAGE_DELETED"];

/// The conversations whose entry in lists these events change.
fn active(rows: &[Row]) -> BTreeSet<ConversationId> {
    let listed = rows.iter().filter(|row| LISTED.contains(&&*row.kind));
    listed
        .filter_map(|row| row.room.as_str().strip_prefix("conversation:"))
        .filter_map(|id| ConversationId::parse(id).ok())
        .collect()
}

/// What an archiver works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where topic `timeline` is.
    pub log: EventLog,
    /// Where the events go.
    pub archive: Archive,
    /// What they mean for the store.
    pub vocabulary: Vocabulary,
    /// Signs dead letters.
    pub node: NodeId,
}

impl Archiver {
    /// An archiver of these parts.
    #[must_use]
    pub fn new(parts: Parts, options: Options) -> Self {
        Self {
            log: parts.log,
            archive: parts.archive,
            vocabulary: parts.vocabulary,
            node: parts.node,
            options,
            directory: None,
        }
    }

    /// The same, that says which conversations have new messages in the store.
    #[must_use]
    pub fn telling(self, directory: Directory) -> Self {
        Self {
            directory: Some(directory),
            ..self
        }
    }

    /// Runs until `drain` resolves; then commits and returns. What is in the topic by then and not
    /// in the archive follows after the next start.
    ///
    /// # Errors
    /// When the log or the archive is closed before that, or answers what cannot heal.
    pub async fn run(self, drain: impl Future<Output = ()>) -> Result<(), Failure> {
        let log = &self.log;
        let mut consumer = log
            .consumer_at_leisure(GROUP, &[TIMELINE_TOPIC], GATHER)
            .await?;
        let mut drain = pin!(drain);
        let mut backoff = Backoff::default();
        let mut commit_due = Instant::now() + self.options.commit_every;
        loop {
            let polled = tokio::select! {
                () = &mut drain => break,
                // Waiting for records must not keep a commit from being made.
                () = tokio::time::sleep_until(commit_due) => Ok(Polled::Records(Vec::new())),
                polled = consumer.poll(self.options.batch_max) => polled,
            };
            match polled {
                Ok(Polled::Records(records)) => {
                    let (records, revoked) = self.gather(&mut consumer, records).await;
                    self.keep(&mut consumer, records).await?;
                    if revoked.is_some() {
                        self.commit(&mut consumer).await?;
                    }
                }
                // What was kept is committed before another member begins, while this is held.
                Ok(Polled::Revoked(_revocation)) => self.commit(&mut consumer).await?,
                Ok(Polled::Assigned(_)) => {}
                Err(error) if error.retry() => {
                    tracing::warn!(%error, "the log could not be read; trying again");
                    backoff.wait().await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            backoff = Backoff::default();
            if Instant::now() >= commit_due {
                commit_due = Instant::now() + self.options.commit_every;
                self.commit(&mut consumer).await?;
            }
        }
        self.commit(&mut consumer).await
    }

    /// Adds to a batch what comes while the first of it lingers. Never dropped half way: what a poll
    /// has handed out is not handed out again.
    async fn gather(
        &self,
        consumer: &mut Consumer,
        mut records: Vec<Record>,
    ) -> (Vec<Record>, Option<Revocation>) {
        let until = Instant::now() + self.options.linger;
        while !records.is_empty() && records.len() < self.options.batch_max {
            match timeout_at(until, consumer.poll(self.options.batch_max - records.len())).await {
                Ok(Ok(Polled::Records(more))) => records.extend(more),
                Ok(Ok(Polled::Assigned(_))) => {}
                Ok(Ok(Polled::Revoked(revocation))) => return (records, Some(revocation)),
                // A fault shows again at the next poll; what was read is written first.
                Ok(Err(_)) | Err(_) => break,
            }
        }
        (records, None)
    }

    async fn keep(&self, consumer: &mut Consumer, records: Vec<Record>) -> Result<(), Failure> {
        let (mut rows, faults) = read(&records);
        for (record, fault) in faults {
            bury(&self.log, &self.node, record, &fault).await?;
        }
        let active = active(&rows);
        let traced: Vec<_> = rows
            .iter()
            .filter(|row| Trace::of(&row.id).is_some())
            .map(|row| (row.id.clone(), row.room.clone()))
            .collect();
        let mut backoff = Backoff::default();
        loop {
            let statements = project::batch(&self.vocabulary.current(), &rows);
            let Err(error) = self.archive.upsert(rows, statements).await else {
                break;
            };
            if !error.retry() {
                return Err(error.into());
            }
            tracing::warn!(%error, "the archive could not be written; trying again");
            if let Some(oldest) = records.iter().map(|record| record.at).min() {
                meter::archive_waits(oldest);
            }
            backoff.wait().await;
            rows = read(&records).0;
        }
        if let Some(directory) = &self.directory {
            for conversation in &active {
                directory.conversation_active(conversation);
            }
        }
        for record in &records {
            consumer.store(&record.topic, record.partition, record.offset + 1);
        }
        meter::archived(records.iter().map(|record| record.at));
        let oldest = records.iter().map(|record| record.at).min();
        for (id, room) in &traced {
            meter::traced_archived(id, oldest.unwrap_or_default(), room);
        }
        Ok(())
    }

    async fn commit(&self, consumer: &mut Consumer) -> Result<(), Failure> {
        match consumer.commit("").await {
            Err(error) if !error.retry() => Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "a commit failed; the next one repeats it");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

/// Why the archiver, or a restore, ended.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Because of the log.
    #[error("the log failed")]
    Log(#[from] Error),
    /// Because of the archive.
    #[error("the archive failed")]
    Archive(#[from] crate::archive::Error),
}

/// The rows of records, and the records that are none.
fn read(records: &[Record]) -> (Vec<Row>, Vec<(&Record, Fault)>) {
    let mut rows = Vec::with_capacity(records.len());
    let mut faults = Vec::new();
    for record in records {
        match row(record) {
            Ok(row) if &*row.kind == canary::KIND => {}
            Ok(row) => rows.push(row),
            Err(message) => {
                faults.push((
                    record,
                    Fault {
                        class: "undecodable",
                        message,
                        id: None,
                    },
                ));
            }
        }
    }
    (rows, faults)
}

fn row(record: &Record) -> Result<Row, String> {
    let entry = Entry::from_json(&record.value).map_err(|error| error.to_string())?;
    let envelope = Envelope::parse(&entry.payload).map_err(|error| error.to_string())?;
    let payload = String::from_utf8(entry.payload.to_vec()).map_err(|error| error.to_string())?;
    Ok(Row {
        position: entry.position(),
        shard: entry.shard_position(),
        room: entry.room,
        id: entry.id,
        kind: envelope.kind,
        user_id: envelope.user_id,
        at: envelope.timestamp,
        payload,
    })
}
