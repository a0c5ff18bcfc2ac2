//! The log's metrics, by name.

use std::time::Duration;

use super::groups::Lag;

/// Records that became durable.
pub(super) fn appended(records: usize, slowest: Duration) {
    metrics::counter!("vestibule_eventlog_appended_total").increment(records as u64);
    metrics::histogram!("vestibule_eventlog_append_seconds")
        .record_many(slowest.as_secs_f64(), records);
}

/// An append that was refused, at once or because its write failed.
pub(super) fn refused() {
    metrics::counter!("vestibule_eventlog_refused_total").increment(1);
}

/// Records deleted because they were old.
pub(super) fn deleted(records: u64) {
    metrics::counter!("vestibule_eventlog_deleted_total").increment(records);
}

/// How far a group is behind in a partition.
pub(super) fn lag(lag: &Lag) {
    metrics::gauge!(
        "vestibule_eventlog_consumer_lag",
        "group" => lag.group.to_string(),
        "topic" => lag.topic.to_string(),
        "partition" => lag.partition.to_string(),
    )
    .set(lag.records as f64);
}
