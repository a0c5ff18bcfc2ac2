//! What the bus carries, into the outboxes of this worker.
//!
//! One [`Fanout`] for each worker reads one ordered stream. Each event is encoded once; its place in
//! the shard's stream becomes the worker's position. *Attaching* a socket to a room is a step of that
//! stream: after the subscription stands, the shard's position is asked for in the same stream (a
//! tick); when the tick passes, everything up to it is in the timeline and everything after it will
//! pass here, so the socket is added at that point and replayed exactly up to it.
//!
//! Control words are done here as far as they are about rooms: sockets are found in the rooms of
//! their token and user (`control.rs`). What else they ask is handed to who registered with
//! [`Fanout::on_control`].
//!
//! Not here: repair after a gap (the memory bus has none), who may join (`handlers`).

mod control;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::cluster::bus::{Delivery, Ephemeral, Port, Publication, Stream};
use crate::events::{Envelope, Vocabulary, view};
use crate::protocol::socketio::encode;
use crate::rooms::{Broadcast, Hold, Hub, Member, NamespaceId, Reach};
use crate::server::Socket;
use crate::types::{RoomName, ShardId, ShardPosition};

pub use control::{Duties, token_room, user_room};

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
    /// `None` for a socket that was put into a room from elsewhere: nobody waits.
    reply: Option<oneshot::Sender<Attached>>,
}

/// The fan-out of one worker.
pub struct Fanout {
    hub: Rc<Hub>,
    port: Port,
    vocabulary: Vocabulary,
    subscribed: RefCell<HashSet<RoomName>>,
    waiting: RefCell<HashMap<u64, Waiting>>,
    next_token: Cell<u64>,
    positions: RefCell<HashMap<ShardId, ShardPosition>>,
    duties: OnceCell<Duties>,
}

/// Rooms live in the main namespace.
const NAMESPACE: NamespaceId = NamespaceId(0);
/// How long a subscription outlives its last local member: rooms that empty and refill at once do
/// not churn.
const LINGER: Duration = Duration::from_secs(10);
/// Deliveries before the worker's other tasks get a turn. Far fewer than an outbox holds.
const DELIVERIES_PER_TURN: u32 = 64;

impl Fanout {
    /// The fan-out of the worker that owns `hub`.
    #[must_use]
    pub fn new(hub: Rc<Hub>, port: Port, vocabulary: Vocabulary) -> Rc<Self> {
        Rc::new(Self {
            hub,
            port,
            vocabulary,
            subscribed: RefCell::default(),
            waiting: RefCell::default(),
            next_token: Cell::new(0),
            positions: RefCell::default(),
            duties: OnceCell::new(),
        })
    }

    /// Puts everything that the bus delivers into outboxes until the bus ends.
    pub async fn run(&self, mut stream: Stream) {
        let mut sweep = tokio::time::interval(LINGER);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut in_turn = 0;
        loop {
            tokio::select! {
                delivery = stream.recv() => match delivery {
                    Some(delivery) => {
                        self.deliver(delivery);
                        in_turn += 1;
                    }
                    None => return,
                },
                _ = sweep.tick() => self.unsubscribe_empty(),
            }
            if in_turn == DELIVERIES_PER_TURN {
                // The stream never makes this task wait while it holds anything. Without a pause
                // the flusher would have no turn and a backlog would overflow every outbox.
                in_turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Adds a socket to a room at a known place in the shard's stream.
    ///
    /// `None` when the bus ended first. A dropped future adds nobody.
    pub async fn attach(
        &self,
        socket: &Socket,
        room: &RoomName,
        shard: ShardId,
    ) -> Option<Attached> {
        let (reply, attached) = oneshot::channel();
        let waiting = Waiting {
            socket: socket.clone(),
            room: room.clone(),
            reply: Some(reply),
        };
        self.ask(waiting, shard);
        attached.await.ok()
    }

    /// Adds a socket to a room without a timeline, at no particular place: it gets what is published
    /// after this.
    pub fn listen(&self, socket: &Socket, room: &RoomName) {
        if self.subscribed.borrow_mut().insert(room.clone()) {
            self.port.subscribe(room);
        }
        socket.join(room);
    }

    fn ask(&self, waiting: Waiting, shard: ShardId) {
        let token = self.next_token.get();
        self.next_token.set(token + 1);
        if self.subscribed.borrow_mut().insert(waiting.room.clone()) {
            self.port.subscribe(&waiting.room);
        }
        self.waiting.borrow_mut().insert(token, waiting);
        self.port.tick(shard, token);
    }

    /// Where this worker stands in a shard's stream.
    pub fn position(&self, shard: ShardId) -> ShardPosition {
        self.positions
            .borrow()
            .get(&shard)
            .copied()
            .unwrap_or_default()
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
            Delivery::Control(control) => self.control(&control),
        }
    }

    fn entry(&self, publication: &Publication) {
        self.positions
            .borrow_mut()
            .insert(publication.shard, publication.at);
        if self
            .hub
            .room(NAMESPACE, publication.room.as_str())
            .is_none()
        {
            return;
        }
        let shown = Envelope::parse(&publication.payload)
            .map_err(|error| error.to_string())
            .and_then(|envelope| {
                view(&self.vocabulary.current(), &envelope, publication.position)
                    .map_err(|e| e.to_string())
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
        let except = event
            .except
            .iter()
            .filter_map(|id| RoomName::parse(id.as_str()).ok());
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
        let Some(waiting) = self.waiting.borrow_mut().remove(&token) else {
            return;
        };
        let Some(reply) = waiting.reply else {
            waiting.socket.join(&waiting.room);
            return;
        };
        if reply.is_closed() {
            // The join was given up and refused; it must not happen behind the client's back.
            return;
        }
        let hold = waiting.socket.hold();
        waiting.socket.join(&waiting.room);
        // Nobody waits any more when the socket ended meanwhile; the hold ends with the value.
        drop(reply.send(Attached { at, hold }));
    }

    fn unsubscribe_empty(&self) {
        let waiting = self.waiting.borrow();
        let awaited: HashSet<&RoomName> = waiting.values().map(|waiting| &waiting.room).collect();
        self.subscribed.borrow_mut().retain(|room| {
            let is_needed =
                self.hub.room(NAMESPACE, room.as_str()).is_some() || awaited.contains(room);
            if !is_needed {
                self.port.unsubscribe(room);
            }
            is_needed
        });
    }
}

/// How many of a member's rooms count against the rooms that a socket may be in. Those of the presence it
/// watches have a bound of their own, and the room of its token is not of its choice.
#[must_use]
pub fn rooms_counted(member: &Member) -> usize {
    member.count_rooms(|room| !is_watched(room) && !control::is_of_token(room))
}

/// Whether a room is one of those in which presence is told.
#[must_use]
pub fn is_watched(room: &RoomName) -> bool {
    room.as_str().starts_with("presence:") || room.as_str().starts_with("crowd:")
}

#[cfg(test)]
mod tests;
