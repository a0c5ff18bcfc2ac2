//! The durable log: what is in it can not be lost.
//!
//! Topics have a fixed number of partitions; a key always goes to the same one, and offsets in it
//! are gapless from 0. A record is acknowledged when it is durable, not before. Appends are bounded
//! by records and by bytes: beyond that they are refused at once with a time to wait. Consumer
//! groups keep their place in the log itself.
//!
//! The backends of embedded mode hand records out in commit order over all partitions, one total
//! order, so that applying the log again after a crash comes to the same result. A cluster's log
//! promises order within a partition only; nothing but exact replay may depend on more.
//!
//! Not here: what a record means (that is `events`), and when one is done (`delivery` says so).

mod append;
mod committing;
mod consumer;
mod core;
mod dead_letters;
mod disk;
mod embedded;
mod error;
mod groups;
mod headers;
pub mod kafka;
mod lane;
mod letters;
mod local;
mod memory;
mod meter;
mod partition;
mod polled;
mod probe;
mod queue;
mod recent;
mod replay;
mod retention;
mod sql;
mod topic_name;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::embedded::Embedded;
use crate::backend::sql as database;
use crate::types::Timestamp;

pub use append::Append;
pub use committing::Committing;
pub use consumer::Consumer;
pub use dead_letters::{Cause, DeadLetter, dead_letter_topic};
pub use error::Error;
pub use groups::Lag;
pub use headers::Headers;
pub use letters::{Letter, Letters, Outcome};
pub use polled::{Assignment, Polled, Revocation};
pub use replay::Replay;
pub use retention::Retention;

/// One record, as consumers get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic it is in.
    pub topic: Arc<str>,
    /// The partition of its key.
    pub partition: u32,
    /// Its place in the partition, from 0 without gaps.
    pub offset: u64,
    /// What decided its partition. Shared, because the log, its memory of recent records and
    /// each consumer hold the same text.
    pub key: Arc<str>,
    /// What it says.
    pub value: Bytes,
    /// When it was appended, by the log's clock, which never goes back.
    pub at: Timestamp,
    /// What it carries beside that.
    pub headers: Headers,
}

/// A topic as it has to be.
#[derive(Debug, Clone)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// Its partitions, if it is made now.
    pub partitions: u32,
    /// How long its records are kept, if it is made now.
    pub retention: Duration,
}

/// Where a record was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The partition of its key.
    pub partition: u32,
    /// Its place there.
    pub offset: u64,
    /// When it was appended, by the log's clock.
    pub at: Timestamp,
}

/// Bounds and numbers of a log.
#[derive(Debug, Clone)]
pub struct Options {
    /// Partitions of a topic that is made now. Existing topics keep theirs for ever.
    pub partitions: u32,
    /// Records that may wait to become durable.
    pub in_flight_records: usize,
    /// Bytes of keys and values that may wait to become durable.
    pub in_flight_bytes: usize,
    /// Records of one write to the disk.
    pub batch_records: usize,
    /// Recent records kept in memory for consumers that keep up.
    pub recent_records: usize,
    /// Bytes of them.
    pub recent_bytes: usize,
    /// How long records are kept; longer for a group that has not passed them.
    pub retention: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            partitions: 12,
            in_flight_records: 10_000,
            in_flight_bytes: 64 << 20,
            batch_records: 1_024,
            // Consumers lag by one commit; this is seconds at full speed, at a known price.
            recent_records: 32_768,
            recent_bytes: 32 << 20,
            retention: Duration::from_secs(7 * 86_400),
        }
    }
}

/// A durable log. Cheap to clone; clones are the same log.
#[derive(Debug, Clone)]
pub enum EventLog {
    /// In memory, for tests: everything appended is kept, and gone with the last clone.
    Memory(memory::Log),
    /// In the SQLite file of embedded mode.
    Sql(disk::Log),
    /// In Kafka, shared by the nodes of a cluster.
    Kafka(kafka::Log),
}

impl EventLog {
    /// An empty log in memory.
    #[must_use]
    pub fn memory(options: Options) -> Self {
        Self::Memory(memory::Log::new(options))
    }

    /// The log in a SQLite file.
    pub async fn sql(database: &database::Database, options: Options) -> Result<Self, Error> {
        Ok(Self::Sql(disk::Log::open(database, options).await?))
    }

    /// The log in Kafka. Nothing is asked of the brokers yet: they may be away.
    ///
    /// # Errors
    /// When the settings are not valid.
    pub async fn kafka(options: kafka::Options) -> Result<Self, Error> {
        Ok(Self::Kafka(kafka::Log::open(options)?))
    }

    /// Makes the topics that are missing, and checks those that are there. Existing topics keep the
    /// partitions they have. An embedded log takes the partitions of its own options.
    ///
    /// # Errors
    /// When a topic can not be made, or could never take a record.
    pub async fn ensure_topics(&self, specs: &[TopicSpec]) -> Result<(), Error> {
        match self.place() {
            Ok(embedded) => {
                let topics = &embedded.core().topics;
                specs
                    .iter()
                    .try_for_each(|spec| topics.ensure(&spec.name).map(drop))
            }
            Err(log) => log.ensure_topics(specs).await,
        }
    }

    /// Differs between topics of one name that were deleted and made again, when both were made by
    /// [`ensure_topics`](Self::ensure_topics); else 0. Known once that was called for it.
    #[must_use]
    pub fn generation(&self, topic: &str) -> u32 {
        match self {
            Self::Memory(_) | Self::Sql(_) => 0,
            Self::Kafka(log) => log.generation(topic),
        }
    }

    /// Appends a record. Records are enqueued in the order of the calls; the future resolves when
    /// the record is durable, or with an error when it was not written, and then the caller may
    /// append it again, after whatever came later. Dropping the future does not take the record back.
    ///
    /// # Errors
    /// At once, when too much waits already, or when the record can never be appended.
    pub fn append(&self, topic: &str, key: &str, value: Bytes) -> Result<Append, Error> {
        self.append_with(&[], (topic, key), value)
    }

    /// The same, with headers, where the log keeps some.
    ///
    /// # Errors
    /// As for [`append`](Self::append).
    pub fn append_with(
        &self,
        headers: &[(&'static str, Bytes)],
        (topic, key): (&str, &str),
        value: Bytes,
    ) -> Result<Append, Error> {
        self.enqueue(Request {
            topic,
            key,
            value,
            headers,
            patience: Patience::Refuse,
        })
    }

    /// Appends a record that must get in: when writing fails it keeps its place and is written
    /// again, for ever, so that what is durable is always a prefix of what was appended this way.
    /// The future fails only when the log is closed, or no broker would ever take the record (it is too
    /// large for the topic). Such records have bounds of their own: a flood
    /// of appends does not keep them out.
    ///
    /// # Errors
    /// As for [`append`](Self::append).
    pub fn append_patiently(&self, topic: &str, key: &str, value: Bytes) -> Result<Append, Error> {
        self.enqueue(Request {
            topic,
            key,
            value,
            headers: &[],
            patience: Patience::Persist,
        })
    }

    /// Whether records come with the headers that they were appended with: embedded logs keep none, and nobody else
    /// writes into them.
    #[must_use]
    pub const fn keeps_headers(&self) -> bool {
        matches!(self, Self::Kafka(_))
    }

    fn enqueue(&self, request: Request<'_>) -> Result<Append, Error> {
        let outcome = match self {
            Self::Memory(log) => log.append(request),
            Self::Sql(log) => log.append(request),
            Self::Kafka(log) => log.append(request),
        };
        if outcome.is_err() {
            meter::refused();
        }
        outcome
    }

    /// Becomes the member of a group that reads these topics, from where the group has committed;
    /// a new group begins at the oldest record.
    pub async fn consumer(&self, group: &str, topics: &[&str]) -> Result<Consumer, Error> {
        match self.place() {
            Ok(embedded) => Consumer::join(embedded, group, topics),
            Err(log) => Ok(Consumer::of(log.join(group, topics, None)?)),
        }
    }

    /// The same, for work that nobody waits for: records may come that much later, all that came meanwhile
    /// with one request to the brokers instead of one for each. Matters where there are brokers.
    ///
    /// # Errors
    /// As [`consumer`](Self::consumer).
    pub async fn consumer_at_leisure(
        &self,
        group: &str,
        topics: &[&str],
        gather: Duration,
    ) -> Result<Consumer, Error> {
        match self.place() {
            Ok(embedded) => Consumer::join(embedded, group, topics),
            Err(log) => Ok(Consumer::of(log.join(group, topics, Some(gather))?)),
        }
    }

    /// Reads exactly these partitions, `(topic, partition, first offset)`, without being in a group: to
    /// begin another member's work before the group has noticed that it is gone. Says first that they
    /// are assigned. Commits of it do nothing.
    ///
    /// # Errors
    /// In embedded mode, where there is no other member.
    pub async fn assigned(&self, starts: &[(&str, u32, u64)]) -> Result<Consumer, Error> {
        match self.place() {
            Ok(_) => Err(Error::Unsupported("reading without a group")),
            Err(log) => Ok(Consumer::of(log.assigned(starts)?)),
        }
    }

    /// Where a group has still to begin in each of these partitions: the next offset that it has not
    /// committed, 0 where it has committed none. Asked without joining the group.
    ///
    /// # Errors
    /// In embedded mode, where there is no other member; when the brokers are away.
    pub async fn committed(
        &self,
        group: &str,
        partitions: Vec<(Arc<str>, u32)>,
    ) -> Result<Vec<(Arc<str>, u32, u64)>, Error> {
        match self.place() {
            Ok(_) => Err(Error::Unsupported("asking what another member has done")),
            Err(log) => log.committed(group, partitions).await,
        }
    }

    /// The first offset in each of these partitions of a topic that is not older than a time, or where
    /// the partition ends, as `(partition, offset)`.
    ///
    /// # Errors
    /// In embedded mode, where nobody has to go back to a time; when the brokers are away.
    pub async fn offsets_at(
        &self,
        topic: &str,
        partitions: &[u32],
        at: Timestamp,
    ) -> Result<Vec<(u32, u64)>, Error> {
        match self.place() {
            Ok(_) => Err(Error::Unsupported("looking up offsets by time")),
            Err(log) => log.offsets_at(topic, partitions, at).await,
        }
    }

    /// Reads a topic once, without being in a group: up to now, from `lookback` before the oldest
    /// record that one of these groups has still to commit; from `lookback` before the newest record
    /// when they have committed all, or none are named.
    pub async fn replay(
        &self,
        topic: &str,
        groups: &[&str],
        lookback: Duration,
    ) -> Result<Replay, Error> {
        match self.place() {
            Ok(embedded) => Replay::start(embedded, topic, groups, lookback).await,
            Err(log) => {
                let from = (lookback, BTreeMap::new());
                Ok(Replay::of(log.replay(topic, groups, from).await?))
            }
        }
    }

    /// The same, but from behind these offsets in the partitions that they name.
    ///
    /// # Errors
    /// In embedded mode, which reads in commit order; when the brokers are away.
    pub async fn replay_after(
        &self,
        topic: &str,
        groups: &[&str],
        (lookback, after): (Duration, BTreeMap<u32, u64>),
    ) -> Result<Replay, Error> {
        match self.place() {
            Ok(_) => Err(Error::Unsupported("reading from behind offsets")),
            Err(log) => Ok(Replay::of(
                log.replay(topic, groups, (lookback, after)).await?,
            )),
        }
    }

    /// How far each group is behind, per partition of the topics it reads. In Kafka: for the groups
    /// that this process is a member of, the partitions it reads, as measured a moment ago.
    #[must_use]
    pub fn lag(&self) -> Vec<Lag> {
        match self.place() {
            Ok(embedded) => embedded.core().groups.lag(embedded.core()),
            Err(log) => log.lag(),
        }
    }

    /// What the group's last commit carried; `None` if it has not committed. In Kafka each partition has
    /// its own, which comes with its [`Assignment`]: always `None`.
    #[must_use]
    pub fn metadata(&self, group: &str) -> Option<String> {
        self.place().ok()?.core().groups.metadata(group)
    }

    /// Takes no more appends, and waits until what was taken is durable and the members that were
    /// dropped have left their groups, some seconds at most. An embedded log ends with its file.
    pub async fn close(&self) {
        if let Self::Kafka(log) = self {
            log.close().await;
        }
    }

    fn place(&self) -> Result<Embedded, &kafka::Log> {
        match self {
            Self::Memory(log) => Ok(Embedded::Memory(log.clone())),
            Self::Sql(log) => Ok(Embedded::Sql(log.clone())),
            Self::Kafka(log) => Err(log),
        }
    }
}

/// A record to be appended.
struct Request<'a> {
    topic: &'a str,
    key: &'a str,
    value: Bytes,
    headers: &'a [(&'static str, Bytes)],
    patience: Patience,
}

/// What becomes of a record when writing it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Its caller is told.
    Refuse,
    /// It is written again.
    Persist,
}

/// One record's limit: the largest message a socket may send, with room for its envelope.
const RECORD_BYTES_MAX: usize = 4 << 20;
