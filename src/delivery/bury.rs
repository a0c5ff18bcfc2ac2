//! Putting aside what can never be applied.

use super::backoff::Backoff;
use super::meter;
use super::route::Fault;
use crate::eventlog::{Cause, Error, EventLog, Record};
use crate::telemetry::trace;
use crate::types::NodeId;

/// Makes a record durable as a dead letter.
pub(super) async fn bury(
    log: &EventLog,
    node: &NodeId,
    record: &Record,
    fault: &Fault,
) -> Result<(), Error> {
    tracing::error!(topic = %record.topic, partition = record.partition, offset = record.offset,
        trace_id = fault.id.as_ref().map(trace::id), class = fault.class, reason = %fault.message, "a record can never be applied");
    meter::dead_letter(&record.topic);
    let cause = Cause {
        class: fault.class,
        message: fault.message.clone(),
        attempts: 1,
        node,
        id: fault.id.as_ref().map(|id| id.as_str()),
    };
    let mut backoff = Backoff::default();
    loop {
        match log.dead_letter(record, &cause) {
            Ok(append) => return append.await.map(drop),
            Err(error) if error.retry() => backoff.wait().await,
            Err(error) => return Err(error),
        }
    }
}
