//! One shard as this node hears it: which workers hear which rooms, and what the connection still has
//! to be told.
//!
//! Everything is under one lock, held for one message or one call and never across an await; the
//! locks of queues are taken inside it. What is heard goes straight into the workers' queues, so each
//! worker has the shard's messages in the order of the connection. A worker whose queue is full is not
//! waited for: it is *behind* the shard, hears nothing more of it, and is told
//! [`Delivery::Interrupted`] once it has room.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::message::Channels;
use crate::backend::redis::Place;
use crate::cluster::bus::{Delivery, Ephemeral, Publication};
use crate::cluster::queue::{Queue, lock};
use crate::telemetry::labels::Interruption;
use crate::telemetry::metrics;
use crate::types::{RoomName, ShardId, ShardPosition};

/// A local worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) queue: Queue,
    /// Whether there is a shard that it is behind.
    is_behind: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct WorkerId(pub(super) u64);

impl Worker {
    pub(super) fn new(id: WorkerId, capacity: usize) -> Self {
        Self {
            id,
            queue: Queue::new(capacity),
            is_behind: AtomicBool::new(false),
        }
    }

    /// Called after it took something: tells it what it missed once there is room for that.
    pub(super) fn took(&self, lanes: &[Lane]) {
        if self.is_behind.load(Ordering::SeqCst) && self.queue.is_light() {
            self.is_behind.store(false, Ordering::SeqCst);
            for lane in lanes {
                lock(&lane.state).catch_up(lane.shard, self);
            }
        }
    }
}

/// One shard.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) shard: ShardId,
    pub(super) channels: Channels,
    commands: [&'static str; 3],
    state: Mutex<State>,
    /// There is something to tell the connection, or it broke.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    rooms: HashMap<RoomName, Vec<Subscription>>,
    /// What the connection was told to hear.
    sent: HashSet<RoomName>,
    /// Rooms about which the connection may have to be told something.
    dirty: HashSet<RoomName>,
    /// Questions that were not asked yet.
    questions: VecDeque<Question>,
    /// Those on their way, by the number of the call they share.
    asked: VecDeque<(u64, Vec<Question>)>,
    calls: u64,
    /// The connection that counts; what an older one still says does not.
    line: u64,
    /// Everything that is wanted was confirmed once.
    is_live: bool,
    is_broken: bool,
    /// Subscriptions that were sent and not confirmed, and the other way.
    entering: usize,
    leaving: usize,
    behind: HashSet<WorkerId>,
}

#[derive(Debug)]
struct Subscription {
    worker: Arc<Worker>,
    count: usize,
}

#[derive(Debug)]
struct Question {
    worker: Arc<Worker>,
    shard: ShardId,
    token: u64,
}

/// What to tell the connection next.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) enter: Vec<RoomName>,
    pub(super) leave: Vec<RoomName>,
    /// The number of a tick to ask after that.
    pub(super) tick: Option<u64>,
}

impl Round {
    pub(super) fn is_empty(&self) -> bool {
        self.enter.is_empty() && self.leave.is_empty() && self.tick.is_none()
    }
}

/// Subscriptions told in one go.
const ROUND_ROOMS: usize = 1_000;
/// Questions that wait for an answer; beyond them the oldest are given up. Their joins have timed out
/// long before.
const QUESTIONS_MAX: usize = 65_536;

impl Lane {
    pub(super) fn new(shard: ShardId, channels: Channels, place: &Place) -> Self {
        let commands = match place.is_cluster() {
            true => ["SSUBSCRIBE", "SUNSUBSCRIBE", place.publish()],
            false => ["SUBSCRIBE", "UNSUBSCRIBE", place.publish()],
        };
        Self {
            shard,
            channels,
            commands,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(super) const fn subscribe_command(&self) -> &'static str {
        self.commands[0]
    }

    pub(super) const fn unsubscribe_command(&self) -> &'static str {
        self.commands[1]
    }

    pub(super) const fn publish_command(&self) -> &'static str {
        self.commands[2]
    }

    pub(super) fn subscribe(&self, worker: &Arc<Worker>, room: &RoomName) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let subscriptions = state.rooms.entry(room.clone()).or_default();
        match subscriptions
            .iter_mut()
            .find(|known| known.worker.id == worker.id)
        {
            Some(known) => known.count += 1,
            None => subscriptions.push(Subscription {
                worker: worker.clone(),
                count: 1,
            }),
        }
        if !state.sent.contains(room) && state.dirty.insert(room.clone()) {
            drop(guard);
            self.changed.notify_one();
        }
    }

    pub(super) fn unsubscribe(&self, worker: WorkerId, room: &RoomName) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let Some(subscriptions) = state.rooms.get_mut(room) else {
            return;
        };
        let mine = subscriptions
            .iter()
            .position(|known| known.worker.id == worker);
        let Some(index) = mine else { return };
        subscriptions[index].count -= 1;
        if subscriptions[index].count == 0 {
            subscriptions.swap_remove(index);
        }
        if subscriptions.is_empty() {
            state.rooms.remove(room);
            state.dirty.insert(room.clone());
            drop(guard);
            self.changed.notify_one();
        }
    }

    pub(super) fn detach(&self, worker: WorkerId) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let dirty = &mut state.dirty;
        state.rooms.retain(|room, subscriptions| {
            subscriptions.retain(|known| known.worker.id != worker);
            if subscriptions.is_empty() {
                dirty.insert(room.clone());
            }
            !subscriptions.is_empty()
        });
        state.questions.retain(|asked| asked.worker.id != worker);
        state.behind.remove(&worker);
        drop(guard);
        self.changed.notify_one();
    }

    pub(super) fn tick(&self, worker: &Arc<Worker>, shard: ShardId, token: u64) {
        let mut state = lock(&self.state);
        if state.questions.len() >= QUESTIONS_MAX {
            state.questions.pop_front();
        }
        state.questions.push_back(Question {
            worker: worker.clone(),
            shard,
            token,
        });
        drop(state);
        self.changed.notify_one();
    }

    /// A new connection, which hears nothing yet but has been told of `channels` others than rooms.
    pub(super) fn begin(&self, line: u64, channels: usize) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        state.cut();
        state.line = line;
        state.is_broken = false;
        state.sent.clear();
        state.dirty = state.rooms.keys().cloned().collect();
        (state.entering, state.leaving) = (channels, 0);
    }

    /// The connection is gone: what it was asked has to be asked again.
    pub(super) fn cut(&self) {
        lock(&self.state).cut();
    }

    /// Everything that is wanted stands. When something may have been missed, these workers are told.
    pub(super) fn live(&self, interrupted: &[Arc<Worker>]) {
        let mut state = lock(&self.state);
        state.is_live = true;
        for worker in interrupted {
            metrics::BUS_INTERRUPTIONS
                .of(Interruption::Connection)
                .add(1);
            if !worker
                .queue
                .push_if_room(Delivery::Interrupted { shard: self.shard })
            {
                state.leave_behind(self.shard, worker);
            }
        }
    }

    pub(super) fn is_live(&self) -> bool {
        lock(&self.state).is_live
    }

    pub(super) fn is_broken(&self) -> bool {
        lock(&self.state).is_broken
    }

    /// What is to be told now; ticks only behind all that was subscribed before them.
    pub(super) fn round(&self) -> Round {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let mut round = Round::default();
        let rooms: Vec<RoomName> = state.dirty.iter().take(ROUND_ROOMS).cloned().collect();
        for room in rooms {
            state.dirty.remove(&room);
            if state.rooms.contains_key(&room) {
                if state.sent.insert(room.clone()) {
                    round.enter.push(room);
                }
            } else if state.sent.remove(&room) {
                round.leave.push(room);
            }
        }
        state.entering += round.enter.len();
        state.leaving += round.leave.len();
        if state.dirty.is_empty() && state.is_live && !state.questions.is_empty() {
            state.calls += 1;
            let questions = state.questions.drain(..).collect();
            state.asked.push_back((state.calls, questions));
            round.tick = Some(state.calls);
        }
        metrics::BUS_SUBSCRIPTIONS.add(number(round.enter.len()) - number(round.leave.len()));
        round
    }

    /// A subscription was confirmed.
    pub(super) fn entered(&self, line: u64) {
        self.of(line, |state| {
            state.entering = state.entering.saturating_sub(1);
        });
    }

    /// One was ended. A cluster does that unasked when the slot is given away.
    pub(super) fn left(&self, line: u64) {
        self.of(line, |state| match state.leaving.checked_sub(1) {
            Some(leaving) => state.leaving = leaving,
            None => {
                state.is_broken = true;
                self.changed.notify_one();
            }
        });
    }

    /// The connection broke.
    pub(super) fn broke(&self, line: u64) {
        self.of(line, |state| {
            state.is_broken = true;
            state.is_live = false;
        });
        self.changed.notify_one();
    }

    pub(super) fn entry(&self, line: u64, entry: Publication) {
        let entry = Arc::new(entry);
        self.of(line, |state| {
            let Some(subscriptions) = state.rooms.get(&entry.room).filter(|_| state.is_live) else {
                return;
            };
            let mut full = Vec::new();
            for Subscription { worker, .. } in subscriptions {
                if state.behind.contains(&worker.id) {
                    continue;
                }
                if !worker.queue.push_if_room(Delivery::Entry(entry.clone())) {
                    full.push(worker.clone());
                }
            }
            for worker in full {
                metrics::BUS_INTERRUPTIONS
                    .of(Interruption::SlowWorker)
                    .add(1);
                state.leave_behind(self.shard, &worker);
            }
        });
    }

    pub(super) fn ephemeral(&self, line: u64, event: Ephemeral) {
        let event = Arc::new(event);
        self.of(line, |state| {
            if state.is_live {
                let dropped = state.show(&event);
                metrics::BUS_EPHEMERAL_DROPPED.add(dropped as u64);
            }
        });
    }

    /// Shows this node's workers an event that the others do not hear; how many do not get it.
    pub(super) fn here(&self, event: &Arc<Ephemeral>) -> usize {
        lock(&self.state).show(event)
    }

    pub(super) fn ticked(&self, line: u64, at: ShardPosition, number: u64) {
        self.of(line, |state| {
            if state.entering > 0 {
                // A subscription was refused: this tick would promise what is not heard.
                state.is_broken = true;
                self.changed.notify_one();
                return;
            }
            while let Some((call, questions)) = state.asked.pop_front() {
                if call > number {
                    state.asked.push_front((call, questions));
                    return;
                }
                for Question {
                    worker,
                    shard,
                    token,
                } in questions
                {
                    // What was dropped came before this place: the worker has to know first.
                    state.catch_up(self.shard, &worker);
                    worker.queue.push(Delivery::Tick { shard, at, token });
                }
            }
        });
    }

    fn of(&self, line: u64, act: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        if state.line == line {
            act(&mut state);
        }
    }
}

impl State {
    fn show(&self, event: &Arc<Ephemeral>) -> usize {
        let subscriptions = self.rooms.get(&event.room).into_iter().flatten();
        let offer = |s: &&Subscription| {
            let event = Delivery::Ephemeral(Arc::clone(event));
            !s.worker.queue.push_if_light(event)
        };
        subscriptions.filter(offer).count()
    }

    fn cut(&mut self) {
        self.is_live = false;
        metrics::BUS_SUBSCRIPTIONS.add(-number(self.sent.len()));
        self.sent.clear();
        // No tick of the old connection counts any more, so none is answered twice.
        self.line = u64::MAX;
        while let Some((_, questions)) = self.asked.pop_back() {
            for question in questions.into_iter().rev() {
                self.questions.push_front(question);
            }
        }
    }

    fn leave_behind(&mut self, shard: ShardId, worker: &Worker) {
        self.behind.insert(worker.id);
        worker.is_behind.store(true, Ordering::SeqCst);
        // It may have taken everything before it could see that.
        if worker.queue.is_light() {
            self.catch_up(shard, worker);
        }
    }

    fn catch_up(&mut self, shard: ShardId, worker: &Worker) {
        if self.behind.remove(&worker.id) {
            worker.queue.push(Delivery::Interrupted { shard });
        }
    }
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
