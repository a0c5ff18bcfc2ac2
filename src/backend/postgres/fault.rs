//! What an error of PostgreSQL means: for the caller, for the connection, and for trying again.
//!
//! The server's words are SQLSTATE codes, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.

use std::io;
use std::time::Duration;

use crate::backend::error::Error;

/// The error as this program knows it.
pub(super) fn of(error: sqlx::Error) -> Error {
    let (code, text) = match &error {
        sqlx::Error::Database(cause) => (
            cause.code().unwrap_or_default().into_owned(),
            cause.message().to_owned(),
        ),
        sqlx::Error::Configuration(_) => return Error::Address,
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => return Error::Unavailable(error),
        _ => return Error::Refused(error),
    };
    match code.as_str() {
        "23505" => Error::Unique(text),
        "53100" => Error::Full,
        // Serialization, deadlock, a lock that was not given in time.
        "55P03" => Error::Conflict(text),
        "25006" => Error::Unavailable(error),
        "3D000" => Error::Denied(error),
        "XX001" | "XX002" => Error::Damaged(error),
        code => match code.get(..2) {
            Some("40") => Error::Conflict(text),
            Some("28") => Error::Denied(error),
            // Connections, resources, the operator, the server's system.
            Some("08" | "53" | "57" | "58") => Error::Unavailable(error),
            _ => Error::Refused(error),
        },
    }
}

/// No answer in this time.
pub(super) fn late(limit: Duration) -> Error {
    given_up(format!("no answer in {limit:?}"))
}

/// So many wait already.
pub(super) fn crowded(waiting: usize) -> Error {
    given_up(format!("{waiting} wait for a connection"))
}

fn given_up(text: String) -> Error {
    let error = io::Error::new(io::ErrorKind::TimedOut, text);
    Error::Unavailable(sqlx::Error::Io(error))
}

/// Whether the connection can go on after it: the server answered, and will answer again.
pub(super) fn keeps_connection(error: &Error) -> bool {
    match error {
        Error::Unavailable(sqlx::Error::Database(cause)) => {
            // A statement that took too long. What was told to a read-only server must go elsewhere.
            cause.code().is_some_and(|code| code == "57014")
        }
        Error::Unavailable(_) | Error::Denied(_) | Error::Closed => false,
        _ => true,
    }
}

/// Whether the server said so itself: then nothing of the statement was done.
pub(super) const fn is_answer(error: &Error) -> bool {
    !matches!(error, Error::Unavailable(cause) if !matches!(cause, sqlx::Error::Database(_)))
}

/// Whether a connection went away, as after the server's restart: another may do.
pub(super) fn is_lost(error: &Error) -> bool {
    let Error::Unavailable(cause) = error else {
        return false;
    };
    match cause {
        sqlx::Error::Io(cause) => cause.kind() != io::ErrorKind::TimedOut,
        sqlx::Error::Database(cause) => {
            let code = cause.code().unwrap_or_default();
            code.starts_with("57P") || code.starts_with("08") || code == "25006"
        }
        _ => false,
    }
}
