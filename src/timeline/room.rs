//! One room: its order, its recent entries, what has been applied of each source.
//!
//! Invariant: `entries` is one unbroken run of `seq`, and of its entries the first `settled` are
//! settled. The run ends at `top` except after a restore that knew the top but not the entries.
//! No clock: all times are those of the records.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::timeline::dedup::Dedup;
use crate::timeline::entry::{Entry, Source};
use crate::timeline::{Apply, Limits, Outcome, Trimmed};
use crate::types::{Epoch, Position, Seq, ShardId, Timestamp};

/// What an entry costs besides its payload: the struct, its queue slot, its ids.
const ENTRY_BYTES: usize = 320;

#[derive(Debug)]
pub(super) struct Room {
    pub(super) top: Position,
    /// The version of the ring since which the room is elsewhere; 0 while it is here.
    pub(super) moved: u64,
    /// The last offset applied of each source, sorted. No expiry: a source's next record must find
    /// it however late it comes.
    high: Vec<(Source, u64)>,
    ids: Dedup,
    pub(super) entries: VecDeque<Slot>,
    settled: usize,
    pub(super) trimmed: Option<Trimmed>,
    /// The latest record time.
    pub(super) newest: Timestamp,
    /// Whether the shard has it in its queue of rooms that hold something to drop.
    pub(super) queued: bool,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) entry: Arc<Entry>,
    settled: bool,
}

impl Room {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            top: Position { epoch, seq: Seq(0) },
            moved: 0,
            high: Vec::new(),
            ids: Dedup::default(),
            entries: VecDeque::new(),
            settled: 0,
            trimmed: None,
            newest: Timestamp::from_millis(i64::MIN),
            queued: false,
        }
    }

    pub(super) const fn top(&self) -> Position {
        self.top
    }

    /// Says why a record takes no place, or `None` when it takes the next one.
    pub(super) fn refuse(&mut self, apply: &Apply, limits: &Limits) -> Option<Outcome> {
        let last = self.last(&apply.source);
        if last.is_some_and(|last| apply.offset <= last) {
            return Some(self.duplicate(&apply.source, apply.offset));
        }
        if apply
            .prev
            .is_some_and(|prev| last.is_none_or(|last| last < prev))
        {
            return Some(Outcome::Gap { last });
        }
        let original = self.ids.find(&apply.id, apply.at, limits.dedup_window)?;
        // The prefix goes on: the next record of this source names this one as its `prev`.
        self.advance(&apply.source, apply.offset);
        Some(Outcome::DuplicateId { original })
    }

    /// Takes an entry with the next place in; answers how many bytes more are kept.
    pub(super) fn push(&mut self, entry: Arc<Entry>, limits: &Limits) -> isize {
        let before = self.break_run(entry.seq);
        if self.entries.is_empty() && self.top.seq.0 > 0 {
            let known = self.trimmed.filter(|trimmed| trimmed.position == self.top);
            self.trimmed = known.or(Some(Trimmed {
                position: self.top,
                home: ShardId(0),
                shard: None,
            }));
        }
        self.take(&entry, limits);
        let cost = signed(cost(&entry));
        self.entries.push_back(Slot {
            entry,
            settled: false,
        });
        cost - before - self.trim(limits)
    }

    /// Marks an entry as settled; answers how many bytes were trimmed.
    pub(super) fn settle(&mut self, source: &Source, offset: u64, limits: &Limits) -> isize {
        let mut open = self.entries.iter_mut().skip(self.settled);
        let found = open.find(|slot| slot.entry.offset == offset && slot.entry.source == *source);
        let Some(slot) = found else { return 0 };
        slot.settled = true;
        self.count_settled();
        self.trim(limits)
    }

    /// Puts a settled entry back in its place; answers how many bytes more are kept.
    pub(super) fn restore(&mut self, entry: Arc<Entry>, limits: &Limits) -> isize {
        self.take(&entry, limits);
        let seq = entry.seq;
        let run = self.entries.front().zip(self.entries.back());
        let (first, last) = run.map_or((seq, seq), |(f, l)| (f.entry.seq, l.entry.seq));
        let cost = signed(cost(&entry));
        let slot = Slot {
            entry,
            settled: true,
        };
        if run.is_some() && seq.next() == first && self.entries.len() < limits.entries_max {
            self.entries.push_front(slot);
            self.settled += 1;
            self.note_missing();
            return cost;
        }
        if run.is_some() && seq <= last {
            return 0; // known already, or older than a hole
        }
        let before = self.break_run(seq);
        self.entries.push_back(slot);
        self.count_settled();
        self.note_missing();
        cost - before - self.trim(limits)
    }

    /// The room goes on above `top`.
    pub(super) fn restore_top(&mut self, top: Position) {
        if top <= self.top {
            return;
        }
        self.top = top;
        if self.entries.is_empty() {
            self.trimmed = Some(Trimmed {
                position: top,
                home: ShardId(0),
                shard: None,
            });
        }
    }

    /// Drops all settled entries; answers how many bytes that were.
    pub(super) fn drop_entries(&mut self) -> isize {
        let mut bytes = 0;
        while self.settled > 0 {
            bytes += self.pop();
        }
        self.entries.shrink_to_fit();
        bytes
    }

    /// Forgets the ids that no record after `newest` can be a retry of.
    pub(super) fn evict_ids(&mut self, newest: Timestamp, limits: &Limits) {
        self.ids.evict(newest, limits.dedup_window, limits.ids_max);
    }

    pub(super) fn holds_nothing(&self) -> bool {
        self.entries.is_empty() && self.ids.is_empty()
    }

    fn duplicate(&self, source: &Source, offset: u64) -> Outcome {
        for slot in self.entries.iter().rev() {
            if slot.entry.source == *source && slot.entry.offset <= offset {
                if slot.entry.offset < offset {
                    break; // offsets of a source rise: it is not here
                }
                return Outcome::Duplicate {
                    entry: Some(slot.entry.clone()),
                    settled: slot.settled,
                };
            }
        }
        // Trimmed, which only happens to the settled; or a duplicate id, which has no entry.
        Outcome::Duplicate {
            entry: None,
            settled: true,
        }
    }

    fn last(&self, source: &Source) -> Option<u64> {
        let index = self
            .high
            .binary_search_by(|(known, _)| known.cmp(source))
            .ok()?;
        Some(self.high[index].1)
    }

    fn advance(&mut self, source: &Source, offset: u64) {
        match self.high.binary_search_by(|(known, _)| known.cmp(source)) {
            Ok(index) => self.high[index].1 = self.high[index].1.max(offset),
            Err(index) => self.high.insert(index, (source.clone(), offset)),
        }
    }

    /// What an entry changes besides the run.
    fn take(&mut self, entry: &Entry, limits: &Limits) {
        self.advance(&entry.source, entry.offset);
        self.top = self.top.max(entry.position());
        self.newest = self.newest.max(entry.at);
        self.ids.insert(&entry.id, entry.at, entry.position());
        self.evict_ids(self.newest, limits);
    }

    /// Drops the run if `seq` does not continue it; answers the bytes.
    fn break_run(&mut self, seq: Seq) -> isize {
        let last = self.entries.back().map(|slot| slot.entry.seq);
        if last.is_none_or(|last| last.next() == seq) {
            return 0;
        }
        let mut bytes = 0;
        while !self.entries.is_empty() {
            bytes += self.pop();
        }
        bytes
    }

    /// After a restore: what is before the run is not here.
    fn note_missing(&mut self) {
        let Some(first) = self.entries.front().map(|slot| &slot.entry) else {
            return;
        };
        let before = Position {
            epoch: first.epoch,
            seq: Seq(first.seq.0.saturating_sub(1)),
        };
        if before.seq.0 == 0 {
            self.trimmed = None;
        } else if self
            .trimmed
            .is_none_or(|trimmed| trimmed.position.seq != before.seq)
        {
            self.trimmed = Some(Trimmed {
                position: before,
                home: ShardId(0),
                shard: None,
            });
        }
    }

    fn count_settled(&mut self) {
        while self
            .entries
            .get(self.settled)
            .is_some_and(|slot| slot.settled)
        {
            self.settled += 1;
        }
    }

    /// Trims settled entries over the limits; answers the bytes.
    fn trim(&mut self, limits: &Limits) -> isize {
        let mut bytes = 0;
        while self.settled > 0 {
            let oldest = &self.entries[0].entry;
            let old = self.newest.since(oldest.at) > limits.ttl;
            let n = self.entries.len();
            if n <= limits.entries_max && !(old && n > limits.keep_min) {
                break;
            }
            bytes += self.pop();
        }
        bytes
    }

    /// Removes the oldest entry; answers its bytes.
    fn pop(&mut self) -> isize {
        let Some(slot) = self.entries.pop_front() else {
            return 0;
        };
        self.settled = self.settled.saturating_sub(1);
        self.trimmed = Some(Trimmed {
            position: slot.entry.position(),
            home: ShardId(0),
            shard: Some(slot.entry.shard_position()),
        });
        signed(cost(&slot.entry))
    }
}

fn cost(entry: &Entry) -> usize {
    entry.payload.len() + ENTRY_BYTES
}

fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}
