//! The metrics of delivery, by name.

use std::time::SystemTime;

use crate::timeline::Outcome;
use crate::types::Timestamp;

/// What the timeline answered.
pub(super) fn applied(outcome: &Outcome) {
    let outcome = match outcome {
        Outcome::Applied { .. } => "applied",
        Outcome::Duplicate { .. } => "duplicate",
        Outcome::DuplicateId { .. } => "duplicate_id",
        Outcome::Gap { .. } => "gap",
        Outcome::Stale { .. } => "stale",
        Outcome::Moved { .. } => "moved",
    };
    metrics::counter!("vestibule_delivery_applied_total", "outcome" => outcome).increment(1);
}

/// From the append of an event to its publication.
pub(super) fn published(appended: Timestamp) {
    let took = Timestamp::from(SystemTime::now()).since(appended);
    metrics::histogram!("vestibule_delivery_seconds").record(took.as_secs_f64());
}

/// A record was put aside.
pub(super) fn dead_letter(topic: &str) {
    metrics::counter!("vestibule_delivery_dead_letters_total", "topic" => topic.to_owned())
        .increment(1);
}

/// Something is tried again.
pub(super) fn retried() {
    metrics::counter!("vestibule_delivery_retries_total").increment(1);
}

/// How far the archive is behind, by the newest event of what it just wrote.
pub(super) fn archived(newest: Timestamp) {
    let lag = Timestamp::from(SystemTime::now()).since(newest);
    metrics::gauge!("vestibule_archive_lag_seconds").set(lag.as_secs_f64());
}
