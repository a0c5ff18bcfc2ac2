//! What can go wrong with a log.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::{kafka as brokers, sql as database};
use crate::types::Kind;

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
    /// Kafka did not confirm in time. The record may still get in.
    #[error("kafka does not confirm what is appended")]
    Unreachable {
        /// When to try again.
        retry_after: Duration,
    },
    /// Kafka, or the client of it, said no.
    #[error(transparent)]
    Kafka(Arc<brokers::Error>),
    /// This backend has no use for it.
    #[error("{0} is not for embedded mode")]
    Unsupported(&'static str),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

impl Error {
    /// Whose fault it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Overloaded { .. } | Self::Unreachable { .. } | Self::Closed => Kind::Unavailable,
            Self::TooLarge { .. } => Kind::Client,
            Self::Topic(_) | Self::Topics(_) | Self::Member(_) | Self::Unsupported(_) => {
                Kind::Internal
            }
            Self::Storage(cause) => cause.kind(),
            Self::Kafka(cause) => cause.kind(),
        }
    }

    /// True if the same may succeed later.
    #[must_use]
    pub fn retry(&self) -> bool {
        match self {
            Self::Overloaded { .. } | Self::Unreachable { .. } => true,
            Self::Storage(cause) => cause.retry(),
            Self::Kafka(cause) => cause.retry(),
            _ => false,
        }
    }

    /// How long to wait before trying again, where that helps.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. } | Self::Unreachable { retry_after } => {
                Some(*retry_after)
            }
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

impl From<brokers::Error> for Error {
    fn from(error: brokers::Error) -> Self {
        Self::Kafka(Arc::new(error))
    }
}

/// A full disk or a stolen lock rarely heals within less.
const RETRY_AFTER_FAULT: Duration = Duration::from_secs(1);
