//! The event ids that a room has seen lately.
//!
//! Whether a record is a retry depends on the two records' own times alone, never on a clock or on
//! what came between, so that a record that is applied again after a crash gets the same answer.
//! Ids are therefore kept longer than the window by a margin: what is replayed is older than what
//! was restored before it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::types::{EventId, Position, Timestamp};

/// Bounded by age and by number; forgets the oldest first.
#[derive(Debug, Default)]
pub(super) struct Dedup {
    seen: HashMap<EventId, Seen>,
    order: VecDeque<(Timestamp, EventId)>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Timestamp,
    position: Position,
}

impl Dedup {
    /// Where the event stands, if a record of time `at` is a retry of it.
    pub(super) fn find(&self, id: &EventId, at: Timestamp, window: Duration) -> Option<Position> {
        let seen = self.seen.get(id)?;
        (at.since(seen.at) <= window).then_some(seen.position)
    }

    /// Remembers an event. Of two with one id the later counts.
    pub(super) fn insert(&mut self, id: &EventId, at: Timestamp, position: Position) {
        self.seen.insert(id.clone(), Seen { at, position });
        self.order.push_back((at, id.clone()));
    }

    /// Forgets what is over the bound, and what is older than two windows at `newest`.
    pub(super) fn evict(&mut self, newest: Timestamp, window: Duration, ids_max: usize) {
        let keep = window.saturating_mul(2);
        while let Some((at, id)) = self.order.front() {
            if self.order.len() <= ids_max && newest.since(*at) <= keep {
                break;
            }
            // An id that came again after its window has a younger place in the order.
            if self.seen.get(id).is_some_and(|seen| seen.at == *at) {
                self.seen.remove(id);
            }
            self.order.pop_front();
        }
        if self.order.is_empty() {
            *self = Self::default();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Epoch, Seq};

    const WINDOW: Duration = Duration::from_millis(100);

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn id(n: i64) -> EventId {
        EventId::parse(&n.to_string()).unwrap()
    }

    fn position(seq: u64) -> Position {
        Position {
            epoch: Epoch(1),
            seq: Seq(seq),
        }
    }

    #[test]
    fn a_retry_is_judged_by_the_two_records_times_alone() {
        let mut dedup = Dedup::default();
        dedup.insert(&id(1), at(1_000), position(1));
        dedup.insert(&id(2), at(1_180), position(2));
        dedup.evict(at(1_180), WINDOW, 10);
        for (time, found) in [(900, true), (1_000, true), (1_100, true), (1_101, false)] {
            assert_eq!(
                dedup.find(&id(1), at(time), WINDOW).is_some(),
                found,
                "{time}"
            );
        }
    }

    #[test]
    fn what_is_too_old_or_too_much_is_forgotten_and_an_id_seen_again_is_not() {
        let mut dedup = Dedup::default();
        dedup.insert(&id(1), at(0), position(1));
        dedup.insert(&id(2), at(10), position(2));
        dedup.insert(&id(1), at(150), position(3));
        dedup.evict(at(205), WINDOW, 10);
        assert_eq!(dedup.find(&id(1), at(205), WINDOW), Some(position(3)));
        assert_eq!(dedup.find(&id(2), at(100), WINDOW), Some(position(2)));
        dedup.evict(at(205), WINDOW, 1);
        assert_eq!(dedup.find(&id(2), at(100), WINDOW), None);
        assert_eq!(dedup.find(&id(1), at(205), WINDOW), Some(position(3)));
        dedup.evict(at(1_000), WINDOW, 1);
        assert!(dedup.is_empty() && dedup.seen.is_empty());
    }
}
