//! One shard: its rooms, its counter, its epoch, and the bound on what they keep together.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::timeline::entry::{Entry, Source};
use crate::timeline::room::Room;
use crate::timeline::{Apply, Ask, End, Limits, Outcome, Range, Since};
use crate::types::{Epoch, Position, RoomName, Seq, ShardId, ShardPosition, ShardSeq, Timestamp};

/// Rooms looked at per call, so that dropping idle rooms never holds up an event. Each call adds
/// at most one entry, so even with second chances the sweep keeps up.
const SWEEP_ROOMS: usize = 4;

#[derive(Debug)]
pub(super) struct Shard {
    id: ShardId,
    top: ShardPosition,
    limits: Limits,
    rooms: HashMap<RoomName, Room>,
    /// Rooms that hold something to drop, each once, with the record time at which it was put
    /// here; roughly the longest untouched first.
    queue: VecDeque<(Timestamp, RoomName)>,
    bytes: usize,
    newest: Timestamp,
}

impl Shard {
    pub(super) fn new(id: ShardId, limits: Limits) -> Self {
        Self {
            id,
            top: ShardPosition {
                epoch: Epoch(1),
                shard_seq: ShardSeq(0),
            },
            limits,
            rooms: HashMap::new(),
            queue: VecDeque::new(),
            bytes: 0,
            newest: Timestamp::from_millis(i64::MIN),
        }
    }

    pub(super) const fn top(&self) -> ShardPosition {
        self.top
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn apply(&mut self, apply: Apply) -> Outcome {
        let epoch = self.top.epoch;
        let moved = self.rooms.get(&apply.room).map_or(0, |room| room.moved);
        if apply.ring_version < moved {
            return Outcome::Moved {
                ring_version: moved,
            };
        }
        if apply.epoch != epoch {
            return Outcome::Stale { epoch };
        }
        let limits = self.limits;
        let room = self
            .rooms
            .entry(apply.room.clone())
            .or_insert_with(|| Room::new(epoch));
        if let Some(outcome) = room.refuse(&apply, &limits) {
            return outcome;
        }
        self.top.shard_seq = self.top.shard_seq.next();
        let entry = Arc::new(Entry {
            room: apply.room,
            shard: self.id,
            epoch,
            seq: room.top().seq.next(),
            shard_seq: self.top.shard_seq,
            source: apply.source,
            offset: apply.offset,
            id: apply.id,
            at: apply.at,
            payload: apply.payload,
        });
        let bytes = room.push(entry.clone(), &limits);
        self.account(bytes);
        self.touch(&entry.room, entry.at);
        self.sweep(self.newest, SWEEP_ROOMS);
        Outcome::Applied {
            entry,
            published: false,
        }
    }

    pub(super) fn settled(&mut self, room: &RoomName, source: &Source, offset: u64) {
        let Some(room) = self.rooms.get_mut(room) else {
            return;
        };
        let trimmed = room.settle(source, offset, &self.limits);
        self.account(-trimmed);
    }

    pub(super) fn range(
        &self,
        room: &RoomName,
        after: Position,
        up_to: ShardPosition,
        limit: usize,
    ) -> Range {
        match self.rooms.get(room) {
            Some(room) => {
                let mut range = room.range(after, up_to, limit);
                if let Some(trimmed) = &mut range.trimmed {
                    trimmed.home = self.id;
                }
                range
            }
            None => Range {
                entries: Vec::new(),
                complete: after.seq.0 == 0,
                top: self.room_top(room),
                more: false,
                trimmed: None,
            },
        }
    }

    pub(super) fn since(&self, ask: &Ask) -> Since {
        let nothing = (Vec::new(), End::Beginning);
        let room = self.rooms.get(&ask.room);
        let (entries, end) = room.map_or(nothing, |room| room.since(ask));
        Since {
            epoch: self.top.epoch,
            entries,
            end,
        }
    }

    pub(super) fn room_top(&self, room: &RoomName) -> Position {
        let none = Position {
            epoch: self.top.epoch,
            seq: Seq(0),
        };
        self.rooms.get(room).map_or(none, Room::top)
    }

    pub(super) fn restore(&mut self, entry: Entry) {
        self.restore_shard(entry.shard_position());
        let limits = self.limits;
        let epoch = entry.epoch;
        let (name, at) = (entry.room.clone(), entry.at);
        let room = self
            .rooms
            .entry(name.clone())
            .or_insert_with(|| Room::new(epoch));
        let bytes = room.restore(Arc::new(entry), &limits);
        self.account(bytes);
        self.touch(&name, at);
        self.sweep(self.newest, SWEEP_ROOMS);
    }

    pub(super) fn restore_top(&mut self, room: &RoomName, top: Position) {
        self.restore_shard(ShardPosition {
            epoch: top.epoch,
            shard_seq: ShardSeq(0),
        });
        let epoch = self.top.epoch;
        self.rooms
            .entry(room.clone())
            .or_insert_with(|| Room::new(epoch))
            .restore_top(top);
    }

    pub(super) fn restore_shard(&mut self, top: ShardPosition) {
        self.top = self.top.max(top);
    }

    /// Begins a new epoch, as a shard does that may have lost writes.
    pub(super) fn raise(&mut self) -> Epoch {
        self.top = ShardPosition {
            epoch: self.top.epoch.next(),
            shard_seq: ShardSeq(0),
        };
        self.top.epoch
    }

    pub(super) fn tombstone(&mut self, room: &RoomName, ring_version: u64) {
        let epoch = self.top.epoch;
        let room = self
            .rooms
            .entry(room.clone())
            .or_insert_with(|| Room::new(epoch));
        room.moved = room.moved.max(ring_version);
    }

    /// Looks at up to `rooms_max` rooms that were touched longest ago and drops what idle ones
    /// keep; and, while the shard keeps too much, what the next in line keep.
    pub(super) fn sweep(&mut self, now: Timestamp, rooms_max: usize) {
        for _ in 0..rooms_max.min(self.queue.len()) {
            let is_full = self.bytes > self.limits.bytes_max;
            let is_due = |since| now.since(since) > self.limits.ttl;
            let Some((since, name)) = self.queue.pop_front_if(|(at, _)| is_full || is_due(*at))
            else {
                return;
            };
            let Some(room) = self.rooms.get_mut(&name) else {
                continue;
            };
            if room.newest > since && !is_due(room.newest) {
                self.queue.push_back((room.newest, name)); // touched since: a second chance
                continue;
            }
            room.evict_ids(now, &self.limits);
            let bytes = room.drop_entries();
            room.queued = !room.holds_nothing();
            if room.queued {
                self.queue.push_back((now, name)); // not settled yet, or ids still in the window
            }
            self.account(-bytes);
        }
    }

    fn touch(&mut self, name: &RoomName, at: Timestamp) {
        self.newest = self.newest.max(at);
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        if !room.queued {
            room.queued = true;
            self.queue.push_back((room.newest, name.clone()));
        }
    }

    fn account(&mut self, bytes: isize) {
        self.bytes = self.bytes.saturating_add_signed(bytes);
    }
}
