//! The derived events that are in the log already, though their parents are not committed.
//!
//! Read when the group is joined. Timelines drop repeats by id too, but only within their window, and
//! topics without a timeline not at all.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::GROUP;
use crate::eventlog::{Error, EventLog, Record};
use crate::types::{EventId, Timestamp};

/// Ids of events that may be derived again.
pub(super) struct Known {
    ids: HashSet<EventId>,
    read_at: Timestamp,
}

/// At about 100 bytes each. A group that is further behind repeats what is beyond it.
const IDS_MAX: usize = 500_000;
const BATCH: usize = 1_024;
/// Records that are younger by this have not been derived from before.
const SLACK: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Id {
    id: EventId,
}

impl Known {
    /// Reads these topics from where the group has committed.
    pub(super) async fn read(log: &EventLog, topics: &[Arc<str>]) -> Result<Self, Error> {
        let mut ids = HashSet::new();
        for topic in topics {
            let mut replay = log.replay(topic, &[GROUP], Duration::ZERO).await?;
            loop {
                let records = replay.next(BATCH).await?;
                if records.is_empty() {
                    break;
                }
                ids.extend(records.iter().filter_map(id));
                if ids.len() > IDS_MAX {
                    tracing::warn!(%topic, "too far behind to know every event that was derived");
                    break;
                }
            }
        }
        let read_at = SystemTime::now().into();
        Ok(Self { ids, read_at })
    }

    /// Whether an event is in the log already. Asked once for each.
    pub(super) fn take(&mut self, id: &EventId) -> bool {
        self.ids.remove(id)
    }

    /// Forgets everything when these records are all younger than what was read.
    pub(super) fn pass(&mut self, records: &[Record]) {
        let is_young = |record: &Record| record.at.since(self.read_at) > SLACK;
        if !self.ids.is_empty() && records.iter().all(is_young) {
            self.ids = HashSet::new();
        }
    }
}

fn id(record: &Record) -> Option<EventId> {
    let Id { id } = serde_json::from_slice(&record.value).ok()?;
    Some(id)
}
