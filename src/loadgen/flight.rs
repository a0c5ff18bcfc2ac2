//! The events of one source that are still on their way.
//!
//! An event is done when every member of its room has it and, where the server acknowledges, when
//! the acknowledgement is there. Events are kept in the order they were sent; what is done at the
//! front is dropped, so memory is bounded by the window or, in an open loop, by the stall limit.

use std::collections::VecDeque;

/// What one source has sent and not yet seen through.
#[derive(Default)]
pub(super) struct Flights {
    slots: VecDeque<Slot>,
    /// Number of the event in the first slot.
    first: u32,
    open: u32,
}

struct Slot {
    at: u64,
    receivers: u32,
    awaits_ack: bool,
}

/// What an arrival did to its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Landing {
    /// When the event was to be sent.
    pub(super) at: u64,
    /// True if nothing more is awaited for it.
    pub(super) is_done: bool,
}

impl Slot {
    fn is_done(&self) -> bool {
        self.receivers == 0 && !self.awaits_ack
    }
}

impl Flights {
    /// Begins with the next number: `at` is its time, `receivers` the deliveries awaited.
    pub(super) fn launch(&mut self, at: u64, receivers: u32, awaits_ack: bool) {
        self.slots.push_back(Slot {
            at,
            receivers,
            awaits_ack,
        });
        self.open += 1;
    }

    /// One member has event `seq`. `None` if nobody waits for that any more.
    pub(super) fn deliver(&mut self, seq: u32) -> Option<Landing> {
        self.step(seq, |slot| {
            slot.receivers = slot.receivers.checked_sub(1)?;
            Some(())
        })
    }

    /// Event `seq` is acknowledged. `None` if it was already.
    pub(super) fn acknowledge(&mut self, seq: u32) -> Option<Landing> {
        self.step(seq, |slot| {
            std::mem::take(&mut slot.awaits_ack).then_some(())
        })
    }

    /// Waits no longer for event `seq`.
    pub(super) fn abandon(&mut self, seq: u32) {
        self.step(seq, |slot| {
            (slot.receivers, slot.awaits_ack) = (0, false);
            Some(())
        });
    }

    /// Abandons what was sent before `moment`; answers how many events that were.
    pub(super) fn expire(&mut self, moment: u64) -> u32 {
        let is_late = |slot: &Slot| slot.at < moment;
        let late = self.slots.iter().take_while(|slot| is_late(slot));
        let late: Vec<u32> = (self.first..)
            .zip(late)
            .filter_map(|(seq, slot)| (!slot.is_done()).then_some(seq))
            .collect();
        for seq in &late {
            self.abandon(*seq);
        }
        u32::try_from(late.len()).expect("numbers of a u32")
    }

    /// How many events are on their way.
    pub(super) fn open(&self) -> u32 {
        self.open
    }

    fn step(&mut self, seq: u32, change: impl FnOnce(&mut Slot) -> Option<()>) -> Option<Landing> {
        let index = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        let slot = self.slots.get_mut(index).filter(|slot| !slot.is_done())?;
        change(slot)?;
        let landing = Landing {
            at: slot.at,
            is_done: slot.is_done(),
        };
        if landing.is_done {
            self.open -= 1;
            while self.slots.front().is_some_and(Slot::is_done) {
                self.slots.pop_front();
                self.first += 1;
            }
        }
        Some(landing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landing(at: u64, is_done: bool) -> Option<Landing> {
        Some(Landing { at, is_done })
    }

    #[test]
    fn an_event_is_done_when_all_have_it_and_it_is_acknowledged() {
        let mut flights = Flights::default();
        flights.launch(10, 2, true);
        flights.launch(20, 1, false);
        assert_eq!(flights.deliver(0), landing(10, false));
        assert_eq!(flights.deliver(1), landing(20, true));
        assert_eq!(flights.deliver(0), landing(10, false));
        assert_eq!(flights.deliver(0), None, "a third copy for two receivers");
        assert_eq!(flights.open(), 1);
        assert_eq!(flights.acknowledge(0), landing(10, true));
        assert_eq!(flights.acknowledge(0), None);
        assert_eq!((flights.open(), flights.slots.len()), (0, 0));
        flights.launch(30, 1, false);
        assert_eq!(flights.deliver(1), None, "done long ago");
        assert_eq!(flights.deliver(2), landing(30, true));
        assert_eq!(flights.deliver(9), None, "never sent");
    }

    #[test]
    fn what_is_too_old_is_abandoned_and_the_window_opens() {
        let mut flights = Flights::default();
        for at in [10, 20, 30] {
            flights.launch(at, 1, false);
        }
        flights.deliver(1);
        assert_eq!(flights.expire(25), 1);
        assert_eq!((flights.open(), flights.slots.len()), (1, 1));
        assert_eq!(flights.expire(25), 0);
        assert_eq!(flights.deliver(2), landing(30, true));
    }
}
