//! The log's metrics, by name.

use std::time::Duration;

use super::groups::Lag;
use crate::telemetry::metrics;

/// Records of a topic that became durable.
pub(super) fn appended<'a>(topics: impl Iterator<Item = &'a str>, slowest: Duration) {
    let mut counts: Vec<(&str, u64)> = Vec::new();
    for topic in topics {
        // A batch has one or two topics; a map would cost more.
        match counts.iter_mut().find(|(known, _)| *known == topic) {
            Some((_, count)) => *count += 1,
            None => counts.push((topic, 1)),
        }
        metrics::EVENTLOG_APPEND_TIME.record(slowest);
    }
    for (topic, count) in counts {
        metrics::EVENTLOG_APPENDED.of([topic]).add(count);
    }
}

/// An append that was refused, at once or because its write failed.
pub(super) fn refused() {
    metrics::EVENTLOG_REFUSED.add(1);
}

/// Records deleted because they were old.
pub(super) fn deleted(records: u64) {
    metrics::EVENTLOG_DELETED.add(records);
}

/// How far a group is behind in a partition.
pub(super) fn lag(lag: &Lag) {
    let partition = lag.partition.to_string();
    let records = f64::from(u32::try_from(lag.records).unwrap_or(u32::MAX));
    metrics::EVENTLOG_LAG.of([&lag.group, &lag.topic, &partition]).set(records);
}
