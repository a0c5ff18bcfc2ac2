//! The log's part of each transaction.
//!
//! Offsets and rows are given out when records are taken from the queue, and taken back when the
//! commit fails, so that they stay gapless. Only after the commit are records shown to consumers,
//! groups moved on and callers told.

use std::sync::Arc;

use super::core::Core;
use super::meter::Durable;
use super::queue::{Batch, Pending, Queue};
use super::recent::{Entry, Row, Tops, slot};
use super::sql::{self, NewRecord, Old};
use super::topics::{Topic, TopicIndex};
use super::{Appended, Error, Headers, Patience, Record, meter};
use crate::backend::sql as database;
use crate::backend::writer::{Lane, Writing};
use crate::types::Timestamp;

/// What the writer's thread knows of the log.
pub(super) struct LogLane {
    core: Arc<Core>,
    queue: Arc<Queue>,
    /// The row of the next record.
    next: Row,
    tops: Tops,
    /// The newest row of each topic: never deleted, so that what ends there can be found.
    newest: Vec<Row>,
    at: Timestamp,
    /// The row up to which the tops are written down.
    written: Row,
    batch: Batch,
    offsets: Vec<u64>,
    topics: Vec<(TopicIndex, Topic)>,
    deleted: u64,
    writes_tops: bool,
    meter: Durable,
}

/// Where the log ends when the lane begins.
pub(super) struct Start {
    pub(super) next: Row,
    pub(super) tops: Tops,
    pub(super) newest: Vec<Row>,
    pub(super) at: Timestamp,
}

impl LogLane {
    pub(super) fn new(core: Arc<Core>, queue: Arc<Queue>, start: Start) -> Self {
        Self {
            core,
            queue,
            next: start.next,
            tops: start.tops,
            newest: start.newest,
            at: start.at,
            written: start.next,
            batch: Batch::default(),
            offsets: Vec::new(),
            topics: Vec::new(),
            deleted: 0,
            writes_tops: false,
            meter: Durable::default(),
        }
    }

    async fn write_batch(
        &mut self,
        connection: &mut database::Connection,
    ) -> Result<(), database::Error> {
        if !self.topics.is_empty() {
            sql::insert_topics(connection, &self.topics).await?;
        }
        let first = self.next - self.batch.records.len() as Row;
        let records = (first..).zip(self.batch.records.iter().zip(&self.offsets));
        let records: Vec<_> = records
            .map(|(row, (pending, offset))| NewRecord {
                row,
                topic: pending.topic,
                partition: pending.partition,
                offset: *offset,
                at: pending.at,
                key: &pending.key,
                value: &pending.value,
            })
            .collect();
        sql::insert_records(connection, &records).await?;
        for pending in &self.batch.commits {
            sql::commit(connection, &pending.commit).await?;
        }
        if let Some(trim) = &self.batch.trim {
            let row = self.core.groups.low().unwrap_or(self.next);
            let old = Old {
                row,
                before: trim.before,
                keep: &self.newest,
            };
            self.deleted = sql::delete(connection, old).await?;
        }
        // With every deletion, because what is deleted can not be counted at the next start.
        self.writes_tops = self.deleted > 0 || self.next - self.written >= TOPS_EVERY;
        if self.writes_tops {
            let newest = self.newest_with_batch();
            sql::write_tops(connection, (self.next, self.at), &self.tops, &newest).await?;
        }
        Ok(())
    }

    /// Gives each taken record its place.
    fn place(&mut self) {
        self.offsets.clear();
        for pending in &self.batch.records {
            let top = slot(&mut self.tops, pending.topic, pending.partition);
            self.offsets.push(*top);
            *top += 1;
            self.next += 1;
            self.at = pending.at;
        }
    }

    fn newest_with_batch(&self) -> Vec<Row> {
        let mut newest = self.newest.clone();
        let first = self.next - self.batch.records.len() as Row;
        for (row, pending) in (first..).zip(&self.batch.records) {
            if newest.len() <= pending.topic {
                newest.resize(pending.topic + 1, 0);
            }
            newest[pending.topic] = row;
        }
        newest
    }

    fn durable(&mut self) {
        self.newest = self.newest_with_batch();
        let Batch {
            records,
            commits,
            trim,
        } = std::mem::take(&mut self.batch);
        self.core
            .topics
            .mark_stored(self.topics.drain(..).map(|(index, _)| index));
        if self.writes_tops {
            self.written = self.next;
        }
        records
            .iter()
            .for_each(|pending| self.meter.note(pending, &self.core.topics));
        self.queue.release(records.iter());
        let mut told = Vec::with_capacity(records.len());
        let mut entries = Vec::with_capacity(records.len());
        for (pending, offset) in records.into_iter().zip(self.offsets.drain(..)) {
            let Pending {
                topic,
                partition,
                key,
                value,
                at,
                done,
                ..
            } = pending;
            told.push((
                done,
                Appended {
                    partition,
                    offset,
                    at,
                },
            ));
            let topic_name = self.core.topics.name(topic);
            let record = Record {
                topic: topic_name,
                partition,
                offset,
                key,
                value,
                at,
                headers: Headers::default(),
            };
            entries.push(Entry { topic, record });
        }
        self.core.recent.push(entries);
        for (done, appended) in told {
            // Whoever gave up waiting has dropped the other end.
            done.send(Ok(appended)).ok();
        }
        for pending in commits {
            self.core.groups.commit(pending.commit);
            pending.done.send(Ok(())).ok();
        }
        if let Some(trim) = trim {
            trim.done.send(Ok(self.deleted)).ok();
        }
    }

    fn failed(&mut self, error: &Arc<database::Error>) {
        let Batch {
            records,
            commits,
            trim,
        } = std::mem::take(&mut self.batch);
        for pending in &records {
            *slot(&mut self.tops, pending.topic, pending.partition) -= 1;
        }
        self.next -= records.len() as Row;
        self.topics.clear();
        let (again, refused): (Vec<_>, Vec<_>) = records
            .into_iter()
            .partition(|pending| pending.patience == Patience::Persist);
        self.queue.put_back(again);
        self.queue.release(refused.iter());
        let error = Error::from(Arc::clone(error));
        for pending in refused {
            meter::refused();
            pending.done.send(Err(error.clone())).ok();
        }
        for pending in commits {
            pending.done.send(Err(error.clone())).ok();
        }
        if let Some(trim) = trim {
            trim.done.send(Err(error)).ok();
        }
    }
}

impl Lane for LogLane {
    fn take(&mut self) -> bool {
        self.batch = self.queue.take();
        if self.batch.is_empty() {
            return false;
        }
        self.deleted = 0;
        self.topics = self.core.topics.unstored();
        self.place();
        true
    }

    fn write<'a>(&'a mut self, connection: &'a mut database::Connection) -> Writing<'a> {
        Box::pin(self.write_batch(connection))
    }

    fn finish(&mut self, outcome: Result<(), Arc<database::Error>>) {
        self.queue.note(outcome.is_err());
        match outcome {
            Ok(()) => self.durable(),
            Err(error) => self.failed(&error),
        }
    }
}

impl Drop for LogLane {
    fn drop(&mut self) {
        self.queue.close();
        self.core.recent.close();
    }
}

/// Records that a start may have to count: a fraction of a second's work.
const TOPS_EVERY: u64 = 16_384;
