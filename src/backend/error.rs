//! Why a database did not do what was asked: one table for SQLite and PostgreSQL, so that whoever
//! asks need not know which it is.

use std::io;
use std::path::PathBuf;

use crate::types::Kind;

/// Why a database could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be made or opened.
    #[error("data folder {} cannot be used", folder.display())]
    Folder {
        /// Which folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has the folder.
    #[error("data folder {} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The address is none; it is not shown, because it may hold a password.
    #[error("the address of PostgreSQL is not a postgres:// URL")]
    Address,
    /// The database was written by a newer program.
    #[error(
        "{place} has schema version {found}, this program knows up to {known}: use the newer program"
    )]
    Newer {
        /// Which file, or which database of a server.
        place: String,
        /// Its version.
        found: i64,
        /// The newest version this program knows.
        known: i64,
    },
    /// The disk, or the size that the file may have, is full.
    #[error("no space left for the database")]
    Full,
    /// Somebody else held the file for longer than the busy timeout.
    #[error("the database is held by another process")]
    Busy,
    /// The disk failed.
    #[error("the disk of the database failed")]
    Disk(#[source] sqlx::Error),
    /// The file is damaged, or no database.
    #[error("the database file is damaged")]
    Damaged(#[source] sqlx::Error),
    /// The server cannot be reached, starts, stops, is full, lets nobody write, or takes too long.
    #[error("PostgreSQL does not answer")]
    Unavailable(#[source] sqlx::Error),
    /// The server lets this login not in, or knows no such database: its keeper has to act.
    #[error("PostgreSQL refused the login")]
    Denied(#[source] sqlx::Error),
    /// Transactions of others were in the way, again and again; the text is the database's own.
    #[error("other transactions were in the way: {0}")]
    Conflict(String),
    /// A statement was refused: a defect of this program.
    #[error("the database refused a statement")]
    Refused(#[source] sqlx::Error),
    /// Something of this name is there already; the text is the database's own.
    #[error("it is there already: {0}")]
    Unique(String),
    /// The statement of this place in its batch answered no row, as it must.
    #[error("statement {0} of a batch did not find what it needs")]
    Unmet(usize),
    /// The database was closed.
    #[error("the database is closed")]
    Closed,
}

impl Error {
    /// Whose fault it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Folder { .. } | Self::Locked(_) | Self::Address | Self::Newer { .. } => {
                Kind::Client
            }
            Self::Unique(_) | Self::Unmet(_) => Kind::Client,
            Self::Full | Self::Busy | Self::Disk(_) | Self::Closed => Kind::Unavailable,
            Self::Unavailable(_) | Self::Denied(_) | Self::Conflict(_) => Kind::Unavailable,
            Self::Damaged(_) | Self::Refused(_) => Kind::Internal,
        }
    }

    /// True if the same may succeed later without anything being repaired in the program.
    #[must_use]
    pub const fn retry(&self) -> bool {
        matches!(
            self,
            Self::Full
                | Self::Busy
                | Self::Disk(_)
                | Self::Unavailable(_)
                | Self::Denied(_)
                | Self::Conflict(_)
        )
    }

    /// True if a statement or its arguments are to blame: the transaction around it goes on.
    #[must_use]
    pub const fn is_of_statement(&self) -> bool {
        matches!(self, Self::Unique(_) | Self::Unmet(_) | Self::Refused(_))
    }
}

/// As SQLite says it; for PostgreSQL see [`postgres`](super::postgres).
impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let code = match &error {
            sqlx::Error::Database(cause) => cause.code().and_then(|code| code.parse::<u32>().ok()),
            sqlx::Error::PoolTimedOut => return Self::Busy,
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => return Self::Closed,
            _ => None,
        };
        if let sqlx::Error::Database(cause) = &error
            && cause.is_unique_violation()
        {
            return Self::Unique(cause.message().to_owned());
        }
        // SQLite's result codes: the low byte is the class, https://sqlite.org/rescode.html.
        match code.map(|code| code & 0xff) {
            Some(5 | 6) => Self::Busy,
            Some(13) => Self::Full,
            Some(8 | 10 | 14) => Self::Disk(error),
            Some(11 | 26) => Self::Damaged(error),
            _ => Self::Refused(error),
        }
    }
}
