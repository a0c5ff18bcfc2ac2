//! The one member of a group in embedded mode.
//!
//! It remembers three places in each partition: up to where it has handed out, what the caller has
//! stored as done, and what is committed. What was handed out but not stored is kept in commit
//! order, so that a commit can also say from which row on a restart has to read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::committing::Committing;
use super::embedded::Embedded;
use super::groups::Commit;
use super::recent::{End, Entry, Row};
use super::replay::Scan;
use super::topics::TopicIndex;
use super::{Error, Record};

/// A member of a group.
#[derive(Debug)]
pub(super) struct Member {
    group: Arc<str>,
    scan: Scan,
    end: watch::Receiver<End>,
    topics: Vec<TopicPlace>,
    /// Handed out and not stored, in commit order; some may have been stored meanwhile.
    open: VecDeque<Open>,
    compact_at: usize,
    committed_row: Row,
    /// True when a commit failed or nobody waited for it.
    is_in_doubt: Arc<AtomicBool>,
}

#[derive(Debug)]
struct TopicPlace {
    name: Arc<str>,
    index: TopicIndex,
    partitions: Vec<Place>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The next offset to hand out.
    next: u64,
    /// The next offset that is not done.
    stored: u64,
    /// `None` until the first commit: that one names every partition, so that a restart can tell
    /// a topic without records from one that the group has never read.
    committed: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    row: Row,
    topic: usize,
    partition: u32,
    offset: u64,
}

impl Member {
    pub(super) fn join(log: Embedded, group: &str, topics: &[&str]) -> Result<Self, Error> {
        let core = log.core();
        let group = Arc::from(group);
        let topics = topics
            .iter()
            .map(|name| core.topics.ensure(name))
            .collect::<Result<Vec<_>, _>>()?;
        let stored = core.groups.join(&group, topics.clone())?;
        let place = |index, partition| {
            let committed = stored.offsets.get(&(index, partition)).copied();
            let at = committed.unwrap_or(0);
            Place {
                next: at,
                stored: at,
                committed,
            }
        };
        let places = topics.iter().map(|(index, partitions)| TopicPlace {
            name: core.topics.name(*index),
            index: *index,
            partitions: (0..*partitions)
                .map(|partition| place(*index, partition))
                .collect(),
        });
        let end = core.recent.end();
        // A topic that the group has not read before has records before its row.
        let is_known = |index: &TopicIndex| stored.offsets.keys().any(|(known, _)| known == index);
        let knows_all = topics.iter().all(|(index, _)| is_known(index));
        let row = if knows_all { stored.row.max(1) } else { 1 };
        Ok(Self {
            topics: places.collect(),
            scan: Scan {
                topics: topics.into_iter().map(|(index, _)| index).collect(),
                row,
                log,
            },
            group,
            end,
            open: VecDeque::new(),
            compact_at: COMPACT_AT_MIN,
            committed_row: stored.row,
            is_in_doubt: Arc::default(),
        })
    }

    /// The next records, at most `max`, in order within each partition; waits for at least one.
    /// Cancel-safe: a record is handed out only by a call that returns it.
    pub(super) async fn poll(&mut self, max: usize) -> Result<Vec<Record>, Error> {
        loop {
            let End { next, is_closed } = *self.end.borrow_and_update();
            while self.scan.row < next {
                let found = self.scan.step(max).await?;
                let records = self.hand_out(found);
                if !records.is_empty() {
                    return Ok(records);
                }
            }
            if is_closed || self.end.changed().await.is_err() {
                return Err(Error::Closed);
            }
        }
    }

    /// Notes that everything before `next_offset` of a partition is done: the next commit commits
    /// it. A lower offset than was stored before changes nothing; [`seek`](Self::seek) goes back.
    pub(super) fn store(&mut self, topic: &str, partition: u32, next_offset: u64) {
        if let Some(place) = self.place(topic, partition) {
            place.stored = place.stored.max(next_offset);
        }
    }

    /// Makes what was stored durable, with a text to go with it. The work is under way when this
    /// returns; the future tells when it is done, and holds nobody up: the caller may poll on.
    /// Does nothing when nothing was stored since the last commit. What failed, or was not waited
    /// for, the next commit does again.
    pub(super) fn commit(&mut self, metadata: &str) -> Committing {
        if self.is_in_doubt.swap(false, Ordering::AcqRel) {
            self.committed_row = 0;
            self.places().for_each(|place| place.committed = None);
        }
        let row = self.low();
        let offsets: Vec<_> = self
            .changed()
            .map(|(t, p, place)| (t, p, place.stored))
            .collect();
        // The row alone is worth a write only now and then, for retention and the next start.
        if offsets.is_empty() && row < self.committed_row + ROWS_WITHOUT_COMMIT {
            return Committing::nothing();
        }
        let (group, metadata) = (Arc::clone(&self.group), metadata.to_owned());
        let commit = Commit {
            group,
            offsets,
            row,
            metadata,
        };
        let enqueued = match &self.scan.log {
            Embedded::Memory(log) => {
                log.commit(commit);
                return self.committed(row, Committing::nothing());
            }
            Embedded::Sql(log) => log.commit(commit),
        };
        self.committed(row, Committing::of(enqueued, &self.is_in_doubt))
    }

    fn committed(&mut self, row: Row, committing: Committing) -> Committing {
        self.committed_row = row;
        self.places()
            .for_each(|place| place.committed = Some(place.stored));
        committing
    }

    /// Goes to an offset of one partition: the next records handed out of it begin there (or at
    /// the oldest there is). Going back also takes back what was stored. Other partitions go on
    /// where they were.
    pub(super) async fn seek(
        &mut self,
        topic: &str,
        partition: u32,
        offset: u64,
    ) -> Result<(), Error> {
        let Some(index) = self
            .topics
            .iter()
            .find(|t| &*t.name == topic)
            .map(|t| t.index)
        else {
            return Ok(());
        };
        let row = self.scan.find((index, partition), offset).await?;
        let Some(place) = self.place(topic, partition) else {
            return Ok(());
        };
        place.next = offset;
        place.stored = place.stored.min(offset);
        if row < self.scan.row {
            self.scan.row = row;
            // What was open from there on is met again.
            let met_again = self.open.partition_point(|open| open.row < row);
            self.open.truncate(met_again);
        }
        Ok(())
    }

    fn hand_out(&mut self, found: Vec<(Row, Entry)>) -> Vec<Record> {
        let mut records = Vec::with_capacity(found.len());
        for (row, Entry { topic, record }) in found {
            let Some(slot) = self.topics.iter().position(|t| t.index == topic) else {
                continue;
            };
            let partition = record.partition;
            let Some(place) = self.topics[slot].partitions.get_mut(partition as usize) else {
                continue;
            };
            if record.offset >= place.stored {
                self.open.push_back(Open {
                    row,
                    topic: slot,
                    partition,
                    offset: record.offset,
                });
            }
            if record.offset >= place.next {
                place.next = record.offset + 1;
                records.push(record);
            }
        }
        if self.open.len() > self.compact_at {
            let topics = &self.topics;
            self.open.retain(|open| !open.is_done(topics));
            self.compact_at = (self.open.len() * 2).max(COMPACT_AT_MIN);
        }
        records
    }

    /// The row before which everything is done.
    fn low(&mut self) -> Row {
        while self
            .open
            .front()
            .is_some_and(|open| open.is_done(&self.topics))
        {
            self.open.pop_front();
        }
        self.open.front().map_or(self.scan.row, |open| open.row)
    }

    fn changed(&self) -> impl Iterator<Item = (TopicIndex, u32, Place)> {
        self.topics
            .iter()
            .flat_map(|topic| {
                (0..)
                    .zip(&topic.partitions)
                    .map(|(p, place)| (topic.index, p, *place))
            })
            .filter(|(_, _, place)| place.committed != Some(place.stored))
    }

    fn places(&mut self) -> impl Iterator<Item = &mut Place> {
        self.topics
            .iter_mut()
            .flat_map(|topic| &mut topic.partitions)
    }

    fn place(&mut self, topic: &str, partition: u32) -> Option<&mut Place> {
        let topic = self.topics.iter_mut().find(|t| &*t.name == topic)?;
        topic.partitions.get_mut(partition as usize)
    }
}

impl Open {
    fn is_done(&self, topics: &[TopicPlace]) -> bool {
        self.offset < topics[self.topic].partitions[self.partition as usize].stored
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.scan.log.core().groups.leave(&self.group);
    }
}

/// Below this, looking for what is done costs more than keeping it.
const COMPACT_AT_MIN: usize = 4_096;

/// Rows of other topics that may pass before they are noted.
const ROWS_WITHOUT_COMMIT: u64 = 4_096;
