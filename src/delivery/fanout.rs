//! What the bus carries, into the outboxes of this worker.
//!
//! One [`Fanout`] for each worker reads one ordered stream. Each event is encoded once; its place in
//! the shard's stream becomes the worker's position. *Attaching* a socket to a room is a step of that
//! stream: after the subscription stands, the shard's position is asked for in the same stream (a
//! tick); when the tick passes, everything up to it is in the timeline and everything after it will
//! pass here, so the socket is added at that point and replayed exactly up to it.
//!
//! Not here: repair after a gap (the memory bus has none), who may join (`handlers`).

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use crate::cluster::bus::{Delivery, Ephemeral, Port, Publication, Stream};
use crate::events::{Catalogue, Envelope, view};
use crate::protocol::socketio::encode;
use crate::rooms::{Broadcast, Hold, Hub, NamespaceId, Reach};
use crate::server::Socket;
use crate::telemetry::metrics;
use crate::types::{RoomName, ShardId, ShardPosition, Timestamp};

/// A socket is in the room from `at` on; what it is sent waits until `hold` is released.
pub struct Attached {
    /// The worker's place in the shard's stream at that moment.
    pub at: ShardPosition,
    /// Keeps live events behind what the socket missed.
    pub hold: Hold,
}

struct Waiting {
    socket: Socket,
    room: RoomName,
    reply: oneshot::Sender<Attached>,
}

/// The fan-out of one worker.
pub struct Fanout {
    hub: Rc<Hub>,
    port: Port,
    catalogue: Arc<Catalogue>,
    subscribed: RefCell<HashSet<RoomName>>,
    waiting: RefCell<HashMap<u64, Waiting>>,
    next_token: Cell<u64>,
    positions: RefCell<HashMap<ShardId, ShardPosition>>,
}

/// Rooms live in the main namespace.
const NAMESPACE: NamespaceId = NamespaceId(0);
/// How long a subscription outlives its last local member: rooms that empty and refill at once do
/// not churn.
const LINGER: Duration = Duration::from_secs(10);

impl Fanout {
    /// The fan-out of the worker that owns `hub`.
    #[must_use]
    pub fn new(hub: Rc<Hub>, port: Port, catalogue: Arc<Catalogue>) -> Rc<Self> {
        Rc::new(Self {
            hub,
            port,
            catalogue,
            subscribed: RefCell::default(),
            waiting: RefCell::default(),
            next_token: Cell::new(0),
            positions: RefCell::default(),
        })
    }

    /// Puts everything that the bus delivers into outboxes until the bus ends.
    pub async fn run(&self, mut stream: Stream) {
        let mut sweep = tokio::time::interval(LINGER);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                delivery = stream.recv() => match delivery {
                    Some(delivery) => self.deliver(delivery),
                    None => return,
                },
                _ = sweep.tick() => self.unsubscribe_empty(),
            }
        }
    }

    /// Adds a socket to a room at a known place in the shard's stream.
    ///
    /// `None` when the bus ended first. Dropping the future before it is done may still add the
    /// socket; it is a member of the room then like any other.
    pub async fn attach(&self, socket: &Socket, room: &RoomName, shard: ShardId) -> Option<Attached> {
        let (reply, attached) = oneshot::channel();
        let token = self.next_token.get();
        self.next_token.set(token + 1);
        let waiting = Waiting { socket: socket.clone(), room: room.clone(), reply };
        self.waiting.borrow_mut().insert(token, waiting);
        if self.subscribed.borrow_mut().insert(room.clone()) {
            self.port.subscribe(room);
        }
        self.port.tick(shard, token);
        attached.await.ok()
    }

    /// Where this worker stands in a shard's stream.
    pub fn position(&self, shard: ShardId) -> ShardPosition {
        self.positions.borrow().get(&shard).copied().unwrap_or_default()
    }

    fn deliver(&self, delivery: Delivery) {
        match delivery {
            Delivery::Entry(publication) => self.entry(&publication),
            Delivery::Ephemeral(event) => self.ephemeral(&event),
            Delivery::Tick { shard, at, token } => {
                self.positions.borrow_mut().insert(shard, at);
                self.ticked(token, at);
            }
            Delivery::Interrupted { shard } => {
                tracing::error!(%shard, "the bus was interrupted; rooms of this shard may have a gap");
            }
        }
    }

    fn entry(&self, publication: &Publication) {
        self.positions.borrow_mut().insert(publication.shard, publication.at);
        if self.hub.room(NAMESPACE, publication.room.as_str()).is_none() {
            return;
        }
        let shown = Envelope::parse(&publication.payload)
            .map_err(|error| error.to_string())
            .and_then(|envelope| {
                let now = Timestamp::from(SystemTime::now());
                metrics::DELIVERY_TIME.record(now.since(envelope.timestamp));
                view(&self.catalogue, &envelope, publication.position).map_err(|e| e.to_string())
            });
        match shown {
            Ok(shown) => {
                let frame = encode::event("/", None, &shown.event, &shown.json, &[]);
                self.hub.broadcast(&Broadcast {
                    reach: Reach {
                        namespace: NAMESPACE,
                        to: vec![publication.room.clone()],
                        except: Vec::new(),
                    },
                    frame,
                    is_volatile: false,
                });
            }
            // The pump checked it before it was ordered; history shows it all the same.
            Err(error) => tracing::error!(id = %publication.id, %error, "an event cannot be shown"),
        }
    }

    fn ephemeral(&self, event: &Ephemeral) {
        let except = event.except.iter().filter_map(|id| RoomName::parse(id.as_str()).ok());
        self.hub.broadcast(&Broadcast {
            reach: Reach {
                namespace: NAMESPACE,
                to: vec![event.room.clone()],
                except: except.collect(),
            },
            frame: encode::event("/", None, &event.event, event.data.get(), &[]),
            is_volatile: false,
        });
    }

    fn ticked(&self, token: u64, at: ShardPosition) {
        let Some(waiting) = self.waiting.borrow_mut().remove(&token) else { return };
        let hold = waiting.socket.hold();
        waiting.socket.join(&waiting.room);
        // Nobody waits any more when the socket ended meanwhile; the hold ends with the value.
        drop(waiting.reply.send(Attached { at, hold }));
    }

    fn unsubscribe_empty(&self) {
        let waiting = self.waiting.borrow();
        self.subscribed.borrow_mut().retain(|room| {
            let is_needed = self.hub.room(NAMESPACE, room.as_str()).is_some()
                || waiting.values().any(|waiting| waiting.room == *room);
            if !is_needed {
                self.port.unsubscribe(room);
            }
            is_needed
        });
    }
}
