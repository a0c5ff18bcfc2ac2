//! The log in the SQLite file of embedded mode.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::oneshot;

use super::core::Core;
use super::groups::{Commit, Groups};
use super::lane::{LogLane, Start};
use super::queue::{Bounds, Pending, PendingCommit, PendingTrim, Queue};
use super::recent::{Entry, Keep, Recent, Row};
use super::sql::{self, Range};
use super::topics::{TopicIndex, Topics};
use super::{Append, Error, Headers, Options, Record, Request};
use crate::backend::sql::Database;
use crate::backend::statement::Statement;
use crate::types::Timestamp;

/// A log in a SQLite file.
#[derive(Debug, Clone)]
pub struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    core: Arc<Core>,
    queue: Arc<Queue>,
    database: Database,
}

impl Log {
    pub(super) async fn open(database: &Database, options: Options) -> Result<Self, Error> {
        let stored = sql::load(database.readers()).await?;
        for topic in stored
            .topics
            .iter()
            .filter(|t| t.partitions != options.partitions)
        {
            tracing::warn!(topic = %topic.name, has = topic.partitions, configured = options.partitions,
                "a topic keeps the number of partitions it was made with");
        }
        let keep = Keep {
            records: options.recent_records,
            bytes: options.recent_bytes,
        };
        let core = Arc::new(Core {
            topics: Topics::new(options.partitions, stored.topics),
            recent: Recent::new(keep, stored.next, stored.tops.clone()),
            groups: Groups::new(stored.groups),
        });
        let bounds = Bounds {
            records: options.in_flight_records,
            bytes: options.in_flight_bytes,
            batch_records: options.batch_records,
        };
        let queue = Arc::new(Queue::new(bounds, database.bell(), stored.at));
        let start = Start {
            next: stored.next,
            tops: stored.tops,
            newest: stored.newest,
            at: stored.at,
        };
        let lane = LogLane::new(Arc::clone(&core), Arc::clone(&queue), start);
        database.attach(Box::new(lane));
        Ok(Self(Arc::new(Inner {
            core,
            queue,
            database: database.clone(),
        })))
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.0.core
    }

    pub(super) fn append(&self, request: Request<'_>) -> Result<Append, Error> {
        let (topic, partition) = self.0.core.place(&request)?;
        let (done, append) = oneshot::channel();
        self.0.queue.push(Pending {
            topic,
            partition,
            key: Arc::from(request.key),
            value: request.value,
            patience: request.patience,
            at: Timestamp::from(SystemTime::now()),
            since: Instant::now(),
            done,
        })?;
        Ok(Append(append))
    }

    /// Takes the file's one place to write. After a failure something is written, too, because a full
    /// disk refuses nothing else.
    pub(super) async fn probe(&self) -> Result<(), Error> {
        let text = match self.0.queue.is_failing() {
            true => "UPDATE log_topic SET name = name WHERE id = (SELECT min(id) FROM log_topic)",
            false => "SELECT 1",
        };
        let statement = Statement::new(text, []);
        self.0.database.write(vec![statement]).await?;
        self.0.queue.note(false);
        Ok(())
    }

    pub(super) fn commit(
        &self,
        commit: Commit,
    ) -> Result<oneshot::Receiver<Result<(), Error>>, Error> {
        let (done, answer) = oneshot::channel();
        self.0.queue.push_commit(PendingCommit { commit, done })?;
        Ok(answer)
    }

    pub(super) async fn delete(&self, before: Timestamp) -> Result<u64, Error> {
        let (done, answer) = oneshot::channel();
        self.0.queue.push_trim(PendingTrim { before, done })?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Records that memory no longer has, and the row after the last that was looked at.
    pub(super) async fn read(
        &self,
        topics: &[TopicIndex],
        range: Range,
    ) -> Result<(Vec<(Row, Entry)>, Row), Error> {
        let (stored, next) = sql::read(self.0.database.readers(), topics, range).await?;
        if stored.is_empty() && next < range.to {
            // A long stretch of deleted or other records: go on where something is.
            let first = sql::first_from(self.0.database.readers(), next).await?;
            return Ok((
                Vec::new(),
                first.map_or(range.to, |(row, _)| row.min(range.to)),
            ));
        }
        let entries = stored.into_iter().map(|stored| {
            let record = Record {
                topic: self.0.core.topics.name(stored.topic),
                partition: stored.partition,
                offset: stored.offset,
                key: stored.key,
                value: stored.value,
                at: stored.at,
                headers: Headers::default(),
            };
            (
                stored.row,
                Entry {
                    topic: stored.topic,
                    record,
                },
            )
        });
        Ok((entries.collect(), next))
    }

    pub(super) async fn first_from(&self, row: Row) -> Result<Option<(Row, Timestamp)>, Error> {
        Ok(sql::first_from(self.0.database.readers(), row).await?)
    }

    pub(super) async fn find(
        &self,
        partition: (TopicIndex, u32),
        offset: u64,
    ) -> Result<Option<Row>, Error> {
        Ok(sql::find(self.0.database.readers(), partition, offset).await?)
    }
}
