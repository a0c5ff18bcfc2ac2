//! A socket as its handlers see it.

mod resuming;

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;

use crate::protocol::frame::Frame;
use crate::protocol::socketio::encode;
use crate::rooms::{Hold, Member};
use crate::server::args::{Args, IntoArgs};
use crate::server::client::Client;
use crate::server::event::Event;
use crate::server::handshake::Handshake;
use crate::server::io::Emitter;
use crate::server::local::Local;
use crate::server::namespace::{Handler, Namespace};
use crate::types::{CloseReason, PrivateId, RoomName, SocketId};

/// Why a client's answer did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckError {
    /// Not in time.
    Timeout,
    /// The socket ended first.
    Disconnected,
}

impl fmt::Display for AckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "operation has timed out",
            Self::Disconnected => "socket has been disconnected",
        })
    }
}

impl std::error::Error for AckError {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum State {
    /// Middlewares are being asked.
    Connecting,
    Connected,
    Closed,
}

/// One client in one namespace. Cheap to clone; stays on its worker's thread.
#[derive(Clone)]
pub struct Socket(Rc<Inner>);

struct Inner {
    member: Rc<Member>,
    namespace: Arc<Namespace>,
    client: Weak<Client>,
    handshake: Rc<Handshake>,
    local: Rc<Local>,
    state: Cell<State>,
    is_busy: Cell<bool>,
    waiting: RefCell<VecDeque<Event>>,
    data: RefCell<Option<Rc<dyn Any>>>,
    acks: RefCell<Option<Box<Acks>>>,
    auth: OnceCell<Box<str>>,
    /// Keeps what the rooms send behind the answer to CONNECT.
    entering: Cell<Option<Hold>>,
    private_id: OnceCell<PrivateId>,
    not_resumed: Cell<Option<&'static str>>,
}

/// Answers that this socket's client still owes.
struct Acks {
    next: u32,
    pending: HashMap<u32, oneshot::Sender<Args>>,
}

/// An answer that is waited for; forgotten also when its future is dropped.
struct Expected<'a> {
    socket: &'a Socket,
    id: u32,
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.socket.take_pending(self.id);
    }
}

impl Socket {
    pub(in crate::server) fn new(client: &Rc<Client>, namespace: Arc<Namespace>) -> Self {
        let local = Rc::clone(client.local());
        let id = local.socket_id();
        let member = Member::new(id, namespace.id, Rc::clone(client.outbox()));
        Self(Rc::new(Inner {
            member,
            namespace,
            client: Rc::downgrade(client),
            handshake: Rc::clone(client.handshake()),
            local,
            state: Cell::new(State::Connecting),
            is_busy: Cell::new(false),
            waiting: RefCell::default(),
            data: RefCell::new(None),
            acks: RefCell::new(None),
            auth: OnceCell::new(),
            entering: Cell::new(None),
            private_id: OnceCell::new(),
            not_resumed: Cell::new(None),
        }))
    }

    /// The socket that a member of a room stands for, from its answered CONNECT to its end.
    #[must_use]
    pub fn of(member: &Member) -> Option<Self> {
        member.owner::<Inner>().map(Self)
    }

    /// Its public id.
    #[must_use]
    pub fn id(&self) -> &SocketId {
        self.0.member.id()
    }

    /// The namespace's name.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.0.namespace.name
    }

    /// How its session was opened.
    #[must_use]
    pub fn handshake(&self) -> &Handshake {
        &self.0.handshake
    }

    /// What the client sent with CONNECT, as JSON text, in a namespace that keeps it.
    #[must_use]
    pub fn auth(&self) -> Option<&str> {
        self.0.auth.get().map(|text| &**text)
    }

    /// The worker it lives on.
    #[must_use]
    pub fn local(&self) -> &Rc<Local> {
        &self.0.local
    }

    /// Itself as a member of rooms.
    #[must_use]
    pub fn member(&self) -> &Rc<Member> {
        &self.0.member
    }

    /// True from the answered CONNECT to the end.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.state.get() == State::Connected
    }

    /// True when it is over, or never began.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.state.get() == State::Closed
    }

    /// Lets a socket that is about to enter join rooms, from a middleware that found nothing against
    /// it: what they send from then on follows the answer to CONNECT, or goes nowhere when a later
    /// middleware refuses. False once it has entered or ended.
    pub fn admit(&self) -> bool {
        let is_connecting = self.state() == State::Connecting;
        if is_connecting {
            self.0.entering.set(Some(self.hold()));
            self.0.local.hub().add(&self.0.member);
        }
        is_connecting
    }

    /// Ties application data to the socket.
    pub fn set_data<T: 'static>(&self, data: T) {
        *self.0.data.borrow_mut() = Some(Rc::new(data));
    }

    /// The application data, when it is of this type.
    #[must_use]
    pub fn data<T: 'static>(&self) -> Option<Rc<T>> {
        self.0.data.borrow().clone()?.downcast().ok()
    }

    /// Joins a room. Nothing happens after the socket's end.
    pub fn join(&self, room: &RoomName) -> bool {
        self.0.local.hub().join(&self.0.member, room)
    }

    /// Leaves a room. `Some(true)` when it is now empty on this worker.
    pub fn leave(&self, room: &str) -> Option<bool> {
        self.0.local.hub().leave(&self.0.member, room)
    }

    /// The rooms it is in.
    #[must_use]
    pub fn rooms(&self) -> Vec<RoomName> {
        self.0.member.rooms()
    }

    /// The members of a room, without this socket.
    #[must_use]
    pub fn to(&self, room: &str) -> Emitter {
        self.broadcast().to(room)
    }

    /// Everybody in the namespace, without this socket.
    #[must_use]
    pub fn broadcast(&self) -> Emitter {
        self.0
            .local
            .io()
            .emitter(self.0.namespace.id)
            .except(self.id().as_str())
    }

    /// Everybody in the namespace, this socket included.
    #[must_use]
    pub fn everybody(&self) -> Emitter {
        self.0.local.io().emitter(self.0.namespace.id)
    }

    /// Sends an event to this socket.
    pub fn emit(&self, event: &str, args: impl IntoArgs) {
        let Args { json, attachments } = args.into_args();
        self.send_frame(encode::event(
            self.namespace(),
            None,
            event,
            &json,
            &attachments,
        ));
    }

    /// Sends an event whose arguments are JSON text already, separated by commas.
    pub fn emit_raw(&self, event: &str, args: &str) {
        self.send_frame(encode::event(self.namespace(), None, event, args, &[]));
    }

    /// Sends an event only if it would leave at once.
    pub fn emit_volatile(&self, event: &str, args: impl IntoArgs) {
        if self.is_connected() {
            let Args { json, attachments } = args.into_args();
            let frame = encode::event(self.namespace(), None, event, &json, &attachments);
            self.0
                .local
                .hub()
                .send_volatile(self.0.member.outbox(), frame);
        }
    }

    /// Sends an event and waits for the client's answer.
    ///
    /// From a handler, call it in a task of [`Socket::spawn`] and let the handler return: while all
    /// places for events in flight are taken the session is not read, and no answer can come.
    ///
    /// # Errors
    /// [`AckError`] when it did not come in time or the socket ended.
    pub async fn emit_with_ack(
        &self,
        event: &str,
        args: impl IntoArgs,
        timeout: Duration,
    ) -> Result<Args, AckError> {
        if !self.is_connected() {
            return Err(AckError::Disconnected);
        }
        let (sender, answer) = oneshot::channel();
        let id = self.expect_ack(sender);
        let Args { json, attachments } = args.into_args();
        self.send_frame(encode::event(
            self.namespace(),
            Some(id),
            event,
            &json,
            &attachments,
        ));
        let _expected = Expected { socket: self, id };
        match tokio::time::timeout(timeout, answer).await {
            Ok(answer) => answer.map_err(|_| AckError::Disconnected),
            Err(_) => Err(AckError::Timeout),
        }
    }

    /// Runs a task on this worker that ends with its work, not with the socket.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        // Tied to the worker's runtime, which the drain waits for; bounded by the events in flight.
        drop(tokio::task::spawn_local(task));
    }

    /// Keeps everything sent to this session back until the guard is released.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.0.member.outbox().hold()
    }

    /// Leaves the namespace. Stock clients do not come back by themselves.
    pub fn disconnect(&self) {
        if self.is_connected() {
            self.send_frame(encode::disconnect(self.namespace()));
            self.end(CloseReason::ServerNamespaceDisconnect);
            if let Some(client) = self.0.client.upgrade() {
                client.forget(self);
            }
        }
    }

    /// Leaves every namespace and closes the connection.
    pub fn close(&self, reason: CloseReason) {
        if let Some(client) = self.0.client.upgrade() {
            client.disconnect_all(reason);
        }
    }

    /// Queues a frame for this socket.
    pub fn send_frame(&self, frame: Frame) {
        if self.0.state.get() != State::Closed {
            self.0.local.hub().send(self.0.member.outbox(), frame);
        }
    }

    pub(in crate::server) fn keep_auth(&self, auth: Option<&str>) {
        if let Some(auth) = auth {
            self.0.auth.get_or_init(|| auth.into());
        }
    }

    pub(in crate::server) fn table(&self) -> &Arc<Namespace> {
        &self.0.namespace
    }

    pub(in crate::server) fn state(&self) -> State {
        self.0.state.get()
    }

    pub(in crate::server) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// The socket has entered: known to the rooms from now on. `answer` leaves alone: clients that
    /// wait for "the next frame" lose one of two frames that arrive in the same read.
    pub(in crate::server) fn enter(&self, answer: Frame) {
        self.0.state.set(State::Connected);
        let owner: Rc<dyn Any> = Rc::clone(&self.0) as Rc<dyn Any>;
        self.0.member.set_owner(Some(owner));
        self.0.local.hub().add(&self.0.member);
        match self.0.entering.take() {
            Some(entering) => {
                let rest = self.hold();
                entering.release(vec![answer]);
                drop(rest);
            }
            None => {
                self.send_frame(answer);
                self.0.member.outbox().flush();
            }
        }
    }

    /// The socket has ended.
    pub(in crate::server) fn end(&self, reason: CloseReason) {
        let before = self.0.state.replace(State::Closed);
        if before == State::Connecting {
            // Nothing of its rooms goes out for a socket that its client does not know.
            self.0.local.hub().remove(&self.0.member);
            if let Some(entering) = self.0.entering.take() {
                entering.forget();
            }
        }
        if before != State::Connected {
            return;
        }
        if let Some(on_disconnecting) = &self.0.namespace.on_disconnecting {
            guarded("disconnecting", || on_disconnecting(self, reason));
        }
        self.0.local.hub().remove(&self.0.member);
        self.0.waiting.borrow_mut().clear();
        self.0.acks.borrow_mut().take();
    }

    pub(in crate::server) fn answered(&self, id: u64, args: Args) {
        // An unknown id is an answer that came too late, or to another node's question.
        if let Some(sender) = u32::try_from(id).ok().and_then(|id| self.take_pending(id)) {
            drop(sender.send(args));
        }
    }

    /// Handles an event, after those that came before it.
    pub(in crate::server) fn handle(&self, event: Event) {
        let admitted = match &self.0.namespace.gate {
            Some(gate) => guarded("gate", || gate(self, event)).flatten(),
            None => Some(event),
        };
        let Some(event) = admitted else { return };
        if self.0.is_busy.get() {
            // Bounded: each waiting event holds one of the session's permits, and the transport
            // stops reading when there are none left.
            self.0.waiting.borrow_mut().push_back(event);
            return;
        }
        if let Some(rest) = self.start(event) {
            self.0.is_busy.set(true);
            let socket = self.clone();
            self.spawn(async move {
                socket.finish(rest).await;
            });
        }
    }

    /// Runs an event's handler as far as it goes without waiting.
    fn start(&self, event: Event) -> Option<Running> {
        let namespace = Arc::clone(&self.0.namespace);
        match namespace.handler(event.name())? {
            Handler::Now(handler) => {
                guarded("event", || handler(self, event));
                None
            }
            Handler::Later(handler) => {
                let future = guarded("event", || handler(self.clone(), event))?;
                let mut future = AssertUnwindSafe(future).catch_unwind().boxed_local();
                match (&mut future).now_or_never() {
                    Some(done) => {
                        report(&done);
                        None
                    }
                    None => Some(future),
                }
            }
        }
    }

    async fn finish(&self, mut running: Running) {
        loop {
            report(&running.await);
            loop {
                let next = self.0.waiting.borrow_mut().pop_front();
                let Some(event) = next.filter(|_| self.is_connected()) else {
                    self.0.is_busy.set(false);
                    return;
                };
                if let Some(rest) = self.start(event) {
                    running = rest;
                    break;
                }
            }
        }
    }

    fn expect_ack(&self, sender: oneshot::Sender<Args>) -> u32 {
        let mut acks = self.0.acks.borrow_mut();
        let acks = acks.get_or_insert_with(|| {
            Box::new(Acks {
                next: self.0.local.ack_start(),
                pending: HashMap::new(),
            })
        });
        let id = acks.next;
        // Java's client reads ids as 32-bit signed numbers.
        acks.next = (acks.next + 1) & 0x7fff_ffff;
        acks.pending.insert(id, sender);
        id
    }

    fn take_pending(&self, id: u32) -> Option<oneshot::Sender<Args>> {
        self.0.acks.borrow_mut().as_mut()?.pending.remove(&id)
    }
}

type Panicked = Box<dyn Any + Send>;
type Running = futures_util::future::LocalBoxFuture<'static, Result<(), Panicked>>;

/// Runs application code; its panic is a defect that is logged, not the end of the worker.
pub(in crate::server) fn guarded<R>(what: &str, act: impl FnOnce() -> R) -> Option<R> {
    let result = catch_unwind(AssertUnwindSafe(act));
    if result.is_err() {
        tracing::error!(handler = what, "a handler panicked");
    }
    result.ok()
}

fn report(done: &Result<(), Panicked>) {
    if done.is_err() {
        tracing::error!(handler = "event", "a handler panicked");
    }
}
