//! An event into the log.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::eventlog::{self, Append, EventLog};
use crate::events::{Envelope, Row};
use crate::types::{Code, Kind, Problem, Timestamp};

/// Appends events. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    log: EventLog,
}

/// An event on its way into the log; resolves to the time at which the log had it. From then on it
/// can not be lost. Cancel-safe: dropping it does not take the event back.
pub struct Pending(Append);

/// How long a sender waits before it tries again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

impl Publisher {
    /// Appends to this log.
    #[must_use]
    pub const fn new(log: EventLog) -> Self {
        Self { log }
    }

    /// Enqueues an event without waiting: one sender's events enter the log in call order.
    ///
    /// # Errors
    /// `overloaded` when too much is in flight, `invalid` when the row cannot place the event.
    pub fn publish(&self, row: &Row, envelope: &Envelope) -> Result<Pending, Problem> {
        let topic = row.topic.as_deref().ok_or_else(|| {
            Problem::new(Code::Internal, format!("events of type {} have no topic", row.kind))
        })?;
        let key = row.key_of(envelope)?;
        let value = Bytes::from(envelope.to_json());
        self.log.append(topic, &key, value).map(Pending).map_err(|error| problem(&error))
    }
}

impl Future for Pending {
    type Output = Result<Timestamp, Problem>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|result| match result {
            Ok(appended) => Ok(appended.at),
            Err(error) => Err(problem(&error)),
        })
    }
}

fn problem(error: &eventlog::Error) -> Problem {
    match error.kind() {
        Kind::Client => Problem::new(Code::TooLarge, error.to_string()),
        Kind::Internal => {
            tracing::error!(%error, "the log refused an event");
            Problem::new(Code::Internal, "the event could not be stored")
        }
        Kind::Unavailable => {
            tracing::warn!(%error, "the log refused an event for now");
            let code = if matches!(error, eventlog::Error::Overloaded { .. }) {
                Code::Overloaded
            } else {
                Code::Unavailable
            };
            Problem::new(code, "the event could not be stored right now; try again with the same id")
                .retry_after(RETRY_AFTER)
        }
    }
}
