//! The bus: from where events are ordered to the workers that have members of their rooms.
//!
//! A worker attaches once and takes everything through one stream, in which each shard's entries
//! come in the order in which they were published. It hears the rooms it subscribed to. A *tick*
//! comes back in the same stream, after everything published before it; together they are what makes
//! a join exact: subscribe, tick, and what is not after the tick's position and was not heard is in
//! the timeline.
//!
//! In one process entries are never dropped: a full worker holds the publisher back. A bus over a network
//! cannot do that; what it loses, also because a worker was full, it announces with
//! [`Delivery::Interrupted`]. Ephemeral events are dropped when a worker is busy. Control words go to every worker, whatever it subscribed to; one that cannot take more of them is told to look
//! everything up again.
//!
//! Not here: encoding, sockets, and finding out what was missed (the fan-out's).

use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::cluster::control::Control;
use crate::cluster::memory;
use crate::cluster::redis as shards;
use crate::telemetry::metrics;
use crate::types::{EventId, Position, RoomName, ShardId, ShardPosition, SocketId};

/// An ordered event on its way to the members of its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The room.
    pub room: RoomName,
    /// The shard that ordered it.
    pub shard: ShardId,
    /// Its place in the shard's stream.
    pub at: ShardPosition,
    /// Its place in the room.
    pub position: Position,
    /// The event's id.
    pub id: EventId,
    /// The envelope's JSON.
    pub payload: Bytes,
}

/// An event without a place: shown to who is there, kept nowhere.
#[derive(Debug, Clone)]
pub struct Ephemeral {
    /// The room.
    pub room: RoomName,
    /// The event's name, as clients know it.
    pub event: Arc<str>,
    /// Its one argument.
    pub data: Box<RawValue>,
    /// The socket that does not get it, usually the one it came from.
    pub except: Option<SocketId>,
}

/// What comes out of a worker's stream.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// An ordered event.
    Entry(Arc<Publication>),
    /// An event without a place.
    Ephemeral(Arc<Ephemeral>),
    /// The answer to [`Port::tick`].
    Tick {
        /// The shard that was asked.
        shard: ShardId,
        /// What it had published last. All of it that this worker hears came before this.
        at: ShardPosition,
        /// The token of the question.
        token: u64,
    },
    /// Entries of the shard may be missing from here on.
    Interrupted {
        /// The shard.
        shard: ShardId,
    },
    /// A word to every worker. What was published before it by the same caller came before it.
    Control(Arc<Control>),
}

/// The port: one per process. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Bus {
    /// Between the workers of this process.
    Memory(memory::Bus),
    /// Between nodes, over Redis shards.
    Redis(shards::Bus),
}

/// How a worker says what it wants to hear. Its calls never wait.
#[derive(Debug)]
pub enum Port {
    /// Of a [`Bus::Memory`].
    Memory(memory::Port),
    /// Of a [`Bus::Redis`].
    Redis(shards::Port),
}

/// What a worker hears. Dropping it detaches the worker.
#[derive(Debug)]
pub enum Stream {
    /// Of a [`Bus::Memory`].
    Memory(memory::Stream),
    /// Of a [`Bus::Redis`].
    Redis(shards::Stream),
}

impl Bus {
    /// A bus between the workers of this process.
    #[must_use]
    pub fn memory() -> Self {
        Self::Memory(memory::Bus::default())
    }

    /// A bus between nodes, over Redis shards. Its connections are made in the background, and again
    /// when they break; must be called inside a runtime that outlives it.
    #[must_use]
    pub fn redis(options: shards::Options) -> Self {
        Self::Redis(shards::Bus::new(options))
    }

    /// At start, before anything is published: what the shard's timeline already holds, so that the
    /// first tick carries it.
    pub fn begin(&self, shard: ShardId, at: ShardPosition) {
        match self {
            Self::Memory(bus) => bus.begin(shard, at),
            // The shard itself knows.
            Self::Redis(_) => {}
        }
    }

    /// Attaches a worker whose queue holds `capacity` deliveries, at least one.
    #[must_use]
    pub fn attach(&self, capacity: usize) -> (Port, Stream) {
        match self {
            Self::Memory(bus) => {
                let (port, stream) = bus.attach(capacity);
                (Port::Memory(port), Stream::Memory(stream))
            }
            Self::Redis(bus) => {
                let (port, stream) = bus.attach(capacity);
                (Port::Redis(port), Stream::Redis(stream))
            }
        }
    }

    /// Hands an entry to every worker that subscribed to its room, in call order per shard. A timeline on
    /// Redis does this itself.
    ///
    /// In one process it waits while one of them is full; a worker that is gone holds nobody back.
    /// Cancel-safe: when dropped before it is done, nobody has the entry, and it may be published again.
    pub async fn publish(&self, entry: Publication) {
        match self {
            Self::Memory(bus) => bus.publish(entry).await,
            Self::Redis(bus) => bus.publish(&entry).await,
        }
    }

    /// Hands an ephemeral event to every worker that subscribed to its room and has room for it;
    /// never waits. Answers how many workers are known not to get it, or 1 when it could not be sent to
    /// the others.
    pub fn publish_ephemeral(&self, event: Arc<Ephemeral>) -> usize {
        match self {
            Self::Memory(bus) => bus.publish_ephemeral(&event),
            Self::Redis(bus) => bus.publish_ephemeral(&event),
        }
    }

    /// The same for the workers of this node alone.
    pub fn publish_here(&self, event: &Arc<Ephemeral>) -> usize {
        match self {
            Self::Memory(bus) => bus.publish_ephemeral(event),
            Self::Redis(bus) => bus.publish_here(event),
        }
    }

    /// Tells every worker of every node, those of this one first; never waits. A worker has as many words open as it has
    /// deliveries; what it cannot take any more it hears of as [`Control::Recheck`]. Answers how
    /// many workers of this node that befell.
    pub fn control(&self, control: Control) -> usize {
        let behind = match self {
            Self::Memory(bus) => bus.control(&Arc::new(control)),
            Self::Redis(bus) => bus.control(&Arc::new(control)),
        };
        if behind > 0 {
            metrics::BUS_CONTROL_LOST.add(u64::try_from(behind).unwrap_or(u64::MAX));
        }
        behind
    }

    /// Ends every stream, each after what is already in it; from here on nothing is published.
    pub fn close(&self) {
        match self {
            Self::Memory(bus) => bus.close(),
            Self::Redis(bus) => bus.close(),
        }
    }
}

impl Port {
    /// Hears a room from now on, where it is now; counted, so as many unsubscribes are needed to end it.
    pub fn subscribe(&self, room: &RoomName) {
        match self {
            Self::Memory(port) => port.subscribe(room),
            Self::Redis(port) => port.subscribe_on(port.shard_of(room), room),
        }
    }

    /// Takes one subscription back; what is in the stream already still comes.
    pub fn unsubscribe(&self, room: &RoomName) {
        match self {
            Self::Memory(port) => port.unsubscribe(room),
            Self::Redis(port) => port.unsubscribe_on(port.shard_of(room), room),
        }
    }

    /// The same for what one shard publishes of a room, which may be on its way to another.
    pub fn subscribe_on(&self, shard: ShardId, room: &RoomName) {
        match self {
            Self::Memory(port) => port.subscribe(room),
            Self::Redis(port) => port.subscribe_on(shard, room),
        }
    }

    /// Takes one such subscription back.
    pub fn unsubscribe_on(&self, shard: ShardId, room: &RoomName) {
        match self {
            Self::Memory(port) => port.unsubscribe(room),
            Self::Redis(port) => port.unsubscribe_on(shard, room),
        }
    }

    /// Asks for a [`Delivery::Tick`] in this worker's stream. Ticks are not counted against the
    /// capacity: there are as many as the worker has questions open.
    pub fn tick(&self, shard: ShardId, token: u64) {
        match self {
            Self::Memory(port) => port.tick(shard, token),
            Self::Redis(port) => port.tick(shard, token),
        }
    }
}

impl Stream {
    /// The next delivery; `None` once the bus is closed and everything in the stream was taken.
    /// Cancel-safe.
    pub async fn recv(&mut self) -> Option<Delivery> {
        match self {
            Self::Memory(stream) => stream.recv().await,
            Self::Redis(stream) => stream.recv().await,
        }
    }

    /// The next delivery if there is one now.
    pub fn try_recv(&mut self) -> Option<Delivery> {
        match self {
            Self::Memory(stream) => stream.try_recv(),
            Self::Redis(stream) => stream.try_recv(),
        }
    }
}
