//! One worker: its hub, its queue of commands from other threads.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::client::Options;
use super::io::{Io, Overloaded};
use super::lanes::{Lanes, Order};
use super::namespace::Server;
use crate::rooms::Hub;
use crate::types::SocketId;

/// What one thread asks of one worker: something that needs the worker's own state.
pub struct Command(pub Box<Act>);

type Act = dyn FnOnce(&Rc<Local>) + Send;

/// The command queues of all workers. Cheap to clone.
#[derive(Clone)]
pub struct Mailboxes {
    senders: Arc<[mpsc::Sender<Command>]>,
    lanes: Lanes,
}

impl Mailboxes {
    /// Queues for `count` workers, each of at most `capacity` commands, and their other ends.
    #[must_use]
    pub fn new(count: usize, capacity: usize) -> (Self, Vec<Worker>) {
        let (senders, workers): (Vec<_>, Vec<_>) = (0..count)
            .map(|index| {
                let (sender, inbox) = mpsc::channel(capacity);
                (sender, Worker { index, inbox })
            })
            .unzip();
        (
            Self {
                senders: senders.into(),
                lanes: Lanes::new(count, capacity),
            },
            workers,
        )
    }

    /// One sender for each worker, in their order.
    #[must_use]
    pub fn all(&self) -> &[mpsc::Sender<Command>] {
        &self.senders
    }

    pub(super) const fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Runs something on one worker, waiting for room in its queue. False when the worker is gone.
    pub async fn run(&self, index: usize, act: impl FnOnce(&Rc<Local>) + Send + 'static) -> bool {
        match self.senders.get(index) {
            Some(mailbox) => mailbox.send(Command(Box::new(act))).await.is_ok(),
            None => false,
        }
    }
}

/// The receiving end of one worker's queue.
pub struct Worker {
    /// Which worker.
    pub index: usize,
    inbox: mpsc::Receiver<Command>,
}

/// A worker's own state. Lives on its thread.
pub struct Local {
    index: usize,
    hub: Rc<Hub>,
    server: Server,
    io: Io,
    options: Options,
    random: Cell<u64>,
    parts: RefCell<Vec<Rc<dyn Any>>>,
}

thread_local! {
    /// The worker of this thread. A handle that crosses threads ([`Io`]) finds its own worker
    /// through it, which keeps what one handler emits in order for sockets of the same worker.
    static CURRENT: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

/// Runs `act` with this thread's worker; `None` on other threads.
pub fn current<R>(act: impl FnOnce(&Rc<Local>) -> R) -> Option<R> {
    let local = CURRENT.with_borrow(Clone::clone)?;
    Some(act(&local))
}

/// Broadcasts applied in a row before outboxes are drained; they hold more than that by default.
const ORDERS_PER_FLUSH: usize = 256;

/// Commands applied before other tasks of the worker get a turn.
const COMMANDS_PER_TURN: usize = 256;

impl Local {
    /// Makes this thread the worker and returns its state.
    #[must_use]
    pub fn install(index: usize, io: Io, server: Server, options: Options) -> Rc<Self> {
        let local = Rc::new(Self {
            index,
            hub: Hub::new(server.len()),
            server,
            io,
            options,
            random: Cell::new(0),
            parts: RefCell::default(),
        });
        CURRENT.set(Some(Rc::clone(&local)));
        local
    }

    /// Applies commands and orders until every sender is gone.
    pub async fn run(self: &Rc<Self>, mut worker: Worker) {
        let lanes = self.io.mailboxes().lanes().clone();
        let mut commands = Vec::with_capacity(COMMANDS_PER_TURN);
        loop {
            tokio::select! {
                count = worker.inbox.recv_many(&mut commands, COMMANDS_PER_TURN) => {
                    if count == 0 {
                        return;
                    }
                    for Command(act) in commands.drain(..) {
                        act(self);
                    }
                }
                () = lanes.given(self.index) => self.apply_all(lanes.take(self.index)),
            }
            // The runtime itself would let many such turns pass before the flusher's, and outboxes
            // hold less than that.
            tokio::task::yield_now().await;
        }
    }

    /// Does what was ordered, here and on every other worker, at one point of one order.
    pub(super) fn order(self: &Rc<Self>, order: &Order) -> Result<(), Overloaded> {
        let (before, result) = self.io.mailboxes().lanes().give(order, Some(self.index));
        self.apply_all(before);
        self.apply(order.clone());
        result
    }

    fn apply_all(self: &Rc<Self>, orders: VecDeque<Order>) {
        for (count, order) in (1..).zip(orders) {
            match order {
                Order::Broadcast(mut broadcast) => {
                    // Own bytes for this worker: a reference count that two threads bump for
                    // every receiver costs more than one copy.
                    broadcast.frame = broadcast.frame.deep_copy();
                    self.hub.broadcast(&broadcast);
                }
                Order::Run(act) => act(self),
            }
            if count % ORDERS_PER_FLUSH == 0 {
                self.hub.flush();
            }
        }
    }

    fn apply(self: &Rc<Self>, order: Order) {
        match order {
            Order::Broadcast(broadcast) => self.hub.broadcast(&broadcast),
            Order::Run(act) => act(self),
        }
    }

    /// Which worker this is.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// The rooms of this worker.
    #[must_use]
    pub const fn hub(&self) -> &Rc<Hub> {
        &self.hub
    }

    /// The handle for emitting to all workers.
    #[must_use]
    pub const fn io(&self) -> &Io {
        &self.io
    }

    pub(super) const fn server(&self) -> &Server {
        &self.server
    }

    /// The settings of connections.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Gives handlers of this worker something of its own, found again by its type.
    pub fn provide<T: 'static>(&self, part: Rc<T>) {
        self.parts.borrow_mut().push(part);
    }

    /// What was provided under this type.
    #[must_use]
    pub fn part<T: 'static>(&self) -> Option<Rc<T>> {
        self.parts
            .borrow()
            .iter()
            .find_map(|part| Rc::clone(part).downcast().ok())
    }

    /// A new public socket id: 20 random characters.
    pub(super) fn socket_id(&self) -> SocketId {
        SocketId::parse(&random_token()).expect("a random token is a valid id")
    }

    /// Where a socket's ack ids start. Random, so that a late answer to another node's question,
    /// given after a reconnect, is not taken for an answer to ours.
    pub(super) fn ack_start(&self) -> u32 {
        let mixed = self.random.get().wrapping_add(rand::random::<u64>());
        self.random.set(mixed);
        u32::try_from(mixed >> 34).unwrap_or(0)
    }
}

/// 20 characters of `[A-Za-z0-9_-]`, 120 bits of the system's generator.
#[must_use]
pub fn random_token() -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::random::<[u8; 15]>())
}
