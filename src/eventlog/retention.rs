//! Deletes old records, a little at a time.
//!
//! Old is what is older than the retention and what every group has passed. The newest record of
//! each topic stays whatever its age, so that a quiet topic still tells where it ended.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use super::{Error, EventLog, meter};
use crate::telemetry::metrics;
use crate::types::Timestamp;

/// The task that deletes, and reports how far groups are behind.
#[derive(Debug)]
pub struct Retention {
    log: EventLog,
    keep: Duration,
}

impl Retention {
    /// Keeps records for so long.
    #[must_use]
    pub const fn new(log: EventLog, keep: Duration) -> Self {
        Self { log, keep }
    }

    /// Runs until `drain` resolves.
    pub async fn run(self, drain: impl Future<Output = ()>) {
        let mut drain = pin!(drain);
        loop {
            self.log.lag().iter().for_each(meter::lag);
            let deleted = self.step(Timestamp::from(SystemTime::now())).await;
            metrics::EVENTLOG_DELETED.add(deleted.as_ref().map_or(0, |count| *count));
            let wait = match deleted {
                Ok(0) => PAUSE_IDLE,
                Ok(_) => PAUSE_BUSY,
                Err(Error::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "old records could not be deleted");
                    PAUSE_IDLE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = &mut drain => return,
            }
        }
    }

    /// Deletes one step of what is old at this time; gives how many records went.
    pub async fn step(&self, now: Timestamp) -> Result<u64, Error> {
        let keep_ms = i64::try_from(self.keep.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp::from_millis(now.as_millis().saturating_sub(keep_ms));
        match &self.log {
            // Kafka deletes by itself.
            EventLog::Memory(_) | EventLog::Kafka(_) => Ok(0),
            EventLog::Sql(log) => log.delete(before).await,
        }
    }
}

/// Also how often lag is reported.
const PAUSE_IDLE: Duration = Duration::from_secs(10);

/// At 500 records a step: 25,000 a second, more than a disk takes in.
const PAUSE_BUSY: Duration = Duration::from_millis(20);
