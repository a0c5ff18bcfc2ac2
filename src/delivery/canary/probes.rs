//! Which probes are on their way, and what became of them.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::types::{EventId, Position, ShardId};

/// An event that was sent to see whether it arrives.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    pub(super) id: EventId,
    /// Counts the probes of this node.
    pub(super) number: u64,
    /// The shard of its room.
    pub(super) shard: ShardId,
    pub(super) sent: Instant,
    /// The last place in the room that was known when it was sent.
    pub(super) after: Position,
    /// The log has it.
    pub(super) is_acked: bool,
}

/// All of this node's.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// In the order in which they were sent.
    open: VecDeque<Probe>,
    /// Those that came, or were given up, lately.
    over: VecDeque<Over>,
}

/// A probe that is looked at no more.
#[derive(Debug)]
struct Over {
    id: EventId,
    number: u64,
    /// Where it was heard; what was given up may still come, once.
    place: Option<Position>,
}

/// What an event in a canary's room is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A probe, after so long.
    First(ShardId, Duration),
    /// A probe that had come already, with another place of the same epoch.
    Again,
    /// Another node's, one that was given up, or one that a shard without its writes was given once more.
    Other,
}

/// What became of a probe that was not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has its place, and the bus did not bring it.
    Unheard,
    /// What was sent after it has a place, and it has none.
    Lost,
    /// It may still come.
    Wait,
}

/// A probe that is not heard within this is looked for in its room.
const LATE: Duration = Duration::from_secs(30);
/// So many may be on their way to one shard; what does not arrive for so long, other alerts tell of.
const OPEN_MAX: usize = 40;
/// Probes that are over and still known.
const OVER_MAX: usize = 4_096;

impl Probes {
    /// Whether one more may be sent to a shard.
    pub(super) fn has_room(&self, shard: ShardId) -> bool {
        let open = self.open.iter().filter(|probe| probe.shard == shard);
        open.count() < OPEN_MAX
    }

    pub(super) fn sent(&mut self, probe: Probe) {
        self.open.push_back(probe);
    }

    /// The log has taken it, or not. `None` when it is over already.
    pub(super) fn answered(&mut self, id: &EventId, is_acked: bool) -> Option<ShardId> {
        let at = self.open.iter().position(|probe| probe.id == *id)?;
        if is_acked {
            self.open[at].is_acked = true;
            return Some(self.open[at].shard);
        }
        // It may be in the log all the same.
        self.close(id).map(|probe| probe.shard)
    }

    /// An event has come.
    pub(super) fn heard(&mut self, id: &EventId, place: Position, now: Instant) -> Heard {
        let first = self.close(id);
        let Some(over) = self.over.iter_mut().find(|over| over.id == *id) else {
            return Heard::Other;
        };
        let before = over.place.replace(place);
        // The fan-out passes over the same place, and rooms that begin a new epoch are read anew.
        let is_again = |before: Position| before.epoch == place.epoch && before.seq != place.seq;
        match first {
            Some(probe) => Heard::First(probe.shard, now.duration_since(probe.sent)),
            None if before.is_some_and(is_again) => Heard::Again,
            None => Heard::Other,
        }
    }

    /// It is looked at no more.
    pub(super) fn close(&mut self, id: &EventId) -> Option<Probe> {
        let at = self.open.iter().position(|probe| probe.id == *id)?;
        let probe = self.open.remove(at)?;
        if self.over.len() == OVER_MAX {
            self.over.pop_front();
        }
        self.over.push_back(Over {
            id: probe.id.clone(),
            number: probe.number,
            place: None,
        });
        Some(probe)
    }

    /// All of them: their rooms are others now.
    pub(super) fn forget(&mut self) {
        let ids: Vec<EventId> = self.open.iter().map(|probe| probe.id.clone()).collect();
        for id in ids {
            self.close(&id);
        }
    }

    /// Those that the log has and that should have come.
    pub(super) fn late(&self, now: Instant) -> Vec<Probe> {
        let is_late = |probe: &&Probe| probe.is_acked && now.duration_since(probe.sent) > LATE;
        self.open.iter().filter(is_late).cloned().collect()
    }

    /// Judges one by what its room holds. Probes of one node to one room have one key in the log, so that none
    /// can have its place before an earlier one.
    pub(super) fn judge(&self, probe: &Probe, room: &[&EventId]) -> Verdict {
        if room.contains(&&probe.id) {
            return Verdict::Unheard;
        }
        let open = self.open.iter().map(|open| (&open.id, open.number));
        let over = self.over.iter().map(|over| (&over.id, over.number));
        let mut later = open
            .chain(over)
            .filter(|(_, number)| *number > probe.number);
        match later.any(|(id, _)| room.contains(&id)) {
            true => Verdict::Lost,
            false => Verdict::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Epoch, Seq};

    const SHARD: ShardId = ShardId(1);

    fn id(text: &str) -> EventId {
        EventId::parse(text).unwrap()
    }

    fn probes(ids: &[&str], now: Instant) -> Probes {
        let mut probes = Probes::default();
        for (number, text) in (1..).zip(ids) {
            probes.sent(Probe {
                id: id(text),
                number,
                shard: SHARD,
                sent: now,
                after: Position::default(),
                is_acked: false,
            });
        }
        probes
    }

    fn at(epoch: u64, seq: u64) -> Position {
        let (epoch, seq) = (Epoch(epoch), Seq(seq));
        Position { epoch, seq }
    }

    #[tokio::test]
    async fn a_probe_comes_once_and_what_comes_again_is_told() {
        let now = Instant::now();
        let mut probes = probes(&["a", "b"], now);
        let took = Duration::from_millis(7);
        let first = Heard::First(SHARD, took);
        assert_eq!(probes.heard(&id("a"), at(1, 5), now + took), first);
        assert_eq!(probes.heard(&id("x"), at(1, 6), now), Heard::Other);
        assert_eq!(probes.answered(&id("a"), true), None);
        // The same entry, read once more.
        assert_eq!(probes.heard(&id("a"), at(1, 5), now), Heard::Other);
        // A shard that lost it was given it again.
        assert_eq!(probes.heard(&id("a"), at(2, 4), now), Heard::Other);
        assert_eq!(probes.heard(&id("a"), at(2, 7), now), Heard::Again);
        // Refused, and in the log all the same.
        assert_eq!(probes.answered(&id("b"), false), Some(SHARD));
        assert_eq!(probes.heard(&id("b"), at(1, 7), now), Heard::Other);
        assert_eq!(probes.heard(&id("b"), at(1, 8), now), Heard::Again);
    }

    #[tokio::test]
    async fn only_what_the_log_has_and_a_later_one_has_overtaken_is_lost() {
        let now = Instant::now();
        let mut probes = probes(&["a", "b", "c"], now);
        let late = now + LATE + Duration::from_secs(1);
        assert!(probes.late(late).is_empty(), "the log has none of them");
        assert_eq!(probes.answered(&id("a"), true), Some(SHARD));
        assert_eq!(probes.answered(&id("b"), true), Some(SHARD));
        assert!(probes.late(now).is_empty());
        let found = probes.late(late);
        assert_eq!(found.len(), 2);
        let (a, b, c, other) = (id("a"), id("b"), id("c"), id("x"));
        assert_eq!(probes.judge(&found[1], &[]), Verdict::Wait);
        assert_eq!(probes.judge(&found[1], &[&a, &other]), Verdict::Wait);
        assert_eq!(probes.judge(&found[1], &[&a, &c]), Verdict::Lost);
        assert_eq!(probes.judge(&found[1], &[&a, &b, &c]), Verdict::Unheard);
        // The one before it, or the later one, was heard meanwhile.
        probes.heard(&a, at(1, 1), now);
        assert_eq!(probes.judge(&found[1], &[&a]), Verdict::Wait);
        probes.heard(&c, at(1, 1), now);
        assert_eq!(probes.judge(&found[1], &[&c]), Verdict::Lost);
        probes.forget();
        assert!(probes.late(late).is_empty() && probes.has_room(SHARD));
    }

    #[tokio::test]
    async fn no_more_are_sent_than_can_be_known() {
        let now = Instant::now();
        let ids: Vec<String> = (0..OPEN_MAX).map(|n| n.to_string()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut probes = probes(&ids, now);
        assert!(!probes.has_room(SHARD) && probes.has_room(ShardId(0)));
        probes.heard(&id("3"), at(1, 1), now);
        assert!(probes.has_room(SHARD));
    }
}
