//! The bus between nodes, over Redis shards.
//!
//! Each node has one connection for each shard on which it hears the rooms of all its workers, and puts
//! what it hears straight into their queues. A worker has each shard through one ordered stream, across
//! all its rooms; a tick is published by the shard on the node's own channel of the same connection, so
//! it comes in its place. Entries are published by the timeline's function in the moment in which they
//! take their place; ephemeral events go to their room's channel too, and come back to this node like to
//! every other.
//!
//! What is published while a connection is away is lost: every worker is told
//! [`Interrupted`](crate::cluster::bus::Delivery::Interrupted) when the new one hears everything again,
//! and a worker that did not keep up is told the same. What is behind that is the fan-out's to find.
//!
//! Control words go to the workers of this node at once, to the others over a channel of the first
//! shard. A node that may have missed one tells its workers [`Control::Recheck`].

mod lane;
mod message;
mod publisher;
mod subscriber;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::backend::redis::Shards;
use crate::cluster::bus::{Delivery, Ephemeral, Publication};
use crate::cluster::control::Control;
use crate::cluster::queue::{Popped, lock};
use crate::telemetry::metrics;
use crate::types::{NodeId, RoomName, ShardId};
use lane::{Lane, Worker, WorkerId};
use message::Channels;
use publisher::{Outgoing, Words};

const LIBRARY: &str = include_str!("bus.lua");

/// Where a bus is.
#[derive(Debug, Clone)]
pub struct Options {
    /// The shards, the same as the timeline's.
    pub shards: Shards,
    /// This node.
    pub node: NodeId,
}

/// A bus over shards. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bus(Arc<Running>);

/// Ends with the last handle.
#[derive(Debug)]
struct Running {
    inner: Arc<Inner>,
    tasks: Vec<AbortHandle>,
}

#[derive(Debug)]
struct Inner {
    shards: Shards,
    /// This process, among all that ever were: a node that came back hears nothing that was meant for
    /// the one before it.
    own: String,
    lanes: Vec<Lane>,
    workers: Mutex<Workers>,
    outgoing: Vec<mpsc::Sender<Outgoing>>,
    words: Words,
}

#[derive(Debug, Default)]
struct Workers {
    all: HashMap<WorkerId, Arc<Worker>>,
    attached: u64,
    is_closed: bool,
}

impl Bus {
    pub(super) fn new(Options { shards, node }: Options) -> Self {
        let own = format!("{node}:{:016x}", rand::random::<u64>());
        let lanes: Vec<Lane> = shards
            .all()
            .map(|shard| {
                let place = shards.options(shard).place.clone();
                Lane::new(shard, Channels::new(&Shards::tag(shard), &own), &place)
            })
            .collect();
        let (outgoing, taken): (Vec<_>, Vec<_>) = lanes
            .iter()
            .map(|_| mpsc::channel(publisher::WAITING_MAX))
            .unzip();
        let (words, told) = Words::new();
        let inner = Arc::new(Inner {
            shards,
            own,
            lanes,
            workers: Mutex::default(),
            outgoing,
            words,
        });
        let mut tasks = vec![spawned(publisher::run_words(Arc::clone(&inner), told))];
        for (index, taken) in taken.into_iter().enumerate() {
            tasks.push(spawned(subscriber::run(Arc::clone(&inner), index)));
            tasks.push(spawned(publisher::run(Arc::clone(&inner), index, taken)));
        }
        Self(Arc::new(Running { inner, tasks }))
    }

    pub(super) fn attach(&self, capacity: usize) -> (Port, Stream) {
        let inner = &self.0.inner;
        let mut workers = lock(&inner.workers);
        let worker = Arc::new(Worker::new(WorkerId(workers.attached), capacity.max(1)));
        workers.attached += 1;
        if workers.is_closed {
            worker.queue.close();
        } else {
            workers.all.insert(worker.id, Arc::clone(&worker));
        }
        drop(workers);
        let port = Port {
            inner: Arc::clone(inner),
            worker: Arc::clone(&worker),
        };
        let inner = Arc::clone(inner);
        (port, Stream { inner, worker })
    }

    /// An entry that is not published takes nothing with it but time: who hears the next one of its
    /// room, or looks at the room's top, finds it in the timeline.
    pub(super) async fn publish(&self, entry: &Publication) {
        let inner = &self.0.inner;
        let Some(lane) = inner.lane(entry.shard) else {
            return;
        };
        let channel = lane.channels.room(&entry.room);
        let message = (lane.publish_command(), channel, message::entry(entry));
        if let Err(error) = publisher::now(&inner.shards, lane.shard, message).await {
            tracing::warn!(id = %entry.id, %error, "an entry was not published");
        }
    }

    pub(super) fn publish_ephemeral(&self, event: &Ephemeral) -> usize {
        let inner = &self.0.inner;
        let shard = inner.shards.heard_at(event.room.as_str());
        let Some(lane) = inner.lane(shard) else {
            return 1;
        };
        let outgoing = (lane.channels.room(&event.room), message::ephemeral(event));
        let way = inner.outgoing.get(usize::from(lane.shard.0));
        let is_taken = way.is_some_and(|way| way.try_send(outgoing).is_ok());
        usize::from(!is_taken)
    }

    pub(super) fn publish_here(&self, event: &Arc<Ephemeral>) -> usize {
        let inner = &self.0.inner;
        let lane = inner.lane(inner.shards.heard_at(event.room.as_str()));
        lane.map_or(0, |lane| lane.here(event))
    }

    pub(super) fn control(&self, word: &Arc<Control>) -> usize {
        let inner = &self.0.inner;
        if lock(&inner.workers).is_closed {
            return 0;
        }
        let behind = inner.tell(word);
        inner.words.send(&inner.own, word);
        behind
    }

    pub(super) fn close(&self) {
        self.0.close();
    }
}

impl Running {
    fn close(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        let mut workers = lock(&self.inner.workers);
        workers.is_closed = true;
        for (_, worker) in workers.all.drain() {
            worker.queue.close();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    /// A shard that does not exist is answered for by the last.
    fn lane(&self, shard: ShardId) -> Option<&Lane> {
        self.lanes
            .get(usize::from(shard.0))
            .or_else(|| self.lanes.last())
    }

    /// The channels of a shard that are not rooms'.
    fn channels_of(&self, index: usize) -> Vec<String> {
        let channels = &self.lanes[index].channels;
        let mut all = vec![channels.own.clone()];
        if index == 0 {
            all.push(channels.control());
        }
        all
    }

    /// A word to every worker of this node; answers how many could not take it.
    fn tell(&self, word: &Arc<Control>) -> usize {
        let workers = lock(&self.workers);
        let offer = |worker: &&Arc<Worker>| !worker.queue.push_control(Arc::clone(word));
        workers.all.values().filter(offer).count()
    }

    /// A shard's connection hears everything that is wanted. Unless it is the first, entries may have
    /// been missed; control words may have been in any case, for caches are filled before it stands.
    fn live(&self, index: usize, is_first: bool) {
        let workers: Vec<Arc<Worker>> = match is_first {
            true => Vec::new(),
            false => lock(&self.workers).all.values().cloned().collect(),
        };
        self.lanes[index].live(&workers);
        if index == 0 {
            let behind = self.tell(&Arc::new(Control::Recheck));
            metrics::BUS_CONTROL_LOST.add(behind as u64);
        }
    }
}

/// A worker's way in.
#[derive(Debug)]
pub struct Port {
    inner: Arc<Inner>,
    worker: Arc<Worker>,
}

impl Port {
    pub(super) fn shard_of(&self, room: &RoomName) -> ShardId {
        self.inner.shards.shard_of_room(room.as_str())
    }

    pub(super) fn subscribe_on(&self, shard: ShardId, room: &RoomName) {
        if let Some(lane) = self.inner.lane(shard) {
            lane.subscribe(&self.worker, room);
        }
    }

    pub(super) fn unsubscribe_on(&self, shard: ShardId, room: &RoomName) {
        if let Some(lane) = self.inner.lane(shard) {
            lane.unsubscribe(self.worker.id, room);
        }
    }

    pub(super) fn tick(&self, shard: ShardId, token: u64) {
        if let Some(lane) = self.inner.lane(shard) {
            lane.tick(&self.worker, shard, token);
        }
    }
}

/// A worker's way out.
#[derive(Debug)]
pub struct Stream {
    inner: Arc<Inner>,
    worker: Arc<Worker>,
}

impl Stream {
    pub(super) async fn recv(&self) -> Option<Delivery> {
        loop {
            match self.worker.queue.pop() {
                Popped::One(delivery) => return Some(self.took(delivery)),
                Popped::End => return None,
                // A push between the look and the wait leaves a permit, so it is not missed.
                Popped::Nothing => self.worker.queue.arrived().await,
            }
        }
    }

    pub(super) fn try_recv(&self) -> Option<Delivery> {
        match self.worker.queue.pop() {
            Popped::One(delivery) => Some(self.took(delivery)),
            Popped::Nothing | Popped::End => None,
        }
    }

    fn took(&self, delivery: Delivery) -> Delivery {
        self.worker.took(&self.inner.lanes);
        delivery
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        lock(&self.inner.workers).all.remove(&self.worker.id);
        self.worker.queue.close();
        for lane in &self.inner.lanes {
            lane.detach(self.worker.id);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing waits for these at the end: they end with the last handle of the bus"
)]
fn spawned(task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    tokio::spawn(task).abort_handle()
}
