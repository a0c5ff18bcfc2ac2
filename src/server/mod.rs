//! A Socket.IO server as a library: namespaces, middleware, events, rooms, acks.
//!
//! [`Server`] is the table of namespaces and their handlers, made once and shared by all workers.
//! Handlers run on the worker thread that owns the socket, in the order in which the socket sent its
//! events, each to its end before the next; work that may finish later is given to
//! [`Socket::spawn`], and an [`Ack`] may be answered from there. [`Io`] is the handle that other
//! threads and other sockets use to emit.
//!
//! ```
//! use vestibule::server::Server;
//!
//! let server = Server::new().namespace("/", |root| {
//!     root.on("join", |socket, event| {
//!         if let Ok(room) = event.arg::<vestibule::types::RoomName>(0) {
//!             socket.join(&room);
//!         }
//!         event.ack(&("joined",));
//!     });
//!     root.on("say", |socket, event| socket.to("lobby").emit_raw("said", event.rest()));
//! });
//! # let _ = server;
//! ```
//!
//! Not here: bytes and connections (`transport`), what the product's own events do (`handlers`).

mod args;
mod client;
mod event;
mod handshake;
mod io;
mod lanes;
mod local;
mod namespace;
mod query;
mod socket;

pub use args::{Args, IntoArgs, Json};
pub use client::{Client, Options};
pub use event::{Ack, Event};
pub use handshake::Handshake;
pub use io::{Emitter, Io, Overloaded};
pub use local::{Command, Local, Mailboxes, Worker, current, random_token};
pub use namespace::{ConnectError, Message, Namespace, Server};
pub use query::SocketInfo;
pub use socket::{AckError, Socket};
