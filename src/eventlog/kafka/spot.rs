//! A partition of a topic.

use std::sync::Arc;

use super::Record;

/// A partition of a topic, by its name here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) topic: Arc<str>,
    pub(super) partition: u32,
}

impl Spot {
    pub(super) const fn new(topic: Arc<str>, partition: u32) -> Self {
        Self { topic, partition }
    }

    /// Where a record is.
    pub(super) fn of(record: &Record) -> Self {
        Self::new(Arc::clone(&record.topic), record.partition)
    }
}
