//! What delivery tells about itself.

use std::time::{Duration, SystemTime};

use crate::telemetry::labels::{Applied, Stage};
use crate::telemetry::metrics;
use crate::timeline::Outcome;
use crate::types::Timestamp;

/// What the timeline answered.
pub(super) fn applied(outcome: &Outcome) {
    let outcome = match outcome {
        Outcome::Applied { .. } => Applied::Applied,
        Outcome::Duplicate { .. } => Applied::Duplicate,
        Outcome::DuplicateId { .. } => Applied::DuplicateId,
        Outcome::Gap { .. } => Applied::Gap,
        Outcome::Stale { .. } => Applied::Stale,
        Outcome::Moved { .. } => Applied::Moved,
    };
    metrics::DELIVERY_APPLIED.of(outcome).add(1);
}

/// From the append of an event to its publication.
pub(super) fn published(appended: Timestamp) {
    metrics::DELIVERY_TIME.record(Timestamp::from(SystemTime::now()).since(appended));
}

/// How long a part of the path took.
pub(super) fn stage(stage: Stage, took: Duration) {
    metrics::DELIVERY_STAGE_TIME.of(stage).record(took);
}

/// The pump has a record that the log took then.
pub(super) fn fetched(appended: Timestamp) {
    let took = Timestamp::from(SystemTime::now()).since(appended);
    stage(Stage::Fetched, took);
}

/// An event of that time is in the outboxes of a worker's members.
pub(super) fn shown(happened: Timestamp) {
    let took = Timestamp::from(SystemTime::now()).since(happened);
    metrics::DELIVERY_SHOWN_TIME.record(took);
}

/// A record was put aside.
pub(super) fn dead_letter(topic: &str) {
    metrics::DELIVERY_APPLIED.of(Applied::DeadLetter).add(1);
    metrics::DELIVERY_DEAD_LETTERS.of([topic]).add(1);
}

/// The archive has what the log took at these times, the newest last.
pub(super) fn archived(times: impl Iterator<Item = Timestamp>) {
    let now = Timestamp::from(SystemTime::now());
    let series = metrics::DELIVERY_STAGE_TIME.of(Stage::Archived);
    let lag = times
        .map(|at| now.since(at))
        .inspect(|lag| series.record(*lag));
    if let Some(lag) = lag.last() {
        metrics::ARCHIVE_LAG.set(lag.as_secs_f64());
    }
}
