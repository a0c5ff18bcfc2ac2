//! Deadlines of many sessions, without a timer for each.
//!
//! A hashed wheel: an entry lies in the slot of its deadline; when the hand passes, the owner is
//! asked what is due and when to come again. An entry whose owner moved its deadline is merely early
//! once. Precision is one slot; nothing is ever early by more than the owner tolerates, because the
//! owner judges by its own clock.

use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Deadlines of things of type `T`.
pub(super) struct Wheel<T> {
    slots: RefCell<Vec<Vec<T>>>,
    grain: Duration,
    start: Instant,
    /// Slots passed since `start`.
    hand: std::cell::Cell<u64>,
}

/// Slots of one turn; deadlines farther away are asked once a turn.
const SLOTS: usize = 512;

impl<T> Wheel<T> {
    /// A wheel with this precision.
    pub(super) fn new(grain: Duration, now: Instant) -> Self {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Self {
            slots: RefCell::new(slots),
            grain,
            start: now,
            hand: std::cell::Cell::new(0),
        }
    }

    /// How often [`Wheel::due`] is to be asked.
    pub(super) const fn grain(&self) -> Duration {
        self.grain
    }

    /// Has `item` come up at the deadline, or at the end of a turn if that is earlier.
    pub(super) fn add(&self, item: T, deadline: Instant) {
        let slot = self.slot_of(deadline).max(self.hand.get() + 1);
        let slot = slot.min(self.hand.get() + SLOTS as u64 - 1);
        self.slots.borrow_mut()[slot_index(slot)].push(item);
    }

    /// What came up until now.
    pub(super) fn due(&self, now: Instant) -> Vec<T> {
        let until = self.elapsed_slots(now);
        let mut due = Vec::new();
        // A long pause passes every slot once, no more.
        let from = self.hand.get().max(until.saturating_sub(SLOTS as u64));
        for slot in from + 1..=until {
            let list = std::mem::take(&mut self.slots.borrow_mut()[slot_index(slot)]);
            due.extend(list);
        }
        self.hand.set(self.hand.get().max(until));
        due
    }

    fn elapsed_slots(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start);
        u64::try_from(elapsed.as_nanos() / self.grain.as_nanos().max(1)).unwrap_or(u64::MAX)
    }

    /// Rounded up, so that an item is due when its slot comes.
    fn slot_of(&self, deadline: Instant) -> u64 {
        self.elapsed_slots(deadline) + 1
    }
}

fn slot_index(slot: u64) -> usize {
    usize::try_from(slot % SLOTS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_up_and_not_before_its_time() {
        let start = Instant::now();
        let wheel = Wheel::new(Duration::from_millis(10), start);
        for ms in [0, 5, 10, 95, 5_000, 9_999] {
            wheel.add(ms, start + Duration::from_millis(ms));
        }
        let mut seen = Vec::new();
        for step in 0..2_010_u64 {
            let now = start + Duration::from_millis(step * 5);
            for ms in wheel.due(now) {
                if step * 5 < ms {
                    // The end of a turn: asked too early once, added again.
                    wheel.add(ms, start + Duration::from_millis(ms));
                } else {
                    assert!(step * 5 <= ms + 25, "{ms} came at {}", step * 5);
                    seen.push(ms);
                }
            }
        }
        assert_eq!(seen, [0, 5, 10, 95, 5_000, 9_999]);
    }

    #[test]
    fn a_long_pause_loses_nothing() {
        let start = Instant::now();
        let wheel = Wheel::new(Duration::from_millis(1), start);
        for ms in 0..500 {
            wheel.add(ms, start + Duration::from_millis(ms));
        }
        assert_eq!(wheel.due(start + Duration::from_secs(60)).len(), 500);
        wheel.add(1, start + Duration::from_secs(60));
        assert_eq!(wheel.due(start + Duration::from_secs(61)), [1]);
    }
}
