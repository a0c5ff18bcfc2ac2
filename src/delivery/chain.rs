//! The last record sent of each (room, partition): the `prev` by which the timeline notices a hole.
//!
//! Bounded. What is forgotten only costs the check of one record, and only finished records are
//! forgotten: those have landed, so there is no hole behind them that this process could have made.

use std::collections::HashMap;

use super::progress::{Progress, Slot};
use crate::types::RoomName;

/// Two generations: when the young one is full it becomes the old one, and what was not used since
/// the last time goes.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) young: Generation,
    old: Generation,
    generation_max: usize,
}

type Generation = HashMap<(RoomName, Slot), u64>;

impl Chain {
    /// Remembers about so many places, and besides them what is on its way.
    pub(super) fn new(places: usize) -> Self {
        let generation_max = places.div_ceil(2).max(1);
        Self {
            young: Generation::new(),
            old: Generation::new(),
            generation_max,
        }
    }

    /// Notes that a record is sent now; gives the one sent before it.
    pub(super) fn advance(
        &mut self,
        room: &RoomName,
        (slot, offset): (Slot, u64),
        progress: &Progress,
    ) -> Option<u64> {
        let place = (room.clone(), slot);
        let prev = self.old.remove(&place);
        let prev = self.young.insert(place, offset).or(prev);
        if self.young.len() > self.generation_max {
            let young = std::mem::take(&mut self.young);
            let old = std::mem::replace(&mut self.old, young);
            let on_their_way = old
                .into_iter()
                .filter(|((_, slot), at)| *at >= progress.low(*slot));
            self.young.extend(on_their_way);
        }
        prev
    }

    /// Begins anew for a partition that is read again.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.young.retain(|(_, of), _| *of != slot);
        self.old.retain(|(_, of), _| *of != slot);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::eventlog::Record;
    use crate::types::Timestamp;

    fn room(n: u64) -> RoomName {
        RoomName::parse(&format!("r{n}")).unwrap()
    }

    #[test]
    fn what_is_on_its_way_is_never_forgotten_and_the_rest_is_bounded() {
        let mut progress = Progress::default();
        let tickets: Vec<_> = (0..1_000)
            .map(|offset| {
                progress.begin(&Record {
                    topic: Arc::from("t"),
                    partition: 0,
                    offset,
                    key: Arc::from("k"),
                    value: Bytes::new(),
                    at: Timestamp::default(),
                    headers: crate::eventlog::Headers::default(),
                })
            })
            .collect();
        let mut chain = Chain::new(10);
        for ticket in &tickets {
            assert_eq!(
                chain.advance(
                    &room(ticket.offset),
                    (ticket.slot, ticket.offset),
                    &progress
                ),
                None
            );
        }
        let slot = tickets[0].slot;
        assert_eq!(
            chain.advance(&room(0), (slot, 1_000), &progress),
            Some(0),
            "still on its way"
        );
        tickets
            .into_iter()
            .for_each(|ticket| progress.finish(ticket));
        for n in 0..100 {
            chain.advance(&room(5_000 + n % 7), (slot, 2_000 + n), &progress);
        }
        assert!(chain.young.len() + chain.old.len() <= 1_000 + 20);
        for n in 0..3_000 {
            chain.advance(&room(10_000 + n), (slot, 500), &progress);
        }
        assert!(
            chain.young.len() + chain.old.len() < 1_000,
            "{}",
            chain.young.len()
        );
        assert_eq!(
            chain.advance(&room(500), (slot, 9_000), &progress),
            None,
            "forgotten"
        );
    }

    #[test]
    fn a_rewind_begins_the_chain_anew() {
        let mut progress = Progress::default();
        let record = Record {
            topic: Arc::from("t"),
            partition: 0,
            offset: 0,
            key: Arc::from("k"),
            value: Bytes::new(),
            at: Timestamp::default(),
            headers: crate::eventlog::Headers::default(),
        };
        let slot = progress.begin(&record).slot;
        let mut chain = Chain::new(10);
        chain.advance(&room(1), (slot, 3), &progress);
        assert_eq!(chain.advance(&room(1), (slot, 4), &progress), Some(3));
        chain.forget(slot);
        assert_eq!(chain.advance(&room(1), (slot, 3), &progress), None);
    }
}
