//! Which of a room's entries a client has not seen.

use std::sync::Arc;

use super::Missed;
use crate::cluster::recovery::Joined;
use crate::timeline::Vector;
use crate::types::{ShardId, ShardPosition};

/// A client, as far as it concerns one room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client<'a> {
    pub(super) seen: Option<&'a Vector>,
    pub(super) joined: Joined,
    /// The shard that the room is on.
    pub(super) shard: ShardId,
    /// Where in its stream the client was added to the room again.
    pub(super) up_to: ShardPosition,
}

/// Where the judging of a room ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// At an entry that the client has seen, or that was before it joined.
    Seen,
    /// With the last entry.
    End,
}

impl Client<'_> {
    /// The place in the room's shard up to which it has seen the room.
    pub(super) fn mark(&self) -> ShardPosition {
        let seen = self.at(self.shard);
        match self.joined.shard == self.shard {
            true => seen.max(self.joined.at),
            false => seen,
        }
    }

    /// Whether it has seen what stands there, or joined the room after that.
    pub(super) fn has_seen(&self, shard: ShardId, at: ShardPosition) -> bool {
        at <= self.at(shard) || (self.joined.shard == shard && at <= self.joined.at)
    }

    fn at(&self, shard: ShardId) -> ShardPosition {
        self.seen
            .and_then(|seen| seen.at(shard))
            .unwrap_or_default()
    }

    /// What it has not seen of entries that are the room's last, the newest first. A room is seen in order,
    /// so everything before one that was seen was seen too, or was there before the client joined.
    pub(super) fn judge(&self, entries: &[Arc<Missed>]) -> (Vec<Arc<Missed>>, Stop) {
        let mut missed = Vec::new();
        let mut was_on = self.shard;
        for entry in entries {
            if entry.shard == self.shard && entry.at > self.up_to {
                continue;
            }
            // The room came from another shard, and the client joined it after that.
            let is_before_join = entry.shard != was_on
                && was_on == self.joined.shard
                && self.seen.is_none_or(|seen| seen.at(entry.shard).is_none());
            if is_before_join || self.has_seen(entry.shard, entry.at) {
                return (missed, Stop::Seen);
            }
            was_on = entry.shard;
            missed.push(Arc::clone(entry));
        }
        (missed, Stop::End)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::{Entry, Source};
    use crate::types::{Epoch, EventId, RoomName, Seq, ShardSeq, Timestamp};

    const HERE: ShardId = ShardId(1);
    const ELSEWHERE: ShardId = ShardId(0);

    fn at(epoch: u64, shard_seq: u64) -> ShardPosition {
        ShardPosition {
            epoch: Epoch(epoch),
            shard_seq: ShardSeq(shard_seq),
        }
    }

    /// Entries of these shards at these places, the last the newest.
    fn room(places: &[(ShardId, ShardPosition)]) -> Vec<Arc<Missed>> {
        let entry = |(n, (shard, at)): (usize, &(ShardId, ShardPosition))| {
            Arc::new(Missed::of_entry(Arc::new(Entry {
                room: RoomName::parse("r").unwrap(),
                shard: *shard,
                epoch: at.epoch,
                seq: Seq(n as u64 + 1),
                shard_seq: at.shard_seq,
                source: Source {
                    partition: 0,
                    generation: 0,
                    topic: "t".into(),
                },
                offset: 0,
                id: EventId::parse("e").unwrap(),
                at: Timestamp::from_millis(0),
                payload: bytes::Bytes::new(),
            })))
        };
        let mut room: Vec<_> = places.iter().enumerate().map(entry).collect();
        room.reverse();
        room
    }

    fn judged(
        seen: &[(ShardId, ShardPosition)],
        (shard, place): (ShardId, ShardPosition),
        entries: &[(ShardId, ShardPosition)],
    ) -> (Vec<u64>, Stop) {
        let mut vector = Vector::default();
        for (shard, at) in seen {
            vector.advance(*shard, *at).unwrap();
        }
        let client = Client {
            seen: (!seen.is_empty()).then_some(&vector),
            joined: Joined { shard, at: place },
            shard: HERE,
            up_to: at(2, 90),
        };
        let (mut missed, stop) = client.judge(&room(entries));
        missed.reverse();
        let seqs = missed.iter().map(|missed| missed.position.seq.0);
        (seqs.collect(), stop)
    }

    #[test]
    fn it_is_what_came_after_both_the_vector_and_the_join() {
        let entries = [10, 20, 30, 40].map(|n| (HERE, at(2, n)));
        for (seen, joined, missed) in [
            (vec![], 25, vec![3, 4]),
            (vec![(HERE, at(2, 30))], 5, vec![4]),
            (vec![(HERE, at(2, 5))], 25, vec![3, 4]),
            (vec![(HERE, at(2, 40))], 5, vec![]),
            (vec![(ELSEWHERE, at(9, 9))], 20, vec![3, 4]),
        ] {
            let found = judged(&seen, (HERE, at(2, joined)), &entries);
            assert_eq!(found, (missed, Stop::Seen), "{seen:?} {joined}");
        }
        let all = judged(&[], (HERE, at(2, 5)), &entries);
        assert_eq!(all, (vec![1, 2, 3, 4], Stop::End));
    }

    #[test]
    fn it_ends_where_the_client_is_added_again() {
        let entries = [(HERE, at(2, 80)), (HERE, at(2, 91)), (HERE, at(3, 1))];
        let found = judged(&[], (HERE, at(2, 1)), &entries);
        assert_eq!(found, (vec![1], Stop::End));
    }

    #[test]
    fn an_epoch_is_later_whatever_its_counter() {
        let entries = [(HERE, at(1, 50)), (HERE, at(2, 3))];
        let found = judged(&[(HERE, at(1, 50))], (HERE, at(1, 1)), &entries);
        assert_eq!(found, (vec![2], Stop::Seen));
    }

    #[test]
    fn entries_of_another_shard_are_compared_with_that() {
        let entries = [
            (ELSEWHERE, at(1, 70)),
            (ELSEWHERE, at(1, 71)),
            (HERE, at(2, 3)),
        ];
        let found = judged(&[(ELSEWHERE, at(1, 70))], (ELSEWHERE, at(1, 60)), &entries);
        assert_eq!(found, (vec![2, 3], Stop::Seen));
        // It joined when the room had come here.
        let found = judged(&[], (HERE, at(2, 1)), &entries);
        assert_eq!(found, (vec![3], Stop::Seen));
        let found = judged(&[], (HERE, at(2, 3)), &entries[..2]);
        assert_eq!(found, (vec![], Stop::Seen));
        // It joined before, and saw nothing yet.
        let found = judged(&[], (ELSEWHERE, at(1, 70)), &entries);
        assert_eq!(found, (vec![2, 3], Stop::Seen));
    }
}
