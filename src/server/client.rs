//! The Socket.IO side of one session: its sockets, and what its packets do.

use std::cell::{Cell, RefCell};
use std::panic::AssertUnwindSafe;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::value::RawValue;

use super::args::Args;
use super::event::{Ack, Answer, Event};
use super::handshake::Handshake;
use super::local::Local;
use super::namespace::{ConnectError, Message, Namespace};
use super::socket::{Socket, State, guarded};
use crate::lifecycle::admission::{Inside, Opening};
use crate::protocol::frame::Frame;
use crate::protocol::socketio::attachments::Assembler;
use crate::protocol::socketio::decode::{self, Decoded};
use crate::protocol::socketio::encode;
use crate::rooms::Outbox;
use crate::telemetry::labels::Packet;
use crate::telemetry::metrics;
use crate::types::CloseReason;

/// Settings of Socket.IO connections.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Events of one session that may be in flight before it is no longer read.
    pub in_flight_max: u32,
    /// Attachments of one event.
    pub attachments_max: usize,
    /// Bytes of all attachments of one event.
    pub attachment_bytes_max: usize,
}

/// Events of one session that are not done yet.
#[derive(Default)]
struct Flow {
    count: Cell<u32>,
    /// Who waits for a place, or for the last event: readers, and the drain beside them.
    waiting: RefCell<Vec<Waker>>,
}

impl Flow {
    fn wait(&self, waker: &Waker) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    fn wake(&self) {
        for waker in std::mem::take(&mut *self.waiting.borrow_mut()) {
            waker.wake();
        }
    }
}

/// One event in flight; dropping it gives the place back and wakes who waits for it.
pub(super) struct Permit(Rc<Flow>);

impl Permit {
    fn new(flow: &Rc<Flow>) -> Self {
        flow.count.set(flow.count.get() + 1);
        Self(Rc::clone(flow))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        self.0.wake();
    }
}

/// CONNECTs of one session in its life. Each asks who the user is and joins rooms; an application
/// that leaves and enters that often opens a new session.
const CONNECTS_MAX: u32 = 256;

/// The sockets of one session and what its packets do.
pub struct Client {
    me: Weak<Self>,
    local: Rc<Local>,
    outbox: Rc<Outbox>,
    handshake: Rc<Handshake>,
    flow: Rc<Flow>,
    sockets: RefCell<Vec<Socket>>,
    pending: RefCell<Option<Box<Assembler>>>,
    has_joined: Cell<bool>,
    is_closed: Cell<bool>,
    connects: Cell<u32>,
    /// Its place among those on their way in.
    opening: Cell<Option<Opening>>,
    inside: Cell<Option<Inside>>,
}

impl Client {
    /// A client that has joined no namespace yet.
    #[must_use]
    pub fn new(
        local: &Rc<Local>,
        outbox: Rc<Outbox>,
        (handshake, opening): (Handshake, Opening),
    ) -> Rc<Self> {
        let inside = Some(opening.inside());
        // Bare Engine.IO has no CONNECT.
        let opening = Some(opening).filter(|_| local.server().raw.is_none());
        Rc::new_cyclic(|me| Self {
            me: me.clone(),
            local: Rc::clone(local),
            outbox,
            handshake: Rc::new(handshake),
            flow: Rc::default(),
            sockets: RefCell::default(),
            pending: RefCell::default(),
            has_joined: Cell::new(false),
            is_closed: Cell::new(false),
            connects: Cell::new(0),
            opening: Cell::new(opening),
            inside: Cell::new(inside),
        })
    }

    /// True once any namespace was joined; the connect timeout no longer counts then.
    pub const fn has_joined(&self) -> bool {
        self.has_joined.get()
    }

    /// Who has been silent since its handshake takes no place from others any more.
    pub fn is_slow(&self) {
        if self.connects.get() == 0 {
            self.opening.take();
        }
    }

    /// True when the session's place for events in flight is used up, or its outbox is crowded: read
    /// no more until `waker` is woken.
    pub fn is_paused(&self, waker: &Waker) -> bool {
        let is_full = self.flow.count.get() >= self.local.options().in_flight_max;
        if is_full {
            metrics::HANDLERS_PAUSED.add(1);
            self.flow.wait(waker);
        }
        is_full || self.outbox.is_crowded(waker)
    }

    /// True when no event is in flight; else `waker` is woken when one is done.
    pub fn is_idle(&self, waker: &Waker) -> bool {
        let is_idle = self.flow.count.get() == 0;
        if !is_idle {
            self.flow.wait(waker);
        }
        is_idle
    }

    /// Takes the text of one message.
    ///
    /// # Errors
    /// Why the connection must be closed.
    pub fn text(&self, text: &str) -> Result<(), CloseReason> {
        if self.answer_raw(|| Message::Text(text.to_owned())) {
            return Ok(());
        }
        if self.pending.borrow().is_some() {
            return Err(CloseReason::ParseError);
        }
        let packet = decode::packet(text).map_err(|violation| {
            tracing::debug!(%violation, "bad packet");
            CloseReason::ParseError
        })?;
        if packet.attachments() > 0 {
            let options = self.local.options();
            let limits = (options.attachments_max, options.attachment_bytes_max);
            let assembler = Assembler::new(text, &packet, limits).map_err(|violation| {
                tracing::debug!(%violation, "bad attachments");
                CloseReason::ParseError
            })?;
            *self.pending.borrow_mut() = Some(Box::new(assembler));
            return Ok(());
        }
        self.packet(&packet, Vec::new())
    }

    /// Takes one binary message: an attachment of the packet before.
    ///
    /// # Errors
    /// Why the connection must be closed.
    pub fn binary(&self, data: Bytes) -> Result<(), CloseReason> {
        if self.answer_raw(|| Message::Binary(data.clone())) {
            return Ok(());
        }
        let Some(mut assembler) = self.pending.borrow_mut().take() else {
            return Err(CloseReason::ParseError);
        };
        metrics::PACKETS_RECEIVED.of(Packet::Attachment).add(1);
        match assembler.add(data) {
            Ok(None) => {
                *self.pending.borrow_mut() = Some(assembler);
                Ok(())
            }
            Ok(Some((text, attachments))) => {
                let packet = decode::packet(&text).map_err(|_| CloseReason::ParseError)?;
                self.packet(&packet, attachments)
            }
            Err(violation) => {
                tracing::debug!(%violation, "bad attachment");
                Err(CloseReason::ParseError)
            }
        }
    }

    /// Ends all sockets; the transport is gone or about to be closed.
    pub fn close(&self, reason: CloseReason) {
        self.is_closed.set(true);
        self.opening.take();
        self.inside.take();
        let sockets = std::mem::take(&mut *self.sockets.borrow_mut());
        for socket in sockets {
            socket.end(reason);
        }
        // Nothing that is still in flight need hold a reader up any more.
        self.flow.wake();
    }

    /// Tells every namespace, ends all sockets and closes the transport.
    pub(super) fn disconnect_all(&self, reason: CloseReason) {
        let sockets = self.sockets.borrow().clone();
        for socket in &sockets {
            if socket.is_connected() && reason == CloseReason::ForcedServerClose {
                socket.send_frame(encode::disconnect(socket.namespace()));
            }
        }
        self.outbox.flush();
        self.outbox.close_link(reason);
    }

    pub(super) const fn local(&self) -> &Rc<Local> {
        &self.local
    }

    pub(super) const fn outbox(&self) -> &Rc<Outbox> {
        &self.outbox
    }

    pub(super) const fn handshake(&self) -> &Rc<Handshake> {
        &self.handshake
    }

    pub(super) fn forget(&self, socket: &Socket) {
        self.sockets.borrow_mut().retain(|other| !other.is(socket));
    }

    /// Bare Engine.IO, when that is what this server speaks.
    fn answer_raw(&self, message: impl FnOnce() -> Message) -> bool {
        let Some(raw) = &self.local.server().raw else {
            return false;
        };
        let frame = match raw(message()) {
            Some(Message::Text(text)) => Frame::text(&["4", &text]),
            Some(Message::Binary(data)) => Frame::binary(&data),
            None => return true,
        };
        self.local.hub().send(&self.outbox, frame);
        true
    }

    fn packet(&self, packet: &Decoded<'_>, attachments: Vec<Bytes>) -> Result<(), CloseReason> {
        metrics::PACKETS_RECEIVED.of(kind(packet)).add(1);
        match packet {
            Decoded::Connect { namespace, auth } => self.connect(namespace, *auth),
            Decoded::Disconnect { namespace } => {
                let socket = self.joined(namespace)?;
                socket.end(CloseReason::ClientNamespaceDisconnect);
                self.forget(&socket);
                Ok(())
            }
            Decoded::Event {
                namespace,
                ack,
                name,
                args,
                ..
            } => {
                let socket = self.joined(namespace)?;
                let permit = Permit::new(&self.flow);
                let answer = match ack {
                    Some(id) => Answer::Expected(Ack::new(socket.clone(), *id, permit)),
                    None => Answer::None(permit),
                };
                socket.handle(Event::new(name, args, attachments, answer));
                Ok(())
            }
            Decoded::Nothing { namespace } => self.joined(namespace).map(drop),
            Decoded::Ack {
                namespace,
                id,
                args,
                ..
            } => {
                let args = Args {
                    json: (*args).to_owned(),
                    attachments,
                };
                self.joined(namespace)?.answered(*id, args);
                Ok(())
            }
        }
    }

    /// The socket of a namespace that was joined; anything else breaks the protocol.
    fn joined(&self, namespace: &str) -> Result<Socket, CloseReason> {
        let sockets = self.sockets.borrow();
        let found = sockets
            .iter()
            .find(|socket| socket.namespace() == namespace);
        found
            .filter(|socket| socket.is_connected())
            .cloned()
            .ok_or(CloseReason::ForcedClose)
    }

    fn connect(&self, name: &str, auth: Option<&str>) -> Result<(), CloseReason> {
        if self
            .sockets
            .borrow()
            .iter()
            .any(|socket| socket.namespace() == name)
        {
            return Err(CloseReason::ForcedClose);
        }
        self.connects.set(self.connects.get() + 1);
        if self.connects.get() > CONNECTS_MAX {
            return Err(CloseReason::ForcedClose);
        }
        let Some(namespace) = self.local.server().find(name) else {
            let error = ConnectError::new("Invalid namespace");
            self.refuse(name, &error);
            return Ok(());
        };
        let auth = auth.and_then(|text| RawValue::from_string(text.to_owned()).ok());
        self.admit(namespace, auth, None)
    }

    /// Asks the namespace's middlewares about a socket, and lets it in. `note`: why another socket of this
    /// CONNECT could not take its session's place.
    fn admit(
        &self,
        namespace: &Arc<Namespace>,
        auth: Option<Box<RawValue>>,
        note: Option<&'static str>,
    ) -> Result<(), CloseReason> {
        let client = self.me.upgrade().ok_or(CloseReason::ForcedClose)?;
        let socket = Socket::new(&client, Arc::clone(namespace));
        socket.begins_anew(note);
        self.sockets.borrow_mut().push(socket.clone());
        if namespace.keeps_auth {
            socket.keep_auth(auth.as_deref().map(RawValue::get));
        }
        let asking = AssertUnwindSafe(ask(Arc::clone(namespace), socket.clone(), auth.clone()));
        let mut asking = Box::pin(asking.catch_unwind().map(|outcome| {
            outcome.unwrap_or_else(|_| {
                tracing::error!(handler = "middleware", "a handler panicked");
                Err(ConnectError::new("internal error"))
            })
        }));
        match (&mut asking).now_or_never() {
            Some(outcome) => self.enter(&socket, auth, outcome),
            None => socket.clone().spawn(async move {
                let outcome = asking.await;
                client.enter(&socket, auth, outcome);
            }),
        }
        Ok(())
    }

    fn enter(
        &self,
        socket: &Socket,
        auth: Option<Box<RawValue>>,
        outcome: Result<(), ConnectError>,
    ) {
        self.opening.take();
        if self.is_closed.get() || socket.state() != State::Connecting {
            return;
        }
        if let Err(error) = outcome {
            self.forget(socket);
            socket.end(CloseReason::ServerNamespaceDisconnect);
            // Once: a socket that already began anew is not asked to do so again.
            if error.begins_anew.is_some() && socket.not_resumed().is_none() {
                let namespace = Arc::clone(socket.table());
                if let Err(reason) = self.admit(&namespace, auth, error.begins_anew) {
                    self.disconnect_all(reason);
                }
                return;
            }
            if error.is_passing && !self.has_joined.get() {
                tracing::debug!(%error.message, "closed, to come again");
                self.disconnect_all(CloseReason::Unavailable);
            } else {
                self.refuse(socket.namespace(), &error);
            }
            return;
        }
        self.has_joined.set(true);
        let id = socket.id().as_str();
        let answer = encode::connect(socket.namespace(), id, socket.private_id());
        socket.enter(answer);
        if let Some(on_connect) = &socket.table().on_connect {
            guarded("connect", || on_connect(socket));
        }
    }

    fn refuse(&self, namespace: &str, error: &ConnectError) {
        self.opening.take();
        let data = error.data.as_deref().map(RawValue::get);
        let frame = encode::connect_error(namespace, &error.message, data);
        self.local.hub().send(&self.outbox, frame);
    }
}

const fn kind(packet: &Decoded<'_>) -> Packet {
    match packet {
        Decoded::Connect { .. } => Packet::Connect,
        Decoded::Disconnect { .. } => Packet::Disconnect,
        Decoded::Event { attachments: 0, .. } | Decoded::Nothing { .. } => Packet::Event,
        Decoded::Event { .. } => Packet::BinaryEvent,
        Decoded::Ack { attachments: 0, .. } => Packet::Ack,
        Decoded::Ack { .. } => Packet::BinaryAck,
    }
}

async fn ask(
    namespace: Arc<Namespace>,
    socket: Socket,
    auth: Option<Box<RawValue>>,
) -> Result<(), ConnectError> {
    for middleware in &namespace.middlewares {
        middleware(socket.clone(), auth.clone()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn all_who_wait_for_a_place_are_woken() {
        let flow = Rc::new(Flow::default());
        let counts = [Arc::new(Count::default()), Arc::new(Count::default())];
        let permit = Permit::new(&flow);
        for count in &counts {
            let waker = Waker::from(Arc::clone(count));
            flow.wait(&waker);
            flow.wait(&waker);
        }
        drop(permit);
        assert_eq!(counts.map(|count| count.0.load(Ordering::Relaxed)), [1, 1]);
        assert!(flow.waiting.borrow().is_empty());
    }
}
