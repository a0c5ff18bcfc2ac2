//! What this worker knows of a room's order: up to where its members were shown it, and which entry
//! comes next.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::types::{Epoch, EventId, Position, Seq, ShardId, ShardPosition, SocketId};

/// One room with a timeline, for as long as this worker hears it.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) shard: ShardId,
    /// Where the worker stood when it began to hear the room. What was not after that was brought by
    /// the joins themselves.
    base: ShardPosition,
    /// The last entry that was taken, in whatever epoch; `None` until one came or the top was asked for.
    last: Option<Position>,
    /// The furthest place whose event members were shown.
    shown_up_to: Seq,
    /// The epoch in which that was.
    shown_in: Epoch,
    /// What they were shown lately, by rising place.
    shown: VecDeque<Shown>,
    /// Sockets that came when a later epoch had begun: they were not shown what was lost with the one
    /// before, and get it when it takes its place again.
    newcomers: Vec<SocketId>,
}

#[derive(Debug)]
struct Shown {
    seq: Seq,
    id: EventId,
    when: Instant,
}

/// What to do with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is next: show it.
    New,
    /// It was lost by its shard and has its place again: show it to those who were not there.
    Again,
    /// It was shown, or is before anything this room's members need.
    Old,
    /// Something before it is missing.
    Gap,
    /// What members were shown is not the order that the room now has.
    Lost,
}

/// What of a room is remembered for the case that its shard loses its last writes: a shard is written to
/// disk every second, and its replica is not further behind than that.
const SHOWN_MAX: usize = 256;
const SHOWN_FOR: Duration = Duration::from_secs(60);
/// Newcomers remembered; beyond them all members count as having seen what was lost.
const NEWCOMERS_MAX: usize = 65_536;

impl Track {
    pub(super) fn new(shard: ShardId, base: ShardPosition) -> Self {
        Self {
            shard,
            base,
            last: None,
            shown_up_to: Seq(0),
            shown_in: base.epoch,
            shown: VecDeque::new(),
            newcomers: Vec::new(),
        }
    }

    /// Judges an entry and takes it when it is next. After [`Verdict::Lost`] call
    /// [`restart`](Self::restart).
    pub(super) fn judge(&mut self, entry: (Position, ShardPosition), id: &EventId) -> Verdict {
        let (position, at) = entry;
        let Some(last) = self.last else {
            if at <= self.base {
                return Verdict::Old;
            }
            if self.is_unknown_since(at) {
                return Verdict::Lost;
            }
            self.take(position, id);
            return Verdict::New;
        };
        if position <= last {
            return Verdict::Old;
        }
        let is_next = position.seq == last.seq.next()
            || (position.epoch > last.epoch && position.seq <= last.seq);
        if !is_next {
            return Verdict::Gap;
        }
        if position.seq > self.shown_up_to {
            let is_later = position.epoch > self.shown_in;
            if is_later && self.shown.iter().any(|shown| shown.id == *id) {
                return Verdict::Lost;
            }
            self.take(position, id);
            return Verdict::New;
        }
        let before = self.shown.iter().find(|shown| shown.seq == position.seq);
        if before.is_some_and(|shown| shown.id == *id) {
            self.last = Some(position);
            Verdict::Again
        } else {
            Verdict::Lost
        }
    }

    /// Whether nothing is known of what members were shown in an epoch that has ended.
    pub(super) fn is_unknown_since(&self, at: ShardPosition) -> bool {
        self.last.is_none() && self.base.epoch > Epoch(0) && at.epoch > self.base.epoch
    }

    /// Members were told to begin anew, and are shown what comes after this.
    pub(super) fn restart(&mut self, last: Option<Position>, base: ShardPosition) {
        *self = Self {
            last,
            shown_up_to: last.map_or(Seq(0), |last| last.seq),
            ..Self::new(self.shard, base)
        };
    }

    /// A socket was added at this place.
    pub(super) fn joined(&mut self, socket: &SocketId, at: ShardPosition) {
        if self.is_newcomer(at) && self.newcomers.len() < NEWCOMERS_MAX {
            self.newcomers.push(socket.clone());
        }
    }

    fn is_newcomer(&self, at: ShardPosition) -> bool {
        self.shown_in > Epoch(0) && at.epoch > self.shown_in
    }

    pub(super) fn newcomers(&self) -> &[SocketId] {
        &self.newcomers
    }

    /// The room's top at `base`, when nothing came since; then what comes next is known.
    pub(super) fn found(&mut self, base: ShardPosition, top: Position) {
        if self.last.is_none() && self.base == base {
            self.last = Some(top);
            self.shown_up_to = top.seq;
        }
    }

    pub(super) const fn base(&self) -> ShardPosition {
        self.base
    }

    pub(super) const fn last(&self) -> Option<Position> {
        self.last
    }

    /// Before the first of what is remembered.
    pub(super) fn before_shown(&self) -> Option<Seq> {
        let first = self.shown.front()?;
        Some(Seq(first.seq.0.saturating_sub(1)))
    }

    fn take(&mut self, position: Position, id: &EventId) {
        self.last = Some(position);
        self.shown_up_to = position.seq;
        self.shown_in = position.epoch;
        self.newcomers.clear();
        let now = Instant::now();
        let is_old = |shown: &Shown| now.duration_since(shown.when) > SHOWN_FOR;
        while self.shown.len() >= SHOWN_MAX || self.shown.front().is_some_and(is_old) {
            self.shown.pop_front();
        }
        self.shown.push_back(Shown {
            seq: position.seq,
            id: id.clone(),
            when: now,
        });
    }
}
