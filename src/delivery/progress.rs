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
    /// The next offset after all that is committed: where a reading anew begins.
    committed: u64,
    is_changed: bool,
}

impl Progress {
    /// Notes that a record is on its way.
    pub(super) fn begin(&mut self, record: &Record) -> Ticket {
        let key = (Arc::clone(&record.topic), record.partition);
        let next = Slot(self.partitions.len());
        let slot = *self.slots.entry(key).or_insert(next);
        if slot == next {
            self.add(&record.topic, record.partition, record.offset);
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

    /// A partition is read from this offset on, which the group has committed.
    pub(super) fn assign(&mut self, topic: &Arc<str>, number: u32, committed: u64) -> Slot {
        let key = (Arc::clone(topic), number);
        let next = Slot(self.partitions.len());
        let slot = *self.slots.entry(key).or_insert(next);
        if slot == next {
            self.add(topic, number, committed);
        } else {
            self.end(slot);
            let partition = &mut self.partitions[slot.0];
            (partition.low, partition.committed) = (committed, committed);
        }
        slot
    }

    fn add(&mut self, topic: &Arc<str>, number: u32, offset: u64) {
        self.partitions.push(Partition {
            topic: Arc::clone(topic),
            number,
            session: 0,
            open: VecDeque::new(),
            low: offset,
            committed: offset,
            is_changed: false,
        });
    }

    /// The slot of a partition, if anything was read of it.
    pub(super) fn slot(&self, topic: &Arc<str>, number: u32) -> Option<Slot> {
        self.slots.get(&(Arc::clone(topic), number)).copied()
    }

    /// Forgets what is on its way of a partition, which somebody else reads from now on.
    pub(super) fn end(&mut self, slot: Slot) {
        let partition = &mut self.partitions[slot.0];
        self.open -= partition.open.len();
        partition.open.clear();
        partition.session = partition.session.wrapping_add(1);
        partition.is_changed = false;
    }

    /// Partitions of which anything was read that is not committed, and where they go on.
    pub(super) fn uncommitted(&self) -> Vec<(Slot, u64)> {
        let slots = self.partitions.iter().enumerate();
        let is_ahead = |partition: &&Partition| {
            !partition.open.is_empty() || partition.low > partition.committed
        };
        slots
            .filter(|(_, partition)| is_ahead(partition))
            .map(|(slot, partition)| (Slot(slot), partition.committed))
            .collect()
    }

    /// These offsets are committed.
    pub(super) fn committed(&mut self, offsets: &[(Arc<str>, u32, u64)]) {
        for (topic, number, next) in offsets {
            if let Some(slot) = self.slot(topic, *number) {
                let partition = &mut self.partitions[slot.0];
                partition.committed = partition.committed.max(*next);
            }
        }
    }

    /// These were handed out by [`changed`](Self::changed) and not committed: they are handed out again.
    pub(super) fn not_committed(&mut self, offsets: &[(Arc<str>, u32, u64)]) {
        for (topic, number, _) in offsets {
            if let Some(slot) = self.slot(topic, *number) {
                self.partitions[slot.0].is_changed = true;
            }
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
    pub(super) fn changed(&mut self) -> Vec<(Arc<str>, u32, u64)> {
        let changed = self.partitions.iter_mut().filter_map(|partition| {
            let is_changed = std::mem::take(&mut partition.is_changed);
            is_changed.then(|| {
                (
                    Arc::clone(&partition.topic),
                    partition.number,
                    partition.low,
                )
            })
        });
        changed.collect()
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
            headers: crate::eventlog::Headers::default(),
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
        assert_eq!((progress.changed().len(), progress.open()), (0, 4));
        progress.finish(tickets[0]);
        assert_eq!(progress.changed(), [(Arc::from("t"), 1, 8)]);
        assert_eq!((progress.changed().len(), progress.open()), (0, 1));
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
        assert_eq!(progress.changed(), [(Arc::from("t"), 1, 8)]);
    }

    #[test]
    fn what_is_not_committed_is_read_again_from_the_commit() {
        let mut progress = Progress::default();
        let topic: Arc<str> = Arc::from("t");
        let slot = progress.assign(&topic, 1, 3);
        assert_eq!(progress.uncommitted(), []);
        let tickets: Vec<_> = (3..6)
            .map(|offset| progress.begin(&record(offset)))
            .collect();
        progress.finish(tickets[0]);
        let done = progress.changed();
        assert_eq!(progress.uncommitted(), [(slot, 3)]);
        progress.not_committed(&done);
        assert_eq!(progress.changed(), done);
        progress.committed(&done);
        assert_eq!(progress.uncommitted(), [(slot, 4)]);
        progress.end(slot);
        assert!(progress.uncommitted().is_empty() && progress.open() == 0);
        progress.assign(&topic, 1, 9);
        assert_eq!(progress.low(slot), 9);
    }
}
