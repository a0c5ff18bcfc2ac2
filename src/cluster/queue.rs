//! A worker's queue: bounded for entries, more tightly for ephemeral events, apart for control words,
//! not for ticks.
//!
//! For publishers that wait, whether there is room and the push itself are two calls; their caller makes
//! them one by being the only one that adds. Taking never waits for adding longer than one push.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::cluster::bus::Delivery;
use crate::cluster::control::Control;

/// What one worker still has to take.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    capacity: usize,
    /// Publishers that wait are woken when the queue has shrunk to this, not at each step, so that
    /// a queue that stays full does not cost a wake-up per entry. Ephemeral events get no further
    /// than this either: a flood of them alone never holds a publisher back.
    light: usize,
    arrived: Notify,
    freed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    deliveries: VecDeque<Delivery>,
    /// How many of them are control words.
    control_count: usize,
    /// The last control word says that others were lost; none is taken until it is.
    is_behind: bool,
    is_closed: bool,
}

/// What a look into a queue gave.
pub(super) enum Popped {
    One(Delivery),
    Nothing,
    End,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            capacity,
            light: capacity - (capacity / 4).max(1),
            arrived: Notify::new(),
            freed: Arc::default(),
        }
    }

    pub(super) fn push(&self, delivery: Delivery) {
        let mut state = lock(&self.state);
        if !state.is_closed {
            state.deliveries.push_back(delivery);
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Puts an entry in, unless the queue is full; then answers false. For publishers that cannot wait:
    /// the look and the push are one.
    pub(super) fn push_if_room(&self, delivery: Delivery) -> bool {
        let mut state = lock(&self.state);
        let has_room = state.deliveries.len() < self.capacity || state.is_closed;
        if has_room && !state.is_closed {
            state.deliveries.push_back(delivery);
        }
        drop(state);
        self.arrived.notify_one();
        has_room
    }

    /// Whether it has shrunk so far that those who wait for room are woken.
    pub(super) fn is_light(&self) -> bool {
        lock(&self.state).deliveries.len() <= self.light
    }

    /// Puts an ephemeral event in, unless the queue is filling up; then answers false.
    pub(super) fn push_if_light(&self, delivery: Delivery) -> bool {
        let is_light = lock(&self.state).deliveries.len() < self.light.max(1);
        if is_light {
            self.push(delivery);
        }
        is_light
    }

    /// Puts a control word in. False when there are as many already as the queue has places: then
    /// one that tells of the loss is put in for this and all that follow until it is taken.
    pub(super) fn push_control(&self, control: Arc<Control>) -> bool {
        let mut state = lock(&self.state);
        if state.is_closed {
            return true;
        }
        let fits = state.control_count < self.capacity && !state.is_behind;
        if fits || !state.is_behind {
            state.is_behind = !fits;
            state.control_count += 1;
            let word = if fits {
                control
            } else {
                Arc::new(Control::Recheck)
            };
            state.deliveries.push_back(Delivery::Control(word));
        }
        drop(state);
        self.arrived.notify_one();
        fits
    }

    /// When full, what resolves once there is room, or the worker is gone.
    pub(super) fn freed_if_full(&self) -> Option<OwnedNotified> {
        let state = lock(&self.state);
        let is_full = state.deliveries.len() >= self.capacity && !state.is_closed;
        // Made under the lock: a wake-up from here on counts, also before the first poll.
        is_full.then(|| self.freed.clone().notified_owned())
    }

    pub(super) fn pop(&self) -> Popped {
        let mut state = lock(&self.state);
        let Some(delivery) = state.deliveries.pop_front() else {
            return if state.is_closed {
                Popped::End
            } else {
                Popped::Nothing
            };
        };
        if let Delivery::Control(control) = &delivery {
            state.control_count -= 1;
            if **control == Control::Recheck {
                state.is_behind = false;
            }
        }
        let is_freed = state.deliveries.len() == self.light;
        drop(state);
        if is_freed {
            self.freed.notify_waiters();
        }
        Popped::One(delivery)
    }

    pub(super) fn close(&self) {
        lock(&self.state).is_closed = true;
        self.arrived.notify_one();
        self.freed.notify_waiters();
    }

    /// Resolves once something was pushed since it was last waited for, or the queue was closed. For
    /// the one who takes.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Wakes the publishers that wait: they may not need this queue any more.
    pub(super) fn look_again(&self) {
        self.freed.notify_waiters();
    }
}

/// Every critical section leaves its state whole, so a panic elsewhere does not spoil it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
