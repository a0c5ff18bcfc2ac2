//! What the bus carries, into the outboxes of this worker.
//!
//! One [`Fanout`] for each worker reads one ordered stream. Each event is encoded once; its place in
//! the shard's stream becomes the worker's position. *Attaching* a socket to a room is a step of that
//! stream: after the subscription stands, the shard's position is asked for in the same stream (a
//! tick); when the tick passes, everything up to it is in the timeline and everything after it will
//! pass here, so the socket is added at that point and replayed exactly up to it.
//!
//! Control words are done here as far as they are about rooms: sockets are found in the rooms of
//! their token and user. What else they ask is handed to who registered with [`Fanout::on_control`].
//!
//! Not here: repair after a gap (the memory bus has none), who may join (`handlers`).

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::cluster::bus::{Delivery, Ephemeral, Port, Publication, Stream};
use crate::cluster::control::Control;
use crate::events::{Envelope, Vocabulary, view};
use crate::protocol::socketio::encode;
use crate::rooms::{Broadcast, Hold, Hub, Member, NamespaceId, Reach};
use crate::server::Socket;
use crate::types::{CloseReason, RoomName, ShardId, ShardPosition, UserId};

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

/// What a control word needs of the rest of the node.
pub struct Duties {
    /// Which shard orders a room.
    pub shard_of: Box<dyn Fn(&RoomName) -> ShardId>,
    /// Rooms that one socket may be in.
    pub rooms_max: usize,
    /// Told of [`Control::Forget`] and [`Control::Recheck`].
    pub others: Box<dyn Fn(&Control)>,
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
/// What of a token's id its room is named by.
const TOKEN_BYTES_MAX: usize = 200;
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

    /// Says how to do what control words ask; before [`run`](Self::run), once. Without it sockets are
    /// closed all the same.
    pub fn on_control(&self, duties: Duties) {
        drop(self.duties.set(duties));
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

    fn control(&self, control: &Control) {
        match control {
            Control::CloseToken(token) => {
                close(self.members(token_room(token)));
            }
            Control::CloseUser { user, except } => {
                let spared = except.as_deref().and_then(token_room);
                let mut members = self.members(user_room(user));
                members.retain(|member| {
                    spared
                        .as_ref()
                        .is_none_or(|room| !member.is_in(room.as_str()))
                });
                close(members);
            }
            Control::JoinRoom { user, room } => self.put(user, room),
            Control::LeaveRoom { user, room } => {
                for member in self.members(user_room(user)) {
                    self.hub.leave(&member, room.as_str());
                }
            }
            Control::Forget { .. } | Control::Recheck => {
                if let Some(duties) = self.duties.get() {
                    (duties.others)(control);
                }
            }
        }
    }

    fn members(&self, room: Option<RoomName>) -> Vec<Rc<Member>> {
        let reach = room.map(|room| Reach {
            namespace: NAMESPACE,
            to: vec![room],
            except: Vec::new(),
        });
        reach.map_or_else(Vec::new, |reach| self.hub.reached(&reach))
    }

    /// Attaches a user's sockets to a room, each at a place in the stream as a join does; they have
    /// nothing to catch up.
    fn put(&self, user: &UserId, room: &RoomName) {
        let Some(duties) = self.duties.get() else {
            return;
        };
        for member in self.members(user_room(user)) {
            if member.is_in(room.as_str()) {
                continue;
            }
            if member.room_count() >= duties.rooms_max {
                tracing::warn!(socket = %member.id(), %room, "a socket is in too many rooms to be put into another");
                continue;
            }
            if let Some(socket) = Socket::of(&member) {
                let room = room.clone();
                let shard = (duties.shard_of)(&room);
                let reply = None;
                self.ask(
                    Waiting {
                        socket,
                        room,
                        reply,
                    },
                    shard,
                );
            }
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

/// The room of the sockets that one token opened. Never subscribed: nothing is published to it.
#[must_use]
pub fn token_room(token_id: &str) -> Option<RoomName> {
    // A foreign id may be longer than a room's name.
    let short = &token_id[..token_id.floor_char_boundary(TOKEN_BYTES_MAX)];
    RoomName::parse(&format!("token:{short}")).ok()
}

/// The room of a user's sockets.
#[must_use]
pub fn user_room(user: &UserId) -> Option<RoomName> {
    RoomName::parse(&format!("user:{user}")).ok()
}

fn close(members: Vec<Rc<Member>>) {
    for socket in members.iter().filter_map(|member| Socket::of(member)) {
        // The client is told first; one that does not read is cut all the same.
        socket.close(CloseReason::ForcedServerClose);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::bus::Bus;
    use crate::rooms::{Limits, Link, Member, Outbox};
    use crate::types::{CloseReason, SocketId};
    use serde_json::value::RawValue;

    /// A transport that takes everything at once.
    struct Fast {
        outbox: Rc<Outbox>,
        taken: Cell<usize>,
    }

    impl Link for Fast {
        fn drain(&self) {
            while self.outbox.pop().is_some() {
                self.taken.set(self.taken.get() + 1);
            }
        }
        fn close(&self, _reason: CloseReason) {}
        fn is_writable(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn a_backlog_does_not_overflow_a_fast_socket() {
        const EVENTS: usize = 1000;
        let (hub, bus) = (Hub::new(1), Bus::memory());
        let room = RoomName::parse("conversation:1").unwrap();
        let outbox = Outbox::new(Limits {
            frames_max: 100,
            bytes_max: 1 << 20,
        });
        let fast = Rc::new(Fast {
            outbox: Rc::clone(&outbox),
            taken: Cell::new(0),
        });
        let link: Rc<dyn Link> = Rc::clone(&fast) as Rc<dyn Link>;
        outbox.connect(Rc::downgrade(&link));
        let member = Member::new(SocketId::parse(&"s".repeat(20)).unwrap(), NAMESPACE, outbox);
        hub.add(&member);
        hub.join(&member, &room);
        let (port, stream) = bus.attach(2 * EVENTS);
        port.subscribe(&room);
        for _ in 0..EVENTS {
            let data = RawValue::from_string("1".to_owned()).unwrap();
            let event = Ephemeral {
                room: room.clone(),
                event: "e".into(),
                data,
                except: None,
            };
            assert_eq!(bus.publish_ephemeral(Arc::new(event)), 0);
        }
        bus.close();
        let fanout = Fanout::new(Rc::clone(&hub), port, Vocabulary::builtin());
        let tasks = tokio::task::LocalSet::new();
        let flushed = Rc::clone(&hub);
        tasks.spawn_local(async move { flushed.run_flusher().await });
        tasks.spawn_local(async move { fanout.run(stream).await });
        tasks
            .run_until(async {
                for _ in 0..EVENTS {
                    tokio::task::yield_now().await
                }
            })
            .await;
        assert!(!member.outbox().is_closed());
        assert_eq!(fast.taken.get(), EVENTS);
    }
}
