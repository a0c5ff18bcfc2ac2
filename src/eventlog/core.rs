//! What both embedded backends share: topics, recent records, groups.

use super::groups::Groups;
use super::partition::partition_of;
use super::recent::Recent;
use super::topics::{TopicIndex, Topics};
use super::{Error, RECORD_BYTES_MAX, Request};

/// The state of a log that lives in memory in either backend.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) topics: Topics,
    pub(super) recent: Recent,
    pub(super) groups: Groups,
}

impl Core {
    /// Where a record belongs, or why it never will.
    pub(super) fn place(&self, request: &Request<'_>) -> Result<(TopicIndex, u32), Error> {
        let bytes = request.key.len() + request.value.len();
        if bytes > RECORD_BYTES_MAX {
            return Err(Error::TooLarge {
                bytes,
                limit: RECORD_BYTES_MAX,
            });
        }
        let (topic, partitions) = self.topics.ensure(request.topic)?;
        Ok((topic, partition_of(request.key, partitions)))
    }
}
