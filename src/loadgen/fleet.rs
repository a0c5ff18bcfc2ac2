//! All sockets of a run: opening them, leading each one through its handshake, keeping count.
//!
//! Everything here lives on one thread. What arrives in one read is worked through as a batch; the
//! events that it calls for are collected and sent afterwards, when no socket is borrowed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::client::{Client, Phase, Reader};
use super::dialect::{Dialect, Packet, outcome};
use super::frame::{self, FrameError, Opcode};
use super::inbox::{Inbox, Message};
use super::link::Door;
use super::plan::Plan;
use super::scene::{Ack, Orders, Scene};

/// The sockets of a run and what they share.
pub(super) struct Fleet {
    dialect: Dialect,
    /// CONNECT, for the sockets in turn.
    greetings: Vec<String>,
    /// Empty if nobody joins anything.
    rooms: Vec<String>,
    /// All sockets read into this.
    pub(super) buffer: RefCell<Vec<u8>>,
    pub(super) desk: RefCell<Desk>,
    clients: RefCell<Vec<Option<Rc<Client>>>>,
    begun: Instant,
    mask: Cell<u32>,
}

/// What messages change.
pub(super) struct Desk {
    pub(super) scene: Scene,
    pub(super) orders: Orders,
    /// Sockets that ended after they had been ready, by reason.
    pub(super) parted: BTreeMap<String, u64>,
}

/// How opening went.
#[derive(Debug, Default)]
pub(super) struct Opened {
    pub(super) ready: u32,
    /// Sockets that never became ready, by reason.
    pub(super) failed: BTreeMap<String, u64>,
}

const BUFFER_BYTES: usize = 64 << 10;
/// A handshake and join that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Different reasons that are kept apart in the report.
const REASONS_MAX: usize = 16;

impl Fleet {
    pub(super) fn new(plan: &Plan, rooms: Vec<String>, scene: Scene) -> Self {
        let tokens = &plan.target.tokens;
        let greetings = match tokens.is_empty() {
            true => vec![Dialect::connect(None)],
            false => tokens
                .iter()
                .map(|token| Dialect::connect(Some(token.reveal())))
                .collect(),
        };
        Self {
            dialect: plan.target.dialect,
            greetings,
            rooms,
            buffer: RefCell::new(vec![0; BUFFER_BYTES]),
            desk: RefCell::new(Desk {
                scene,
                orders: Orders::new(),
                parted: BTreeMap::new(),
            }),
            clients: RefCell::new(vec![None; plan.connections as usize]),
            begun: Instant::now(),
            mask: Cell::new(0x9e37_79b9),
        }
    }

    /// Nanoseconds since the fleet was made.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The clock's time `at` as the runtime counts it.
    pub(super) fn instant(&self, at: u64) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.begun + Duration::from_nanos(at))
    }

    /// Opens every socket, at most `at_once` at a time, and leads it to where it takes part.
    pub(super) async fn open(self: &Rc<Self>, door: &Door, at_once: usize) -> Opened {
        let numbers = 0..u32::try_from(self.clients.borrow().len()).unwrap_or(u32::MAX);
        let mut handshakes = futures_util::stream::iter(numbers)
            .map(|number| tokio::time::timeout(PATIENCE, self.open_one(door, number)))
            .buffer_unordered(at_once.max(1));
        let mut opened = Opened::default();
        while let Some(outcome) = handshakes.next().await {
            match outcome.unwrap_or_else(|_| Err(format!("not ready after {PATIENCE:?}"))) {
                Ok(()) => opened.ready += 1,
                Err(reason) => count(&mut opened.failed, &reason),
            }
        }
        opened
    }

    async fn open_one(self: &Rc<Self>, door: &Door, number: u32) -> Result<(), String> {
        let (link, rest) = door.enter().await.map_err(|error| error.to_string())?;
        let (opener, ready) = oneshot::channel();
        let client = Rc::new(Client::new(number, link, opener));
        self.clients.borrow_mut()[number as usize] = Some(client.clone());
        spawn_local(Reader::new(client, self.clone(), rest));
        ready
            .await
            .unwrap_or_else(|_| Err("its task has ended".to_owned()))
    }

    /// Works through what a socket has read (see [`Inbox::take`]).
    pub(super) fn receive(
        &self,
        client: &Client,
        inbox: &mut Inbox,
        bytes: &[u8],
    ) -> Result<(), FrameError> {
        let now = self.now();
        let mut desk = self.desk.borrow_mut();
        let Desk { scene, orders, .. } = &mut *desk;
        inbox.take(bytes, |message| match message {
            Message::Text(text) => match Packet::read(text) {
                Packet::Event(text) => scene.event(client.number, text, now, orders),
                Packet::Ack { id, arguments } if client.phase.get() == Phase::Ready => {
                    scene.ack(
                        Ack {
                            socket: client.number,
                            id,
                            arguments,
                        },
                        now,
                        orders,
                    );
                }
                packet => {
                    if let Packet::Open(session) = packet {
                        scene.opened(client.number, session);
                    }
                    self.advance(client, &packet);
                }
            },
            Message::Ping(data) => self.send(client, Opcode::Pong, data),
            Message::Close => client.phase.set(Phase::Ended),
            Message::Binary => {}
        })
    }

    /// Sends what was called for since the last time.
    pub(super) fn carry_out(&self) {
        let mut orders = std::mem::take(&mut self.desk.borrow_mut().orders);
        if orders.is_empty() {
            return;
        }
        for (number, text) in orders.drain(..) {
            if let Some(client) = &self.clients.borrow()[number as usize] {
                self.send(client, Opcode::Text, text.as_bytes());
            }
        }
        // Sending calls for nothing new, so the emptied list can be used again.
        self.desk.borrow_mut().orders = orders;
    }

    /// A socket has ended.
    pub(super) fn part(&self, client: &Client, reason: &str) {
        if client.is_opening() {
            client.settle(Err(reason.to_owned()));
        } else {
            count(&mut self.desk.borrow_mut().parted, reason);
        }
        client.phase.set(Phase::Ended);
        self.clients.borrow_mut()[client.number as usize] = None;
    }

    /// The way from an open session to a socket that takes part, and the heartbeat.
    fn advance(&self, client: &Client, packet: &Packet<'_>) {
        let say = |text: &str| self.send(client, Opcode::Text, text.as_bytes());
        match (packet, client.phase.get()) {
            (Packet::Ping(data), _) => say(&format!("3{}", String::from_utf8_lossy(data))),
            (Packet::Open(_), Phase::Opening) => {
                client.phase.set(Phase::Connecting);
                say(&self.greetings[client.number as usize % self.greetings.len()]);
            }
            (Packet::Connected, Phase::Connecting) if self.rooms.is_empty() => self.ready(client),
            (Packet::Connected, Phase::Connecting) => {
                client.phase.set(Phase::Joining);
                say(&self
                    .dialect
                    .join(&self.rooms[client.number as usize % self.rooms.len()]));
            }
            (Packet::Ack { id: 0, arguments }, Phase::Joining) => match outcome(arguments) {
                Ok(()) => self.ready(client),
                Err(code) => self.fail(client, &format!("the join was refused: {code}")),
            },
            (Packet::Refused(why), _) => {
                let why = String::from_utf8_lossy(why);
                self.fail(client, &format!("CONNECT was refused: {why}"));
            }
            (Packet::Closed, _) => client.phase.set(Phase::Ended),
            _ => {}
        }
    }

    fn ready(&self, client: &Client) {
        client.phase.set(Phase::Ready);
        client.settle(Ok(()));
    }

    fn fail(&self, client: &Client, reason: &str) {
        client.settle(Err(reason.to_owned()));
        client.phase.set(Phase::Ended);
    }

    fn send(&self, client: &Client, opcode: Opcode, payload: &[u8]) {
        let mut wire = Vec::with_capacity(payload.len() + 14);
        frame::push(&mut wire, opcode, payload, self.next_mask());
        client.send(&wire);
    }

    /// Xorshift: masks have to vary, not to be secret from anybody here.
    fn next_mask(&self) -> u32 {
        let mut mask = self.mask.get();
        mask ^= mask << 13;
        mask ^= mask >> 17;
        mask ^= mask << 5;
        self.mask.replace(mask)
    }
}

fn count(reasons: &mut BTreeMap<String, u64>, reason: &str) {
    let is_known = reasons.contains_key(reason);
    let key = if is_known || reasons.len() < REASONS_MAX {
        reason
    } else {
        "other reasons"
    };
    *reasons.entry(key.to_owned()).or_default() += 1;
}
