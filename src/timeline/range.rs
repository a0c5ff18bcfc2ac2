//! Reading a stretch of a room, and whether it is all of it.

use crate::timeline::Range;
use crate::timeline::entry::Entry;
use crate::timeline::room::Room;
use crate::types::{Epoch, Position, Seq, ShardPosition};

impl Room {
    pub(super) fn range(&self, after: Position, up_to: ShardPosition, limit: usize) -> Range {
        let end = self
            .entries
            .partition_point(|slot| slot.entry.shard_position() <= up_to);
        let start = self
            .entries
            .partition_point(|slot| !is_after(&slot.entry, after))
            .min(end);
        let stop = start.saturating_add(limit).min(end);
        Range {
            entries: self
                .entries
                .range(start..stop)
                .map(|slot| slot.entry.clone())
                .collect(),
            complete: self.is_complete(after),
            top: self.top_before(end),
            more: stop < end,
            trimmed: self.trimmed,
        }
    }

    /// Whether `after` is a place in this room and everything after it is kept.
    fn is_complete(&self, after: Position) -> bool {
        if after.seq > self.top.seq || (after.epoch > self.top.epoch && after.seq.0 > 0) {
            return false;
        }
        if self
            .epoch_at(after.seq)
            .is_some_and(|epoch| after.epoch.0 > 0 && epoch != after.epoch)
        {
            return false; // the client saw an order that was lost
        }
        let run = self.entries.front().zip(self.entries.back());
        let kept = run.is_some_and(|(first, last)| {
            last.entry.seq == self.top.seq && first.entry.seq <= after.seq.next()
        });
        kept || after.seq == self.top.seq
    }

    /// The epoch in which a place was given, where that is still known.
    fn epoch_at(&self, seq: Seq) -> Option<Epoch> {
        if seq == self.top.seq && seq.0 > 0 {
            return Some(self.top.epoch);
        }
        if let Some(trimmed) = self.trimmed.filter(|trimmed| trimmed.position.seq == seq) {
            return Some(trimmed.position.epoch);
        }
        let first = self.entries.front()?.entry.seq;
        let index = usize::try_from(seq.0.checked_sub(first.0)?).ok()?;
        Some(self.entries.get(index)?.entry.epoch)
    }

    /// The top, when only the first `end` entries are counted.
    fn top_before(&self, end: usize) -> Position {
        if end == self.entries.len() {
            return self.top;
        }
        if let Some(last) = end.checked_sub(1) {
            return self.entries[last].entry.position();
        }
        let first = &self.entries[0].entry;
        let before = Position {
            epoch: first.epoch,
            seq: Seq(first.seq.0 - 1),
        };
        self.trimmed.map_or(before, |trimmed| trimmed.position)
    }
}

fn is_after(entry: &Entry, after: Position) -> bool {
    if after.epoch.0 == 0 {
        entry.seq > after.seq
    } else {
        entry.position() > after
    }
}
