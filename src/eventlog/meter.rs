//! What the log tells about itself.

use std::time::Duration;

use super::Patience;
use super::groups::Lag;
use super::queue::Pending;
use super::topics::{TopicIndex, Topics};
use crate::telemetry::labels::AppendLane;
use crate::telemetry::{Count, metrics};

/// Counts what became durable. The series of each topic is kept: finding it takes a lock.
#[derive(Default)]
pub(super) struct Durable {
    topics: Vec<Option<Count>>,
}

impl Durable {
    pub(super) fn note(&mut self, pending: &Pending, topics: &Topics) {
        appended(pending.patience, pending.since.elapsed());
        self.topic(pending.topic, topics).add(1);
    }

    fn topic(&mut self, index: TopicIndex, topics: &Topics) -> &Count {
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        self.topics[index]
            .get_or_insert_with(|| metrics::EVENTLOG_APPENDED.of([&topics.name(index)]))
    }
}

/// How long an append took to be durable.
pub(super) fn appended(patience: Patience, took: Duration) {
    let lane = match patience {
        Patience::Refuse => AppendLane::Ordinary,
        Patience::Persist => AppendLane::Patient,
    };
    metrics::EVENTLOG_APPEND_TIME.of(lane).record(took);
}

/// An append that was refused, at once or because its write failed.
pub(super) fn refused() {
    metrics::EVENTLOG_REFUSED.add(1);
}

/// Records that wait to become durable.
pub(super) fn in_flight(records: usize) {
    metrics::EVENTLOG_INFLIGHT.set(records as f64);
}

/// How far a group is behind in a partition.
pub(super) fn lag(lag: &Lag) {
    let partition = lag.partition.to_string();
    metrics::EVENTLOG_LAG
        .of([&lag.group, &lag.topic, &partition])
        .set(lag.records as f64);
}
