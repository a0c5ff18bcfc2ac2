//! The bus between the workers of one process.
//!
//! Choosing who gets an entry, putting it into their queues and noting it as the shard's last happen
//! under one lock, and so does a tick. That is what makes a tick exact: no entry can be counted
//! in its position and come after it, or be chosen before a subscription and published after it.
//! A publisher that finds a queue full has changed nothing yet; it waits and begins again, and as
//! each shard has one publisher at a time, nothing overtakes.
//!
//! Lock order: the hub, then one queue. Neither is held across an await.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::futures::OwnedNotified;

use crate::cluster::bus::{Delivery, Ephemeral, Publication};
use crate::cluster::control::Control;
use crate::cluster::queue::{Popped, Queue, lock};
use crate::types::{RoomName, ShardId, ShardPosition};

/// The in-memory backend. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Bus {
    hub: Arc<Mutex<Hub>>,
}

#[derive(Debug, Default)]
struct Hub {
    workers: HashMap<WorkerId, Arc<Queue>>,
    rooms: HashMap<RoomName, Vec<Subscription>>,
    lanes: HashMap<ShardId, Lane>,
    attached: u64,
    is_closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct WorkerId(u64);

#[derive(Debug)]
struct Subscription {
    worker: WorkerId,
    queue: Arc<Queue>,
    count: usize,
}

#[derive(Debug, Default)]
struct Lane {
    last: ShardPosition,
    /// Held by the one publisher of the shard; fair, so that call order is queue order.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Bus {
    pub(super) fn begin(&self, shard: ShardId, at: ShardPosition) {
        let mut hub = lock(&self.hub);
        let lane = hub.lanes.entry(shard).or_default();
        lane.last = lane.last.max(at);
    }

    pub(super) fn attach(&self, capacity: usize) -> (Port, Stream) {
        let mut hub = lock(&self.hub);
        let worker = WorkerId(hub.attached);
        hub.attached += 1;
        let queue = Arc::new(Queue::new(capacity.max(1)));
        if hub.is_closed {
            queue.close();
        } else {
            hub.workers.insert(worker, queue.clone());
        }
        drop(hub);
        let port = Port {
            bus: self.clone(),
            worker,
        };
        (
            port,
            Stream {
                bus: self.clone(),
                worker,
                queue,
            },
        )
    }

    pub(super) async fn publish(&self, entry: Publication) {
        let entry = Arc::new(entry);
        let turn = lock(&self.hub)
            .lanes
            .entry(entry.shard)
            .or_default()
            .turn
            .clone();
        let _turn = turn.lock().await;
        while let Err(full) = self.offer(&entry) {
            full.await;
        }
    }

    /// On its own, so that the lock ends before anybody waits.
    fn offer(&self, entry: &Arc<Publication>) -> Result<(), OwnedNotified> {
        lock(&self.hub).offer(entry)
    }

    pub(super) fn publish_ephemeral(&self, event: &Arc<Ephemeral>) -> usize {
        let hub = lock(&self.hub);
        let subscriptions = hub.rooms.get(&event.room).map_or(&[][..], Vec::as_slice);
        let offer = |s: &&Subscription| !s.queue.push_if_light(Delivery::Ephemeral(event.clone()));
        subscriptions.iter().filter(offer).count()
    }

    pub(super) fn control(&self, control: &Arc<Control>) -> usize {
        let hub = lock(&self.hub);
        let offer = |queue: &&Arc<Queue>| !queue.push_control(Arc::clone(control));
        hub.workers.values().filter(offer).count()
    }

    pub(super) fn close(&self) {
        let mut hub = lock(&self.hub);
        hub.is_closed = true;
        hub.rooms.clear();
        for (_, queue) in hub.workers.drain() {
            queue.close();
        }
    }
}

impl Hub {
    /// Puts an entry into the queues of all who hear its room, or into none when one is full; then
    /// the error resolves when that one has room again, or is gone.
    fn offer(&mut self, entry: &Arc<Publication>) -> Result<(), OwnedNotified> {
        let subscriptions = self.rooms.get(&entry.room).map_or(&[][..], Vec::as_slice);
        // Only this lock's holder adds to queues, so what has room now has it below.
        for subscription in subscriptions {
            if let Some(freed) = subscription.queue.freed_if_full() {
                return Err(freed);
            }
        }
        for subscription in subscriptions {
            subscription.queue.push(Delivery::Entry(entry.clone()));
        }
        let lane = self.lanes.entry(entry.shard).or_default();
        lane.last = lane.last.max(entry.at);
        Ok(())
    }

    fn detach(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
        self.rooms.retain(|_, subscriptions| {
            subscriptions.retain(|subscription| subscription.worker != worker);
            !subscriptions.is_empty()
        });
    }
}

/// A worker's way in.
#[derive(Debug)]
pub struct Port {
    bus: Bus,
    worker: WorkerId,
}

impl Port {
    pub(super) fn subscribe(&self, room: &RoomName) {
        let mut hub = lock(&self.bus.hub);
        let Some(queue) = hub.workers.get(&self.worker).cloned() else {
            return;
        };
        let subscriptions = hub.rooms.entry(room.clone()).or_default();
        match subscriptions
            .iter_mut()
            .find(|known| known.worker == self.worker)
        {
            Some(known) => known.count += 1,
            None => subscriptions.push(Subscription {
                worker: self.worker,
                queue,
                count: 1,
            }),
        }
    }

    pub(super) fn unsubscribe(&self, room: &RoomName) {
        let mut hub = lock(&self.bus.hub);
        let Some(subscriptions) = hub.rooms.get_mut(room) else {
            return;
        };
        let mine = subscriptions
            .iter()
            .position(|known| known.worker == self.worker);
        let Some(index) = mine else { return };
        subscriptions[index].count -= 1;
        if subscriptions[index].count == 0 {
            // A publisher that waits for this queue need not any more; it looks again.
            subscriptions.swap_remove(index).queue.look_again();
        }
        if subscriptions.is_empty() {
            hub.rooms.remove(room);
        }
    }

    pub(super) fn tick(&self, shard: ShardId, token: u64) {
        let hub = lock(&self.bus.hub);
        let at = hub
            .lanes
            .get(&shard)
            .map(|lane| lane.last)
            .unwrap_or_default();
        if let Some(queue) = hub.workers.get(&self.worker) {
            queue.push(Delivery::Tick { shard, at, token });
        }
    }
}

/// A worker's way out.
#[derive(Debug)]
pub struct Stream {
    bus: Bus,
    worker: WorkerId,
    queue: Arc<Queue>,
}

impl Stream {
    pub(super) async fn recv(&self) -> Option<Delivery> {
        loop {
            match self.queue.pop() {
                Popped::One(delivery) => return Some(delivery),
                Popped::End => return None,
                // A push between the look and the wait leaves a permit, so it is not missed.
                Popped::Nothing => self.queue.arrived().await,
            }
        }
    }

    pub(super) fn try_recv(&self) -> Option<Delivery> {
        match self.queue.pop() {
            Popped::One(delivery) => Some(delivery),
            Popped::Nothing | Popped::End => None,
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        lock(&self.bus.hub).detach(self.worker);
        self.queue.close();
    }
}
