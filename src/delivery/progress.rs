//! How far each partition is done: up to its oldest record that is not.
//!
//! Records of a partition are finished in any order, because they go to different shards; only what
//! lies before the oldest unfinished one may be committed. A rewind begins a new *session* of the
//! partition: what is still on its way from the old one no longer counts.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::eventlog::Record;

/// A partition of a topic, by a small number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Slot(usize);

/// One record on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) slot: Slot,
    pub(super) session: u32,
    pub(super) offset: u64,
    /// Bytes that the record holds while it is on its way.
    pub(super) bytes: usize,
}

/// How far every partition is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    slots: HashMap<(Arc<str>, u32), Slot>,
    partitions: Vec<Partition>,
    open: usize,
}

#[derive(Debug)]
struct Partition {
    topic: Arc<str>,
    number: u32,
    session: u32,
    /// Offsets from the oldest unfinished one on, rising, and whether each is finished.
    open: VecDeque<(u64, bool)>,
    /// The next offset after all that is finished.
    low: u64,
    is_changed: bool,
}

impl Progress {
    /// Notes that a record is on its way.
    pub(super) fn begin(&mut self, record: &Record) -> Ticket {
        let key = (Arc::clone(&record.topic), record.partition);
        let next = Slot(self.partitions.len());
        let slot = *self.slots.entry(key).or_insert(next);
        if slot == next {
            self.partitions.push(Partition {
                topic: Arc::clone(&record.topic),
                number: record.partition,
                session: 0,
                open: VecDeque::new(),
                low: record.offset,
                is_changed: false,
            });
        }
        let partition = &mut self.partitions[slot.0];
        partition.open.push_back((record.offset, false));
        self.open += 1;
        let bytes = record.value.len();
        Ticket {
            slot,
            session: partition.session,
            offset: record.offset,
            bytes,
        }
    }

    /// Notes that a record is finished.
    pub(super) fn finish(&mut self, ticket: Ticket) {
        if !self.is_current(ticket) {
            return;
        }
        let partition = &mut self.partitions[ticket.slot.0];
        if let Ok(index) = partition
            .open
            .binary_search_by_key(&ticket.offset, |(at, _)| *at)
        {
            partition.open[index].1 = true;
        }
        while let Some((offset, true)) = partition.open.front().copied() {
            partition.open.pop_front();
            partition.low = offset + 1;
            partition.is_changed = true;
            self.open -= 1;
        }
    }

    /// False for what was on its way before a rewind.
    pub(super) fn is_current(&self, ticket: Ticket) -> bool {
        self.partitions[ticket.slot.0].session == ticket.session
    }

    /// Everything before this offset is finished.
    pub(super) fn low(&self, slot: Slot) -> u64 {
        self.partitions[slot.0].low
    }

    /// Forgets what is on its way of a partition, which will be read again from an offset on.
    pub(super) fn rewind(&mut self, slot: Slot, to: u64) {
        let partition = &mut self.partitions[slot.0];
        self.open -= partition.open.len();
        partition.open.clear();
        partition.session = partition.session.wrapping_add(1);
        partition.low = partition.low.min(to);
    }

    /// Which partition of which topic this is.
    pub(super) fn name(&self, slot: Slot) -> (Arc<str>, u32) {
        let partition = &self.partitions[slot.0];
        (Arc::clone(&partition.topic), partition.number)
    }

    /// Records on their way, and finished ones that wait for older ones.
    pub(super) const fn open(&self) -> usize {
        self.open
    }

    /// Hands out how far each partition has come, if that changed since the last time.
    pub(super) fn changed(&mut self) -> impl Iterator<Item = (&str, u32, u64)> {
        self.partitions.iter_mut().filter_map(|partition| {
            let is_changed = std::mem::take(&mut partition.is_changed);
            is_changed.then_some((&*partition.topic, partition.number, partition.low))
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::Timestamp;

    fn record(offset: u64) -> Record {
        Record {
            topic: Arc::from("t"),
            partition: 1,
            offset,
            key: Arc::from("k"),
            value: Bytes::new(),
            at: Timestamp::default(),
        }
    }

    #[test]
    fn only_what_lies_before_the_oldest_open_record_is_done() {
        let mut progress = Progress::default();
        let tickets: Vec<_> = [3, 4, 7, 8]
            .map(|offset| progress.begin(&record(offset)))
            .into();
        progress.finish(tickets[1]);
        progress.finish(tickets[2]);
        assert_eq!((progress.changed().count(), progress.open()), (0, 4));
        progress.finish(tickets[0]);
        assert_eq!(progress.changed().collect::<Vec<_>>(), [("t", 1, 8)]);
        assert_eq!((progress.changed().count(), progress.open()), (0, 1));
    }

    #[test]
    fn what_was_on_its_way_before_a_rewind_does_not_count() {
        let mut progress = Progress::default();
        let old: Vec<_> = (5..8)
            .map(|offset| progress.begin(&record(offset)))
            .collect();
        progress.finish(old[0]);
        progress.rewind(old[0].slot, 4);
        assert_eq!((progress.open(), progress.low(old[0].slot)), (0, 4));
        let again: Vec<_> = (4..8)
            .map(|offset| progress.begin(&record(offset)))
            .collect();
        old.into_iter().for_each(|ticket| progress.finish(ticket));
        assert_eq!(progress.open(), 4);
        again.into_iter().for_each(|ticket| progress.finish(ticket));
        assert_eq!(progress.changed().last(), Some(("t", 1, 8)));
    }
}
