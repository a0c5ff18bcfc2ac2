//! Reading what a room got after a place in its shard's stream: the newest first, back to that place.
//!
//! It costs in proportion to what came after the place, whatever else the room and its shard hold.

use std::sync::Arc;

use super::entry::Entry;
use super::room::Room;
use crate::types::{Epoch, Position, RoomName, ShardPosition};

/// What is asked of a room.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The room.
    pub room: RoomName,
    /// The place in the stream of the room's shard after which everything is wanted.
    pub mark: ShardPosition,
    /// Only what is before this entry: the next page.
    pub before: Option<Position>,
    /// Entries at once.
    pub limit: usize,
}

/// What a room got.
#[derive(Debug, Clone)]
pub struct Since {
    /// The epoch that the shard was in.
    pub epoch: Epoch,
    /// The newest first, without a hole. What was written on another shard, from where the room came,
    /// cannot be compared with the mark and is among them.
    pub entries: Vec<Arc<Entry>>,
    /// What is before them.
    pub end: End,
}

/// What is before the last entry of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// An entry that is not after the mark.
    Mark,
    /// More of them.
    More,
    /// Nothing: it is the room's first.
    Beginning,
    /// What the room does not keep any more; the latest of it stood here in the shard's stream, if that is
    /// known.
    Gone(Option<ShardPosition>),
}

impl Room {
    pub(super) fn since(&self, ask: &Ask) -> (Vec<Arc<Entry>>, End) {
        let end = ask.before.map_or(self.entries.len(), |before| {
            self.entries
                .partition_point(|slot| slot.entry.position() < before)
        });
        let mut found = Vec::new();
        for slot in self.entries.range(..end).rev() {
            if slot.entry.shard_position() <= ask.mark {
                return (found, End::Mark);
            }
            if found.len() == ask.limit {
                return (found, End::More);
            }
            found.push(slot.entry.clone());
        }
        let oldest = match (found.last(), ask.before) {
            (Some(entry), _) => entry.seq.0,
            (None, Some(before)) => before.seq.0,
            (None, None) => self.top.seq.0 + 1,
        };
        if oldest <= 1 {
            return (found, End::Beginning);
        }
        let known = self
            .trimmed
            .filter(|trimmed| trimmed.position.seq.0 + 1 == oldest);
        (found, End::Gone(known.and_then(|trimmed| trimmed.shard)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::entry::Source;
    use crate::timeline::{Apply, Limits, Memory, Settle, Timeline};
    use crate::types::{EventId, ShardId, ShardSeq, Timestamp};

    fn room() -> RoomName {
        RoomName::parse("conversation:1").unwrap()
    }

    /// A room with so many settled entries, of which three are kept.
    async fn timeline(count: u64) -> Timeline {
        let limits = Limits {
            entries_max: 3,
            keep_min: 0,
            ..Limits::default()
        };
        let timeline = Timeline::Memory(Memory::new(limits));
        for offset in 0..count {
            let apply = Apply {
                room: room(),
                epoch: Epoch(1),
                ring_version: 1,
                source: Source {
                    topic: "messages".into(),
                    generation: 0,
                    partition: 0,
                },
                offset,
                prev: None,
                id: EventId::parse(&format!("e{offset}")).unwrap(),
                at: Timestamp::from_millis(0),
                payload: bytes::Bytes::from_static(b"{}"),
            };
            let crate::timeline::Outcome::Applied { entry, .. } =
                timeline.apply(apply).await.unwrap()
            else {
                panic!("it takes its place")
            };
            let settle = Settle {
                seen_in: entry.epoch,
                entry,
                record: None,
            };
            timeline.settle_all(ShardId(0), &[settle]).await;
        }
        timeline
    }

    async fn ask(timeline: &Timeline, mark: u64, limit: usize) -> (Vec<u64>, End) {
        let ask = Ask {
            room: room(),
            mark: at(mark),
            before: None,
            limit,
        };
        let mut answers = timeline.since_all(ShardId(0), &[ask]).await;
        let Since { entries, end, .. } = answers.pop().unwrap().unwrap();
        (entries.iter().map(|entry| entry.seq.0).collect(), end)
    }

    const fn at(shard_seq: u64) -> ShardPosition {
        ShardPosition {
            epoch: Epoch(1),
            shard_seq: ShardSeq(shard_seq),
        }
    }

    #[tokio::test]
    async fn it_reads_back_to_the_mark_and_says_what_is_before() {
        let timeline = timeline(5).await;
        assert_eq!(ask(&timeline, 5, 9).await, (vec![], End::Mark));
        assert_eq!(ask(&timeline, 3, 9).await, (vec![5, 4], End::Mark));
        assert_eq!(ask(&timeline, 3, 1).await, (vec![5], End::More));
        let gone = End::Gone(Some(at(2)));
        assert_eq!(ask(&timeline, 2, 9).await, (vec![5, 4, 3], gone));
        assert_eq!(ask(&timeline, 0, 9).await, (vec![5, 4, 3], gone));
    }

    #[tokio::test]
    async fn a_room_begins_with_its_first_entry() {
        assert_eq!(
            ask(&timeline(0).await, 0, 9).await,
            (vec![], End::Beginning)
        );
        let all = (vec![2, 1], End::Beginning);
        assert_eq!(ask(&timeline(2).await, 0, 9).await, all);
    }
}
