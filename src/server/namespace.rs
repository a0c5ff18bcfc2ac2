//! The table of namespaces and what they do with events.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use serde_json::value::RawValue;

use super::event::Event;
use super::socket::Socket;
use crate::rooms::NamespaceId;
use crate::types::CloseReason;

/// Why a socket may not enter a namespace; the client reads it in its `connect_error`.
#[derive(Debug, Clone)]
pub struct ConnectError {
    /// For a person.
    pub message: String,
    /// For a program: `err.data`.
    pub data: Option<Box<RawValue>>,
    /// It may go well in a moment. A stock client that is refused never tries again, so its connection is
    /// closed instead if nothing else is on it: then it comes back by itself.
    pub is_passing: bool,
    /// The socket's session cannot be resumed, and why: a new socket enters in its place.
    pub begins_anew: Option<&'static str>,
}

impl ConnectError {
    /// An error with a message only.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            data: None,
            is_passing: false,
            begins_anew: None,
        }
    }
}

type Outcome = Result<(), ConnectError>;
pub(super) type Middleware =
    Box<dyn Fn(Socket, Option<Box<RawValue>>) -> LocalBoxFuture<'static, Outcome> + Send + Sync>;
pub(super) type OnClose = Box<dyn Fn(&Socket, CloseReason) + Send + Sync>;
pub(super) type Gate = Box<dyn Fn(&Socket, Event) -> Option<Event> + Send + Sync>;
pub(super) type OnConnect = Box<dyn Fn(&Socket) + Send + Sync>;

type Now = dyn Fn(&Socket, Event) + Send + Sync;

pub(super) enum Handler {
    /// Done when it returns; costs no allocation.
    Now(Box<Now>),
    /// The socket's next event waits until it is done.
    Later(Box<dyn Fn(Socket, Event) -> LocalBoxFuture<'static, ()> + Send + Sync>),
}

/// One namespace: who may enter and what its events do.
#[derive(Default)]
pub struct Namespace {
    pub(super) id: NamespaceId,
    pub(super) name: Box<str>,
    pub(super) middlewares: Vec<Middleware>,
    pub(super) handlers: HashMap<Box<str>, Handler>,
    pub(super) fallback: Option<Handler>,
    pub(super) gate: Option<Gate>,
    pub(super) on_connect: Option<OnConnect>,
    pub(super) keeps_auth: bool,
    pub(super) on_disconnecting: Option<OnClose>,
}

impl Namespace {
    /// Asks this before a socket enters; several run in the order in which they were added.
    pub fn middleware<F, Fut>(&mut self, check: F) -> &mut Self
    where
        F: Fn(Socket, Option<Box<RawValue>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + 'static,
    {
        self.middlewares
            .push(Box::new(move |socket, auth| Box::pin(check(socket, auth))));
        self
    }

    /// Runs this when an event of this name arrives.
    pub fn on(
        &mut self,
        event: &str,
        handler: impl Fn(&Socket, Event) + Send + Sync + 'static,
    ) -> &mut Self {
        self.handlers
            .insert(event.into(), Handler::Now(Box::new(handler)));
        self
    }

    /// Runs this when an event of this name arrives; the socket's next event waits for it.
    pub fn on_async<F, Fut>(&mut self, event: &str, handler: F) -> &mut Self
    where
        F: Fn(Socket, Event) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let handler = move |socket, event| -> LocalBoxFuture<'static, ()> {
            Box::pin(handler(socket, event))
        };
        self.handlers
            .insert(event.into(), Handler::Later(Box::new(handler)));
        self
    }

    /// Asks this about every event when it arrives, before it waits for others: what it returns goes
    /// on to its handler; what it keeps, it answers itself.
    pub fn gate(
        &mut self,
        gate: impl Fn(&Socket, Event) -> Option<Event> + Send + Sync + 'static,
    ) -> &mut Self {
        self.gate = Some(Box::new(gate));
        self
    }

    /// Runs this for events that have no handler. Without one they are ignored.
    pub fn on_any(
        &mut self,
        handler: impl Fn(&Socket, Event) + Send + Sync + 'static,
    ) -> &mut Self {
        self.fallback = Some(Handler::Now(Box::new(handler)));
        self
    }

    /// Keeps what clients send with CONNECT, for [`Socket::auth`]. Off by default: it is usually a
    /// secret, and memory for each socket.
    pub const fn keep_auth(&mut self) -> &mut Self {
        self.keeps_auth = true;
        self
    }

    /// Runs this once a socket has entered, after its CONNECT was answered.
    pub fn on_connect(&mut self, handler: impl Fn(&Socket) + Send + Sync + 'static) -> &mut Self {
        self.on_connect = Some(Box::new(handler));
        self
    }

    /// Runs this when a socket ends, while its rooms can still be read.
    pub fn on_disconnecting(
        &mut self,
        handler: impl Fn(&Socket, CloseReason) + Send + Sync + 'static,
    ) -> &mut Self {
        self.on_disconnecting = Some(Box::new(handler));
        self
    }

    pub(super) fn handler(&self, event: &str) -> Option<&Handler> {
        self.handlers.get(event).or(self.fallback.as_ref())
    }
}

/// The namespaces of a server. Made once, then shared by all workers.
#[derive(Clone, Default)]
pub struct Server {
    namespaces: Arc<Vec<Arc<Namespace>>>,
    pub(super) raw: Option<Arc<Raw>>,
}

/// A message of a session that speaks bare Engine.IO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Binary.
    Binary(bytes::Bytes),
}

type Raw = dyn Fn(Message) -> Option<Message> + Send + Sync;

impl Server {
    /// A server without namespaces.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a namespace (`/` or `/name`).
    #[must_use]
    pub fn namespace(self, name: &str, build: impl FnOnce(&mut Namespace)) -> Self {
        let mut all = (*self.namespaces).clone();
        let id = NamespaceId(u16::try_from(all.len()).expect("fewer than 65,536 namespaces"));
        let mut namespace = Namespace {
            id,
            name: name.into(),
            ..Namespace::default()
        };
        build(&mut namespace);
        all.push(Arc::new(namespace));
        Self {
            namespaces: Arc::new(all),
            ..self
        }
    }

    /// Speaks bare Engine.IO instead of Socket.IO: each message is given to `answer`, and what that
    /// returns is sent back.
    #[must_use]
    pub fn raw(self, answer: impl Fn(Message) -> Option<Message> + Send + Sync + 'static) -> Self {
        Self {
            raw: Some(Arc::new(answer)),
            ..self
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<&Arc<Namespace>> {
        self.namespaces
            .iter()
            .find(|namespace| &*namespace.name == name)
    }

    pub(super) fn name_of(&self, id: NamespaceId) -> Option<&str> {
        self.namespaces
            .get(usize::from(id.0))
            .map(|namespace| &*namespace.name)
    }

    /// How many namespaces there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.namespaces.len()
    }

    /// True without any namespace.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }
}
