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

mod consumer;
mod core;
mod dead_letters;
mod disk;
mod groups;
mod lane;
mod memory;
mod meter;
mod partition;
mod queue;
mod recent;
mod replay;
mod retention;
mod sql;
mod topics;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use self::core::Core;
use crate::backend::sql as database;
use crate::types::{Kind, Timestamp};

pub use consumer::{Committing, Consumer};
pub use dead_letters::{Cause, DeadLetter, dead_letter_topic};
pub use groups::Lag;
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

/// Why the log did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Too much waits to become durable.
    #[error("{what} that wait for the log have reached their limit of {limit}")]
    Overloaded {
        /// Records or bytes.
        what: &'static str,
        /// Their limit.
        limit: usize,
        /// When to try again.
        retry_after: Duration,
    },
    /// The record is larger than any may be.
    #[error("record is {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Key and value together.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The topic's name is not one.
    #[error("topic name {0:?} is not 1 to 249 of a-z A-Z 0-9 . _ -")]
    Topic(String),
    /// More topics than one log may have.
    #[error("the log has {0} topics, which is the limit")]
    Topics(usize),
    /// Another consumer of this group is at work. In embedded mode a group has one member.
    #[error("group {0:?} already has a member")]
    Member(Arc<str>),
    /// The storage failed; what was asked was not done.
    #[error("the log could not be written or read")]
    Storage(#[source] Arc<database::Error>),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

impl Error {
    /// Whose fault it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Overloaded { .. } | Self::Closed => Kind::Unavailable,
            Self::TooLarge { .. } => Kind::Client,
            Self::Topic(_) | Self::Topics(_) | Self::Member(_) => Kind::Internal,
            Self::Storage(cause) => cause.kind(),
        }
    }

    /// True if the same may succeed later.
    #[must_use]
    pub fn retry(&self) -> bool {
        match self {
            Self::Overloaded { .. } => true,
            Self::Storage(cause) => cause.retry(),
            _ => false,
        }
    }

    /// How long to wait before trying again, where that helps.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. } => Some(*retry_after),
            _ => self.retry().then_some(RETRY_AFTER_FAULT),
        }
    }
}

impl From<database::Error> for Error {
    fn from(error: database::Error) -> Self {
        match error {
            database::Error::Closed => Self::Closed,
            error => Self::Storage(Arc::new(error)),
        }
    }
}

impl From<Arc<database::Error>> for Error {
    fn from(error: Arc<database::Error>) -> Self {
        Self::Storage(error)
    }
}

/// A full disk or a stolen lock rarely heals within less.
const RETRY_AFTER_FAULT: Duration = Duration::from_secs(1);

/// A durable log. Cheap to clone; clones are the same log.
#[derive(Debug, Clone)]
pub enum EventLog {
    /// In memory, for tests: everything appended is kept, and gone with the last clone.
    Memory(memory::Log),
    /// In the SQLite file of embedded mode.
    Sql(disk::Log),
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

    /// Appends a record. Records are enqueued in the order of the calls; the future resolves when
    /// the record is durable, or with an error when it was not written, and then the caller may
    /// append it again, after whatever came later. Dropping the future does not take the record back.
    ///
    /// # Errors
    /// At once, when too much waits already, or when the record can never be appended.
    pub fn append(&self, topic: &str, key: &str, value: Bytes) -> Result<Append, Error> {
        self.enqueue(Request {
            topic,
            key,
            value,
            patience: Patience::Refuse,
        })
    }

    /// Appends a record that must get in: when writing fails it keeps its place and is written
    /// again, for ever, so that what is durable is always a prefix of what was appended this way.
    /// The future fails only when the log is closed. Such records have bounds of their own: a flood
    /// of appends does not keep them out.
    ///
    /// # Errors
    /// As for [`append`](Self::append).
    pub fn append_patiently(&self, topic: &str, key: &str, value: Bytes) -> Result<Append, Error> {
        self.enqueue(Request {
            topic,
            key,
            value,
            patience: Patience::Persist,
        })
    }

    fn enqueue(&self, request: Request<'_>) -> Result<Append, Error> {
        let outcome = match self {
            Self::Memory(log) => log.append(request),
            Self::Sql(log) => log.append(request),
        };
        if outcome.is_err() {
            meter::refused();
        }
        outcome
    }

    /// Becomes the member of a group that reads these topics, from where the group has committed;
    /// a new group begins at the oldest record.
    pub async fn consumer(&self, group: &str, topics: &[&str]) -> Result<Consumer, Error> {
        Consumer::join(self.clone(), group, topics)
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
        Replay::start(self.clone(), topic, groups, lookback).await
    }

    /// How far each group is behind, per partition of the topics it reads.
    #[must_use]
    pub fn lag(&self) -> Vec<Lag> {
        let core = self.core();
        core.groups.lag(core)
    }

    /// What the group's last commit carried; `None` if it has not committed.
    #[must_use]
    pub fn metadata(&self, group: &str) -> Option<String> {
        self.core().groups.metadata(group)
    }

    fn core(&self) -> &Arc<Core> {
        match self {
            Self::Memory(log) => log.core(),
            Self::Sql(log) => log.core(),
        }
    }
}

/// A record to be appended.
struct Request<'a> {
    topic: &'a str,
    key: &'a str,
    value: Bytes,
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

/// Resolves when a record is durable. May be dropped: the record stays.
#[derive(Debug)]
#[must_use = "a record counts as durable only when this has resolved"]
pub struct Append(oneshot::Receiver<Result<Appended, Error>>);

impl Future for Append {
    type Output = Result<Appended, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|answer| answer.unwrap_or(Err(Error::Closed)))
    }
}

/// One record's limit: the largest message a socket may send, with room for its envelope.
const RECORD_BYTES_MAX: usize = 4 << 20;
