//! Why the store did not do it.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::error as database;
use crate::types::{Code, Kind, Problem};

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// There is one already; the word says what, for example `email`.
    #[error("there is such a {0} already")]
    Exists(&'static str),
    /// It is not there, or not in a state that allows this; the word says what.
    #[error("there is no such {0}")]
    Missing(&'static str),
    /// The database did not answer, or refused.
    #[error("the store could not be read or written")]
    Storage(#[source] Arc<database::Error>),
    /// A row is not what was written.
    #[error("the store holds a row that is not valid: {0}")]
    Row(String),
    /// The node is shutting down.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    /// Whose fault it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Exists(_) | Self::Missing(_) => Kind::Client,
            Self::Storage(cause) => cause.kind(),
            Self::Row(_) => Kind::Internal,
            Self::Closed => Kind::Unavailable,
        }
    }

    /// Whether the same call can succeed later.
    #[must_use]
    pub fn retry(&self) -> bool {
        matches!(self, Self::Storage(cause) if cause.retry())
    }
}

impl From<database::Error> for Error {
    fn from(error: database::Error) -> Self {
        Self::from(Arc::new(error))
    }
}

impl From<Arc<database::Error>> for Error {
    fn from(error: Arc<database::Error>) -> Self {
        match *error {
            database::Error::Closed => Self::Closed,
            _ => Self::Storage(error),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match &error {
            Error::Exists(what) => Self {
                code: Code::Conflict,
                ..Self::field(*what, error.to_string())
            },
            Error::Missing(_) => Self::new(Code::NotFound, error.to_string()),
            Error::Closed => Self::new(Code::Unavailable, "this node is shutting down"),
            Error::Storage(_) | Error::Row(_) if error.kind() == Kind::Unavailable => {
                Self::new(Code::Unavailable, "the store does not answer now")
                    .retry_after(Duration::from_secs(1))
            }
            Error::Storage(_) | Error::Row(_) => {
                tracing::error!(%error, source = ?std::error::Error::source(&error), "the store failed");
                Self::new(Code::Internal, "the store failed")
            }
        }
    }
}
