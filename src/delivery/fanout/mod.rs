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
//! A socket whose client comes back is added to all its rooms in one step (`entering.rs`). What is shown
//! carries the worker's position, by which a client says what it saw.
//!
//! What a bus over a network loses is found again in the timeline (`repair.rs`); what is next in a room,
//! and what its members were shown before, is known for each room (`rooms.rs`).
//!
//! Not here: who may join (`handlers`).

mod control;
mod entering;
mod repair;
mod rooms;
mod show;
mod switch;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::cluster::bus::{Delivery, Port, Stream};
use crate::cluster::recovery::Joined;
use crate::events::Vocabulary;
use crate::rooms::{Hold, Hub, Member, NamespaceId};
use crate::server::Socket;
use crate::timeline::{Timeline, Vector};
use crate::types::{RoomName, ShardId, ShardPosition, SocketId};
use entering::Entering;
use repair::Repair;
use rooms::Track;

pub use control::{Duties, Moved, is_of_token, token_room, user_room};
pub use entering::Entered;

/// A socket is in the room from `at` on; what it is sent waits until `hold` is released.
pub struct Attached {
    /// The shard on which the room is heard.
    pub shard: ShardId,
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
    /// Rooms that are heard, and on which shards.
    subscribed: RefCell<HashMap<RoomName, Vec<ShardId>>>,
    /// The ring by which they are.
    ring_version: Cell<u64>,
    is_switching: Cell<bool>,
    /// Rooms that were heard from a shard on which they are not by the ring that is known here.
    early: RefCell<HashMap<RoomName, Instant>>,
    /// Ticks that mark the end of an old shard's stream.
    passing: RefCell<HashMap<u64, oneshot::Sender<()>>>,
    waiting: RefCell<HashMap<u64, Waiting>>,
    next_token: Cell<u64>,
    positions: RefCell<Vector>,
    timeline: Timeline,
    /// Rooms with a timeline that are heard here.
    tracks: RefCell<HashMap<RoomName, Track>>,
    repairs: RefCell<HashMap<ShardId, Repair>>,
    /// Ticks that repairs wait for; `None` when the stream is over.
    asked: RefCell<Option<HashMap<u64, oneshot::Sender<ShardPosition>>>>,
    is_checking: Cell<bool>,
    /// Rooms of which it is not known what comes next.
    unknown: RefCell<HashSet<RoomName>>,
    is_finding: Cell<bool>,
    entering: Entering,
    /// What is shown carries the worker's position.
    has_offsets: Cell<bool>,
    /// The position as text, until it changes.
    offset: RefCell<Option<Rc<str>>>,
    me: Weak<Self>,
    duties: OnceCell<Duties>,
}

/// Rooms live in the main namespace.
const NAMESPACE: NamespaceId = NamespaceId(0);
/// How long a subscription outlives its last local member: rooms that empty and refill at once do
/// not churn.
const LINGER: Duration = Duration::from_secs(10);
/// Deliveries before the worker's other tasks get a turn. Far fewer than an outbox holds.
const DELIVERIES_PER_TURN: usize = 64;
/// How often rooms are compared with their tops.
const CHECK_EVERY: Duration = Duration::from_secs(5);

impl Fanout {
    /// The fan-out of the worker that owns `hub`.
    #[must_use]
    pub fn new(hub: Rc<Hub>, port: Port, vocabulary: Vocabulary, timeline: Timeline) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            hub,
            port,
            vocabulary,
            subscribed: RefCell::default(),
            ring_version: Cell::new(timeline.ring_version()),
            is_switching: Cell::new(false),
            early: RefCell::default(),
            passing: RefCell::default(),
            waiting: RefCell::default(),
            next_token: Cell::new(0),
            positions: RefCell::default(),
            timeline,
            tracks: RefCell::default(),
            repairs: RefCell::default(),
            asked: RefCell::new(Some(HashMap::new())),
            is_checking: Cell::new(false),
            unknown: RefCell::default(),
            is_finding: Cell::new(false),
            entering: Entering::default(),
            has_offsets: Cell::new(false),
            offset: RefCell::default(),
            me: Weak::clone(me),
            duties: OnceCell::new(),
        })
    }

    /// Puts everything that the bus delivers into outboxes until the bus ends.
    pub async fn run(&self, mut stream: Stream) {
        let mut sweep = tokio::time::interval(LINGER);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut check = tokio::time::interval(CHECK_EVERY);
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ring = tokio::time::interval(switch::LOOK_EVERY);
        ring.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut in_turn = 0;
        loop {
            tokio::select! {
                delivery = stream.recv() => match delivery {
                    Some(delivery) => {
                        self.deliver(delivery);
                        in_turn += 1;
                    }
                    None => break,
                },
                _ = sweep.tick() => self.unsubscribe_empty(),
                // In one process nothing is lost without a word.
                _ = ring.tick(), if self.timeline.publishes() => self.follow_ring(),
                _ = check.tick(), if self.timeline.publishes() => self.begin_check(),
            }
            if in_turn == DELIVERIES_PER_TURN {
                // The stream never makes this task wait while it holds anything. Without a pause
                // the flusher would have no turn and a backlog would overflow every outbox.
                in_turn = 0;
                tokio::task::yield_now().await;
            }
        }
        // Repairs that wait for a tick end.
        self.asked.take();
        self.passing.take();
    }

    fn begin_check(&self) {
        let Some(me) = self.me.upgrade().filter(|me| !me.is_checking.get()) else {
            return;
        };
        self.is_checking.set(true);
        // Ends by itself, or with the worker.
        drop(tokio::task::spawn_local(async move {
            me.check().await;
            me.is_checking.set(false);
        }));
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
        self.hear(room);
        socket.join(room);
    }

    fn ask(&self, waiting: Waiting, shard: ShardId) {
        let token = self.token();
        self.hear(&waiting.room);
        self.waiting.borrow_mut().insert(token, waiting);
        self.port.tick(shard, token);
    }

    fn token(&self) -> u64 {
        self.next_token.replace(self.next_token.get() + 1)
    }

    /// Where this worker stands in a shard's stream: everything up to there that its rooms were to be
    /// shown is in their members' outboxes.
    pub fn position(&self, shard: ShardId) -> ShardPosition {
        self.positions.borrow().at(shard).unwrap_or_default()
    }

    /// Where this worker stands in every shard that it has heard.
    pub fn vector(&self) -> Vector {
        self.positions.borrow().clone()
    }

    fn advance(&self, shard: ShardId, to: ShardPosition) {
        self.offset.borrow_mut().take();
        if let Err(error) = self.positions.borrow_mut().advance(shard, to) {
            tracing::error!(%shard, %error, "there are more shards than there may be");
        }
    }

    fn deliver(&self, delivery: Delivery) {
        if let Delivery::Tick { shard, at, token } = delivery
            && self.answered(shard, at, token)
        {
            return;
        }
        if let Some(delivery) = self.held_back(delivery) {
            self.pass(delivery);
        }
    }

    /// Does what a delivery says, now.
    fn pass(&self, delivery: Delivery) {
        match delivery {
            Delivery::Entry(publication) => {
                if !self.entry(&publication) {
                    tracing::warn!(room = %publication.room, "an entry is missing");
                    // It is read again with what is missing before it.
                    self.interrupted(publication.shard);
                }
            }
            Delivery::Ephemeral(event) => self.ephemeral(&event),
            Delivery::Tick { shard, at, token } => {
                self.advance(shard, at);
                if let Some(passed) = self.passing.borrow_mut().remove(&token) {
                    // Nobody waits any more when it took too long; it is asked for again.
                    let _is_awaited = passed.send(()).is_ok();
                    return;
                }
                // After a repair the worker may be further than the tick.
                self.ticked(token, (shard, self.position(shard)));
            }
            Delivery::Interrupted { shard } => self.interrupted(shard),
            Delivery::Control(control) => self.control(&control),
        }
    }

    fn ticked(&self, token: u64, (shard, at): (ShardId, ShardPosition)) {
        if self.entering.passed(token) {
            return;
        }
        let Some(waiting) = self.waiting.borrow_mut().remove(&token) else {
            return;
        };
        let heard_on = self.tracks.borrow().get(&waiting.room).map(|t| t.shard);
        if let Some(other) = heard_on.filter(|heard_on| *heard_on != shard) {
            // The room moved, or is about to: its members are in the stream of the shard on which it is heard.
            self.ask(waiting, other);
            return;
        }
        let is_given_up = waiting
            .reply
            .as_ref()
            .is_some_and(oneshot::Sender::is_closed);
        if !is_given_up && !waiting.socket.member().is_in(waiting.room.as_str()) {
            self.follow(&waiting.room, waiting.socket.id(), (shard, at));
            if self.timeline.shard_of(&waiting.room) != shard {
                self.came_to(self.timeline.shard_of(&waiting.room), &waiting.room);
            }
        }
        let Some(reply) = waiting.reply else {
            waiting.socket.join(&waiting.room);
            let joined = Some(Joined { shard, at });
            self.moved(&waiting.socket, &waiting.room, joined);
            return;
        };
        if is_given_up {
            // The join was given up and refused; it must not happen behind the client's back.
            return;
        }
        let hold = waiting.socket.hold();
        waiting.socket.join(&waiting.room);
        // Nobody waits any more when the socket ended meanwhile; the hold ends with the value.
        drop(reply.send(Attached { shard, at, hold }));
    }

    /// A socket is about to be in a room from a place on.
    fn follow(&self, room: &RoomName, socket: &SocketId, (shard, at): (ShardId, ShardPosition)) {
        let mut is_new = false;
        let mut tracks = self.tracks.borrow_mut();
        let track = tracks.entry(room.clone()).or_insert_with(|| {
            is_new = true;
            Track::new(shard, at)
        });
        track.joined(socket, at);
        drop(tracks);
        if is_new && self.timeline.publishes() {
            self.unknown.borrow_mut().insert(room.clone());
            self.find_starts();
        }
    }

    fn unsubscribe_empty(&self) {
        let mut waiting = self.waiting.borrow_mut();
        waiting.retain(|_, waiting| {
            let reply = waiting.reply.as_ref();
            reply.is_none_or(|reply| !reply.is_closed())
        });
        let awaited: HashSet<&RoomName> = waiting.values().map(|waiting| &waiting.room).collect();
        self.subscribed.borrow_mut().retain(|room, heard| {
            let is_needed = self.hub.room(NAMESPACE, room.as_str()).is_some()
                || awaited.contains(room)
                || self.entering.wants(room);
            if !is_needed {
                for shard in heard {
                    self.port.unsubscribe_on(*shard, room);
                }
                self.tracks.borrow_mut().remove(room);
            }
            is_needed
        });
    }
}

/// How many of a member's rooms count against the rooms that a socket may be in. Those of the presence it
/// watches have a bound of their own, and the room of its token is not of its choice.
#[must_use]
pub fn rooms_counted(member: &Member) -> usize {
    member.count_rooms(|room| !is_watched(room) && !is_of_token(room))
}

/// Whether a room is one of those in which presence is told.
#[must_use]
pub fn is_watched(room: &RoomName) -> bool {
    room.as_str().starts_with("presence:") || room.as_str().starts_with("crowd:")
}

#[cfg(test)]
mod scenes;
#[cfg(test)]
mod tests;
