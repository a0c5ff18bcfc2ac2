//! Whether every member got every event of its room once and in order.
//!
//! A *lane* is one publisher as one member sees it. Per lane the checker knows the next number it
//! expects and the holes before it, so it tells apart what was lost (a hole that never filled), what
//! came twice (no hole was there) and what came late (a hole that filled). Per member it keeps a
//! running hash of the order in which events of all publishers first arrived; members of one room
//! that got the same events must agree on it.

use std::collections::{BTreeMap, HashMap, HashSet};

/// Expects every event of the publishers of a room at all its members.
///
/// Member `m` is in room `m % rooms`; the first `publishers` members of a room are its publishers,
/// each known by its own member number.
pub(super) struct Checker {
    rooms: u32,
    lanes_per_member: u32,
    /// The next number expected, by member and lane.
    next: Vec<u32>,
    holes: HashMap<(u32, u16), Vec<Hole>>,
    order: Vec<u64>,
    /// How many events each publisher has sent.
    sent: Vec<u32>,
    /// Events the server refused: not lost if they never arrive.
    refused: HashSet<(u16, u32)>,
    counts: Counts,
}

/// Numbers `from..to` of a lane are missing.
#[derive(Clone, Copy)]
struct Hole {
    from: u32,
    to: u32,
}

#[derive(Default, Clone, Copy)]
struct Counts {
    doubled: u64,
    misordered: u64,
    strays: u64,
    /// Lost for good because their lane had too many holes to remember.
    forgotten: u64,
}

/// What one arrival was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// The member's first copy.
    Fresh,
    /// One copy too many.
    Again,
    /// An event this member should never have got.
    Stray,
}

/// What was wrong over the whole run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// Deliveries that never came (a member, an event).
    pub lost: u64,
    /// Copies beyond the first.
    pub doubled: u64,
    /// Deliveries that came after a later one of the same publisher.
    pub misordered: u64,
    /// Deliveries to a member of another room, or of events nobody published.
    pub strays: u64,
    /// Members that got everything, in another order than most of their room.
    pub disordered_members: u64,
    /// Members whose order cannot be compared because they lost something.
    pub uncompared_members: u64,
}

/// Holes remembered per lane; beyond it the oldest is counted as lost at once, so that a server
/// that loses nearly everything cannot fill the generator's memory.
const HOLES_MAX: usize = 4096;

impl Checker {
    /// A checker of `members` members over `rooms` rooms with so many publishers each.
    pub(super) fn new(members: u32, rooms: u32, publishers: u32) -> Self {
        let lanes = members as usize * publishers as usize;
        Self {
            rooms,
            lanes_per_member: publishers,
            next: vec![0; lanes],
            holes: HashMap::new(),
            order: vec![0; members as usize],
            sent: vec![0; rooms as usize * publishers as usize],
            refused: HashSet::new(),
            counts: Counts::default(),
        }
    }

    /// How many members `publisher`'s room has.
    pub(super) fn audience(&self, publisher: u16) -> u32 {
        let (members, room) = (self.members(), u32::from(publisher) % self.rooms);
        (members - room).div_ceil(self.rooms)
    }

    /// Counts an event as sent and answers its number.
    pub(super) fn send(&mut self, publisher: u16) -> u32 {
        let sent = &mut self.sent[usize::from(publisher)];
        *sent += 1;
        *sent - 1
    }

    /// Forgives the absence of an event that the server refused.
    pub(super) fn refuse(&mut self, publisher: u16, seq: u32) {
        self.refused.insert((publisher, seq));
    }

    /// Takes an arrival into account.
    pub(super) fn arrive(&mut self, member: u32, publisher: u16, seq: u32) -> Seen {
        let is_sent = self
            .sent
            .get(usize::from(publisher))
            .is_some_and(|sent| seq < *sent);
        if !is_sent || member % self.rooms != u32::from(publisher) % self.rooms {
            self.counts.strays += 1;
            return Seen::Stray;
        }
        let lane = u32::from(publisher) / self.rooms;
        let next = &mut self.next[(member * self.lanes_per_member + lane) as usize];
        if seq == *next {
            *next += 1;
        } else if seq > *next {
            let hole = Hole {
                from: *next,
                to: seq,
            };
            *next = seq + 1;
            self.open(member, publisher, hole);
        } else if self.fill(member, publisher, seq) {
            self.counts.misordered += 1;
        } else {
            self.counts.doubled += 1;
            return Seen::Again;
        }
        let order = &mut self.order[member as usize];
        *order = mix(*order, u64::from(publisher) << 32 | u64::from(seq));
        Seen::Fresh
    }

    /// The sum over everything seen so far; what has not arrived yet counts as lost.
    pub(super) fn verdict(&self) -> Verdict {
        let Counts {
            doubled,
            misordered,
            strays,
            forgotten,
        } = self.counts;
        let mut verdict = Verdict {
            doubled,
            misordered,
            strays,
            ..Verdict::default()
        };
        // A refused event that did arrive at some makes orders differ without any fault: members
        // are compared with those that lack as many refused ones.
        let mut peers: BTreeMap<(u32, u64), BTreeMap<u64, u64>> = BTreeMap::new();
        for member in 0..self.members() {
            let (missing, absent) = self.missing(member);
            verdict.lost += missing;
            if missing > 0 {
                verdict.uncompared_members += 1;
            } else {
                let orders = peers.entry((member % self.rooms, absent)).or_default();
                *orders.entry(self.order[member as usize]).or_default() += 1;
            }
        }
        verdict.lost += forgotten;
        verdict.disordered_members = peers
            .values()
            .map(|orders| orders.values().sum::<u64>() - orders.values().max().unwrap_or(&0))
            .sum();
        verdict
    }

    fn members(&self) -> u32 {
        u32::try_from(self.order.len()).expect("made from a u32")
    }

    /// How many events a member lacks that it should have, and how many that were refused.
    fn missing(&self, member: u32) -> (u64, u64) {
        let (mut missing, mut absent) = (0, 0);
        for lane in 0..self.lanes_per_member {
            let Ok(publisher) = u16::try_from(lane * self.rooms + member % self.rooms) else {
                continue;
            };
            let next = self.next[(member * self.lanes_per_member + lane) as usize];
            let sent = self.sent[usize::from(publisher)];
            let holes = self
                .holes
                .get(&(member, publisher))
                .map_or(&[][..], Vec::as_slice);
            for Hole { from, to } in holes.iter().copied().chain([Hole {
                from: next,
                to: sent,
            }]) {
                let whole = u64::from(to - from);
                let forgiven = self.forgiven(publisher, from..to);
                missing += whole - forgiven;
                absent += forgiven;
            }
        }
        (missing, absent)
    }

    fn forgiven(&self, publisher: u16, range: std::ops::Range<u32>) -> u64 {
        if self.refused.is_empty() {
            return 0;
        }
        range
            .filter(|seq| self.refused.contains(&(publisher, *seq)))
            .count() as u64
    }

    fn open(&mut self, member: u32, publisher: u16, hole: Hole) {
        let holes = self.holes.entry((member, publisher)).or_default();
        if holes.len() == HOLES_MAX {
            let Hole { from, to } = holes.remove(0);
            self.counts.forgotten += u64::from(to - from);
        }
        holes.push(hole);
    }

    /// True if `seq` was missing: it no longer is.
    fn fill(&mut self, member: u32, publisher: u16, seq: u32) -> bool {
        let Some(holes) = self.holes.get_mut(&(member, publisher)) else {
            return false;
        };
        // Late events are late by little: the newest holes come last.
        let Some(index) = holes
            .iter()
            .rposition(|hole| (hole.from..hole.to).contains(&seq))
        else {
            return false;
        };
        let Hole { from, to } = holes[index];
        let parts = [Hole { from, to: seq }, Hole { from: seq + 1, to }];
        holes.splice(
            index..=index,
            parts.into_iter().filter(|part| part.from < part.to),
        );
        if holes.is_empty() {
            self.holes.remove(&(member, publisher));
        }
        true
    }
}

/// An order-sensitive hash step (the multiplier is the golden ratio's, as in Fibonacci hashing).
fn mix(order: u64, event: u64) -> u64 {
    (order.rotate_left(23) ^ event)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(members: u32, rooms: u32, publishers: u32, each: u32) -> Checker {
        let mut checker = Checker::new(members, rooms, publishers);
        for publisher in 0..(rooms * publishers) as u16 {
            for _ in 0..each {
                checker.send(publisher);
            }
        }
        checker
    }

    #[test]
    fn a_perfect_run_has_nothing_to_report() {
        let mut checker = sent(10, 3, 2, 5);
        for member in 0..10 {
            for seq in 0..5 {
                for lane in 0..2 {
                    let publisher = (lane * 3 + member % 3) as u16;
                    assert_eq!(checker.arrive(member, publisher, seq), Seen::Fresh);
                }
            }
        }
        assert_eq!(checker.verdict(), Verdict::default());
        assert_eq!(
            (
                checker.audience(0),
                checker.audience(1),
                checker.audience(5)
            ),
            (4, 3, 3)
        );
    }

    #[test]
    fn lost_doubled_and_late_are_told_apart() {
        for (arrivals, lost, doubled, misordered) in [
            (&[0, 1, 2, 3, 4, 5][..], 0, 0, 0),
            (&[], 6, 0, 0),
            (&[5], 5, 0, 0),
            (&[0, 1, 2], 3, 0, 0),
            (&[0, 2, 3, 5], 2, 0, 0),
            (&[0, 1, 1, 2, 3, 4, 5, 5], 0, 2, 0),
            (&[0, 2, 1, 3, 4, 5], 0, 0, 1),
            (&[5, 4, 3, 2, 1, 0], 0, 0, 5),
            (&[3, 1, 0, 2, 5, 5, 1], 1, 2, 3),
        ] {
            let mut checker = sent(1, 1, 1, 6);
            for seq in arrivals {
                checker.arrive(0, 0, *seq);
            }
            let verdict = checker.verdict();
            let found = (verdict.lost, verdict.doubled, verdict.misordered);
            assert_eq!(found, (lost, doubled, misordered), "{arrivals:?}");
        }
    }

    #[test]
    fn members_that_disagree_on_the_order_of_two_publishers_are_counted() {
        let mut checker = sent(5, 1, 2, 2);
        for member in 0..5 {
            let order = if member == 3 {
                [(0, 0), (1, 0), (1, 1), (0, 1)]
            } else {
                [(0, 0), (1, 0), (0, 1), (1, 1)]
            };
            for (publisher, seq) in order {
                checker.arrive(member, publisher, seq);
            }
        }
        let verdict = checker.verdict();
        assert_eq!((verdict.disordered_members, verdict.misordered), (1, 0));
    }

    #[test]
    fn a_doubled_event_does_not_change_the_order() {
        let mut checker = sent(2, 1, 1, 2);
        for (member, seq) in [(0, 0), (0, 0), (0, 1), (1, 0), (1, 1)] {
            checker.arrive(member, 0, seq);
        }
        let verdict = checker.verdict();
        assert_eq!((verdict.doubled, verdict.disordered_members), (1, 0));
    }

    #[test]
    fn a_member_that_lost_something_is_not_compared() {
        let mut checker = sent(3, 1, 1, 2);
        for (member, seq) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1)] {
            checker.arrive(member, 0, seq);
        }
        let verdict = checker.verdict();
        assert_eq!(
            (
                verdict.lost,
                verdict.uncompared_members,
                verdict.disordered_members
            ),
            (1, 1, 0)
        );
    }

    #[test]
    fn what_was_refused_is_not_lost() {
        let mut checker = sent(2, 1, 1, 3);
        checker.refuse(0, 1);
        for (member, seq) in [(0, 0), (0, 2), (1, 0), (1, 2)] {
            checker.arrive(member, 0, seq);
        }
        assert_eq!(checker.verdict(), Verdict::default());
    }

    #[test]
    fn events_of_other_rooms_and_of_nobody_are_strays() {
        let mut checker = sent(4, 2, 1, 1);
        assert_eq!(checker.arrive(0, 1, 0), Seen::Stray);
        assert_eq!(checker.arrive(0, 0, 7), Seen::Stray);
        assert_eq!(checker.arrive(0, 9, 0), Seen::Stray);
        assert_eq!(checker.verdict().strays, 3);
    }

    #[test]
    fn holes_beyond_the_bound_are_lost_at_once() {
        let events = 2 * (HOLES_MAX as u32 + 10);
        let mut checker = sent(1, 1, 1, events);
        for seq in (1..events).step_by(2) {
            checker.arrive(0, 0, seq);
        }
        assert_eq!(checker.verdict().lost, u64::from(events / 2));
        assert_eq!(checker.holes[&(0, 0)].len(), HOLES_MAX);
    }
}
