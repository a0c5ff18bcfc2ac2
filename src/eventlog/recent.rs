//! The newest records, in memory, for consumers that keep up.
//!
//! Bounded by records and bytes: what falls out is read from the disk by whoever is that late. Also
//! holds where each partition ends, and wakes those who wait for more.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::Record;
use super::topics::TopicIndex;

/// The place of a record in commit order, from 1.
pub(super) type Row = u64;

/// A record and its topic's number.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) topic: TopicIndex,
    pub(super) record: Record,
}

/// What a look at the memory gives.
pub(super) enum Look {
    /// Matching records, with their rows, and the row after the last that was looked at.
    Found(Vec<(Row, Entry)>, Row),
    /// The row is older than what is kept, which begins at this one.
    Older(Row),
}

/// The next offset of each partition of each topic.
pub(super) type Tops = Vec<Vec<u64>>;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// The newest records.
#[derive(Debug)]
pub(super) struct Recent {
    keep: Keep,
    state: Mutex<State>,
    end: watch::Sender<End>,
}

#[derive(Debug)]
struct State {
    /// The row of the first entry that is kept.
    first: Row,
    entries: VecDeque<Entry>,
    bytes: usize,
    tops: Tops,
}

/// Where the log ends, for those who wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    /// The row the next record will have.
    pub(super) next: Row,
    /// True when no more will come.
    pub(super) is_closed: bool,
}

impl Recent {
    /// Nothing is kept yet of a log that goes on at row `next`.
    pub(super) fn new(keep: Keep, next: Row, tops: Tops) -> Self {
        let state = State {
            first: next,
            entries: VecDeque::new(),
            bytes: 0,
            tops,
        };
        let end = watch::Sender::new(End {
            next,
            is_closed: false,
        });
        Self {
            keep,
            state: Mutex::new(state),
            end,
        }
    }

    /// Adds records that are durable now, in commit order.
    pub(super) fn push(&self, entries: impl IntoIterator<Item = Entry>) {
        let mut state = self.lock();
        for entry in entries {
            state.raise(&entry);
            state.bytes += size(&entry);
            state.entries.push_back(entry);
        }
        while state.entries.len() > self.keep.records || state.bytes > self.keep.bytes {
            let Some(oldest) = state.entries.pop_front() else {
                break;
            };
            state.bytes -= size(&oldest);
            state.first += 1;
        }
        let next = state.first + state.entries.len() as Row;
        drop(state);
        self.end.send_modify(|end| end.next = next);
    }

    /// Up to `max` records from row `from` on whose topic is wanted.
    pub(super) fn look(&self, from: Row, max: usize, wanted: impl Fn(TopicIndex) -> bool) -> Look {
        let state = self.lock();
        let Some(skip) = from.checked_sub(state.first) else {
            return Look::Older(state.first);
        };
        let skip = usize::try_from(skip)
            .unwrap_or(usize::MAX)
            .min(state.entries.len());
        let mut next = from;
        let mut found = Vec::new();
        for entry in state.entries.range(skip..) {
            if found.len() == max {
                break;
            }
            if wanted(entry.topic) {
                found.push((next, entry.clone()));
            }
            next += 1;
        }
        Look::Found(found, next)
    }

    /// The next offset of a partition.
    pub(super) fn top(&self, topic: TopicIndex, partition: u32) -> u64 {
        let state = self.lock();
        state
            .tops
            .get(topic)
            .and_then(|t| t.get(partition as usize))
            .copied()
            .unwrap_or(0)
    }

    /// Where the log ends, and changes of it.
    pub(super) fn end(&self) -> watch::Receiver<End> {
        self.end.subscribe()
    }

    /// Ends the waiting of everybody.
    pub(super) fn close(&self) {
        self.end.send_modify(|end| end.is_closed = true);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn raise(&mut self, entry: &Entry) {
        let top = slot(&mut self.tops, entry.topic, entry.record.partition);
        *top = entry.record.offset + 1;
    }
}

/// The place of a partition in a table of offsets, which grows to hold it.
pub(super) fn slot(tops: &mut Tops, topic: TopicIndex, partition: u32) -> &mut u64 {
    if tops.len() <= topic {
        tops.resize_with(topic + 1, Vec::new);
    }
    let partitions = &mut tops[topic];
    let index = partition as usize;
    if partitions.len() <= index {
        partitions.resize(index + 1, 0);
    }
    &mut partitions[index]
}

/// What an entry counts for; the second part is about what its own structures take.
fn size(entry: &Entry) -> usize {
    entry.record.key.len() + entry.record.value.len() + 128
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::eventlog::Headers;
    use crate::types::Timestamp;

    fn entry(topic: TopicIndex, offset: u64) -> Entry {
        let record = Record {
            topic: Arc::from("t"),
            partition: 0,
            offset,
            key: Arc::from("k"),
            value: Bytes::from_static(b"v"),
            at: Timestamp::default(),
            headers: Headers::default(),
        };
        Entry { topic, record }
    }

    #[test]
    fn what_falls_out_is_named_older_and_the_rest_is_found_by_row() {
        let recent = Recent::new(
            Keep {
                records: 3,
                bytes: 1 << 20,
            },
            10,
            Tops::new(),
        );
        recent.push((0..5).map(|offset| entry(0, offset)));
        assert!(matches!(recent.look(11, 9, |_| true), Look::Older(12)));
        let Look::Found(found, next) = recent.look(13, 9, |_| true) else {
            panic!("is kept")
        };
        assert_eq!((found[0].0, found[0].1.record.offset, next), (13, 3, 15));
        assert!(matches!(recent.look(15, 9, |_| true), Look::Found(none, 15) if none.is_empty()));
        assert_eq!(recent.top(0, 0), 5);
        assert_eq!(recent.top(7, 7), 0);
    }

    #[test]
    fn topics_that_are_not_wanted_are_passed_over() {
        let recent = Recent::new(
            Keep {
                records: 9,
                bytes: 1 << 20,
            },
            1,
            Tops::new(),
        );
        recent.push([entry(0, 0), entry(1, 0), entry(0, 1)]);
        let Look::Found(found, next) = recent.look(1, 1, |topic| topic == 1) else {
            panic!()
        };
        assert_eq!((found.len(), found[0].0, next), (1, 2, 3));
    }
}
