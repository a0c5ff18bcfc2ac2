//! Emitting to rooms from anywhere.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::args::{Args, IntoArgs};
use super::lanes::Order;
use super::local::{Local, Mailboxes, current};
use super::namespace::Server;
use crate::protocol::frame::Frame;
use crate::protocol::socketio::encode;
use crate::rooms::{Broadcast, NamespaceId, Reach};
use crate::types::{CloseReason, RoomName};

/// A worker's command queue is full: the broadcast did not reach all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overloaded;

impl fmt::Display for Overloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a worker's command queue is full")
    }
}

impl std::error::Error for Overloaded {}

/// The server as other threads see it. Cheap to clone.
#[derive(Clone)]
pub struct Io {
    mailboxes: Mailboxes,
    server: Server,
}

impl Io {
    /// A handle to these workers.
    #[must_use]
    pub const fn new(mailboxes: Mailboxes, server: Server) -> Self {
        Self { mailboxes, server }
    }

    /// Everybody in a namespace; an unknown one reaches nobody.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Emitter {
        let found = self.server.find(namespace).map(|namespace| namespace.id);
        let mut emitter = self.emitter(found.unwrap_or_default());
        emitter.is_nowhere = found.is_none();
        emitter
    }

    /// The members of a room of `/`.
    #[must_use]
    pub fn to(&self, room: &str) -> Emitter {
        self.of("/").to(room)
    }

    /// Emits to everybody in `/`.
    ///
    /// # Errors
    /// [`Overloaded`] when a worker could not take it.
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Result<(), Overloaded> {
        self.of("/").emit(event, args)
    }

    /// The workers' command queues.
    #[must_use]
    pub const fn mailboxes(&self) -> &Mailboxes {
        &self.mailboxes
    }

    pub(super) fn emitter(&self, namespace: NamespaceId) -> Emitter {
        Emitter {
            io: self.clone(),
            reach: Reach {
                namespace,
                ..Reach::default()
            },
            is_volatile: false,
            is_nowhere: false,
            has_bad_target: false,
        }
    }

    /// Has every worker do something, in one order for all of them.
    fn order(&self, order: &Order) -> Result<(), Overloaded> {
        current(|local| local.order(order))
            .unwrap_or_else(|| self.mailboxes.lanes().give(order, None).1)
    }
}

/// Who the next emit is for: a union of rooms, without some.
#[derive(Clone)]
pub struct Emitter {
    pub(super) io: Io,
    pub(super) reach: Reach,
    is_volatile: bool,
    /// The namespace does not exist.
    is_nowhere: bool,
    /// A target was named that cannot exist, so "no target" must not mean everybody.
    has_bad_target: bool,
}

impl Emitter {
    /// Adds the members of a room, or one socket by its id.
    #[must_use]
    pub fn to(mut self, room: &str) -> Self {
        match RoomName::parse(room) {
            Ok(room) => self.reach.to.push(room),
            Err(_) => self.has_bad_target = true,
        }
        self
    }

    /// Leaves out the members of a room, or one socket by its id.
    #[must_use]
    pub fn except(mut self, room: &str) -> Self {
        if let Ok(room) = RoomName::parse(room) {
            self.reach.except.push(room);
        }
        self
    }

    /// Drops the event for sockets that still have something waiting.
    #[must_use]
    pub const fn volatile(mut self) -> Self {
        self.is_volatile = true;
        self
    }

    /// Emits an event.
    ///
    /// # Errors
    /// [`Overloaded`] when a worker could not take it; the others did.
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Result<(), Overloaded> {
        let Args { json, attachments } = args.into_args();
        self.send(encode::event(
            self.namespace_name(),
            None,
            event,
            &json,
            &attachments,
        ))
    }

    /// Emits an event whose arguments are JSON text already, separated by commas. The text must be
    /// valid: it comes from [`super::Event::rest`] or an encoder.
    pub fn emit_raw(&self, event: &str, args: &str) {
        // A full worker queue loses this for its members: who needs to know uses `emit`.
        self.send(encode::event(self.namespace_name(), None, event, args, &[]))
            .unwrap_or_default();
    }

    /// Has every reached socket join a room.
    ///
    /// # Errors
    /// [`Overloaded`] when a worker could not take it.
    pub fn sockets_join(&self, room: &RoomName) -> Result<(), Overloaded> {
        let (reach, room) = (self.reach.clone(), room.clone());
        self.each(move |local| {
            for member in local.hub().reached(&reach) {
                local.hub().join(&member, &room);
            }
        })
    }

    /// Has every reached socket leave a room.
    ///
    /// # Errors
    /// [`Overloaded`] when a worker could not take it.
    pub fn sockets_leave(&self, room: &RoomName) -> Result<(), Overloaded> {
        let (reach, room) = (self.reach.clone(), room.clone());
        self.each(move |local| {
            for member in local.hub().reached(&reach) {
                local.hub().leave(&member, room.as_str());
            }
        })
    }

    /// Disconnects every reached socket; with `close` its whole connection.
    ///
    /// # Errors
    /// [`Overloaded`] when a worker could not take it.
    pub fn disconnect_sockets(&self, close: bool) -> Result<(), Overloaded> {
        let reach = self.reach.clone();
        self.each(move |local| {
            for member in local.hub().reached(&reach) {
                if let Some(socket) = super::socket::Socket::of(&member) {
                    if close {
                        socket.close(CloseReason::ForcedServerClose);
                    } else {
                        socket.disconnect();
                    }
                }
            }
        })
    }

    /// Has every worker do something with whom this reaches, in one order with all broadcasts.
    ///
    /// # Errors
    /// [`Overloaded`] when a worker could not take it.
    pub fn each_worker(
        &self,
        act: impl Fn(&Rc<Local>, &Reach) + Send + Sync + 'static,
    ) -> Result<(), Overloaded> {
        let reach = self.reach.clone();
        self.each(move |local| act(local, &reach))
    }

    fn each(&self, act: impl Fn(&Rc<Local>) + Send + Sync + 'static) -> Result<(), Overloaded> {
        if self.is_nobody() {
            Ok(())
        } else {
            self.io.order(&Order::Run(Arc::new(act)))
        }
    }

    pub(super) const fn is_nobody(&self) -> bool {
        self.is_nowhere || (self.has_bad_target && self.reach.to.is_empty())
    }

    fn namespace_name(&self) -> &str {
        self.io.server.name_of(self.reach.namespace).unwrap_or("/")
    }

    fn send(&self, frame: Frame) -> Result<(), Overloaded> {
        if self.is_nobody() {
            return Ok(());
        }
        let (reach, is_volatile) = (self.reach.clone(), self.is_volatile);
        self.io.order(&Order::Broadcast(Box::new(Broadcast {
            reach,
            frame,
            is_volatile,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_target_is_neither_everybody_nor_an_end_of_the_good_ones() {
        let (mailboxes, _) = Mailboxes::new(1, 8);
        let io = Io::new(mailboxes, Server::new().namespace("/", |_| {}));
        for (emitter, is_nobody) in [
            (io.of("/"), false),
            (io.to(""), true),
            (io.to("").to("a"), false),
            (io.to("a").to(""), false),
            (io.of("/none").to("a").to(""), true),
        ] {
            assert_eq!(emitter.is_nobody(), is_nobody);
        }
    }
}
