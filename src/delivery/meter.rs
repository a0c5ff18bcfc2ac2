//! What delivery tells about itself.

use std::time::SystemTime;

use crate::telemetry::labels::Applied;
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

/// A record was put aside.
pub(super) fn dead_letter(topic: &str) {
    metrics::DELIVERY_APPLIED.of(Applied::DeadLetter).add(1);
    metrics::DELIVERY_DEAD_LETTERS.of([topic]).add(1);
}

/// How far the archive is behind, by the newest event of what it just wrote.
pub(super) fn archived(newest: Timestamp) {
    let lag = Timestamp::from(SystemTime::now()).since(newest);
    metrics::ARCHIVE_LAG.set(lag.as_secs_f64());
}
